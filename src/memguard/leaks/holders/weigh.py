"""
Weigh the containers that grew: which of them hold the growth, and which may hold more than is seen.

Pure: evidence in, the holders of a report out.
"""

from __future__ import annotations

from collections import Counter

from memguard.leaks.evidence.census import MIN_ENTRIES
from memguard.leaks.evidence.frames import frames_of
from memguard.leaks.evidence.tracing import Location
from memguard.leaks.finding import judge
from memguard.leaks.finding.evidence import Evidence, HolderEvidence
from memguard.leaks.report import Frame, Holder, LeakReport, TrendSummary

HOLDERS = 10
MIN_SHARE = 0.01
"""Holders below this share of the growth are left out of a report that others explain."""
LIGHT = 3
"""Holders below it that are told where no other explains the growth."""


def holders_of(
    evidence: Evidence, trend: TrendSummary, previous: LeakReport | None
) -> tuple[tuple[Holder, ...], tuple[Holder, ...]]:
    """
    Return the holders of the growth and, where they do not explain it, the light ones that grew.

    Only those with objects of an extension in their entries: a few bytes of Python may keep much
    more alive in a C library.
    """
    known = _known_by_path(evidence, previous)
    rows = [
        _holder(holder, known.get(holder.path), evidence.functions)
        for holder in evidence.holders
        if holder.steady
    ]
    if evidence.trace is None:
        # Instances that no container holds are found by tracing only; while their type grows on,
        # what was found about them still stands.
        growing = {name for name, _, _ in evidence.all_types}
        seen = {row.path for row in rows}
        rows += [h for h in known.values() if h.path not in seen and h.type in growing]
    rows.sort(key=lambda row: -(row.bytes_per_minute or 0.0))
    growth = max(0.0, trend.bytes_per_hour / 60)
    told = [row for row in rows if not is_light(row, trend)][:HOLDERS]
    if sum(row.bytes_per_minute or 0.0 for row in told) >= growth * judge.LIVE_SHARE:
        return tuple(told), ()
    extends = {holder.path for holder in evidence.holders if holder.sample.extends}
    light = [r for r in rows if is_light(r, trend) and r.path in extends and _is_telling(r)]
    return tuple(told), tuple(light[: min(LIGHT, HOLDERS - len(told))])


def is_light(holder: Holder, trend: TrendSummary) -> bool:
    """Return True for a holder that accounts for next to nothing of the growth."""
    return (holder.bytes_per_minute or 0.0) < max(0.0, trend.bytes_per_hour / 60) * MIN_SHARE


def _is_telling(holder: Holder) -> bool:
    """Return True for a holder that may keep more alive than it weighs: it grows, without end."""
    return (
        holder.anchored
        and holder.bound is None
        and holder.inventory_name is None
        and holder.entries_added >= MIN_ENTRIES
    )


def _known_by_path(evidence: Evidence, previous: LeakReport | None) -> dict[str, Holder]:
    """Return the holders of *previous* whose path is theirs alone, then and now."""
    before = previous.holders if previous is not None else ()
    # Four lists in one list have the same path: nobody knows which of them was which.
    then = Counter(holder.path for holder in before)
    now = Counter(holder.path for holder in evidence.holders)
    return {h.path: h for h in before if then[h.path] == 1 and now[h.path] <= 1}


def _holder(
    evidence: HolderEvidence, known: Holder | None, functions: dict[Location, str]
) -> Holder:
    weight = evidence.sample.bytes_per_entry
    added = evidence.entries_added
    if known is not None:
        # An update counts from the first report on, and trusts the weight that was traced then.
        added = max(added, known.entries_added + evidence.entries - known.entries)
        if not evidence.sample.lines and known.bytes_per_entry is not None:
            weight = known.bytes_per_entry
    return Holder(
        path=evidence.path,
        type=evidence.type,
        entries=evidence.entries,
        entries_added=added,
        entries_per_minute=evidence.entries_per_minute,
        bytes_per_entry=weight,
        bytes_added=None if weight is None else weight * added,
        bytes_per_minute=None if weight is None else weight * evidence.entries_per_minute,
        site=_site(evidence, functions) or (known.site if known else None),
        entry_types=tuple(name for name, _ in evidence.sample.types.most_common(5)),
        inventory_name=evidence.inventory_name,
        bound=evidence.bound,
        anchored=evidence.anchored,
    )


def _site(evidence: HolderEvidence, functions: dict[Location, str]) -> Frame | None:
    """Return the line that made most of the sampled entries: in the user's code where it shows."""
    if not evidence.sample.lines:
        return None
    line, _ = evidence.sample.lines.most_common(1)[0]
    stack = frames_of(evidence.sample.stacks.get(line) or (line,), functions)
    return next((frame for frame in stack if frame.in_user_code), stack[0])
