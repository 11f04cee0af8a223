# ruff: noqa: SLF001 - reason: a cached function is the other half of the caches that it calls into
"""`cached`: memoize a function, method or coroutine function, within a bound."""

from __future__ import annotations

import functools
import inspect
import math
import time
import types
from collections.abc import Callable, MutableMapping
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from memguard.bounded import options
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.entry import MISSING
from memguard.bounded.cache.loading.keys import RAW, UNCACHEABLE, KeyMaker
from memguard.bounded.cache.loading.single_flight import (
    Flight,
    Lead,
    abandon,
    board,
    land,
)
from memguard.bounded.cache.loading.single_flight_async import AsyncFlight, fly_async
from memguard.bounded.cache.wrapped import WrappedCache
from memguard.bounded.counter import Tally
from memguard.errors import ConfigError
from memguard.lifecycle import locks

_len = len  # the program may cache the built-in itself, and then must not meet it here

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

_NOTHING = object()

AnyCache = BoundedCache[Any, Any] | WrappedCache[Any, Any]


class CacheOptions(TypedDict, total=False):
    """The options of `BoundedCache` that `cached` passes on."""

    maxbytes: int | str | None
    ttl: Any
    idle: Any
    policy: Literal["lru", "s3fifo"]
    getsizeof: Callable[[Any], float] | None
    sizer: Callable[[Any], int] | None
    oversized: Literal["reject", "raise", "keep_one"] | None
    on_removal: Callable[[Any, Any, Any], object] | None
    on_error: Literal["log", "raise"]
    name: str | None
    timer: Callable[[], Any]


class CacheInfo(NamedTuple):
    """What `functools.lru_cache` reports, under the same names."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float


@overload
def cached(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def cached(
    maxsize: float | None = 128,
    typed: bool = False,  # noqa: FBT001, FBT002 - reason: as in functools.lru_cache
    *,
    key: Callable[..., Any] | None = None,
    cache: MutableMapping[Any, Any] | None = None,
    single_flight: bool = True,
    refresh_after: float | str | None = None,
    **given: Unpack[CacheOptions],
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def cached(
    maxsize: Any = MISSING,
    typed: bool = False,  # noqa: FBT001, FBT002 - reason: the second argument of functools.lru_cache
    *,
    key: Callable[..., Any] | None = None,
    cache: MutableMapping[Any, Any] | None = None,
    single_flight: bool = True,
    refresh_after: float | str | None = None,
    **given: Unpack[CacheOptions],
) -> Any:
    """
    Memoize a function, method or coroutine function, within a bound.

    A stand-in for `functools.lru_cache` that also expires, counts bytes, runs one call for many
    threads that miss the same arguments, and understands methods and coroutines::

        @cached(maxsize=1000, ttl="10m")
        def price_of(product: int) -> int: ...

    Exceptions are not remembered. The results of a method live no longer than its instance, which
    is not kept alive and need not be hashable. An instance that cannot be weakly referenced (its
    class has ``__slots__`` without ``__weakref__``, or derives from int or tuple) is kept until its
    entries leave, as functools does, and when it is not hashable either the call is not cached.

    Args:
        maxsize: Most results; 128 by default. 0 remembers nothing; None leaves the number open, as
            in functools, and should come with *maxbytes* or *ttl*.
        typed: Distinguish ``f(1)`` from ``f(1.0)``.
        key: Makes the key from the arguments (without the instance of a method).
        cache: A `BoundedCache` to share, or a cachetools cache or dict to adopt, instead of
            *maxsize*; keys then begin with the function's name.
        single_flight: One call for all threads, or tasks of one event loop, that miss together.
        refresh_after: Age in seconds from which a result is still returned but computed again in
            the background.
        given: Options of `BoundedCache`: *maxbytes, ttl, idle, policy, on_removal, name, timer* ...

    Raises:
        TypeError: An option of the wrong kind; a generator function, whose result is used up by its
            first reader.
        ConfigError: An option out of range, or options that exclude each other.
    """
    if callable(maxsize):
        return cached()(maxsize)
    options.check_callable(key, "key")
    options.check_flag(typed, "typed")
    options.check_flag(single_flight, "single_flight")
    given_maxsize = None if maxsize is MISSING else maxsize
    if given_maxsize is not None and not (isinstance(maxsize, int | float) and maxsize < 0):
        options.check_maxsize(maxsize)
    if maxsize is MISSING:
        maxsize = None if "maxbytes" in given or cache is not None else 128
    maxsize = maxsize if maxsize is None else max(0, maxsize)
    if cache is not None and given:
        raise ConfigError(f"cache= brings its own options (got also {', '.join(sorted(given))})")
    if isinstance(cache, BoundedCache | WrappedCache):
        if given_maxsize is not None:
            raise ConfigError("cache= brings its own bound (got also maxsize)")
        shared: AnyCache | None = cache
    else:
        shared = None if cache is None else WrappedCache(cache, maxsize=maxsize)
    stale_after = options.check_duration(
        refresh_after, given.get("timer", time.monotonic), "refresh_after"
    )

    def decorate(function: Callable[..., Any]) -> CachedFunction[..., Any]:
        options.check_callable(function, "the decorated object", optional=False)
        called = _unwrapped(function)
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                "a generator function cannot be cached: its first caller would use up the result; "
                "return a list or tuple instead"
            )
        own = shared
        if own is None and maxsize != 0:
            unbounded = maxsize is None and given.get("maxbytes") is None
            named = given.copy()
            named.setdefault("name", _name_of(function))
            own = BoundedCache(math.inf if unbounded else maxsize, **named)
        kind = CachedCoroutineFunction if inspect.iscoroutinefunction(called) else CachedFunction
        return kind(
            function,
            own,
            KeyMaker(
                own,
                key,
                typed=typed,
                prefix=None if shared is None else _name_of(function),
                method_name=_method_name_of(function),
            ),
            maxsize=maxsize if shared is None or maxsize is not None else shared.maxsize,
            typed=typed,
            single_flight=single_flight,
            refresh_after=stale_after,
        )

    return decorate


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what will run: behind partials, and the ``__call__`` of a callable object."""
    function = _behind_partials(function)
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    return function


