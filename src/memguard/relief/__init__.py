"""
FREE: memory is freed before the kernel kills the process.

`PressureMonitor` decides when, `Relief` from whom: caches, pools, the collector, the allocator.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.relief import components as components
    from memguard.relief.admission import Admission as Admission
    from memguard.relief.admission import AdmissionStatistics as AdmissionStatistics
    from memguard.relief.admission import Admitted as Admitted
    from memguard.relief.admission import AsyncAdmitted as AsyncAdmitted
    from memguard.relief.admission import WhenBlind as WhenBlind
    from memguard.relief.caches import held_by_containers as held_by_containers
    from memguard.relief.callbacks import CallbackRegistration as CallbackRegistration
    from memguard.relief.callbacks import PressureFunction as PressureFunction
    from memguard.relief.callbacks import PressureLevel as PressureLevel
    from memguard.relief.callbacks import PressureStage as PressureStage
    from memguard.relief.collector import GcPolicy as GcPolicy
    from memguard.relief.collector import GcPolicyStatistics as GcPolicyStatistics
    from memguard.relief.collector import prefork as prefork
    from memguard.relief.levels import SEVERITY as SEVERITY
    from memguard.relief.levels import Level as Level
    from memguard.relief.monitor import PressureMonitor as PressureMonitor
    from memguard.relief.records import Alert as Alert
    from memguard.relief.records import AlertKind as AlertKind
    from memguard.relief.records import PressureState as PressureState
    from memguard.relief.records import PressureStatistics as PressureStatistics
    from memguard.relief.records import ReliefReport as ReliefReport
    from memguard.relief.records import ReliefStatistics as ReliefStatistics
    from memguard.relief.records import StepResult as StepResult
    from memguard.relief.records import describe_change as describe_change
    from memguard.relief.room import BoundUse as BoundUse
    from memguard.relief.steps import Relief as Relief
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.relief": "components",
            "memguard.relief.admission": (
                "Admission AdmissionStatistics Admitted AsyncAdmitted WhenBlind"
            ),
            "memguard.relief.caches": "held_by_containers",
            "memguard.relief.callbacks": (
                "CallbackRegistration PressureFunction PressureLevel PressureStage"
            ),
            "memguard.relief.collector": "GcPolicy GcPolicyStatistics prefork",
            "memguard.relief.levels": "Level SEVERITY",
            "memguard.relief.monitor": "PressureMonitor",
            "memguard.relief.records": (
                "Alert AlertKind PressureState PressureStatistics ReliefReport "
                "ReliefStatistics StepResult describe_change"
            ),
            "memguard.relief.room": "BoundUse",
            "memguard.relief.steps": "Relief",
        },
    )
