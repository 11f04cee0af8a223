"""How a guarded process is doing: one frozen report with the unit of every number in its name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from memguard.bounded.inventory import InventoryRow
from memguard.leaks.report import LeakReport
from memguard.observe.gcwatch import GcStatistics
from memguard.relief.levels import Level
from memguard.relief.records import Alert
from memguard.report.render.words import Locations, printable
from memguard.report.state import Guarded, GuardState, guard_state
from memguard.schema import plain

MOST_CONTAINERS = 50
"""Containers that are listed, the largest first; the others are only counted."""
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHealth:
    """What this process holds. None if the system does not say."""

    private_bytes: int | None
    """Bytes that only this process holds, resident or swapped: what a leak grows."""
    resident_bytes: int | None
    """All resident pages, those of files and of shared memory too."""
    highest_resident_bytes: int | None
    """The most that was ever resident."""
    swapped_bytes: int | None
    shared_bytes: int | None
    """Resident shared memory."""
    virtual_bytes: int | None
    """Address space, touched or not."""
    allocated_blocks: int | None
    """Blocks in use by Python's allocator."""
    threads: int | None
    """Threads of the process, not only those Python started."""
    open_descriptors: int | None
    """Open file descriptors, sockets included."""
    allowed_descriptors: int | None
    """How many may be open (RLIMIT_NOFILE)."""
    asyncio_tasks: int | None
    """Tasks alive; from CPython 3.14 on those of event loops that were seen running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitHealth:
    """How near the process is to the bound that is fullest, as of the monitor's last look."""

    used_bytes: int | None
    """What cannot be reclaimed, in the scope of the bound: others in a control group count."""
    limit_bytes: int | None
    limit_source: str
    """Where the bound is written."""
    used_ratio: float | None
    """*used_bytes* over *limit_bytes*."""
    headroom_bytes: int | None
    """What is left below the bound."""
    growth_bytes_per_minute: float
    """Over the last seconds; negative when shrinking."""
    stalled_percent: float | None
    """Percent of time that some task waited for memory (Linux PSI)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcHealth:
    """What the garbage collector did while it was watched."""

    watched_seconds: float
    pauses: int
    pauses_total_seconds: float
    longest_pause_seconds: float
    pause_ratio: float
    """Part of the watched time that went into pauses, 0 to 1."""
    collected_objects: int
    uncollectable_objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliefHealth:
    """What was freed so far."""

    runs: int
    refused_runs: int
    """Requested while another run was in progress."""
    freed_bytes: int
    """As the containers count it."""
    memory_fell_bytes: int
    """By what the private memory fell."""
    total_seconds: float
    longest_seconds: float
    lowered_caches: int
    """Caches whose bound is lowered now."""
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionHealth:
    """Work that was admitted, refused, or had to wait."""

    running: int
    promised_bytes: int
    admitted: int
    refused: int
    waited: int
    waited_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakHealth:
    """One leak report in short; the whole of it is in `memguard.LeakReport`."""

    id: str
    kind: str
    verdict: str
    updated_at: str
    """ISO 8601, UTC."""
    growth_bytes: int
    growth_bytes_per_hour: float
    holder: str | None
    """The path of what holds the most; None where nothing nameable was found."""
    holder_type: str | None
    allocated_at: str | None
    """The line that allocates the most, and its function."""
    state: str | None = None
    """``suspected``, ``leaking``, ``ended`` or ``retracted``; None where never suspected."""
    fingerprint: str = ""
    """The same for the same leak in every process."""

    @classmethod
    def of(cls, found: LeakReport) -> LeakHealth:
        """Return *found* in short. Pure."""
        holder, place = next(iter(found.holders), None), found.place
        return cls(
            id=printable(found.id, longest=_LONGEST_NAME),
            kind=found.kind,
            verdict=found.verdict.kind,
            updated_at=found.updated_at,
            growth_bytes=found.trend.growth_bytes,
            growth_bytes_per_hour=found.trend.bytes_per_hour,
            holder=None if holder is None else printable(holder.path, longest=_LONGEST_NAME),
            holder_type=None if holder is None else printable(holder.type, longest=_LONGEST_NAME),
            allocated_at=None
            if place is None
            else printable(Locations().shown(place), longest=_LONGEST_NAME),
            state=found.state,
            fingerprint=found.fingerprint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHealth:
    """One live container."""

    name: str
    kind: str
    items: int
    bytes: int | None
    """As it counts them; None if it counts no bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersHealth:
    """All live containers."""

    count: int
    items: int
    bytes: int
    """Of those that count bytes."""
    largest: tuple[ContainerHealth, ...]
    """The largest by bytes, then by items, at most 50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedHealth:
    """A part of the guard that the environment has switched off."""

    part: str
    """``pressure``, ``leaks``, ``reports``, ``history`` or ``publish``."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertHealth:
    """Something an operator should know."""

    kind: str
    level: str
    previous_level: str
    reasons: tuple[str, ...]
    time_seconds: float
    """Since the epoch."""
    used_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """
    How a guarded process is doing: names and numbers, never values.

    Bounded by: 50 containers, ten alerts, the reports that the guard keeps.
    Locks: none.
    Keeps alive: strings and numbers.
    """

    time_seconds: float
    """When it was taken, since the epoch."""
    process_id: int
    guard: str
    """The guard's name."""
    watching: bool
    """True while the guard runs; without that, the level is not known."""
    level: Level
    """``"ok"``, ``"elevated"``, ``"critical"`` or ``"insufficient_data"``."""
    reasons: tuple[str, ...]
    """Why it is not ok."""
    degraded: tuple[DegradedHealth, ...]
    """Parts of the guard that do not do all of their work: a full disk, a hidden ``/proc``."""
    memory: MemoryHealth
    limit: LimitHealth
    gc: GcHealth | None
    """None if the collector is not watched; likewise the two below."""
    relief: ReliefHealth | None
    leaks_state: str | None
    """What the leak detector does; None if leaks are not watched."""
    findings: int | None
    """Leaks and growth that it has reported so far."""
    admission: AdmissionHealth
    containers: ContainersHealth
    alerts: tuple[AlertHealth, ...]
    """The last ten, oldest first."""
    leaks: tuple[LeakHealth, ...]
    """The latest leak reports, oldest first."""
    errors: int
    """Failures of memguard itself that were caught."""

    @property
    def is_critical(self) -> bool:
        """True when work should go elsewhere."""
        return self.level == "critical"

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts, ready for strict JSON."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    @classmethod
    def of(cls, state: GuardState) -> HealthReport:
        """Return what *state* says. Pure, except for the ID of this process."""
        pressure, reading, admission = state.pressure, state.reading, state.admission
        level, reasons = current_level(state)
        detector = state.detector
        parts = (state.monitor, detector, state.relief)
        return cls(
            time_seconds=state.time,
            process_id=os.getpid(),
            guard=printable(state.name, longest=_LONGEST_NAME),
            watching=state.running,
            level=level,
            reasons=reasons,
            degraded=tuple(
                DegradedHealth(part=each.part, reason=printable(each.reason, longest=300))
                for each in state.degraded
            ),
            memory=MemoryHealth(
                private_bytes=reading.private,
                resident_bytes=reading.rss,
                highest_resident_bytes=reading.peak,
                swapped_bytes=reading.swap,
                shared_bytes=reading.shmem,
                virtual_bytes=reading.vms,
                allocated_blocks=reading.blocks,
                threads=reading.threads,
                open_descriptors=reading.open_files,
                allowed_descriptors=reading.open_files_limit,
                asyncio_tasks=reading.tasks,
            ),
            limit=LimitHealth(
                used_bytes=pressure.used,
                limit_bytes=pressure.limit,
                limit_source=pressure.source,
                used_ratio=pressure.used_ratio,
                headroom_bytes=pressure.headroom,
                growth_bytes_per_minute=pressure.bytes_per_minute,
                stalled_percent=pressure.stall_some,
            ),
            gc=None if state.gc is None else _gc(state.gc),
            relief=_relief(state),
            leaks_state=None if detector is None else detector.state,
            findings=None if detector is None else detector.findings,
            admission=AdmissionHealth(
                running=admission.running,
                promised_bytes=admission.promised,
                admitted=admission.admitted,
                refused=admission.refused,
                waited=admission.waited,
                waited_seconds=admission.waited_seconds,
            ),
            containers=_containers(state.containers),
            alerts=tuple(map(_alert, state.alerts)),
            leaks=tuple(map(LeakHealth.of, state.reports)),
            errors=sum(part.errors for part in parts if part is not None),
        )


