"""
Loading missing values: single flight and background refresh.

`cached` does it for functions.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.cache.loading import loader
    from memguard.bounded.cache.loading.decorator import (
        CachedFunction,
        CacheInfo,
        CacheOptions,
        cached,
    )
    from memguard.bounded.cache.loading.single_flight import Flights
    from memguard.bounded.cache.loading.single_flight_async import FlightsOfLoops

__all__ = [
    "CacheInfo",
    "CacheOptions",
    "CachedFunction",
    "Flights",
    "FlightsOfLoops",
    "cached",
    "loader",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.cache.loading": "loader",
            "memguard.bounded.cache.loading.decorator": (
                "CacheInfo CacheOptions CachedFunction cached"
            ),
            "memguard.bounded.cache.loading.single_flight": "Flights",
            "memguard.bounded.cache.loading.single_flight_async": "FlightsOfLoops",
        },
    )
