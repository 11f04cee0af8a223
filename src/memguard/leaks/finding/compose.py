"""
Compose a report of a trend and of evidence, with what is missing.

Pure: numbers and names in, a ``LeakReport`` out. What is decided is decided by `judge`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from memguard.leaks.evidence.census import MEAN_BLOCK_BYTES
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding import advice
from memguard.leaks.finding.judge import (
    Judgement,
    Signs,
    ends_by_itself,
    growth_per_minute,
    judge,
)
from memguard.leaks.finding.rank import SUSPECTS, rank_calls, rank_holders, rank_suspects
from memguard.leaks.finding.resources import resource_growth, resource_signs
from memguard.leaks.report import Cost, Holder, LeakReport, TrendSummary, TypeGrowth, VerdictKind


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
    cpu_seconds: float = 0.0,
    previous: LeakReport | None = None,
    had_stopped: bool = False,
) -> LeakReport:
    """
    Return the report of a finding.

    Args:
        origin: Names, times and numbers of the finding.
        trend: What the readings did.
        evidence: What the investigation gathered.
        on_demand: The report was requested; there may be no growth.
        cpu_seconds: Processor time of it all.
        previous: The report that this one updates: what was traced then is kept where nothing was
            traced now.
        had_stopped: See `judge`.
    """
    holders, light, wrong = rank_holders(evidence, trend, previous)
    apart = evidence.gap_seconds if on_demand else None
    growth = growth_per_minute(trend, looks_apart=apart)
    signs = _signs(growth, trend, evidence, holders, previous)
    judgement = judge(
        signs,
        on_demand=on_demand,
        had_stopped=had_stopped,
        standing=previous.verdict if previous and evidence.trace is None else None,
        about=previous.verdict.kind if previous else None,
    )
    suspects = rank_suspects(evidence, previous)
    if judgement.verdict.kind == "native":
        suspects = (*rank_calls(evidence, previous), *suspects)[:SUSPECTS]
    return LeakReport(
        **asdict(origin),
        kind=judgement.kind,
        trend=trend,
        verdict=replace(
            judgement.verdict, advice=advice.of_verdict(judgement.verdict.kind, holders)
        ),
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
        window_seconds=evidence.gap_seconds + (previous.window_seconds if previous else 0.0),
        resources=resource_growth(evidence, signs.resources, previous),
        gap_seconds=evidence.gap_seconds,
        explained_ratio=judgement.explained_ratio,
        garbage_ratio=judgement.garbage_ratio,
        limits=(
            *_limits(evidence, judgement, is_update=previous is not None, light=light),
            *wrong,
        ),
        cost=_cost(evidence, cpu_seconds, previous.cost if previous else Cost()),
    )


def verdict_kind(trend: TrendSummary, evidence: Evidence) -> VerdictKind:
    """Return what kind of growth it is, as a report would have it."""
    holders, *_ = rank_holders(evidence, trend, None)
    growth = growth_per_minute(trend, looks_apart=None)
    return judge(_signs(growth, trend, evidence, holders)).verdict.kind


def _cost(evidence: Evidence, cpu_seconds: float, before: Cost) -> Cost:
    """Return what the finding cost so far, updates included."""
    peak = evidence.trace.tracer_bytes if evidence.trace else 0
    return Cost(
        traced_seconds=before.traced_seconds + evidence.traced_seconds,
        census_seconds=before.census_seconds + evidence.census_seconds,
        retention_seconds=before.retention_seconds + evidence.retention_seconds,
        tracer_peak_bytes=max(before.tracer_peak_bytes, peak),
        cpu_seconds=cpu_seconds,
    )


def _signs(
    growth: float,
    trend: TrendSummary,
    evidence: Evidence,
    holders: tuple[Holder, ...],
    previous: LeakReport | None = None,
) -> Signs:
    minutes = evidence.gap_seconds / 60
    blocks, trace = evidence.blocks_growth, evidence.trace
    rates = [(holder.bytes_per_minute or 0.0, ends_by_itself(holder, trend)) for holder in holders]
    unseen = {holder.path for holder in evidence.holders if holder.unseen}
    if previous is not None and previous.verdict.kind == "extension" and evidence.trace is None:
        # Instances are followed to what holds them by tracing only: what was found still stands.
        unseen |= {holder.path for holder in previous.holders if not holder.anchored}
    garbage, objects = evidence.garbage, evidence.objects_growth
    threshold = evidence.collector.threshold
    return Signs(
        growth_per_minute=growth,
        growth_bytes=trend.growth_bytes,
        minutes=minutes or None,
        explained_per_minute=sum(rate for rate, _ in rates),
        filling_per_minute=sum(rate for rate, ends in rates if ends),
        unseen_per_minute=sum(h.bytes_per_minute or 0.0 for h in holders if h.path in unseen),
        garbage_per_minute=(
            evidence.garbage_growth / minutes if garbage is not None and minutes else None
        ),
        garbage_bytes=garbage.bytes if garbage is not None else 0,
        garbage_cycle=garbage.cycle if garbage is not None else None,
        emptied_bytes=sum(held.bytes_added for held in evidence.holders if not held.steady),
        traced_seconds=None if trace is None or trace.foreign else trace.seconds,
        traced_per_minute=evidence.traced_growth_per_minute,
        blocks_bytes_per_minute=(
            blocks * MEAN_BLOCK_BYTES / minutes if blocks is not None and minutes else None
        ),
        private_growth=evidence.private_growth,
        data_growth=evidence.data_growth,
        heap_in_use_growth=evidence.heap_in_use_growth,
        heap_free_growth=evidence.heap_free_growth,
        collector_enabled=evidence.collector.enabled,
        collector_threshold=threshold,
        minutes_to_collection=threshold * minutes / objects if objects > 0 else None,
        seconds_to_limit=trend.seconds_to_limit,
        collected_bytes=evidence.collected_bytes,
        private_bytes=evidence.private_bytes,
        heap_free_bytes=evidence.heap_free_bytes,
        modules_imported=evidence.modules_imported,
        resources=resource_signs(evidence, holders),
        memory_grows=evidence.memory_grows,
        interpreters=evidence.interpreters,
    )


def _limits(
    evidence: Evidence,
    judgement: Judgement,
    *,
    is_update: bool,
    light: tuple[Holder, ...],
) -> tuple[str, ...]:
    notes = list(evidence.notes)
    if evidence.modules_imported:
        notes.append(f"modules imported between the looks: {evidence.modules_imported}")
    if judgement.was_reserved:
        notes.append("memory that was reserved before is being filled: it has that bound")
    if light:
        notes.append(
            "what the entries of the light holders keep alive outside Python's heap is not seen"
        )
    if evidence.trace is None and is_update:
        notes.append("nothing was traced for this update: the lines are those of the first report")
    unsteady = sum(not holder.steady for holder in evidence.holders)
    if unsteady:
        left_out = "1 container" if unsteady == 1 else f"{unsteady} containers"
        notes.append(f"{left_out} that grew and was emptied left out")
    return tuple(notes)
