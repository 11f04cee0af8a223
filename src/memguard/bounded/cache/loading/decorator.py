"""`cached`: remember what a function, method or coroutine function returned, within a bound."""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Callable, MutableMapping
from typing import Any, ParamSpec, TypeVar, overload

from memguard.bounded import options
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.entry import MISSING
from memguard.bounded.cache.loading.cached_function import CachedCoroutineFunction, CachedFunction
from memguard.bounded.cache.loading.keys import KeyMaker
from memguard.bounded.cache.wrapped import AdoptedCache
from memguard.errors import ConfigError

_len = len  # the program may cache the built-in itself, and then must not meet it here

P = ParamSpec("P")
R = TypeVar("R")


_NOTHING = object()


@overload
def cached(maxsize: Callable[P, R], /) -> CachedFunction[P, R]: ...
@overload
def cached(
    maxsize: float | None = 128,
    typed: bool = False,  # noqa: FBT001, FBT002 - reason: as in functools.lru_cache
    **given: Any,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def cached(  # noqa: C901 - reason: one branch an option that may not go with another
    maxsize: Any = MISSING,
    typed: bool = False,  # noqa: FBT001, FBT002 - reason: the second argument of functools.lru_cache
    *,
    key: Callable[..., Any] | None = None,
    cache: MutableMapping[Any, Any] | None = None,
    single_flight: bool = True,
    refresh_after: float | str | None = None,
    **given: Any,
) -> Any:
    """
    Make a function, method or coroutine function remember what it returned, within a bound.

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
        typed: Tell ``f(1)`` from ``f(1.0)``.
        key: Makes the key from the arguments (without the instance of a method).
        cache: A `BoundedCache` to share, or a cachetools cache or dict to adopt, instead of
            *maxsize*; keys then begin with the function's name.
        single_flight: One call for all threads, or tasks of one event loop, that miss together.
        refresh_after: Age in seconds from which a result is still returned but computed anew in
            the background.
        given: Options of `BoundedCache`: *maxbytes, ttl, idle, policy, on_removal, name, timer* ...

    Raises:
        TypeError: An option of the wrong kind; a generator function, whose result is used up by its
            first reader.
        ConfigError: An option out of range, or options that exclude each other.
    """
    if callable(maxsize):
        return _decorate(maxsize, 128, typed=False, single_flight=True)
    options.check_callable(key, "key")
    for name, flag in (("typed", typed), ("single_flight", single_flight)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} must be True or False (got {type(flag).__name__})")
    if maxsize is MISSING:
        maxsize = None if "maxbytes" in given or cache is not None else 128
        adopt_maxsize = None
    else:
        if maxsize is not None and not (isinstance(maxsize, int | float) and maxsize < 0):
            options.check_maxsize(maxsize)
        maxsize = maxsize if maxsize is None else max(0, maxsize)
        adopt_maxsize = maxsize
    if cache is not None and given:
        raise ConfigError(f"cache= brings its own options (got also {', '.join(sorted(given))})")
    if isinstance(cache, BoundedCache | AdoptedCache):
        if adopt_maxsize is not None:
            raise ConfigError("cache= brings its own bound (got also maxsize)")
    elif cache is not None:
        cache = AdoptedCache(cache, maxsize=adopt_maxsize)
    stale_after = options.check_duration(
        refresh_after, given.get("timer", time.monotonic), "refresh_after"
    )

    def decorate(function: Callable[..., Any]) -> CachedFunction[..., Any]:
        return _decorate(
            function,
            maxsize,
            typed=typed,
            single_flight=single_flight,
            key=key,
            cache=cache,
            refresh_after=stale_after,
            **given,
        )

    return decorate


def _decorate(
    function: Callable[..., Any],
    maxsize: float | None,
    *,
    typed: bool,
    single_flight: bool,
    key: Callable[..., Any] | None = None,
    cache: Any = None,
    refresh_after: Any = None,
    **given: Any,
) -> CachedFunction[..., Any]:
    options.check_callable(function, "the decorated object", optional=False)
    plain = _unwrapped(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise TypeError(
            "a generator function cannot be cached: its first caller would use up the result; "
            "return a list or tuple instead"
        )
    name = _name_of(function)
    keys = KeyMaker(key, typed=typed, prefix=None if cache is None else name)
    if cache is None and maxsize != 0:
        given.setdefault("name", name)
        unbounded = maxsize is None and given.get("maxbytes") is None
        cache = BoundedCache(math.inf if unbounded else maxsize, **given)
    keys.serve(cache)
    kind = CachedCoroutineFunction if inspect.iscoroutinefunction(plain) else CachedFunction
    return kind(
        function,
        cache,
        keys,
        maxsize=cache.maxsize if maxsize is None and cache is not None and not given else maxsize,
        typed=typed,
        single_flight=single_flight,
        refresh_after=refresh_after,
    )


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what will run: behind partials, and the ``__call__`` of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    return function


def _name_of(function: Callable[..., Any]) -> str:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}.{named.__qualname__}"
