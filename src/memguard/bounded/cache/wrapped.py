"""`WrappedCache`: bounds a dict or cache that others hold. See `BoundedCache.wrap`."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from itertools import islice
from typing import Any, Literal, Self, TypeVar, cast, overload

from memguard.bounded import callsite, inventory, options
from memguard.bounded.cache.entry import CAUSES, MISSING, Cause
from memguard.bounded.cache.loading import loader as loading
from memguard.bounded.cache.loading.single_flight import Flights
from memguard.bounded.cache.loading.single_flight_async import FlightsOfLoops
from memguard.bounded.cache.maintenance import MOST_NODES, free_in_child, shrink
from memguard.bounded.cache.removal_listener import RemovalListener, Removed
from memguard.bounded.cache.stats import CacheStatistics, WarmReport
from memguard.bounded.sizing.entries import OpaqueTypes, average_bytes
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import fork, janitor, locks

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_BATCH = 256
_SAMPLE = 16
_LOOK_SECONDS = 1.0
"""How often the janitor looks whether those who hold the mapping have overfilled it."""

_ITEM_BYTES = 100
"""About what a dict needs for one entry; the mapping's own needs are not known."""


class WrappedCache(MutableMapping[K, V]):
    """
    Guard an existing ``cachetools.Cache``, or a plain dict, without replacing the object.

    Others keep using the mapping itself; what goes through this wrapper is locked and counted.
    What others put in directly is noticed by the janitor within a second.

    Bounded by: *maxsize* entries or *maxbytes* bytes, and by the mapping's own bound.
    Locks: one re-entrant mutex around every use of the mapping. The mapping's code is not
        thread-safe, so it runs under the mutex, and with it ``__eq__`` of keys and ``getsizeof``;
        loaders and callbacks do not.
    Keeps alive: the mapping.

    Args:
        existing: A mutable mapping; of a ``cachetools.Cache`` its own policy chooses who leaves, of
            a dict the oldest entry leaves first.
        maxsize: Most entries. Required for a mapping without a bound of its own, unless *maxbytes*
            is given.
        maxbytes: Most bytes of keys and values, estimated from a few of them.
        on_removal: As for `BoundedCache`; called for what leaves through this guard.
        on_error: As for `BoundedCache`.
        name: What reports call the mapping.
    """

    def __init__(
        self,
        existing: MutableMapping[K, V],
        *,
        maxsize: int | None = None,
        maxbytes: int | str | None = None,
        on_removal: Callable[[K, V, Cause], object] | None = None,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
    ) -> None:
        if not isinstance(existing, MutableMapping):
            raise TypeError(
                f"wrap needs a dict or a cachetools cache (got {type(existing).__name__})"
            )
        if isinstance(existing, WrappedCache) or hasattr(existing, "get_or_load"):
            raise TypeError("wrap needs a mapping that is not guarded yet; this one is")
        if maxsize is not None:
            options.check_positive_int(maxsize, "maxsize")
        self._maxsize = maxsize
        self._maxbytes = options.check_maxbytes(maxbytes)
        self._has_own_bound = hasattr(existing, "currsize") and hasattr(existing, "maxsize")
        if not self._has_own_bound:
            options.check_bounded(self._maxsize, self._maxbytes, "wrap")
        options.check_callable(on_removal, "on_removal")
        options.check_choice(on_error, options.ON_ERROR, "on_error")
        self.name = callsite.name_for(type(existing).__name__, name)
        self._listener = RemovalListener(on_removal, on_error, self.name)
        self._existing = existing
        self._mutex = locks.RLock()
        self._closed = False
        self._hits = self._misses = self._refused = 0
        self._opaque = OpaqueTypes()
        self._causes = dict.fromkeys(CAUSES, 0)
        self._flights = Flights()
        self._async_flights = FlightsOfLoops()
        self._loader = loading.Loader(self._mutex)
        also = tuple(
            part for part in (existing, getattr(existing, "_Cache__data", None)) if part is not None
        )
        inventory.register(self, name=self.name, kind=type(existing).__name__, also=also)
        janitor.watch(self, after=_LOOK_SECONDS)

    @property
    def _lock(self) -> Any:
        """The lock; in a forked child it is no longer held by a thread of the parent."""
        fork.check()
        return self._mutex

    @property
    def existing(self) -> MutableMapping[K, V]:
        """The mapping itself."""
        return self._existing

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T) -> V | T: ...
    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default*; an access by the mapping's own policy."""
        value = self._peek(key)
        with self._lock:
            if value is MISSING:
                self._misses += 1
                return default
            self._hits += 1
            return value

    def __getitem__(self, key: K) -> V:
        with self._lock:
            if key in self._existing:
                self._hits += 1
            else:
                self._misses += 1
            return self._existing[key]  # which knows what to do about a missing key

    def __setitem__(self, key: K, value: V) -> None:
        self._put(key, value)

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Remove *key* and return its value; *default*, or KeyError, when there is none."""
        self._disown(key)
        with self._lock:
            value: Any = self._existing.pop(key, MISSING)
            if value is not MISSING:
                self._causes["explicit"] += 1
        if value is not MISSING:
            self._listener.notify([(key, value, "explicit")])
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Remove and return the entry that would leave next."""
        with self._lock:
            if not len(self._existing):
                raise KeyError(f"{self.name} is empty")
            key, value = self._evict_one()
            self._causes["explicit"] += 1
        self._listener.notify([(key, value, "explicit")])
        return key, value

    def clear(self) -> None:
        """Remove every entry; loads that are under way will not be stored."""
        self._disown_all()
        with self._lock:
            pairs = list(self._existing.items())
            self._existing.clear()
            self._causes["explicit"] += len(pairs)
        self._listener.notify([(key, value, "explicit") for key, value in pairs])

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._existing

    def __iter__(self) -> Iterator[K]:
        with self._lock:
            return iter(list(self._existing))

    def __len__(self) -> int:
        with self._lock:
            return len(self._existing)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, of={type(self._existing).__name__})"

    def _put(
        self,
        key: Any,
        value: Any,
        ttl: Any = MISSING,  # noqa: ARG002 - reason: checked by _lifetime; the mapping has its own
        *,
        only_if_absent: bool = False,
        flight: Any = None,
    ) -> Any:
        if flight is None:
            self._disown(key)
        removed: Removed = []
        with self._lock:
            if self._closed:
                raise LifecycleError(f"cache {self.name!r} is closed; make a new one")
            if flight is not None and flight.disowned:
                return value
            there = key in self._existing
            if there and only_if_absent:
                return self._existing[key]
            if there:
                removed.append((key, self._existing[key], "replaced"))
            elif self._has_own_bound:
                self._make_room(value, removed)
            self._existing[key] = value
            self._enforce(removed)
            self._count_removals(removed)
        self._listener.notify(removed)
        return value

    def _make_room(self, value: Any, removed: Removed) -> None:
        """Evict where a cachetools cache would, so that the listener hears of it."""
        cache: Any = self._existing
        self._expire(removed)
        size = cache.getsizeof(value)
        while len(cache) and size <= cache.maxsize < cache.currsize + size:
            removed.append((*cache.popitem(), "size"))

    def _enforce(self, removed: Removed) -> None:
        """Bring the mapping back under our bound; under the lock."""
        existing = self._existing
        excess = 0
        if self._maxsize is not None:
            excess = len(existing) - self._maxsize
        if self._maxbytes is not None and len(existing) > 1:
            average = self._average_bytes()
            excess = max(excess, len(existing) - max(1, int(self._maxbytes / average)))
        if excess > 0 and len(existing) > 1024:
            # The front of a dict from which much was taken is slow to find: take a few more.
            excess += len(existing) // 256
        self._evict(excess, "size", removed)

    def _evict(self, count: int, cause: Cause, removed: Removed) -> None:
        for _ in range(count):
            removed.append((*self._evict_one(), cause))

    def _count_removals(self, removed: Removed) -> None:
        for _, _, cause in removed:
            self._causes[cause] += 1

    def _expire(self, removed: Removed) -> None:
        """Let a ``cachetools.TTLCache`` drop what has expired; under the lock."""
        cache: Any = self._existing
        if hasattr(cache, "expire"):
            removed += [(key, value, "expired") for key, value in cache.expire() or ()]

    def _evict_one(self) -> tuple[Any, Any]:
        if type(self._existing) is dict:
            key = next(iter(self._existing))
            return key, self._existing.pop(key)
        return self._existing.popitem()

    def invalidate(self, predicate: Callable[[Any, Any], bool]) -> int:
        """Remove every entry for which ``predicate(key, value)`` is true; return their number."""
        options.check_callable(predicate, "predicate", optional=False)
        self._disown_all()
        return self._remove_where(predicate)

    def _remove_where(self, predicate: Callable[[Any, Any], bool]) -> int:
        with self._lock:
            pairs = list(self._existing.items())
        removed: Removed = []
        for key, value in pairs:
            if predicate(key, value):
                with self._lock:
                    if self._existing.get(key, MISSING) is value:
                        del self._existing[key]
                        self._causes["explicit"] += 1
                        removed.append((key, value, "explicit"))
        self._listener.notify(removed)
        return len(removed)

    def _lookups(self) -> tuple[int, int]:
        with self._lock:
            return self._hits, self._misses

    @property
    def maxsize(self) -> float | None:
        """Most entries, or what the mapping itself calls its maxsize."""
        if self._maxsize is not None:
            return self._maxsize
        return getattr(self._existing, "maxsize", None)

    @property
    def currsize(self) -> float:
        """Entries, or what the mapping itself calls its currsize."""
        with self._lock:
            size: float = getattr(self._existing, "currsize", len(self._existing))
            return size

    def resize(self, maxsize: int) -> None:
        """Change the most entries allowed, and evict at once what no longer fits."""
        self._maxsize = options.check_positive_int(maxsize, "maxsize")
        self._sweep()

    def shrink(
        self, *, to_bytes: int | str | None = None, fraction: float | None = None
    ) -> inventory.Reclaimed:
        """Remove the entries that would leave next; as `BoundedCache.shrink`."""
        with self._lock:
            average = self._average_bytes()
        return shrink(
            to_bytes=to_bytes,
            fraction=fraction,
            count=self.__len__,
            counted=None,
            average=average,
            drop_while=self._drop_while,
        )

    def _drop_while(self, is_over: Callable[[], bool]) -> tuple[int, int]:
        items = 0
        while True:
            removed: Removed = []
            with self._lock:
                self._evict_while(is_over, removed)
            self._listener.notify(removed)
            items += len(removed)
            if len(removed) < _BATCH:
                return items, 0

    def _evict_while(self, is_over: Callable[[], bool], removed: Removed) -> None:
        while len(removed) < _BATCH and is_over():
            self._evict(1, "pressure", removed)
        self._count_removals(removed)

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """Give memory back; what relief calls under memory pressure."""
        return self.shrink(fraction=fraction, to_bytes=to_bytes)

    def footprint(self) -> inventory.Footprint:
        """Return entries and their bytes, estimated from a few."""
        with self._lock:
            items = len(self._existing)
            return inventory.Footprint(items=items, bytes=int(items * self._average_bytes()))

    def statistics(self) -> CacheStatistics:
        """Return the counts of what went through this guard."""
        with self._lock:
            items = len(self._existing)
            return CacheStatistics(
                name=self.name,
                policy=type(self._existing).__name__,
                implementation="wrapped",
                items=items,
                maxsize=self.maxsize,
                currsize=self.currsize,
                maxbytes=self._maxbytes,
                bytes=int(items * self._average_bytes()),
                bytes_estimated=items > 0,
                opaque=self._opaque.names,
                hits=self._hits,
                misses=self._misses,
                removals=cast("dict[str, int]", dict(self._causes)),
                refused=self._refused,
                callback_errors=self._listener.errors,
                **self._loader.figures(),
            )

    def close(self) -> None:
        """Let go of the mapping, which stays as it is, and leave the inventory; idempotent."""
        self._closed = True
        inventory.unregister(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _average_bytes(self) -> float:
        # Under the lock: dict views may not be read while another thread changes them.
        sample = islice(self._existing.items(), _SAMPLE)
        count = len(self._existing)
        average = average_bytes(sample, _ITEM_BYTES, count, MOST_NODES, self._opaque.note)
        return average or _ITEM_BYTES

    def _sweep(self) -> float | None:
        if self._closed:
            return None
        removed: Removed = []
        with self._lock:
            self._expire(removed)
            self._enforce(removed)
            self._count_removals(removed)
        self._listener.notify(removed)
        return _LOOK_SECONDS

    def _after_fork_in_child(self) -> None:
        self._flights.clear()
        self._async_flights.clear()
        free_in_child(self._mutex)
        janitor.watch(self, after=_LOOK_SECONDS)

    # -- loading ----------------------------------------------------------------------------------

    def get_or_load(
        self,
        key: K,
        loader: Callable[[K], V],
        *,
        ttl: Any = MISSING,
        refresh_after: float | None = None,
    ) -> V:
        """Return the value of *key*, or load, store and return it; as `BoundedCache`."""
        value: V = self._loader.load(self, key, loader, ttl, refresh_after)
        return value

    async def aget_or_load(
        self,
        key: K,
        loader: Callable[[K], Awaitable[V]],
        *,
        ttl: Any = MISSING,
        refresh_after: float | None = None,
    ) -> V:
        """Await and return the value of *key*, or load it; as `BoundedCache`."""
        value: V = await self._loader.load_async(self, key, loader, ttl, refresh_after)
        return value

    def warm(
        self,
        keys: Iterable[K],
        loader: Callable[[K], V],
        *,
        workers: int = 4,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> WarmReport:
        """Load the *keys* that are not there yet; as `BoundedCache`."""
        return loading.warm(self, keys, loader, workers, progress)

    def _disown(self, key: Any) -> None:
        self._flights.disown(key)
        self._async_flights.disown(key)

    def _disown_all(self) -> None:
        self._flights.disown_all()
        self._async_flights.disown_all()

    def _peek(self, key: Any) -> Any:
        with self._lock, contextlib.suppress(KeyError):  # it may expire between the two
            if key in self._existing:  # for its get() may know about missing keys
                return self._existing[key]
        return MISSING

    def _age_of(self, key: Any) -> Any:  # noqa: ARG002 - reason: part of the interface
        return None  # the mapping does not know, so nothing is refreshed

    def _lifetime(self, ttl: Any) -> Any:
        if ttl is not MISSING:
            raise ConfigError("a wrapped mapping has its own lifetimes; ttl cannot be given here")
        return ttl
