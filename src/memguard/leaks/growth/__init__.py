"""
Whether a series of readings grows: numbers only.

Pure: no clock, no process.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.growth.counts import Counted as Counted
    from memguard.leaks.growth.counts import Counts as Counts
    from memguard.leaks.growth.counts import CountTrend as CountTrend
    from memguard.leaks.growth.counts import least_growth as least_growth
    from memguard.leaks.growth.series import Point as Point
    from memguard.leaks.growth.trend import Trend as Trend
    from memguard.leaks.growth.trend import TrendKind as TrendKind
    from memguard.leaks.growth.trend import TrendOptions as TrendOptions
    from memguard.leaks.growth.trend import classify as classify
    from memguard.leaks.growth.trend import pace as pace
    from memguard.leaks.growth.windows import Windows as Windows
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.growth.series": "Point",
            "memguard.leaks.growth.trend": "Trend TrendKind TrendOptions classify pace",
            "memguard.leaks.growth.windows": "Windows",
            "memguard.leaks.growth.counts": "Counted Counts CountTrend least_growth",
        },
    )
