"""
FIND: is it a leak, which line allocates it, what holds it.

`LeakDetector` watches and reports; `diagnose` and `profile_memory` look once.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.detector import LeakDetector, diagnose
    from memguard.leaks.profile import MemoryProfile, ProfiledBlock, profile_memory
    from memguard.leaks.report import (
        VERDICTS,
        Cost,
        CurvePoint,
        Frame,
        Holder,
        LeakReport,
        Suspect,
        TrendSummary,
        TypeGrowth,
        Verdict,
    )
    from memguard.leaks.statistics import LeakDetectorStatistics

__all__ = [
    "VERDICTS",
    "Cost",
    "CurvePoint",
    "Frame",
    "Holder",
    "LeakDetector",
    "LeakDetectorStatistics",
    "LeakReport",
    "MemoryProfile",
    "ProfiledBlock",
    "Suspect",
    "TrendSummary",
    "TypeGrowth",
    "Verdict",
    "diagnose",
    "profile_memory",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.detector": "LeakDetector diagnose",
            "memguard.leaks.profile": "MemoryProfile ProfiledBlock profile_memory",
            "memguard.leaks.report": (
                "Cost CurvePoint Frame Holder LeakReport Suspect TrendSummary TypeGrowth VERDICTS "
                "Verdict"
            ),
            "memguard.leaks.statistics": "LeakDetectorStatistics",
        },
    )
