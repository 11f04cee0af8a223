"""
FIND: is it a leak, which line allocates it, what holds it.

`LeakDetector` watches and reports; `diagnose` and `profile_memory` look once.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.detector import LeakDetector as LeakDetector
    from memguard.leaks.detector import diagnose as diagnose
    from memguard.leaks.profile import MemoryProfile as MemoryProfile
    from memguard.leaks.profile import ProfiledBlock as ProfiledBlock
    from memguard.leaks.profile import profile_memory as profile_memory
    from memguard.leaks.report import VERDICTS as VERDICTS
    from memguard.leaks.report import Cost as Cost
    from memguard.leaks.report import CurvePoint as CurvePoint
    from memguard.leaks.report import FindingState as FindingState
    from memguard.leaks.report import Frame as Frame
    from memguard.leaks.report import Holder as Holder
    from memguard.leaks.report import HolderUnit as HolderUnit
    from memguard.leaks.report import LeakReport as LeakReport
    from memguard.leaks.report import ResourceGroup as ResourceGroup
    from memguard.leaks.report import ResourceGrowth as ResourceGrowth
    from memguard.leaks.report import Suspect as Suspect
    from memguard.leaks.report import TrendSummary as TrendSummary
    from memguard.leaks.report import TypeGrowth as TypeGrowth
    from memguard.leaks.report import Verdict as Verdict
    from memguard.leaks.statistics import LeakDetectorStatistics as LeakDetectorStatistics
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.detector": "LeakDetector diagnose",
            "memguard.leaks.profile": "MemoryProfile ProfiledBlock profile_memory",
            "memguard.leaks.report": (
                "Cost CurvePoint FindingState Frame Holder HolderUnit LeakReport "
                "ResourceGroup ResourceGrowth Suspect TrendSummary TypeGrowth VERDICTS Verdict"
            ),
            "memguard.leaks.statistics": "LeakDetectorStatistics",
        },
    )
