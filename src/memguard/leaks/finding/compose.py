"""
Turn a trend and evidence into a report: rank the suspects, weigh the holders, say what is missing.

Pure: numbers and names in, a ``LeakReport`` out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from memguard.leaks.evidence.frames import frames_of, is_own_code
from memguard.leaks.evidence.heap_state import MEAN_BLOCK_BYTES
from memguard.leaks.evidence.tracing import Location, Site
from memguard.leaks.finding import judge
from memguard.leaks.finding.evidence import Evidence, HolderEvidence
from memguard.leaks.holders.weigh import holders_of
from memguard.leaks.report import (
    Cost,
    Holder,
    LeakReport,
    ReportKind,
    Suspect,
    TrendSummary,
    TypeGrowth,
    Verdict,
)
from memguard.units import format_bytes

SUSPECTS = 10
NOISE_BYTES = 512 * 1024
"""Growth between two looks on demand that may be anything."""
CERTAIN = 0.95
"""And a trend of their readings that is less certain than that."""
IMPORTS = 3
"""Modules imported between two looks that make a growth of code."""
MODULE_BYTES = 1024 * 1024
"""More than most modules bring, libraries of theirs included: what is far beyond it is no code."""
TELLING_BYTES = 64 * 1024
"""Growth that a burst of tracing cannot overlook."""
RESERVED = 0.25
"""Share of the growth that must have been asked for since, or it is memory reserved before."""
STOPPED = 0.05
"""Share of the growth below which it does not go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who reports, about which finding."""

    id: str
    detector: str
    pid: int
    started_at: str
    updated_at: str
    revision: int
    uptime_seconds: float
    python: str


def compose(
    origin: Origin,
    trend: TrendSummary,
    evidence: Evidence,
    *,
    on_demand: bool = False,
    traced_seconds: float = 0.0,
    cpu_seconds: float = 0.0,
    previous: LeakReport | None = None,
    had_stopped: bool = False,
) -> LeakReport:
    """
    Return the report of a finding.

    Args:
        origin: Names, times and numbers of the finding.
        trend: What the readings did.
        evidence: What the investigation brought home.
        on_demand: Somebody asked; the growth may be none.
        traced_seconds: Time our own tracing was on.
        cpu_seconds: Processor time of it all.
        previous: The report that this one updates: what was traced then is kept where nothing was
            traced now.
        had_stopped: The growth before this one was over when it was looked at. What goes on in
            bursts is over each time, so that is believed once.
    """
    holders, light = holders_of(evidence, trend, previous)
    suspects = _suspects(evidence)
    if previous is not None:
        known = {(suspect.file, suspect.line) for suspect in suspects}
        older = (s for s in previous.suspects if (s.file, s.line) not in known)
        suspects = tuple(
            sorted((*suspects, *older), key=lambda s: (s.held_by is None, -s.bytes_per_minute))
        )[:SUSPECTS]
    growth = trend.bytes_per_hour / 60
    if on_demand and (trend.growth_bytes < NOISE_BYTES or trend.confidence < CERTAIN):
        growth = 0.0  # a few readings within a second prove little
    signs = _signs(growth, evidence, holders)
    explained = _explained(signs)
    return LeakReport(
        id=origin.id,
        kind=_kind(holders, trend, evidence, signs, on_demand=on_demand, had_stopped=had_stopped),
        detector=origin.detector,
        pid=origin.pid,
        started_at=origin.started_at,
        updated_at=origin.updated_at,
        revision=origin.revision,
        uptime_seconds=origin.uptime_seconds,
        trend=trend,
        verdict=_verdict(signs, evidence, previous),
        suspects=suspects,
        holders=(*holders, *light),
        types=tuple(
            TypeGrowth(
                name=name,
                count=count,
                added=added,
                per_minute=added / evidence.gap_seconds * 60 if evidence.gap_seconds else 0.0,
            )
            for name, count, added in evidence.types
        ),
        explained_ratio=explained,
        limits=_limits(trend, evidence, explained, previous, light=bool(light), signs=signs),
        cost=_cost(evidence, traced_seconds, cpu_seconds, previous.cost if previous else Cost()),
        python=origin.python,
    )


def _cost(evidence: Evidence, traced_seconds: float, cpu_seconds: float, before: Cost) -> Cost:
    """Return what the finding cost so far, updates included."""
    peak = evidence.trace.tracer_bytes if evidence.trace else 0
    return Cost(
        traced_seconds=before.traced_seconds + traced_seconds,
        census_seconds=before.census_seconds + evidence.census_seconds,
        retention_seconds=before.retention_seconds + evidence.retention_seconds,
        tracer_peak_bytes=max(before.tracer_peak_bytes, peak),
        cpu_seconds=cpu_seconds,
    )


def _kind(
    holders: tuple[Holder, ...],
    trend: TrendSummary,
    evidence: Evidence,
    signs: judge.Signs,
    *,
    on_demand: bool,
    had_stopped: bool,
) -> ReportKind:
    if on_demand:
        return "snapshot"
    if evidence.collector_enabled and (evidence.collected_bytes or 0) > trend.growth_bytes / 2:
        return "growth"  # garbage that only waited: the collector would have taken it
    left_bytes, growth = _left(trend), trend.bytes_per_hour / 60
    if (not had_stopped and _has_stopped(signs, evidence)) or _was_reserved(signs, evidence):
        return "growth"
    total = sum(holder.bytes_per_minute or 0.0 for holder in holders)
    emptied = sum(holder.bytes_added for holder in evidence.holders if not holder.steady)
    # What had grown was emptied under our eyes, a batch or a buffer; and nothing else explains it.
    if emptied > growth * evidence.gap_seconds / 60 / 2 > 0 and total < growth / 2:
        return "growth"
    filling = sum(h.bytes_per_minute or 0.0 for h in holders if _is_filling(h, left_bytes))
    # A cache that fills up to its bound is doing its work.
    if total > 0 and filling > total / 2:
        return "growth"
    # So is an import, which is seen in full: what grows is code, and nothing holds entries.
    imported = evidence.modules_imported
    loading = (
        imported >= IMPORTS
        and imported * MODULE_BYTES > trend.growth_bytes / 2
        and total < growth / 2
    )
    return "growth" if loading else "leak"


def _has_stopped(signs: judge.Signs, evidence: Evidence) -> bool:
    """
    Return True where Python's growth was over when it was looked at.

    Nothing holds it, and a burst of tracing that would have seen it, had it gone on, has not.
    """
    growth, traced = signs.growth_per_minute, signs.traced_per_minute
    if evidence.trace is None or traced is None or evidence.trace.foreign:
        return False
    missed = growth / 60 * evidence.trace.seconds
    seen = max(traced, signs.explained_per_minute)
    in_python = (signs.blocks_bytes_per_minute or 0.0) >= judge.LIVE_SHARE * growth
    return in_python and missed >= TELLING_BYTES and seen < STOPPED * growth


def _was_reserved(signs: judge.Signs, evidence: Evidence) -> bool:
    """
    Return True where the growth is memory being filled that was asked for before the first look.

    An array made of zeros is resident only where it was written to. Such growth has its bound: the
    reservation. A leak asks for more, of Python, of the C heap or of the system.
    """
    grown = evidence.private_growth
    asked = (evidence.data_growth, evidence.heap_in_use_growth)
    if grown is None or grown < TELLING_BYTES or None in asked:
        return False
    if signs.python_per_minute >= RESERVED * signs.growth_per_minute:
        return False
    return all(more is not None and more < RESERVED * grown for more in asked)


def _verdict(signs: judge.Signs, evidence: Evidence, previous: LeakReport | None) -> Verdict:
    """Decide; but an update for which nothing was traced does not overrule what was."""
    found = judge.decide(signs)
    if previous is not None and evidence.trace is None and found.kind != "live_objects":
        return previous.verdict
    return found


def _left(trend: TrendSummary) -> int | None:
    """Return the bytes left below the limit, as far as the rate and the time to it tell."""
    if trend.seconds_to_limit is None:
        return None
    return int(trend.seconds_to_limit * trend.bytes_per_hour / 3600)


def _is_filling(holder: Holder, left_bytes: int | None) -> bool:
    """Return True when the growth of *holder* will end by itself, before memory does."""
    if holder.bound is None:
        return holder.inventory_name is not None  # ours are never without a bound
    still_to_come = (holder.bound - holder.entries) * (holder.bytes_per_entry or 0)
    return left_bytes is None or still_to_come < left_bytes


def _suspects(evidence: Evidence) -> tuple[Suspect, ...]:
    """
    Rank the allocating lines: those that lead to a growing holder first, by weight; then the rest.

    What is merely alive at the end of a burst may be a request in flight or a cache at work; what
    hangs on a container that grew between two looks is the growth itself.
    """
    trace = evidence.trace
    if trace is None:
        return ()
    held: Counter[Location] = Counter()
    heaviest: dict[Location, tuple[float, HolderEvidence]] = {}
    for holder in evidence.holders:
        if not holder.steady:
            continue
        per_entry = 1 / max(1, holder.sample.entries)
        for line, size in holder.sample.lines.items():
            if is_own_code(line[0]):  # our history fills its ring; bursts leave our lines out, too
                continue
            rate = size * per_entry * holder.entries_per_minute
            held[line] += rate  # type: ignore[assignment] # reason: a Counter of floats
            if line not in heaviest or rate > heaviest[line][0]:
                heaviest[line] = (rate, holder)
    minutes = max(trace.seconds, 0.001) / 60
    ranked = sorted(
        {*trace.sites, *held},
        key=lambda line: (
            -held[line],
            -trace.sites[line].bytes if line in trace.sites else 0,
        ),
    )
    rows = []
    for line in ranked[:SUSPECTS]:
        site = trace.sites.get(line, Site(line))
        holder_of = heaviest[line][1] if line in heaviest else None
        stack = site.stack
        if holder_of is not None:
            other = holder_of.sample.stacks.get(line, ())
            stack = other if len(other) >= len(stack) else stack
        rows.append(
            Suspect(
                file=line[0],
                line=line[1],
                function=evidence.functions.get(line),
                bytes=site.bytes,
                count=site.count,
                bytes_per_minute=held[line] or site.bytes / minutes,
                frames=frames_of(stack or (line,), evidence.functions),
                source=evidence.sources.get(line),
                held_by=holder_of.path if holder_of is not None else None,
            )
        )
    return tuple(rows)


def _signs(growth: float, evidence: Evidence, holders: tuple[Holder, ...]) -> judge.Signs:
    minutes = evidence.gap_seconds / 60
    blocks = evidence.blocks_growth
    return judge.Signs(
        growth_per_minute=growth,
        minutes=minutes or None,
        explained_per_minute=sum(holder.bytes_per_minute or 0.0 for holder in holders),
        traced_per_minute=evidence.traced_growth_per_minute,
        blocks_bytes_per_minute=(
            blocks * MEAN_BLOCK_BYTES / minutes if blocks is not None and minutes else None
        ),
        heap_in_use_growth=evidence.heap_in_use_growth,
        heap_free_growth=evidence.heap_free_growth,
        collector_enabled=evidence.collector_enabled,
        collected_bytes=evidence.collected_bytes,
        private_bytes=evidence.private_bytes,
        heap_free_bytes=evidence.heap_free_bytes,
    )


def _explained(signs: judge.Signs) -> float | None:
    if signs.growth_per_minute <= 0:
        return None
    return min(1.0, signs.explained_per_minute / signs.growth_per_minute)


def _limits(
    trend: TrendSummary,
    evidence: Evidence,
    explained: float | None,
    previous: LeakReport | None,
    *,
    light: bool,
    signs: judge.Signs,
) -> tuple[str, ...]:
    notes = list(evidence.notes)
    if evidence.modules_imported:
        notes.append(f"modules imported between the looks: {evidence.modules_imported}")
    growth = trend.growth_bytes
    if explained is not None and growth > 0:
        known = int(growth * explained)
        notes.insert(
            0,
            f"{format_bytes(known)} of {format_bytes(growth)} explained by the holders named; "
            f"{format_bytes(growth - known)} not",
        )
    if _was_reserved(signs, evidence):
        notes.append("memory that was reserved before is being filled: it has that bound")
    if light:
        notes.append(
            "what the entries of the light holders keep alive outside Python's heap is not seen"
        )
    if evidence.trace is None and previous is not None:
        notes.append("nothing was traced for this update: the lines are those of the first report")
    unsteady = sum(not holder.steady for holder in evidence.holders)
    if unsteady:
        left_out = "1 container" if unsteady == 1 else f"{unsteady} containers"
        notes.append(f"{left_out} that grew and was emptied left out")
    return tuple(notes)
