"""Caches that load what they miss: single flight, refresh in the background, warming."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sized
from typing import TYPE_CHECKING, Any

from memguard import log
from memguard.bounded import options
from memguard.bounded.cache.entry import MISSING
from memguard.bounded.cache.loading import refresh
from memguard.bounded.cache.loading.single_flight import (
    AsyncFlight,
    AsyncFlights,
    Flight,
    abandon,
    board,
    fly_async,
    hook_fork,
    land,
    start_in_loop,
)
from memguard.bounded.cache.stats import WarmReport
from memguard.errors import ValueTooLargeError

_MOST_REFRESHES = 16
"""Background loads of one cache at the same time on one event loop."""

_REFRESH_PAUSE_SECONDS = 1.0
"""After a failed refresh, how long stale values are served without trying again."""


class Loading:
    """The loading half of a cache; what it needs of the other half stands first."""

    name: str
    _lock: Any
    _closed: bool
    _refused: int
    _flights: dict[Any, Flight]
    _async_flights: AsyncFlights
    _loads: int
    _load_failures: int
    _load_seconds: float
    _refreshes: int
    _no_refresh_before: float

    _MADE_ANEW = frozenset(
        {
            "_load_failures",
            "_load_seconds",
            "_loads",
            "_no_refresh_before",
            "_refreshes",
        }
    )
    """Attributes that are not pickled."""

    if TYPE_CHECKING:  # what the fast and the slow half of the cache bring

        def get(self, key: Any, default: Any = None) -> Any:
            """Return the live value of *key*, or *default*."""

        def _peek(self, key: Any) -> Any: ...

        def _age_of(self, key: Any) -> Any: ...

        def _lifetime(self, ttl: Any) -> Any: ...

        def _put(
            self,
            key: Any,
            value: Any,
            *,
            ttl: Any,
            only_if_absent: bool = False,
            flight: Any = None,
        ) -> Any: ...

    def _disown(self, key: Any) -> None:
        """See to it that a load of *key* that is under way does not store its result."""
        flight = self._flights.get(key) if self._flights else None
        if flight is not None:
            flight.disowned = True
        if self._async_flights:
            self._async_flights.disown(key)

    def _disown_all(self) -> None:
        for flight in list(self._flights.copy().values()):
            flight.disowned = True
        self._async_flights.disown_all()

    def _set_up_loading(self) -> None:
        self._flights = {}
        self._async_flights = AsyncFlights()
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
        # Few calls stand between here and the loader: a loader may recurse, and each counts.
        flight = Flight()
        must_load, value = board(self._flights, key, flight)
        if not must_load:
            return value
        value = self._peek(key)
        if value is not MISSING:  # another load ended just before this one began
            land(self._flights, key, flight, value)
            return value
        started = time.perf_counter()
        try:
            value = loader(key)
            self._count_load(started)
            self._keep(key, value, ttl, flight)
        except BaseException as error:
            self._count_failure(started, error)
            land(self._flights, key, flight, error=error)
            raise
        land(self._flights, key, flight, value)
        return value

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
                self._refresh_in_loop(key, loader, ttl)
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
        from concurrent.futures import (  # noqa: PLC0415 - reason: a megabyte for one method
            FIRST_COMPLETED,
            Future,
            ThreadPoolExecutor,
            wait,
        )

        pending: dict[Future[Any], Any] = {}
        remaining = iter(keys)
        exhausted = False
        with ThreadPoolExecutor(workers, thread_name_prefix="memguard-warm") as pool:
            while pending or not exhausted:
                while not exhausted and len(pending) < 2 * workers:
                    key = next(remaining, MISSING)
                    if key is MISSING:
                        exhausted = True
                    elif self._peek(key) is not MISSING:
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
            self._count_failure(started, error, refreshing=anew)
            raise
        self._count_load(started)
        self._keep(key, value, ttl, flight, anew=anew)
        return value

    def _keep(
        self,
        key: Any,
        value: Any,
        ttl: Any,
        flight: Flight | AsyncFlight,
        *,
        anew: bool = False,
    ) -> None:
        """Store a loaded value, unless somebody deleted, stored or closed meanwhile."""
        if self._closed or flight.disowned:
            return
        try:
            self._put(key, value, ttl=self._lifetime(ttl), only_if_absent=not anew, flight=flight)
        except ValueTooLargeError:  # the caller gets it all the same
            with self._lock:
                self._refused += 1
        if anew:
            with self._lock:
                self._refreshes += 1

    def _count_load(self, started: float) -> None:
        seconds = time.perf_counter() - started
        with self._lock:
            self._load_seconds += seconds
            self._loads += 1

    def _count_failure(
        self, started: float, error: BaseException, *, refreshing: bool = False
    ) -> None:
        seconds = time.perf_counter() - started
        with self._lock:
            self._load_seconds += seconds
            self._load_failures += 1
            first = self._load_failures == 1
        if refreshing:
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
        age = self._age_of(key)
        return (
            age is not None
            and not age < refresh_after
            and not time.monotonic() < self._no_refresh_before
        )

    def _refresh(self, key: Any, loader: Callable[[Any], Any], ttl: Any) -> None:
        """Load *key* anew in the background, unless it is being loaded already."""
        flight = Flight()
        if self._flights.setdefault(key, flight) is not flight:
            return

        def work() -> None:
            flight.owner = threading.get_ident()
            started = time.perf_counter()
            try:
                value = loader(key)
                self._count_load(started)
                self._keep(key, value, ttl, flight, anew=True)
            except BaseException as error:  # noqa: BLE001 - reason: the old value stays; it is counted
                self._count_failure(started, error, refreshing=True)
                land(self._flights, key, flight, error=error)
            else:
                land(self._flights, key, flight, value)

        if not refresh.in_background(work):
            abandon(self._flights, key, flight)

    def _refresh_in_loop(self, key: Any, loader: Callable[[Any], Any], ttl: Any) -> None:
        """Load *key* anew in a task of the running loop, unless it is being loaded already."""
        start_in_loop(
            self._async_flights,
            key,
            lambda flight: self._load_async(key, loader, ttl, flight, anew=True),
            most=_MOST_REFRESHES,
        )


def _no_progress(done: int, total: int | None) -> None:
    """Report to nobody."""
