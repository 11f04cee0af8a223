"""Caches that load what they miss: single flight, refresh in the background, warming."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from weakref import WeakKeyDictionary

from memguard import log
from memguard.bounded import _options as options
from memguard.bounded import refresh
from memguard.bounded._entry import MISSING
from memguard.bounded._records import WarmReport
from memguard.bounded._upkeep import Upkeep
from memguard.bounded.flight import (
    AsyncFlight,
    AsyncFlights,
    Flight,
    abandon,
    fly,
    fly_async,
    hook_fork,
    lead,
    start_in_loop,
)
from memguard.errors import ValueTooLargeError

_MOST_REFRESHES = 16
"""Background loads of one cache at the same time on one event loop."""

_REFRESH_PAUSE_SECONDS = 1.0
"""After a failed refresh, how long stale values are served without trying again."""


class Loading(Upkeep):
    """The loading half of a cache."""

    __slots__ = (
        "_async_flights",
        "_load_failures",
        "_load_seconds",
        "_loads",
        "_no_refresh_before",
        "_refreshes",
    )

    _async_flights: AsyncFlights
    _loads: int
    _load_failures: int
    _load_seconds: float
    _refreshes: int
    _no_refresh_before: float

    def _set_up_loading(self) -> None:
        self._flights = {}
        self._async_flights = WeakKeyDictionary()
        self._loads = self._load_failures = self._refreshes = 0
        self._load_seconds = self._no_refresh_before = 0.0
        hook_fork()

    def get_or_load(
        self,
        key: Any,
        loader: Callable[[Any], Any],
        *,
        ttl: Any = MISSING,
        refresh_after: float | None = None,
    ) -> Any:
        """
        Return the live value of *key*, or load, store and return it.

        Threads that miss the same key at the same time share one call of *loader*, which runs
        outside every lock and may use the cache, even for its own key. An exception reaches every
        thread that waited and is not cached. A key deleted during its load stays deleted.

        Args:
            key: The key.
            loader: Called with the key.
            ttl: A lifetime for this entry alone.
            refresh_after: Age in seconds from which a value is still returned, but loaded anew by
                one background thread; a failed refresh keeps the old value.

        Raises:
            Exception: Whatever *loader* raised.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            if refresh_after is not None and self._is_stale(key, refresh_after):
                self._refresh(key, loader, ttl)
            return value
        return fly(self._flights, key, lambda flight: self._load(key, loader, ttl, flight))

    async def aget_or_load(
        self,
        key: Any,
        loader: Callable[[Any], Awaitable[Any]],
        *,
        ttl: Any = MISSING,
        refresh_after: float | None = None,
    ) -> Any:
        """
        Await and return the value of *key* as `get_or_load` does, with an async *loader*.

        Results are shared by all event loops and threads, loads under way by the tasks of one
        loop. A caller that is cancelled leaves the load to the others; the last one to leave
        cancels it.
        """
        value = self.get(key, MISSING)
        if value is not MISSING:
            if refresh_after is not None and self._is_stale(key, refresh_after):
                start_in_loop(
                    self._async_flights,
                    key,
                    lambda flight: self._load_async(key, loader, ttl, flight, anew=True),
                    most=_MOST_REFRESHES,
                )
            return value
        return await fly_async(
            self._async_flights,
            key,
            lambda flight: self._load_async(key, loader, ttl, flight),
        )

    def warm(
        self,
        keys: Iterable[Any],
        loader: Callable[[Any], Any],
        *,
        workers: int = 4,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> WarmReport:
        """
        Load the *keys* that are not there yet, on up to *workers* threads, and say what happened.

        A key whose loader raises is reported and the rest load. *keys* may be a generator: only a
        few of them are taken in advance.

        Args:
            keys: What to load.
            loader: Called with a key, on a worker thread.
            workers: Threads; they end before this returns.
            progress: Called on this thread as ``progress(done, total)`` after every key; *total* is
                None when *keys* does not know its length.
        """
        options.check_positive_int(workers, "workers")
        options.check_callable(loader, "loader", optional=False)
        options.check_callable(progress, "progress")
        total = len(keys) if isinstance(keys, Sized) else None
        if progress is None:
            progress = _no_progress
        loaded = present = done = 0
        failed: list[tuple[Any, Exception]] = []
        pending: dict[Future[Any], Any] = {}
        remaining = iter(keys)
        exhausted = False
        with ThreadPoolExecutor(workers, thread_name_prefix="memguard-warm") as pool:
            while pending or not exhausted:
                while not exhausted and len(pending) < 2 * workers:
                    key = next(remaining, MISSING)
                    if key is MISSING:
                        exhausted = True
                    elif key in self:
                        present += 1
                        done += 1
                        progress(done, total)
                    else:
                        pending[pool.submit(self.get_or_load, key, loader)] = key
                if not pending:
                    continue
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    key = pending.pop(future)
                    error = future.exception()
                    if error is None:
                        loaded += 1
                    elif isinstance(error, Exception):
                        failed.append((key, error.with_traceback(None)))
                    else:
                        raise error
                    done += 1
                    progress(done, total)
        return WarmReport(loaded=loaded, present=present, failed=tuple(failed))

    # -- loading one key --------------------------------------------------------------------------

    def _load(
        self,
        key: Any,
        loader: Callable[[Any], Any],
        ttl: Any,
        flight: Flight,
        *,
        anew: bool = False,
    ) -> Any:
        """Load and keep one value; *anew* replaces a stale one."""
        if not anew:
            value = self._peek(key)
            if value is not MISSING:  # another load ended just before this one began
                return value
        started = time.perf_counter()
        try:
            value = loader(key)
        except BaseException as error:
            self._count_failure(started, error, anew=anew)
            raise
        self._count_load(started)
        return self._keep(key, value, ttl, flight, anew=anew)

    async def _load_async(
        self,
        key: Any,
        loader: Callable[[Any], Any],
        ttl: Any,
        flight: AsyncFlight,
        *,
        anew: bool = False,
    ) -> Any:
        if not anew:
            value = self._peek(key)
            if value is not MISSING:
                return value
        started = time.perf_counter()
        try:
            value = loader(key)
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:
            self._count_failure(started, error, anew=anew)
            raise
        self._count_load(started)
        return self._keep(key, value, ttl, flight, anew=anew)

    def _keep(
        self, key: Any, value: Any, ttl: Any, flight: Flight | AsyncFlight, *, anew: bool
    ) -> Any:
        """Store a loaded value, unless somebody deleted, stored or closed meanwhile; return it."""
        if self._closed or flight.disowned:
            return value
        try:
            self._put(key, value, ttl=self._lifetime(ttl), only_if_absent=not anew, flight=flight)
        except ValueTooLargeError:  # the caller gets it all the same
            with self._lock:
                self._refused += 1
        if anew:
            with self._lock:
                self._refreshes += 1
        return value

    def _peek(self, key: Any) -> Any:
        """Return the live value of *key* or MISSING; counts and touches nothing."""
        entry = self._map.get(key)
        if entry is None and self._foreign:
            entry = self._find_foreign(key)
        if entry is None or (self._timed and self._is_due(entry, self._timer())):
            return MISSING
        return entry.value

    def _lifetime(self, ttl: Any) -> Any:
        if ttl is MISSING:
            return ttl
        lifetime = options.check_duration(ttl, self._options["timer"], "ttl")
        return None if lifetime == math.inf else lifetime

    def _count_load(self, started: float) -> None:
        seconds = time.perf_counter() - started
        with self._lock:
            self._load_seconds += seconds
            self._loads += 1

    def _count_failure(self, started: float, error: BaseException, *, anew: bool) -> None:
        seconds = time.perf_counter() - started
        with self._lock:
            self._load_seconds += seconds
            self._load_failures += 1
            first = self._load_failures == 1
        if anew:
            self._no_refresh_before = time.monotonic() + _REFRESH_PAUSE_SECONDS
            if first:
                kind = type(error).__name__
                log.event(logging.WARNING, "cache.refresh_failed", cache=self.name, error=kind)

    def _loading_figures(self) -> dict[str, Any]:
        return {
            "loads": self._loads,
            "load_failures": self._load_failures,
            "load_seconds": self._load_seconds,
            "refreshes": self._refreshes,
        }

    # -- refreshing -------------------------------------------------------------------------------

    def _is_stale(self, key: Any, refresh_after: Any) -> bool:
        entry = self._map.get(key) or (self._find_foreign(key) if self._foreign else None)
        return (
            entry is not None
            and not self._age(entry, self._timer()) < refresh_after
            and not time.monotonic() < self._no_refresh_before
        )

    def _refresh(self, key: Any, loader: Callable[[Any], Any], ttl: Any) -> None:
        """Load *key* anew in the background, unless it is being loaded already."""
        flight = Flight()
        if self._flights.setdefault(key, flight) is not flight:
            return

        def work() -> None:
            flight.owner = threading.get_ident()
            with contextlib.suppress(Exception):  # counted; the old value stays
                lead(
                    self._flights,
                    key,
                    flight,
                    lambda flight: self._load(key, loader, ttl, flight, anew=True),
                )

        if not refresh.in_background(work):
            abandon(self._flights, key, flight)


def _no_progress(done: int, total: int | None) -> None:
    """Report to nobody."""
