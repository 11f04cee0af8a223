# ruff: noqa: SLF001 - reason: a loader is a part of the cache that it is called with
"""Load through a cache: single flight, background refresh, warming, and their counts."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterable, Sized
from typing import Any, Protocol

from memguard import log
from memguard.bounded import options
from memguard.bounded.cache.entry import MISSING
from memguard.bounded.cache.loading import refresh
from memguard.bounded.cache.loading.single_flight import (
    Flight,
    Flights,
    Lead,
    abandon,
    board,
    hook_fork,
    land,
)
from memguard.bounded.cache.loading.single_flight_async import (
    AsyncFlight,
    FlightsOfLoops,
    fly_async,
    start_in_loop,
)
from memguard.bounded.cache.stats import WarmReport
from memguard.errors import ValueTooLargeError
from memguard.lifecycle import fork

_MOST_REFRESHES = 16
"""Background loads of one cache at the same time on one event loop."""

_REFRESH_PAUSE_SECONDS = 1.0
"""After a failed refresh, how long stale values are served without trying again."""


class Target(Protocol):
    """The cache that a loader loads for."""

    name: str
    _closed: bool
    _refused: int
    _flights: Flights
    _async_flights: FlightsOfLoops

    @property
    def _lock(self) -> Any:
        """The lock."""

    def get(self, key: Any, default: Any, /) -> Any:
        """Return the live value of *key*, or *default*; an access."""

    def get_or_load(self, key: Any, loader: Callable[[Any], Any]) -> Any:
        """Return the live value of *key*, or load it."""

    def _peek(self, key: Any) -> Any:
        """Return the live value of *key*, or MISSING; no access."""

    def _age_of(self, key: Any) -> Any:
        """Return the time since the value of *key* was written, None when unknown."""

    def _lifetime(self, ttl: Any) -> Any:
        """Return *ttl*, checked."""

    def _put(self, key: Any, value: Any, ttl: Any, *, only_if_absent: bool, flight: Any) -> Any:
        """Store *value*, unless *flight* was disowned."""


class Loader:
    """
    The loads of one cache, and their counts.

    It does not refer to its cache, which each call passes, so that dropping a cache frees it at
    once.

    Bounded by: four background loads in the process, sixteen of one cache on one event loop.
    Locks: the cache's, for counts; loaders run outside of it.
    Keeps alive: nothing.
    """

    __slots__ = ("_lock", "_no_refresh_before", "failures", "loads", "refreshes", "seconds")

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.loads = self.failures = self.refreshes = 0
        self.seconds = self._no_refresh_before = 0.0
        hook_fork()

    def figures(self) -> dict[str, Any]:
        """Return the counts under the names that statistics give them."""
        return {
            "loads": self.loads,
            "load_failures": self.failures,
            "load_seconds": self.seconds,
            "refreshes": self.refreshes,
        }

    def load(
        self,
        cache: Target,
        key: Any,
        loader: Callable[[Any], Any],
        ttl: Any,
        refresh_after: float | None,
    ) -> Any:
        """Return the live value of *key*, or load, store and return it."""
        value = cache.get(key, MISSING)
        if value is not MISSING:
            if refresh_after is not None and self.is_stale(cache, key, refresh_after):
                self.refresh(cache, key, loader, ttl)
            return value
        fork.check()  # a load of the parent's that this child would wait for does not end here
        lead = Lead()
        flight = Flight(lead)
        try:
            try:
                must_load, value = board(cache._flights, key, flight, cache._lock)
                if not must_load:
                    return value
                value = cache._peek(key)  # another load may have ended just before this one began
                if value is MISSING:
                    value = self.call(cache, key, loader, ttl, flight)
            except BaseException as error:
                land(cache._flights, key, flight, error=error)
                raise
            land(cache._flights, key, flight, value)
            return value
        finally:
            if not flight.is_over:
                abandon(cache._flights, key, flight)

    def call(
        self,
        cache: Target,
        key: Any,
        loader: Callable[[Any], Any],
        ttl: Any,
        flight: Flight,
        *,
        anew: bool = False,
    ) -> Any:
        """Return what *loader* gives, counted and stored; *anew* if it replaces a value."""
        started = time.perf_counter()
        try:
            value = loader(key)
            self.count_load(started)
            self.keep(cache, key, value, ttl, flight, anew=anew)
        except BaseException as error:
            self.count_failure(cache.name, started, error, refreshing=anew)
            raise
        return value

    async def load_async(
        self,
        cache: Target,
        key: Any,
        loader: Callable[[Any], Any],
        ttl: Any,
        refresh_after: float | None,
    ) -> Any:
        """Await and return the value of *key* as `load` does, with an async *loader*."""
        value = cache.get(key, MISSING)
        if value is not MISSING:
            if refresh_after is not None and self.is_stale(cache, key, refresh_after):
                self.refresh_in_loop(cache, key, loader, ttl)
            return value
        fork.check()
        return await fly_async(
            cache._async_flights,
            key,
            lambda flight: self.call_async(cache, key, loader, ttl, flight),
        )

    async def call_async(
        self,
        cache: Target,
        key: Any,
        loader: Callable[[Any], Any],
        ttl: Any,
        flight: AsyncFlight,
        *,
        anew: bool = False,
    ) -> Any:
        """Await what *loader* gives, counted and stored; *anew* if it replaces a value."""
        if not anew:
            value = cache._peek(key)
            if value is not MISSING:
                return value
        started = time.perf_counter()
        try:
            value = loader(key)
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:
            self.count_failure(cache.name, started, error, refreshing=anew)
            raise
        self.count_load(started)
        self.keep(cache, key, value, ttl, flight, anew=anew)
        return value

    def keep(
        self,
        cache: Target,
        key: Any,
        value: Any,
        ttl: Any,
        flight: Flight | AsyncFlight,
        *,
        anew: bool = False,
    ) -> None:
        """Store a loaded value, unless its key was written or deleted meanwhile."""
        if cache._closed or flight.disowned:
            return
        lifetime = cache._lifetime(ttl)
        try:
            cache._put(key, value, lifetime, only_if_absent=not anew, flight=flight)
        except ValueTooLargeError:  # the caller gets it anyway
            with self._lock:
                cache._refused += 1
        if anew:
            with self._lock:
                self.refreshes += 1

    def count_load(self, started: float) -> None:
        """Count a load that gave a value."""
        seconds = time.perf_counter() - started
        with self._lock:
            self.seconds += seconds
            self.loads += 1

    def count_failure(
        self, name: str, started: float, error: BaseException, *, refreshing: bool = False
    ) -> None:
        """Count a load that raised; after a failed refresh of the cache *name*, pause."""
        seconds = time.perf_counter() - started
        with self._lock:
            self.seconds += seconds
            self.failures += 1
            first = self.failures == 1
        if refreshing:
            self._no_refresh_before = time.monotonic() + _REFRESH_PAUSE_SECONDS
            if first:
                kind = type(error).__name__
                log.event(log.WARNING, "cache.refresh_failed", cache=name, error=kind)

    # -- background refresh -----------------------------------------------------------------------

    def is_stale(self, cache: Target, key: Any, refresh_after: Any) -> bool:
        """Return whether the value of *key* is old enough to be loaded again now."""
        age = cache._age_of(key)
        return (
            age is not None
            and not age < refresh_after
            and not time.monotonic() < self._no_refresh_before
        )

    def refresh(self, cache: Target, key: Any, loader: Callable[[Any], Any], ttl: Any) -> None:
        """Load *key* again in the background, unless it is being loaded already."""
        flights = cache._flights
        lead = Lead()
        flight = Flight(lead)

        def work(_: Lead = lead) -> None:
            flight.owner = threading.get_ident()
            try:
                value = self.call(cache, key, loader, ttl, flight, anew=True)
            except BaseException as error:  # noqa: BLE001 - reason: the old value stays; it is counted
                land(flights, key, flight, error=error)
            else:
                land(flights, key, flight, value)

        started = False
        try:
            if flights.setdefault(key, flight) is flight:
                started = refresh.in_background(work)
        finally:
            if not started:
                abandon(flights, key, flight)

    def refresh_in_loop(
        self, cache: Target, key: Any, loader: Callable[[Any], Any], ttl: Any
    ) -> None:
        """Load *key* again in a task of the running loop, unless it is being loaded already."""
        start_in_loop(
            cache._async_flights,
            key,
            lambda flight: self.call_async(cache, key, loader, ttl, flight, anew=True),
            most=_MOST_REFRESHES,
        )


def warm(
    cache: Target,
    keys: Iterable[Any],
    loader: Callable[[Any], Any],
    workers: int,
    progress: Callable[[int, int | None], object] | None,
) -> WarmReport:
    """Load the *keys* that are not in *cache* yet, on up to *workers* threads, and count them."""
    options.check_positive_int(workers, "workers")
    options.check_callable(loader, "loader", optional=False)
    options.check_callable(progress, "progress")
    total = len(keys) if isinstance(keys, Sized) else None
    loaded = present = 0
    failed: list[tuple[Any, Exception]] = []
    from concurrent.futures import (  # noqa: PLC0415 - reason: a megabyte for one method
        FIRST_COMPLETED,
        Future,
        ThreadPoolExecutor,
        wait,
    )

    def report() -> None:
        if progress is not None:
            progress(loaded + present + len(failed), total)

    pending: dict[Future[Any], Any] = {}
    remaining = iter(keys)
    exhausted = False
    with ThreadPoolExecutor(workers, thread_name_prefix="memguard-warm") as pool:
        while pending or not exhausted:
            while not exhausted and len(pending) < 2 * workers:
                key = next(remaining, MISSING)
                if key is MISSING:
                    exhausted = True
                elif cache._peek(key) is not MISSING:
                    present += 1
                    report()
                else:
                    pending[pool.submit(cache.get_or_load, key, loader)] = key
            for future in wait(pending, return_when=FIRST_COMPLETED).done if pending else ():
                key = pending.pop(future)
                error = future.exception()
                if error is None:
                    loaded += 1
                elif isinstance(error, Exception):
                    failed.append((key, error.with_traceback(None)))
                else:
                    raise error
                report()
    return WarmReport(loaded=loaded, present=present, failed=tuple(failed))
