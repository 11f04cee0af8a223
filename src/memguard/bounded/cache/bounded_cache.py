# ruff: noqa: SLF001 - reason: views of a cache are parts of it
"""`BoundedCache`: a thread-safe mapping that cannot grow past its bound."""

from __future__ import annotations

import copyreg
import math
import sys
import time
from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from memguard.bounded import callsite, inventory, options
from memguard.bounded.cache.entry import MISSING, Cause
from memguard.bounded.cache.loading import loader as loading
from memguard.bounded.cache.maintenance import MOST_NODES, SizeEstimate, shrink
from memguard.bounded.cache.removal_listener import RemovalListener
from memguard.bounded.cache.stats import CacheStatistics, EntryInfo, WarmReport
from memguard.bounded.cache.table import Table
from memguard.bounded.sizing.entries import average_bytes
from memguard.errors import ConfigError

if TYPE_CHECKING:
    from memguard.bounded.cache.wrapped import WrappedCache

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Table[K, V], MutableMapping[K, V]):
    """
    Keep the entries most worth keeping, never more than the bound allows.

    A replacement for ``cachetools.LRUCache`` and ``TTLCache`` that is thread-safe by itself, keeps
    statistics, and frees memory when relief asks for it. See ``docs/caches.md``.

    Bounded by: *maxsize* entries (or units of *getsizeof*), *maxbytes* bytes, or both.
    Locks: one re-entrant mutex. Loaders, callbacks, sizers, the equality of keys and the
        destructors of values never run under it.
    Keeps alive: keys and values of its entries.

    Args:
        maxsize: Most entries; with *getsizeof*, most units of weight. ``math.inf`` is accepted for
            programs written for cachetools.
        maxbytes: Most bytes of keys, values and bookkeeping, as a number or ``"64MiB"``.
        ttl: Lifetime of an entry after it was written: seconds, ``"10m"`` or a timedelta.
        idle: Lifetime of an entry after it was last read or written.
        policy: ``"lru"``, or ``"s3fifo"`` for caches swept by one-time visitors.
        getsizeof: Weight of a value; a weight of 0 counts as 1, or any number of them would fit.
        sizer: Bytes of a value, for *maxbytes*; `memguard.bounded.sizing.size_of` by default.
        oversized: What becomes of a value larger than the whole cache: ``"reject"`` does not keep
            it, ``"raise"`` raises, ``"keep_one"`` keeps it as the only entry. By default a value
            that weighs too much raises, as in cachetools, and one of too many bytes is not kept.
        on_removal: Called as ``on_removal(key, value, cause)`` after an entry has left, outside
            the lock, with the cause ``"explicit"``, ``"replaced"``, ``"size"``, ``"expired"``,
            ``"pressure"`` or ``"closed"``.
        on_error: ``"log"`` counts and logs exceptions of *on_removal*, ``"raise"`` raises the first
            after all removals have been delivered.
        name: What reports call this cache; the line that made it by default.
        timer: The clock; may count in anything to which *ttl* can be added.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range, or no bound at all.
    """

    def __init__(
        self,
        maxsize: float | None = None,
        *,
        maxbytes: int | str | None = None,
        ttl: Any = None,
        idle: Any = None,
        policy: Literal["lru", "s3fifo"] = "lru",
        getsizeof: Callable[[V], float] | None = None,
        sizer: Callable[[V], int] | None = None,
        oversized: Literal["reject", "raise", "keep_one"] | None = None,
        on_removal: Callable[[K, V, Cause], object] | None = None,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
        timer: Callable[[], Any] = time.monotonic,
    ) -> None:
        options.check_callable(timer, "timer", optional=False)
        self._set_up(
            {
                "maxsize": options.check_maxsize(maxsize),
                "maxbytes": options.check_maxbytes(maxbytes),
                "ttl": options.check_duration(ttl, timer, "ttl"),
                "idle": options.check_duration(idle, timer, "idle"),
                "policy": options.check_choice(policy, options.POLICIES, "policy"),
                "getsizeof": options.check_callable(getsizeof, "getsizeof"),
                "sizer": options.check_callable(sizer, "sizer"),
                "oversized": oversized
                if oversized is None
                else options.check_choice(oversized, options.OVERSIZED, "oversized"),
                "on_removal": options.check_callable(on_removal, "on_removal"),
                "on_error": options.check_choice(on_error, options.ON_ERROR, "on_error"),
                "name": callsite.name_for(type(self).__name__, name),
                "timer": timer,
            }
        )

    def _set_up(self, given: Mapping[str, Any]) -> None:
        """Start empty with checked options; also where unpickling begins."""
        options.check_bounded(given["maxsize"], given["maxbytes"], type(self).__name__)
        if given["sizer"] is not None and given["maxbytes"] is None:
            raise ConfigError("sizer measures bytes and needs maxbytes; for weights use getsizeof")
        self._options = dict(given)
        if given["getsizeof"] is not None:
            self.__dict__["getsizeof"] = given["getsizeof"]
        self._set_up_table(
            name=given["name"],
            maxsize=given["maxsize"],
            maxbytes=given["maxbytes"],
            ttl=given["ttl"],
            idle=given["idle"],
            policy=given["policy"],
            weighs=given["getsizeof"] is not None
            or type(self).getsizeof is not BoundedCache.getsizeof,
            sizer=given["sizer"],
            oversized=given["oversized"],
            listener=RemovalListener(given["on_removal"], given["on_error"], given["name"]),
            timer=given["timer"],
        )
        self._loader = loading.Loader(self._lock)
        self._estimate = SizeEstimate()
        self._held = 0
        inventory.register(self, name=self.name, kind=type(self).__name__)
        _stand_in_for_cachetools()

    @staticmethod
    def wrap(existing: MutableMapping[K, V], **given: Any) -> WrappedCache[K, V]:
        """Give a mapping that others hold already a lock, counts, a bound, a name and relief."""
        from memguard.bounded.cache.wrapped import WrappedCache  # noqa: PLC0415 - reason: few wrap

        return WrappedCache(existing, **given)

    # -- the mapping ------------------------------------------------------------------------------

    def set(self, key: K, value: V, *, ttl: Any = MISSING) -> None:
        """
        Store *value* under *key*, with a lifetime of its own when *ttl* is given (None: forever).

        Raises:
            ConfigError: *ttl* is not > 0.
            ValueTooLargeError: As configured by *oversized*.
            LifecycleError: The cache is closed.
        """
        if ttl is MISSING:
            self[key] = value
        else:
            self._put(key, value, self._lifetime(ttl))

    def _lifetime(self, ttl: Any) -> Any:
        if ttl is MISSING:
            return ttl
        lifetime = options.check_duration(ttl, self._options["timer"], "ttl")
        return None if lifetime == math.inf else lifetime

    def clear(self) -> None:
        """Remove every entry; loads that are under way will not be stored."""
        self._drop_all("explicit")

    def items(self) -> ItemsView[K, V]:
        """Return a view that iterates over a snapshot and touches no entry."""
        return cast("ItemsView[K, V]", _Items(self))

    def values(self) -> ValuesView[V]:
        """Return a view that iterates over a snapshot and touches no entry."""
        return cast("ValuesView[V]", _Values(self))

    def invalidate(self, predicate: Callable[[K, V], bool]) -> int:
        """
        Remove every entry for which ``predicate(key, value)`` is true and return their number.

        The predicate runs outside the lock, on a snapshot; an entry whose value was replaced
        meanwhile is left alone. Loads in progress are not stored: they cannot be checked.
        """
        options.check_callable(predicate, "predicate", optional=False)
        self._flights.disown_all()
        self._async_flights.disown_all()
        return self._remove_where(predicate)

    def _remove_where(self, predicate: Callable[[Any, Any], bool]) -> int:
        chosen = [
            (entry, value)
            for entry, value in [(entry, entry.value) for entry in self._snapshot()]
            if predicate(entry.key, value)
        ]
        remaining = iter(chosen)

        def pick() -> Any:
            for entry, value in remaining:
                if entry.next is not None and entry.value is value:
                    return entry
            return None

        total = 0
        while removed := len(self._drop_batch(pick, "explicit")):
            total += removed
        return total

    def expire(self, time: Any = None) -> list[tuple[K, V]]:
        """
        Remove what has expired, now or at *time* on the cache's timer, and return its pairs.

        Calling it is never needed for correctness: expired entries are not found, not counted, and
        leave by themselves. Cost: O(expired).
        """
        removed = self._expire(MISSING if time is None else time)
        return [(key, value) for key, value, _ in removed]

    # -- loading ----------------------------------------------------------------------------------

    def get_or_load(
        self,
        key: K,
        loader: Callable[[K], V],
        *,
        ttl: Any = MISSING,
        refresh_after: float | None = None,
    ) -> V:
        """
        Return the live value of *key*, or load, store and return it.

        Threads that miss the same key at the same time share one call of *loader*, which runs
        outside every lock and may use the cache, even for its own key. An exception reaches every
        thread that waited and is not cached. A key written or deleted during its load stays so.

        Args:
            key: The key.
            loader: Called with the key.
            ttl: A lifetime for this entry only.
            refresh_after: Age in seconds from which a value is still returned, but loaded again by
                one background thread; a failed refresh keeps the old value.

        Raises:
            Exception: Whatever *loader* raised.
        """
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
        """
        Await and return the value of *key* as `get_or_load` does, with an async *loader*.

        Results are shared by all event loops and threads, loads under way by the tasks of one
        loop. A caller that is cancelled leaves the load to the others; the last one to leave
        cancels it.
        """
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
        """
        Load the *keys* that are not there yet, on up to *workers* threads, and report the result.

        A key whose loader raises is reported and the rest load. *keys* may be a generator: only a
        few of them are taken in advance.

        Args:
            keys: What to load.
            loader: Called with a key, on a worker thread.
            workers: Threads; they end before this returns.
            progress: Called on this thread as ``progress(done, total)`` after every key; *total* is
                None when *keys* does not know its length.
        """
        return loading.warm(self, keys, loader, workers, progress)

    def _age_of(self, key: Any) -> Any:
        entry = self._find(key)
        return None if entry is None else self._age(entry, self._timer())

    def _age(self, entry: Any, now: Any) -> Any:
        return now - (entry.expires - self._ttl if entry.written is None else entry.written)

    # -- bounds and sizes -------------------------------------------------------------------------

    @property
    def maxsize(self) -> float | None:
        """Most entries, or most units of weight; None when only bytes bound the cache."""
        return cast("float | None", self._options["maxsize"])

    @property
    def maxbytes(self) -> int | None:
        """Most bytes; None when the cache does not count them."""
        return self._contents.maxbytes

    @property
    def lowerable(self) -> Literal["maxbytes", "maxsize"] | None:
        """
        Name the bound that relief may lower for a while without causing errors.

        None if a lower bound could reject a value by an error: if values are weighed, and
        if ``oversized="raise"``.
        """
        if self._contents.maxbytes is not None:
            return None if self._measure.raises else "maxbytes"
        return None if self._contents.weighs or self.maxsize is None else "maxsize"

    @property
    def currsize(self) -> float:
        """Live entries, or their weight if the cache has a getsizeof."""
        count = len(self)
        return cast("float", self._contents.weight) if self._contents.weighs else count

    @property
    def ttl(self) -> Any:
        """Lifetime after writing, as given."""
        return self._options["ttl"]

    @property
    def idle(self) -> Any:
        """Lifetime after the last access, as given."""
        return self._options["idle"]

    @property
    def policy(self) -> str:
        """``"lru"`` or ``"s3fifo"``."""
        return cast("str", self._options["policy"])

    @property
    def timer(self) -> TimerView:
        """The clock: call it for the time, use it in a ``with`` to hold the time still."""
        return TimerView(self)

    def resize(self, maxsize: float | None = None, *, maxbytes: int | str | None = None) -> None:
        """
        Change the bounds that are given, and evict at once what no longer fits, expired ones first.

        Raises:
            ConfigError: A bound is out of range, or the cache was not made with that kind of bound.
        """
        new_maxsize = options.check_maxsize(maxsize)
        new_maxbytes = options.check_maxbytes(maxbytes)
        options.check_bounded(new_maxsize, new_maxbytes, "resize")
        if new_maxbytes is not None and self._contents.maxbytes is None:
            raise ConfigError(
                "resize: this cache does not count bytes; make it with maxbytes to bound them"
            )

        def set_bounds(_: object) -> None:
            if new_maxsize is not None:
                self._options["maxsize"] = new_maxsize
                self._contents.set_maxsize(new_maxsize)
                self._set_home()
            if new_maxbytes is not None:
                self._contents.maxbytes = self._options["maxbytes"] = new_maxbytes

        self._read(set_bounds)
        if self._contents.is_timed:
            self._expire()
        self._drop_while(self._contents.is_over, "size")

    def shrink(
        self, *, to_bytes: int | str | None = None, fraction: float | None = None
    ) -> inventory.Reclaimed:
        """
        Give memory back: remove the entries that would leave next, for the cause ``"pressure"``.

        In batches, so that other threads never wait long. Exactly one goal must be given.

        Args:
            to_bytes: Keep at most this many bytes. A cache that does not count bytes goes by the
                average of a few entries.
            fraction: Remove this share of the entries, 0 to 1.

        Raises:
            TypeError: None or both are given, or one is of the wrong kind.
            ConfigError: One is out of range.
        """
        return shrink(
            to_bytes=to_bytes,
            fraction=fraction,
            count=self._map.__len__ if not self._contents.is_timed else self.__len__,
            counted=None if self._contents.maxbytes is None else lambda: self._contents.bytes,
            average=self._average_bytes() if self._contents.maxbytes is None else 0.0,
            drop_while=lambda is_over: self._drop_while(is_over, "pressure"),
        )

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """Drop what has expired, then `shrink`: what relief calls under memory pressure."""
        len(self)
        return self.shrink(fraction=fraction, to_bytes=to_bytes)

    def footprint(self) -> inventory.Footprint:
        """Return live entries and their bytes, estimated if the cache does not count them."""
        items = len(self)
        size = (
            self._contents.bytes
            if self._contents.maxbytes is not None
            else int(self._average_bytes() * items)
        )
        return inventory.Footprint(items=items, bytes=size, opaque=bool(self._measure.opaque))

    def _average_bytes(self) -> float:
        count, removals = self._read(lambda held: (len(held), self._removals()))
        changes = count + 2 * sum(removals.values())
        return self._estimate.average(changes, count, self._measured_average)

    def _measured_average(self) -> float:
        """Return the bytes of an entry, on the average of the first and the last few."""
        most = inventory.SAMPLE
        # No entry twice, for its large parts would count as shared.
        sample = self._read(
            lambda held: [
                *islice(held.values(), most),
                *islice(reversed(held.values()), min(most, max(0, len(held) - most))),
            ]
        )
        pairs = [(entry.key, entry.value) for entry in sample]
        note = self._measure.opaque.note
        return average_bytes(pairs, self._measure.overhead, len(self._map), MOST_NODES, note)

    # -- inspection -------------------------------------------------------------------------------

    def info(self, key: K) -> EntryInfo:
        """
        Return what is known about the live entry of *key*, without touching it.

        Raises:
            KeyError: There is no live entry.
        """
        entry = self._find(key)
        now = self._timer()
        if entry is None or self._contents.expiry.is_due(entry, now):
            raise KeyError(key)
        deadline = None
        if entry.expires is not None or self._contents.idle is not None:
            deadline = self._contents.expiry.deadline(entry)
        return EntryInfo(
            age=self._age(entry, now),
            expires_in=None if deadline is None else deadline - now,
            hits=entry.hits,
            bytes=int(entry.size or self._measure.bytes_of(entry.key, entry.value, False)),
            weight=entry.weight,
        )

    def statistics(self) -> CacheStatistics:
        """Return the counts since the cache was made. Cost: O(1), and a few entries measured."""
        if self._contents.is_timed:
            self._expire()
        contents = self._contents
        count, held, total, (hits, misses), removals = self._read(
            lambda held: (
                len(held),
                contents.weight if contents.weighs else len(held),
                contents.bytes,
                self._lookups(),
                self._removals(),
            )
        )
        is_estimated = self._contents.maxbytes is None
        if is_estimated:
            changes = count + 2 * sum(removals.values())
            average = self._estimate.average(changes, count, self._measured_average)
            total = int(average * count)
        return CacheStatistics.of(
            {
                "name": self.name,
                "policy": self._options["policy"],
                "implementation": "python",
                "items": count,
                "maxsize": self._options["maxsize"],
                "currsize": held,
                "maxbytes": self._contents.maxbytes,
                "bytes": total,
                "bytes_estimated": is_estimated and count > 0,
                "opaque": self._measure.opaque.names,
                "hits": hits,
                "misses": misses,
                **self._loader.figures(),
                "removals": removals,
                "refused": self._refused,
                "callback_errors": self._listener.errors,
            }
        )

    def _lookups(self) -> tuple[int, int]:
        return self._hits, self._misses

    def __repr__(self) -> str:
        bounds = [f"maxsize={self.maxsize}"]
        if self._contents.maxbytes is not None:
            bounds.append(f"maxbytes={self._contents.maxbytes}")
        return (
            f"{type(self).__name__}(name={self.name!r}, items={len(self._map)}, "
            f"{', '.join(bounds)})"
        )

    # -- the end, and a new beginning -------------------------------------------------------------

    def close(self) -> None:
        """
        Remove every entry for the cause ``"closed"`` and leave the inventory; idempotent.

        Afterwards the cache finds nothing, and storing raises LifecycleError.
        """
        if not self._closed:
            self._drop_all("closed", closing=True)
            inventory.unregister(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    _MADE_ANEW = frozenset({"_options", "_loader", "_estimate", "_held", "getsizeof"})
    """Attributes that a pickle leaves out: options are pickled separately, counts start again."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle options and live entries with the time they have left; counts start again."""
        entries = self._in_order()  # in which the copy is filled
        now = self._timer()
        rows = [
            (
                entry.key,
                entry.value,
                None if entry.expires is None else entry.expires - now,
                entry.written is None or (entry.expires is self._ttl is None),
            )
            for entry in entries
            if not self._contents.expiry.is_due(entry, now)
        ]
        own = {name: value for name, value in self.__dict__.items() if name not in self._MADE_ANEW}
        return copyreg.__newobj__, (type(self),), (self._options, rows, own)  # type: ignore[attr-defined]  # reason: what pickle itself uses

    def __setstate__(self, state: Any) -> None:
        given, rows, attributes = state
        self.__dict__.update(attributes)
        self._set_up(given)
        for key, value, left, is_usual in rows:
            self._put(key, value, MISSING if is_usual else left)
        now = self._timer()
        found = [
            (self._find(key), now + left)
            for key, _, left, is_usual in rows
            if is_usual and left is not None
        ]
        self._set_deadlines([row for row in found if row[0] is not None])


class TimerView:
    """
    Call it for the time; ``with cache.timer as now:`` holds the cache's time still.

    Attributes of the clock that was given are reached through it, as in cachetools. Holding time
    still concerns every thread that uses the cache, so keep it short.
    """

    __slots__ = ("_cache",)

    def __init__(self, cache: BoundedCache[Any, Any]) -> None:
        self._cache = cache

    def __call__(self) -> Any:
        """Return the time on this clock."""
        return self._cache._timer()

    def __enter__(self) -> Any:
        cache = self._cache
        now = cache._timer()
        held = repeat(now).__next__
        cache._check_holder()
        with cache._lock:
            cache._held += 1
            cache._timer = held
        return now

    def __exit__(self, *exc_info: object) -> None:
        cache = self._cache
        cache._check_holder()
        with cache._lock:
            cache._held -= 1
            if not cache._held:
                cache._timer = cache._options["timer"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache._options["timer"], name)

    def __reduce__(self) -> Any:
        return TimerView, (self._cache,)


def _stand_in_for_cachetools() -> None:
    """Let ``isinstance(cache, cachetools.Cache)`` hold if cachetools is in use."""
    cachetools: Any = sys.modules.get("cachetools")
    if cachetools is not None and not issubclass(BoundedCache, cachetools.Cache):
        cachetools.Cache.register(BoundedCache)


class _Items(ItemsView[Any, Any]):
    _mapping: BoundedCache[Any, Any]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        entries = self._mapping._snapshot()
        return iter([(entry.key, entry.value) for entry in entries])


class _Values(ValuesView[Any]):
    _mapping: BoundedCache[Any, Any]

    def __iter__(self) -> Iterator[Any]:
        entries = self._mapping._snapshot()
        return iter([entry.value for entry in entries])
