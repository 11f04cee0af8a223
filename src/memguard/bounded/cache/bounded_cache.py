"""`BoundedCache`: a thread-safe mapping that cannot grow past its bound."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any, Generic, Literal, TypeVar, cast

from memguard.bounded import callsite, inventory, options
from memguard.bounded.cache.clock import TimerView
from memguard.bounded.cache.entry import CAUSES, MISSING, Cause, Entry, SizedEntry
from memguard.bounded.cache.eviction import LruOrder, S3FifoOrder
from memguard.bounded.cache.expiry import ExpiryIndex
from memguard.bounded.cache.loading.loader import Loading
from memguard.bounded.cache.maintenance import Upkeep
from memguard.bounded.cache.removal_listener import Removed, Teller
from memguard.bounded.cache.wrapped import AdoptedCache
from memguard.bounded.counter import Tally
from memguard.bounded.sizing import bytes_of
from memguard.errors import ConfigError

K = TypeVar("K")
V = TypeVar("V")

ENTRY_BYTES = sys.getsizeof(SizedEntry()) + 56
"""Bookkeeping of one entry: the entry itself, and its share of a table that is two thirds full."""


class BoundedCache(Upkeep, Loading, MutableMapping[K, V], Generic[K, V]):
    """
    Keep the entries most worth keeping, never more than the bound allows.

    A stand-in for ``cachetools.LRUCache`` and ``TTLCache`` that is thread-safe by itself, counts
    what it does, and can be asked for memory. See ``docs/caches.md``.

    Bounded by: *maxsize* entries (or units of *getsizeof*), *maxbytes* bytes, or both.
    Locks: one re-entrant mutex for changes, none for hits. Loaders, callbacks, sizers, the equality
        of keys and the destructors of values never run under it.
    Keeps alive: keys and values of entries that have not left, and for a moment at most
        255 entries lately read.

    Args:
        maxsize: Most entries; with *getsizeof*, most units of weight. ``math.inf`` is accepted for
            the sake of programs written for cachetools.
        maxbytes: Most bytes of keys, values and bookkeeping, as a number or ``"64MiB"``.
        ttl: Lifetime of an entry after it was written: seconds, ``"10m"`` or a timedelta.
        idle: Lifetime of an entry after it was last read or written.
        policy: ``"lru"``, or ``"s3fifo"`` for caches swept by one-time visitors.
        getsizeof: Weight of a value; a weight of 0 counts as 1, for any number of them would fit.
        sizer: Bytes of a value, for *maxbytes*; `memguard.bounded.sizing.size_of` by default.
        oversized: What becomes of a value larger than the whole cache: ``"reject"`` does not keep
            it, ``"raise"`` raises, ``"keep_one"`` keeps it alone. By default a value that weighs
            too much raises, as in cachetools, and one of too many bytes is not kept.
        on_removal: Called as ``on_removal(key, value, cause)`` after an entry has left, outside
            the lock, with the cause ``"explicit"``, ``"replaced"``, ``"size"``, ``"expired"``,
            ``"pressure"`` or ``"closed"``.
        on_error: ``"log"`` counts and logs exceptions of *on_removal*, ``"raise"`` raises the first
            when all have been told.
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
        self.name = given["name"]
        self._options = dict(given)
        self._lock = threading.RLock()
        self._map, self._foreign, self._log = {}, {}, []
        self._count = self._bytes = self._weight = 0
        given_maxsize = given["maxsize"]
        unlimited = given_maxsize is None or given_maxsize == math.inf
        # An int, for comparing an int with a float is slow.
        self._maxsize = sys.maxsize if unlimited else given_maxsize
        self._maxbytes = given["maxbytes"]
        self._timer = given["timer"]
        ttl, self._idle = given["ttl"], given["idle"]
        self._ttl = None if ttl == math.inf else ttl
        self._expiry = ExpiryIndex(self._idle)
        self._order = LruOrder() if given["policy"] == "lru" else S3FifoOrder()
        self._root = self._order.root
        if given["getsizeof"] is not None:
            self.__dict__["getsizeof"] = given["getsizeof"]
        self._weighs = given["getsizeof"] is not None or (
            type(self).getsizeof is not BoundedCache.getsizeof
        )
        self._sizer, self._base_bytes = given["sizer"], ENTRY_BYTES
        self._oversized = given["oversized"]
        self._teller = Teller(given["on_removal"], given["on_error"], self.name)
        self._replayed = self._evictions = self._explicit = 0
        self._average = None
        self._refused = 0
        self._causes = dict.fromkeys(CAUSES, 0)
        self._misses, self._updates = Tally(), Tally()
        self._stamp = 0.0
        self._deferred = deque()
        self._busy = self._replaying = self._draining = self._torn = self._closed = False
        self._watched = -1
        self._held = 0
        self._timed = self._ttl is not None or self._idle is not None
        self._rich = self._timed or self._maxbytes is not None or self._timer is not time.monotonic
        self._plainly_sized = (
            self._maxbytes is not None and not self._timed and given["sizer"] is None
        )
        self._swift = not (
            self._weighs
            or self._maxbytes is not None
            or self._idle is not None
            or given["on_removal"]
        )
        self._simple = (
            given["policy"] == "lru"
            and self._maxsize >= 1
            and not (self._weighs or self._idle is not None or given["on_removal"])
        )
        self._direct = self._simple
        self._set_up_loading()
        inventory.register(self, name=self.name, kind=type(self).__name__)
        _stand_in_for_cachetools()

    @staticmethod
    def wrap(existing: MutableMapping[K, V], **given: Any) -> AdoptedCache[K, V]:
        """Give a mapping that others hold already a lock, counts, a bound, a name and relief."""
        return AdoptedCache(existing, **given)

    # -- the mapping --------------------------------------------------------------------------

    def set(self, key: K, value: V, *, ttl: Any = MISSING) -> None:
        """
        Store *value* under *key*, with a lifetime of its own when *ttl* is given (None: for ever).

        Raises:
            ConfigError: *ttl* is not > 0.
            ValueTooLargeError: As configured by *oversized*.
            LifecycleError: The cache is closed.
        """
        if ttl is MISSING:
            self[key] = value
        else:
            lifetime = options.check_duration(ttl, self._options["timer"], "ttl")
            self._put(key, value, ttl=None if lifetime == math.inf else lifetime)

    def setdefault(self, key: K, default: Any = None) -> Any:
        """Return the live value of *key*, after storing *default* when there was none; atomic."""
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        return self._put(key, default, only_if_absent=True)

    def popitem(self) -> tuple[K, V]:
        """
        Remove and return the entry that would leave next.

        Raises:
            KeyError: The cache is empty.
        """
        if self._timed:
            self._expire_all()
        removed: Removed = []
        self._purge(self._order.victim, "explicit", 1, removed)
        if not removed:
            raise KeyError(f"{type(self).__name__} is empty") from None
        self._teller.tell(removed)
        return removed[0][0], removed[0][1]

    def clear(self) -> None:
        """Remove every entry; loads that are under way will not be stored."""
        self._remove_all("explicit")

    def __iter__(self) -> Iterator[K]:
        """Iterate over a snapshot of the live keys, in no promised order; no entry is touched."""
        return iter([entry.key for entry in self._snapshot()])

    def items(self) -> ItemsView[K, V]:
        """Return a view that iterates over a snapshot and touches no entry."""
        return cast("ItemsView[K, V]", _Items(self))

    def values(self) -> ValuesView[V]:
        """Return a view that iterates over a snapshot and touches no entry."""
        return cast("ValuesView[V]", _Values(self))

    def __repr__(self) -> str:
        bounds = [f"maxsize={self.maxsize}"]
        if self._maxbytes is not None:
            bounds.append(f"maxbytes={self._maxbytes}")
        return (
            f"{type(self).__name__}(name={self.name!r}, items={self._count}, {', '.join(bounds)})"
        )

    # -- bounds and sizes ---------------------------------------------------------------------

    @property
    def maxsize(self) -> float | None:
        """Most entries, or most units of weight; None when only bytes bound the cache."""
        return cast("float | None", self._options["maxsize"])

    @property
    def maxbytes(self) -> int | None:
        """Most bytes; None when the cache does not count them."""
        return self._maxbytes

    @property
    def lowerable(self) -> Literal["maxbytes", "maxsize"] | None:
        """
        Name the bound that relief may lower for a while without an error for anybody.

        None where a lower bound could turn a value away by an error: where values are weighed, and
        where ``oversized="raise"``.
        """
        if self._maxbytes is not None:
            return None if self._options["oversized"] == "raise" else "maxbytes"
        return None if self._weighs or self.maxsize is None else "maxsize"

    @property
    def currsize(self) -> float:
        """Live entries, or their weight where the cache has a getsizeof."""
        if self._timed:
            self._expire_all()
        return cast("float", self._weight if self._weighs else self._count)

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

    @staticmethod
    def getsizeof(value: Any) -> float:  # noqa: ARG004 - reason: a subclass may weigh it
        """Return the weight of *value*; override it, or give *getsizeof*."""
        return 1

    def _weight_of(self, value: Any) -> Any:
        weight = self.getsizeof(value)
        if not weight >= 0:
            raise ConfigError(f"getsizeof must give a number >= 0 (got {weight!r})")
        return weight or 1

    def _entry_bytes(self, key: Any, value: Any) -> int:
        if self._sizer is None:
            return ENTRY_BYTES + bytes_of(key) + bytes_of(value)
        size = self._sizer(value)
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"sizer must give a whole number of bytes (got {type(size).__name__})")
        if size < 0:
            raise ConfigError(f"sizer must give a number of bytes >= 0 (got {size})")
        return ENTRY_BYTES + bytes_of(key) + size

    def _estimated_bytes(self, entry: Entry) -> int:
        return ENTRY_BYTES + bytes_of(entry.key, 100) + bytes_of(entry.value, 100)


def _stand_in_for_cachetools() -> None:
    """Let ``isinstance(cache, cachetools.Cache)`` hold where cachetools is in use."""
    cachetools: Any = sys.modules.get("cachetools")
    if cachetools is not None and not issubclass(BoundedCache, cachetools.Cache):
        cachetools.Cache.register(BoundedCache)


class _Items(ItemsView[Any, Any]):
    _mapping: BoundedCache[Any, Any]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        entries = self._mapping._snapshot()  # noqa: SLF001 - reason: the view of this very class
        return iter([(entry.key, entry.value) for entry in entries])


class _Values(ValuesView[Any]):
    _mapping: BoundedCache[Any, Any]

    def __iter__(self) -> Iterator[Any]:
        entries = self._mapping._snapshot()  # noqa: SLF001 - reason: the view of this very class
        return iter([entry.value for entry in entries])
