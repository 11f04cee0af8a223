"""
Caches with a bound on entries, bytes and age.

`BoundedCache` is the cache; the other modules are its parts.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.cache.bounded_cache import BoundedCache as BoundedCache
    from memguard.bounded.cache.stats import CacheStatistics as CacheStatistics
    from memguard.bounded.cache.stats import EntryInfo as EntryInfo
    from memguard.bounded.cache.stats import WarmReport as WarmReport
    from memguard.bounded.cache.wrapped import WrappedCache as WrappedCache
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.cache.bounded_cache": "BoundedCache",
            "memguard.bounded.cache.stats": "CacheStatistics EntryInfo WarmReport",
            "memguard.bounded.cache.wrapped": "WrappedCache",
        },
    )
