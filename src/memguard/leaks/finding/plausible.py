"""
The law of weights: no object outweighs the process, and no holder the growth. Pure.

A weight is measured on a sample, and the rest is inferred. What breaks the law is not reported as
it was measured: the weight of an impossible object is unknown, the share of a holder ends at the
growth that there was, plus the error of its sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.report import Holder, TrendSummary

MAX_BLOCK_BYTES = 512
"""The largest of CPython's small blocks, which are counted and not measured."""

ADDRESS_SPACE = 2**57
"""Bytes that no process of a 64-bit machine can address: a bound where nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a weight cannot exceed. None where it was not measured."""

    process_bytes: int | None
    growth_per_minute: float | None
    """Of readings, of what the allocators gave out, of what was traced: the largest."""


def bounds_of(evidence: Evidence, trend: TrendSummary) -> Bounds:
    """Return the bounds that *evidence* and *trend* set to any weight."""
    rates = [trend.bytes_per_hour / 60, evidence.traced_growth_per_minute or 0.0]
    minutes = evidence.gap_seconds / 60
    if minutes > 0:
        rates.append((evidence.private_growth or 0) / minutes)
        blocks = max(0, evidence.blocks_growth or 0) * MAX_BLOCK_BYTES
        rates.append((blocks + max(0, evidence.heap_in_use_growth or 0)) / minutes)
    fastest = max(rates)
    return Bounds(
        process_bytes=evidence.private_bytes, growth_per_minute=fastest if fastest > 0 else None
    )


def hold_to(bounds: Bounds, holders: Iterable[Holder]) -> tuple[list[Holder], list[str]]:
    """Return *holders* with weights within *bounds*, and a note for each that had another one."""
    kept: list[Holder] = []
    notes: list[str] = []
    for holder in holders:
        lawful, broken = _lawful(bounds, holder)
        kept.append(lawful)
        if broken is not None:
            notes.append(f"{holder.path}: {broken}")
    return kept, notes


def _lawful(bounds: Bounds, holder: Holder) -> tuple[Holder, str | None]:
    weight, rate = holder.bytes_per_entry, holder.bytes_per_minute
    if weight is None or rate is None:
        return holder, None
    whole = ADDRESS_SPACE if bounds.process_bytes is None else bounds.process_bytes
    if weight > whole or (holder.bytes_added or 0) > ADDRESS_SPACE:
        unknown = replace(
            holder,
            bytes_per_entry=None,
            bytes_per_entry_error=None,
            bytes_added=None,
            bytes_per_minute=None,
        )
        return unknown, "its entries seem heavier than the process; their weight is unknown"
    if bounds.growth_per_minute is None:
        return holder, None
    error = (holder.bytes_per_entry_error or 0) * holder.entries_per_minute
    most = bounds.growth_per_minute + error
    if rate <= most:
        return holder, None
    added = holder.bytes_added
    capped = replace(
        holder,
        bytes_per_minute=most,
        bytes_added=None if added is None else int(added * most / rate),
    )
    return capped, "its new entries weigh more than memory grew; no more than that is counted"
