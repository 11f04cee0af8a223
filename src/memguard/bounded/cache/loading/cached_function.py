# ruff: noqa: SLF001 - reason: a cached function is the other half of the caches that it calls into
"""What `cached` makes: functions, methods and coroutine functions that remember."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.entry import MISSING
from memguard.bounded.cache.loading.keys import RAW, UNCACHEABLE, KeyMaker
from memguard.bounded.cache.loading.single_flight import AsyncFlight, Flight, board, fly_async, land
from memguard.bounded.cache.wrapped import AdoptedCache
from memguard.bounded.counter import Tally

_len = len  # the program may cache the built-in itself, and then must not meet it here

P = ParamSpec("P")
R = TypeVar("R")


_NOTHING = object()


class CacheInfo(NamedTuple):
    """What `functools.lru_cache` reports, under the same names."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float


class CachedFunction(Generic[P, R]):
    """
    A function that remembers; made by `cached`.

    Bounded by: the cache behind it, one for all instances where the function is a method.
    Locks: those of the cache; the function runs outside of them.
    Keeps alive: arguments and results of the calls remembered; not the instance of a method,
        unless it cannot be weakly referenced.
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        function: Callable[P, R],
        cache: BoundedCache[Any, Any] | AdoptedCache[Any, Any] | None,
        keys: KeyMaker,
        *,
        maxsize: float | None,
        typed: bool,
        single_flight: bool,
        refresh_after: Any,
    ) -> None:
        functools.update_wrapper(
            self, function
        )  # first: it copies the attributes of another cached one
        self._function: Callable[..., Any] = function
        self._cache = cache
        self._keys = keys
        self._raw = keys.makes_raw_keys
        self._get: Callable[..., Any] = _miss if cache is None else cache.get
        self._maxsize = maxsize
        self._typed = typed
        self._single_flight = single_flight
        self._refresh_after = refresh_after
        self._mutex = threading.Lock()
        self._uncached = Tally()  # calls of a function that remembers nothing
        self._hits_before = self._misses_before = 0

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:  # noqa: C901 - reason: see below
        """Return what the function returned for these arguments, or call it."""
        # One function, so that a recursive function meets one extra frame a level and no more.
        if self._raw and _len(args) == 1 and not kwargs and type(args[0]) in RAW:
            key: Any = args[0]
        else:
            key = self._keys.make(args, kwargs)
        value = self._get(key, MISSING)
        if value is not MISSING:
            if self._refresh_after is not None:
                self._refresh_if_stale(key, args, kwargs)
            return value  # type: ignore[no-any-return]  # reason: what the function returned
        cache = self._cache
        if cache is None or key is UNCACHEABLE:
            if cache is None:
                self._uncached.bump()
            return self._function(*args, **kwargs)  # type: ignore[no-any-return]  # reason: untyped above
        flight = Flight()
        if self._single_flight:
            must_load, value = board(cache._flights, key, flight)
            if not must_load:
                return value  # type: ignore[no-any-return]  # reason: untyped above
            value = cache._peek(key)
            if value is not MISSING:  # another call ended just before this one began
                land(cache._flights, key, flight, value)
                return value  # type: ignore[no-any-return]  # reason: untyped above
        started = time.perf_counter()
        try:
            value = self._function(*args, **kwargs)
            cache._count_load(started)
            cache._keep(key, value, MISSING, flight)
        except BaseException as error:
            cache._count_failure(started, error)
            if self._single_flight:
                land(cache._flights, key, flight, error=error)
            raise
        if self._single_flight:
            land(cache._flights, key, flight, value)
        return value  # type: ignore[no-any-return]  # reason: untyped above

    def _refresh_if_stale(self, key: Any, args: Any, kwargs: Any) -> None:
        cache = self._cache
        if cache is not None and cache._is_stale(key, self._refresh_after):
            cache._refresh(key, lambda _: self._function(*args, **kwargs), MISSING)

    # -- what functools.lru_cache offers ----------------------------------------------------------

    def cache_info(self) -> CacheInfo:
        """Return hits, misses, maxsize and currsize since the last `cache_clear`."""
        hits, misses = self._lookups()
        return CacheInfo(
            hits - self._hits_before,
            misses - self._misses_before,
            self._maxsize,
            0 if self._cache is None else self._cache.currsize,
        )

    def cache_clear(self) -> None:
        """Forget all results and begin to count anew."""
        if self._cache is not None:
            self._cache.clear()
        self._hits_before, self._misses_before = self._lookups()

    def cache_parameters(self) -> dict[str, Any]:
        """Return maxsize and typed, as given."""
        return {"maxsize": self._maxsize, "typed": self._typed}

    def cache_invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result for these arguments; True when there was one."""
        if self._cache is None:
            return False
        key = self._keys.make(args, kwargs)
        return self._cache.pop(key, _NOTHING) is not _NOTHING

    @property
    def cache(self) -> BoundedCache[Any, Any] | AdoptedCache[Any, Any] | None:
        """The cache behind the function; None when maxsize is 0."""
        return self._cache

    def _lookups(self) -> tuple[int, int]:
        with self._mutex:
            through = self._uncached.read()
        if self._cache is None:
            return 0, through
        hits, misses = self._cache._lookups()
        return hits, misses  # what went straight through was looked up, and missed, before

    # -- being a function or a method -------------------------------------------------------------

    def __set_name__(self, owner: type, name: str) -> None:
        self._become_method()

    @overload
    def __get__(self, instance: None, owner: type) -> CachedFunction[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> BoundCached[R]: ...
    def __get__(
        self, instance: object | None, owner: type | None = None
    ) -> CachedFunction[P, R] | BoundCached[R]:
        if instance is None:
            return self
        self._become_method()
        return BoundCached(self, instance)

    def _become_method(self) -> None:
        self._keys.become_method()
        self._raw = False

    def __repr__(self) -> str:
        return f"<cached {self._function!r}>"

    def __reduce__(self) -> str:
        return cast("str", self.__qualname__)  # type: ignore[attr-defined]  # reason: set by update_wrapper

    def __copy__(self) -> CachedFunction[P, R]:
        return self

    def __deepcopy__(self, memo: Any) -> CachedFunction[P, R]:
        return self


def _without_annotations(method: Any) -> None:
    """Show ``()``, as `functools.lru_cache` does; CPython's own tests compare the text."""
    method.__signature__ = inspect.Signature(
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )


_without_annotations(CachedFunction.cache_info)
_without_annotations(CachedFunction.cache_clear)


class CachedCoroutineFunction(CachedFunction[P, R]):
    """
    A coroutine function that remembers what its coroutines returned; made by `cached`.

    Results are shared by all event loops and threads; calls under way, by the tasks of one loop.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        mark = getattr(inspect, "markcoroutinefunction", None)
        if mark is not None:
            mark(self)
        else:  # before Python 3.12
            from asyncio import coroutines  # noqa: PLC0415 - reason: a host without asyncio must not load it

            self._is_coroutine = getattr(coroutines, "_is_coroutine", None)

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # reason: R is a coroutine
        """Return what the coroutine returned for these arguments, or await it."""
        key = self._keys.make(args, kwargs)
        value = self._get(key, MISSING)
        cache = self._cache
        if value is not MISSING:
            if self._refresh_after is not None:
                self._refresh_if_stale(key, args, kwargs)
            return value
        if cache is None or key is UNCACHEABLE:
            if cache is None:
                self._uncached.bump()
            return await self._function(*args, **kwargs)

        def call(_: Any) -> Any:
            return self._function(*args, **kwargs)

        if not self._single_flight:
            return await cache._load_async(key, call, MISSING, AsyncFlight())
        return await fly_async(
            cache._async_flights,
            key,
            lambda flight: cache._load_async(key, call, MISSING, flight),
        )

    def _refresh_if_stale(self, key: Any, args: Any, kwargs: Any) -> None:
        cache = self._cache
        if cache is not None and cache._is_stale(key, self._refresh_after):
            cache._refresh_in_loop(key, lambda _: self._function(*args, **kwargs), MISSING)


class BoundCached(Generic[R]):
    """A cached method of one instance."""

    __slots__ = ("__self__", "_cached")

    def __init__(self, cached: CachedFunction[Any, R], instance: object) -> None:
        self._cached = cached
        self.__self__ = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        """Call the method."""
        return self._cached(self.__self__, *args, **kwargs)

    def cache_invalidate(self, /, *args: Any, **kwargs: Any) -> bool:
        """Forget this instance's result for these arguments; True when there was one."""
        return self._cached.cache_invalidate(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cached, name)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is BoundCached
            and other._cached is self._cached
            and other.__self__ is self.__self__
        )

    def __hash__(self) -> int:
        return hash((id(self._cached), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound {self._cached!r}>"


def _miss(_key: Any, default: Any) -> Any:
    return default
