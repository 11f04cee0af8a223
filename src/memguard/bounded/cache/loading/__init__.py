"""
Loading missing values: single flight and background refresh.

`cached` does it for functions.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.cache.loading import loader as loader
    from memguard.bounded.cache.loading.decorator import CachedFunction as CachedFunction
    from memguard.bounded.cache.loading.decorator import CacheInfo as CacheInfo
    from memguard.bounded.cache.loading.decorator import CacheOptions as CacheOptions
    from memguard.bounded.cache.loading.decorator import cached as cached
    from memguard.bounded.cache.loading.single_flight import Flights as Flights
    from memguard.bounded.cache.loading.single_flight_async import FlightsOfLoops as FlightsOfLoops
else:
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