def _name_of(function: Callable[..., Any]) -> str:
    inner = _behind_partials(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}.{named.__qualname__}"


def _method_name_of(function: Callable[..., Any]) -> str | None:
    """Return the name of a *function* that was defined in the body of a class, else None."""
    scope, _, name = getattr(function, "__qualname__", "").rpartition(".")
    return name if scope and not scope.endswith("<locals>") else None


def _behind_partials(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


class CachedFunction(Generic[P, R]):
    """
    A function that remembers; made by `cached`.

    Bounded by: the cache behind it, one for all instances if the function is a method.
    Locks: those of the cache; the function runs outside of them.
    Keeps alive: arguments and results of the calls remembered; not the instance of a method,
        unless it cannot be weakly referenced.
    """

    # The dict is for what `functools.update_wrapper` copies; a hit reads slots, which is quicker.
    __slots__ = (
        *("__dict__", "__weakref__", "_cache", "_function", "_get", "_hits_before", "_keys"),
        *("_maxsize", "_misses_before", "_mutex", "_raw", "_refresh_after", "_single_flight"),
        *("_typed", "_uncached"),
    )
    __wrapped__: Callable[P, R]

    def __init__(
        self,
        function: Callable[P, R],
        cache: AnyCache | None,
        keys: KeyMaker,
        *,
        maxsize: float | None,
        typed: bool,
        single_flight: bool,
        refresh_after: Any,
    ) -> None:
        functools.update_wrapper(self, function)  # first: it copies attributes of a cached one
        self._function: Callable[..., R] = function
        self._cache = cache
        self._keys = keys
        self._raw = keys.are_raw
        self._get: Callable[[Any, Any], R] = _miss if cache is None else cache.get
        self._maxsize = maxsize
        self._typed = typed
        self._single_flight = single_flight
        self._refresh_after = refresh_after
        self._mutex = locks.Lock()
        self._uncached = Tally()  # calls of a function that remembers nothing
        self._hits_before = self._misses_before = 0

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:  # noqa: C901, PLR0912 - reason: see below
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
            return value
        cache = self._cache
        if cache is None or key is UNCACHEABLE:
            if cache is None:
                self._uncached.bump()
            return self._function(*args, **kwargs)
        loader = cache._loader
        lead = Lead()
        flight = Flight(lead)
        started = None
        try:
            try:
                if self._single_flight:
                    must_load, value = board(cache._flights, key, flight, cache._lock)
                    if not must_load:
                        return value
                    value = cache._peek(key)  # another call may have ended just before this one
                if value is MISSING:
                    started = time.perf_counter()
                    value = self._function(*args, **kwargs)
                    loader.count_load(started)
                    loader.keep(cache, key, value, MISSING, flight)
            except BaseException as error:
                if started is not None:
                    loader.count_failure(cache.name, started, error)
                if self._single_flight:
                    land(cache._flights, key, flight, error=error)
                raise
            if self._single_flight:
                land(cache._flights, key, flight, value)
            return value
        finally:
            if self._single_flight and not flight.is_over:
                abandon(cache._flights, key, flight)

    def _refresh_if_stale(self, key: Any, args: Any, kwargs: Any) -> None:
        cache = self._cache
        if cache is not None and cache._loader.is_stale(cache, key, self._refresh_after):
            cache._loader.refresh(cache, key, lambda _: self._function(*args, **kwargs), MISSING)

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
        """Remove all results and reset the counts."""
        if self._cache is not None:
            self._cache.clear()
        self._hits_before, self._misses_before = self._lookups()

    def cache_parameters(self) -> dict[str, Any]:
        """Return maxsize and typed, as given."""
        return {"maxsize": self._maxsize, "typed": self._typed}

    def cache_invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """
        Remove the result for these arguments; True when there was one.

        From Python 3.13 on, ``Shop.of_class.cache_invalidate(1)`` of a class method removes the
        results of subclasses for these arguments, too: Python binds such a method itself, and does
        not say to which class. Give the class first for one class: ``cache_invalidate(Shop, 1)``.
        """
        classes = self._keys.classes()
        is_bound = not classes or (args and any(args[0] is one for one in classes))
        if is_bound and self._remove(args, kwargs):
            return True
        return sum(self._remove((one, *args), kwargs) for one in classes) > 0

    def _remove(self, args: Any, kwargs: Any) -> bool:
        if self._cache is None:
            return False
        return self._cache.pop(self._keys.make(args, kwargs), _NOTHING) is not _NOTHING

    @property
    def cache(self) -> AnyCache | None:
        """The cache behind the function; None when maxsize is 0."""
        return self._cache

    def _lookups(self) -> tuple[int, int]:
        if self._cache is not None:  # what went straight through was looked up, and missed, before
            return self._cache._lookups()
        with self._mutex:
            return 0, self._uncached.read()

    # -- being a function or a method -------------------------------------------------------------

    def __set_name__(self, owner: type, name: str) -> None:
        self._become_method()

    # A type checker calls this for methods, class methods and static methods alike and cannot
    # distinguish them: the result may be called with the first parameter and without it.
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: Any = None, /
    ) -> BoundCached[P, Q, R]: ...
    @overload
    def __get__(
        self: CachedFunction[[], R], instance: object, owner: Any = None, /
    ) -> CachedFunction[[], R]: ...
    def __get__(self, instance: object, owner: Any = None, /) -> Any:
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
        value: Any = self._get(key, MISSING)
        cache = self._cache
        if value is not MISSING:
            if self._refresh_after is not None:
                self._refresh_if_stale(key, args, kwargs)
            return value
        function: Callable[..., Any] = self._function
        if cache is None or key is UNCACHEABLE:
            if cache is None:
                self._uncached.bump()
            return await function(*args, **kwargs)

        def load(flight: AsyncFlight) -> Any:
            return cache._loader.call_async(
                cache, key, lambda _: function(*args, **kwargs), MISSING, flight
            )

        if self._single_flight:
            return await fly_async(cache._async_flights, key, load)
        return await load(AsyncFlight())

    def _refresh_if_stale(self, key: Any, args: Any, kwargs: Any) -> None:
        cache = self._cache
        if cache is not None and cache._loader.is_stale(cache, key, self._refresh_after):
            cache._loader.refresh_in_loop(
                cache, key, lambda _: self._function(*args, **kwargs), MISSING
            )


