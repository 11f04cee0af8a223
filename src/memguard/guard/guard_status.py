"""What a guard knows of all its parts: frozen, strings and numbers only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from memguard.leaks.statistics import LeakDetectorStatistics
from memguard.observe.gcwatch import GcStatistics
from memguard.observe.history import HistoryStatistics
from memguard.relief.admission import AdmissionStatistics
from memguard.relief.collector import GcPolicyStatistics
from memguard.relief.records import Alert, PressureState, PressureStatistics, ReliefStatistics
from memguard.report.publish.publisher import PublisherStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStatus:
    """What a `MemoryGuard` knows: strings and numbers only."""

    running: bool
    pressure: PressureState
    alerts: tuple[Alert, ...]
    """The last ten, oldest first."""
    monitor: PressureStatistics
    relief: ReliefStatistics | None
    """None where relief is switched off; so are the others below."""
    admission: AdmissionStatistics
    detector: LeakDetectorStatistics | None
    history: HistoryStatistics | None
    gc: GcStatistics | None
    gc_policy: GcPolicyStatistics | None
    publisher: PublisherStatistics | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        found = asdict(self)
        found["pressure"] = self.pressure.to_dict()
        return found
