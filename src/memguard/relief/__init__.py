"""
FREE: memory is freed before the kernel kills the process.

`PressureMonitor` decides when, `Relief` from whom: caches, pools, the collector, the allocator.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.relief import components
    from memguard.relief.admission import Admission, AdmissionStatistics, Admitted
    from memguard.relief.callbacks import CallbackRegistration, PressureLevel
    from memguard.relief.collector import GcPolicy, GcPolicyStatistics, prefork
    from memguard.relief.levels import SEVERITY, Level
    from memguard.relief.monitor import PressureMonitor
    from memguard.relief.records import (
        Alert,
        AlertKind,
        PressureState,
        PressureStatistics,
        ReliefReport,
        ReliefStatistics,
        StepResult,
        describe_change,
    )
    from memguard.relief.steps import Relief

__all__ = [
    "SEVERITY",
    "Admission",
    "AdmissionStatistics",
    "Admitted",
    "Alert",
    "AlertKind",
    "CallbackRegistration",
    "GcPolicy",
    "GcPolicyStatistics",
    "Level",
    "PressureLevel",
    "PressureMonitor",
    "PressureState",
    "PressureStatistics",
    "Relief",
    "ReliefReport",
    "ReliefStatistics",
    "StepResult",
    "components",
    "describe_change",
    "prefork",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.relief": "components",
            "memguard.relief.admission": "Admission AdmissionStatistics Admitted",
            "memguard.relief.callbacks": "CallbackRegistration PressureLevel",
            "memguard.relief.collector": "GcPolicy GcPolicyStatistics prefork",
            "memguard.relief.levels": "Level SEVERITY",
            "memguard.relief.monitor": "PressureMonitor",
            "memguard.relief.records": (
                "Alert AlertKind PressureState PressureStatistics ReliefReport ReliefStatistics "
                "StepResult describe_change"
            ),
            "memguard.relief.steps": "Relief",
        },
    )
