"""
The state of a guard at one moment, gathered for metrics, health, the live page and alerts.

All of them read it here, so that a scrape, a page and an alert cannot say different things.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from memguard.bounded.inventory import InventoryRow, survey
from memguard.leaks.report import LeakReport
from memguard.leaks.statistics import LeakDetectorStatistics
from memguard.lifecycle.degraded import GUARD_PARTS, Degraded
from memguard.observe.gcwatch import GcStatistics
from memguard.observe.history import History
from memguard.observe.readings import Reading, read_memory
from memguard.relief.admission import AdmissionStatistics
from memguard.relief.records import (
    Alert,
    PressureState,
    PressureStatistics,
    ReliefReport,
    ReliefStatistics,
)

_MEASURE_SECONDS = 0.0001
"""What one look may spend on measuring values in caches that do not count bytes."""


class _Status(Protocol):
    """A ``GuardStatus``, as far as it is read here."""

    @property
    def running(self) -> bool: ...
    @property
    def degraded(self) -> tuple[Degraded, ...]: ...
    @property
    def degradations(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def pressure(self) -> PressureState: ...
    @property
    def alerts(self) -> tuple[Alert, ...]: ...
    @property
    def monitor(self) -> PressureStatistics: ...
    @property
    def relief(self) -> ReliefStatistics | None: ...
    @property
    def admission(self) -> AdmissionStatistics: ...
    @property
    def detector(self) -> LeakDetectorStatistics | None: ...
    @property
    def gc(self) -> GcStatistics | None: ...


class CanRelieve(Protocol):
    """What frees memory on request."""

    def relieve(self, target: int | str | None = None) -> ReliefReport:
        """Free *target* bytes now; None frees whatever can be freed."""


class Guarded(Protocol):
    """A `MemoryGuard` as this floor sees it: what it knows, and nothing of how it is built."""

    @property
    def name(self) -> str:
        """What logs and labels call it."""

    @property
    def history(self) -> History | None:
        """Its readings; None if none are kept."""

    @property
    def relief(self) -> CanRelieve | None:
        """What frees memory; None if it only watches."""

    @property
    def reports(self) -> tuple[LeakReport, ...]:
        """The latest leak reports, oldest first."""

    def status(self) -> _Status:
        """Return what every part knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardState:
    """What a guard knows at one moment: strings and numbers only. Bytes and seconds."""

    time: float
    """When they were gathered, in seconds since the epoch."""
    name: str
    """The guard's."""
    running: bool
    degraded: tuple[Degraded, ...]
    """Parts that do not do all of their work, through no fault of their options, and why."""
    degradations: tuple[tuple[str, int], ...]
    """(part, times that it was switched off)."""
    reading: Reading
    """Read for this occasion."""
    pressure: PressureState
    """As of the monitor's last look."""
    alerts: tuple[Alert, ...]
    """The last ten, oldest first."""
    monitor: PressureStatistics
    relief: ReliefStatistics | None
    """None if nothing is freed; likewise the two below if they are left out."""
    admission: AdmissionStatistics
    detector: LeakDetectorStatistics | None
    gc: GcStatistics | None
    containers: tuple[InventoryRow, ...]
    """Every live container, oldest first."""
    reports: tuple[LeakReport, ...]
    """The latest leak reports, oldest first."""

    @property
    def off(self) -> dict[str, int]:
        """For each part of a guard 1 if it is in *degraded*, else 0."""
        now = [each.part for each in self.degraded]
        return {part: now.count(part) for part in GUARD_PARTS}

    @property
    def times_off(self) -> dict[str, int]:
        """For each part of a guard how many times it was switched off."""
        return {**dict.fromkeys(GUARD_PARTS, 0), **dict(self.degradations)}


def guard_state(guard: Guarded) -> GuardState:
    """
    Return what *guard* knows now. Thread-safe.

    Cost: one reading (20 µs), the guard's status, and O(containers), each of which drops its
    expired entries first. Of caches that do not count bytes and have changed much, only as many are
    measured again as fit into a tenth of a millisecond, and one at least: the others report their
    earlier average times the entries that they have now.
    """
    status = guard.status()
    return GuardState(
        time=time.time(),
        name=guard.name,
        running=status.running,
        degraded=status.degraded,
        degradations=status.degradations,
        reading=read_memory(),
        pressure=status.pressure,
        alerts=status.alerts,
        monitor=status.monitor,
        relief=status.relief,
        admission=status.admission,
        detector=status.detector,
        gc=status.gc,
        containers=survey(_MEASURE_SECONDS),
        reports=guard.reports,
    )
