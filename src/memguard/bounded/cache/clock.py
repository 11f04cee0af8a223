"""The clock of a cache, as callers see it."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memguard.bounded.cache.maintenance import Upkeep


class TimerView:
    """
    Call it for the time; ``with cache.timer as now:`` holds the cache's time still.

    Attributes of the clock that was given are reached through it, as in cachetools. Holding time
    still concerns every thread that uses the cache, so keep it short.
    """

    __slots__ = ("_cache",)

    def __init__(self, cache: Upkeep) -> None:
        self._cache = cache

    def __call__(self) -> Any:
        """Return the time on this clock."""
        return self._cache._timer()  # noqa: SLF001 - reason: a view of the cache

    def __enter__(self) -> Any:
        cache = self._cache
        now = cache._timer()  # noqa: SLF001 - reason: a view of the cache
        cache._hold_time(repeat(now).__next__)  # noqa: SLF001 - reason: a view of the cache
        return now

    def __exit__(self, *exc_info: object) -> None:
        self._cache._hold_time(None)  # noqa: SLF001 - reason: a view of the cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache._options["timer"], name)  # noqa: SLF001 - reason: a view of the cache

    def __reduce__(self) -> Any:
        return TimerView, (self._cache,)