class BoundCached(Generic[P, Q, R]):
    """A cached method of one instance: takes *Q*, the parameters *P* without the first."""

    __slots__ = ("__self__", "_cached")

    def __init__(self, cached: CachedFunction[P, R], instance: object) -> None:
        self._cached: CachedFunction[..., R] = cached
        self.__self__ = instance

    @overload
    def __call__(self, /, *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        """Call the method."""
        return self._cached(self.__self__, *args, **kwargs)

    @overload
    def cache_invalidate(self, /, *args: Q.args, **kwargs: Q.kwargs) -> bool: ...
    @overload
    def cache_invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    def cache_invalidate(self, /, *args: Any, **kwargs: Any) -> bool:
        """Forget this instance's result for these arguments; True when there was one."""
        return self._cached.cache_invalidate(self.__self__, *args, **kwargs)

    def cache_info(self) -> CacheInfo:
        """Return the figures of all instances; see `CachedFunction.cache_info`."""
        return self._cached.cache_info()

    def cache_clear(self) -> None:
        """Forget the results of all instances."""
        self._cached.cache_clear()

    @property
    def cache(self) -> AnyCache | None:
        """The cache behind the function; None when maxsize is 0."""
        return self._cached.cache

    @property
    def __signature__(self) -> inspect.Signature:
        """Without the parameter that stands for the instance, as for any bound method."""
        return inspect.signature(types.MethodType(self._cached, self.__self__))

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
