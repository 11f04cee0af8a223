"""
Whether a series of readings grows: numbers only.

Pure: no clock, no process.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.growth.series import Point
    from memguard.leaks.growth.trend import Trend, TrendKind, TrendOptions, classify
    from memguard.leaks.growth.windows import Windows

__all__ = [
    "Point",
    "Trend",
    "TrendKind",
    "TrendOptions",
    "Windows",
    "classify",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.growth.series": "Point",
            "memguard.leaks.growth.trend": "Trend TrendKind TrendOptions classify",
            "memguard.leaks.growth.windows": "Windows",
        },
    )