def health(guard: Guarded) -> HealthReport:
    """
    Return how the process of *guard* is doing. Thread-safe.

    Cost: that of `memguard.report.state.guard_state`, and O(containers log containers) to sort
    them.
    """
    return HealthReport.of(guard_state(guard))


def current_level(state: GuardState) -> tuple[Level, tuple[str, ...]]:
    """Return the current level and its reasons; a stopped guard has no current level."""
    if not state.running:
        return "insufficient_data", ("the guard is not running in this process",)
    return state.pressure.level, state.pressure.reasons


def by_size(rows: Iterable[InventoryRow]) -> list[InventoryRow]:
    """Return *rows* with the largest first, by bytes, then by items; those of one size by name."""
    return sorted(rows, key=lambda row: (-(row.bytes or 0), -row.items, row.name))


def _gc(found: GcStatistics) -> GcHealth:
    return GcHealth(
        watched_seconds=found.watched_seconds,
        pauses=found.collections,
        pauses_total_seconds=found.pause_total,
        longest_pause_seconds=found.pause_max,
        pause_ratio=found.wall_share,
        collected_objects=found.collected,
        uncollectable_objects=found.uncollectable,
    )


def _relief(state: GuardState) -> ReliefHealth | None:
    found = state.relief
    if found is None:
        return None
    return ReliefHealth(
        runs=found.runs,
        refused_runs=found.refused,
        freed_bytes=found.freed,
        memory_fell_bytes=found.rss_freed,
        total_seconds=found.seconds,
        longest_seconds=found.longest_seconds,
        lowered_caches=found.lowered_caches,
        errors=found.errors,
    )


def _containers(rows: tuple[InventoryRow, ...]) -> ContainersHealth:
    return ContainersHealth(
        count=len(rows),
        items=sum(row.items for row in rows),
        bytes=sum(row.bytes or 0 for row in rows),
        largest=tuple(
            ContainerHealth(
                name=printable(row.name, longest=_LONGEST_NAME),
                kind=printable(row.kind, longest=_LONGEST_NAME),
                items=row.items,
                bytes=row.bytes,
            )
            for row in by_size(rows)[:MOST_CONTAINERS]
        ),
    )


def _alert(found: Alert) -> AlertHealth:
    return AlertHealth(
        kind=found.kind,
        level=found.level,
        previous_level=found.previous,
        reasons=found.reasons,
        time_seconds=found.time,
        used_bytes=found.used,
        limit_bytes=found.limit,
    )
