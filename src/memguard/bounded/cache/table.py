"""
The plain twin of the cache's core: a dict, an order of eviction, deadlines, and one lock.

The rules, on which everything in this module rests:

* The dict is the truth. An entry in it is complete, one that is not in it has ``next is None``;
  order, deadlines and sums say nothing that could not be rebuilt from the dict.
* Entries are *found* outside the lock, for the ``__hash__`` and ``__eq__`` of keys are the user's
  code, and *confirmed* under it: what was found must still be linked, and where nothing was found,
  no key of that hash may have come. Otherwise the search starts again.
* A change sets ``_ring`` to False before its first write and back to ``_home`` after its last. Who
  finds it False, under the lock, either broke into a change of its own thread (a finalizer or
  signal handler: what it asks for is put off until that change is over), or comes after one that an
  exception tore apart, and then `_repair` comes first.
* Keys and values that leave are staged in ``removed``, which outlives the lock: their destructors
  and the removal listener run outside of it. Sizes and the time are asked for before it.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, overload

from memguard.bounded.cache.entry import (
    CAUSES,
    MISSING,
    Cause,
    Entry,
    FullEntry,
    SameHash,
    is_plain,
    new_entry,
)
from memguard.bounded.cache.eviction import LruOrder, Order, S3FifoOrder, in_order
from memguard.bounded.cache.expiry import ExpiryIndex
from memguard.bounded.cache.loading.single_flight import Flights
from memguard.bounded.cache.loading.single_flight_async import FlightsOfLoops
from memguard.bounded.cache.maintenance import free_in_child
from memguard.bounded.cache.removal_listener import Removed, RemovalListener
from memguard.bounded.sizing import bytes_of
from memguard.errors import ConfigError, LifecycleError, ValueTooLargeError
from memguard.lifecycle import janitor

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_len = len  # the program may cache the built-in itself, and then must not meet it here

_BATCH = 256
"""Entries removed at a time, so that nobody waits long for the lock."""

ENTRY_BYTES = sys.getsizeof(FullEntry()) + 56 + 24
"""Bookkeeping of one entry: itself, its share of a dict two thirds full, and a time."""

_MOST_LOOKS = 1000
_MOST_EXPIRED = 64
"""Expired entries removed by one insertion; the janitor and `len` remove the rest."""

_POLL_SECONDS = 0.5
"""How often the janitor looks at a cache whose timer does not count seconds."""

_UNWATCHED = -1


class _Rivals(NamedTuple):
    """The keys of one hash that a foreign key was, or must be, compared with."""

    hash: int
    keys: list[Any]
    is_foreign: bool
    """Whether the key itself is foreign."""


_Facts = tuple[Any, Any, int, Any, Any, bool]
"""What a write brings: value, weight, bytes, the time, the deadline, and whether that is its own."""


class Table(Generic[K, V]):
    """
    Entries within bounds: ``get [] []= in pop del len``, eviction, expiry and the counts.

    Bounded by: *maxsize* units of weight, *maxbytes* bytes, or both.
    Locks: one re-entrant mutex; no code of the user's runs under it.
    Keeps alive: keys and values of entries that have not left.
    """

    __slots__ = (
        "_async_flights",
        "_bytes",
        "_causes",
        "_closed",
        "_deferred",
        "_expiry",
        "_flights",
        "_foreign",
        "_hits",
        "_home",
        "_idle",
        "_is_light",
        "_kind",
        "_listener",
        "_lock",
        "_map",
        "_maxbytes",
        "_maxsize",
        "_measured",
        "_misses",
        "_order",
        "_oversized",
        "_overhead",
        "_refused",
        "_replaced",
        "_ring",
        "_sizer",
        "_timed",
        "_timer",
        "_ttl",
        "_watched",
        "_weighs",
        "_weight",
        "name",
    )

    def _set_up_table(
        self,
        *,
        name: str,
        maxsize: float | None,
        maxbytes: int | None,
        ttl: Any,
        idle: Any,
        policy: str,
        weighs: bool,
        sizer: Callable[[Any], int] | None,
        oversized: str | None,
        listener: RemovalListener,
        timer: Callable[[], Any],
    ) -> None:
        self.name = name
        self._lock = threading.RLock()
        self._map: dict[Any, Any] = {}
        self._foreign = 0
        """Entries whose key is foreign."""
        self._closed = False
        self._deferred: deque[Callable[[], Any]] = deque()
        # An int, for comparing an int with a float is slow.
        self._maxsize: float = sys.maxsize if maxsize in (None, math.inf) else maxsize or 0
        self._maxbytes = maxbytes
        self._weighs = weighs
        self._measured = weighs or maxbytes is not None
        self._is_light = not (self._measured or listener.is_asked)
        """Whether a write to a known key needs no measure and no listener."""
        self._sizer = sizer
        self._oversized = oversized
        self._weight: Any = 0
        self._bytes = 0
        self._ttl = None if ttl == math.inf else ttl
        self._idle = idle
        self._timer = timer
        self._timed = self._ttl is not None or idle is not None
        self._expiry = ExpiryIndex(idle)
        self._watched = _UNWATCHED
        """The janitor's epoch in which this table asked to be swept."""
        self._order: Order = LruOrder() if policy == "lru" else S3FifoOrder()
        self._home: Any = None
        self._set_home()
        self._ring = self._home
        is_plain = policy == "lru" and not (self._timed or self._measured)
        self._kind: type[Entry | FullEntry] = Entry if is_plain else FullEntry
        self._overhead = ENTRY_BYTES
        self._listener = listener
        self._hits = self._misses = self._refused = self._replaced = 0
        self._causes = dict.fromkeys(CAUSES, 0)
        self._flights = Flights()
        self._async_flights = FlightsOfLoops()

    # -- the mapping ------------------------------------------------------------------------------

    @overload
    def get(self, key: K, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T) -> V | T: ...
    def get(self, key: Any, default: Any = None) -> Any:
        """
        Return the live value of *key*, or *default*. Counts as an access.

        Raises:
            TypeError: *key* is not hashable.
        """
        entry = self._map.get(key)
        if entry is None and not (self._foreign or self._deferred):
            with self._lock:
                self._misses += 1
            return default
        if entry is not None and self._home is not None:
            with self._lock:
                root = self._ring
                following = entry.next
                if root and following is not None:
                    self._ring = False
                    prev = entry.prev
                    prev.next = following
                    following.prev = prev
                    last = root.prev
                    last.next = root.prev = entry
                    entry.prev = last
                    entry.next = root
                    entry.hits += 1
                    self._hits += 1
                    self._ring = self._home
                    return entry.value
        value = self._look_up(key)
        return default if value is MISSING else value

    def __getitem__(self, key: K) -> V:
        value: Any
        try:
            entry = self._map[key]
        except KeyError:
            value = self._look_up(key)
            return self.__missing__(key) if value is MISSING else value
        with self._lock:
            root = self._ring
            following = entry.next
            if root and following is not None:
                self._ring = False
                prev = entry.prev
                prev.next = following
                following.prev = prev
                last = root.prev
                last.next = root.prev = entry
                entry.prev = last
                entry.next = root
                entry.hits += 1
                self._hits += 1
                self._ring = self._home
                return entry.value  # type: ignore[no-any-return]  # reason: entries are untyped
        value = self._look_up(key)
        return self.__missing__(key) if value is MISSING else value

    def __missing__(self, key: K) -> V:
        raise KeyError(key)

    def __setitem__(self, key: K, value: V) -> None:
        if self._home is None or not self._is_light or self._flights or self._async_flights:
            self._put(key, value)
            return
        now = self._timer()
        entry = self._map.get(key)
        gone: Any = None  # outlives the lock: the destructor of a value is the user's code
        if entry is not None:
            with self._lock:
                root = self._ring
                following = entry.next
                if root and following is not None:
                    self._ring = False
                    prev = entry.prev
                    prev.next = following
                    following.prev = prev
                    last = root.prev
                    last.next = root.prev = entry
                    entry.prev = last
                    entry.next = root
                    gone = entry.value
                    entry.value = value
                    entry.written = now
                    self._replaced += 1
                    self._ring = self._home
                    return
        elif type(key) is int or type(key) is str or is_plain(key):
            fresh = Entry()
            fresh.key = key
            fresh.value = value
            fresh.hits = 0
            fresh.written = now
            with self._lock:
                root = self._ring
                table = self._map
                if root and not self._foreign and key not in table:
                    self._ring = False
                    if _len(table) >= self._maxsize:
                        gone = root.next
                        following = gone.next
                        gone.prev = gone.next = None
                        root.next = following
                        following.prev = root
                        del table[gone.key]
                        self._causes["size"] += 1
                    table[key] = fresh
                    last = root.prev
                    last.next = root.prev = fresh
                    fresh.prev = last
                    fresh.next = root
                    self._ring = self._home
                    return
        self._put(key, value)

    def __delitem__(self, key: K) -> None:
        self._take(key)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """
        Remove *key* and return its live value.

        Raises:
            KeyError: There is no live value, and no *default* was given.
            TypeError: *key* is not hashable.
        """
        return self._take(key, default)

    def __contains__(self, key: object) -> bool:
        entry = self._find(key)
        if entry is None:
            return False
        return not (self._timed and self._expiry.is_due(entry, self._timer()))

    def __len__(self) -> int:
        if self._timed:
            self._expire()
        elif self._deferred:
            self._run_deferred()
        return _len(self._map)

    @overload
    def setdefault(self: Table[K, V | None], key: K, default: None = None) -> V | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...
    def setdefault(self, key: Any, default: Any = None) -> Any:
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
            self._expire()
        removed = self._drop_batch(self._order.victim, "explicit", 1)
        if not removed:
            raise KeyError(f"{type(self).__name__} is empty") from None
        return removed[0][0], removed[0][1]

    def __iter__(self) -> Iterator[K]:
        """Iterate over a snapshot of the live keys, in no promised order; no entry is touched."""
        return iter([entry.key for entry in self._snapshot()])

    def _snapshot(self) -> list[Any]:
        """Return the live entries, without touching them."""
        if self._deferred:
            self._run_deferred()
        entries = list(self._map.copy().values())
        if self._timed:
            now = self._timer()
            entries = [entry for entry in entries if not self._expiry.is_due(entry, now)]
        return entries

    def _in_order(self) -> list[Any]:
        """Return all entries, the next to leave first."""
        with self._lock:
            if self._ring is False and self._is_inside_a_change():
                return list(self._map.values())
            return list(self._order)

    # -- finding ----------------------------------------------------------------------------------

    def _find(self, key: Any) -> Any:
        """Return the entry of *key* or None. Runs ``__hash__`` and ``__eq__``: no lock is held."""
        if self._deferred:
            self._run_deferred()
        entry = self._map.get(key)
        if entry is None and self._foreign:
            entry, _ = self._compare(key)
        return entry

    def _compare(self, key: Any) -> tuple[Any, _Rivals]:
        """Compare *key* with every key of its hash; return its entry, and whom it met."""
        hashed = hash(key)
        rivals = _Rivals(hashed, self._keys_of_hash(hashed), not is_plain(key))
        for rival in rivals.keys:
            known = rival.key if type(rival) is FullEntry else rival
            if known is key or known == key:
                return (rival if type(rival) is FullEntry else self._map.get(rival)), rivals
        return None, rivals

    def _keys_of_hash(self, hashed: int) -> list[Any]:
        """Return the keys of the dict that have this hash; foreign keys as their entries."""
        probe = SameHash(hashed)
        self._map.get(probe)
        return probe.keys

    def _look_up(self, key: Any) -> Any:
        """Return the live value of *key*, or MISSING; an access to it."""
        now = self._timer() if self._timed else None
        looks = 0
        while True:
            entry = self._find(key)
            with self._lock:
                is_there = entry is not None and not (
                    now is not None and self._expiry.is_due(entry, now)
                )
                if self._ring is False and self._is_inside_a_change():
                    return entry.value if is_there else MISSING
                if not is_there:
                    self._misses += 1
                    return MISSING
                if entry.next is not None:
                    self._ring = False
                    entry.hits += 1
                    self._hits += 1
                    if self._idle is not None:
                        entry.used = now
                    self._order.touch(entry)
                    self._ring = self._home
                    return entry.value
            looks = _look_again(looks)

    def _peek(self, key: Any) -> Any:
        """Return the live value of *key* or MISSING; counts and touches nothing."""
        entry = self._find(key)
        if entry is None or (self._timed and self._expiry.is_due(entry, self._timer())):
            return MISSING
        return entry.value

    # -- storing ----------------------------------------------------------------------------------

    def _put(
        self,
        key: Any,
        value: Any,
        ttl: Any = MISSING,
        *,
        only_if_absent: bool = False,
        flight: Any = None,
    ) -> Any:
        """
        Insert or replace, evicting as needed; return the value that now stands under *key*.

        Args:
            key: The key.
            value: The value.
            ttl: A lifetime for this entry alone; the cache's own when not given.
            only_if_absent: Leave a live entry as it is.
            flight: The load that produced *value*; nothing is stored when it was disowned.
        """
        if self._deferred:
            self._run_deferred()
        if flight is None and (self._flights or self._async_flights):
            self._disown(key)
        weight: Any = 1
        size = 0
        if self._weighs:
            weight = self._weight_of(value)
        if self._maxbytes is not None:
            size = self._entry_bytes(key, value)
        if (weight > self._maxsize or (size and size > self._maxbytes)) and (
            self._refuse(key, weight, size)
        ):
            return value
        now = self._timer()
        custom = ttl is not MISSING
        lifetime = ttl if custom else self._ttl
        expires = None if lifetime is None else now + lifetime
        facts = value, weight, size, now, expires, custom
        removed: Removed = []
        looks = 0
        while True:
            entry = self._map.get(key)
            rivals = None
            if entry is None and (self._foreign or not is_plain(key)):
                entry, rivals = self._compare(key)
            with self._lock:
                if self._ring is False and self._is_inside_a_change():
                    given = {"only_if_absent": only_if_absent, "flight": flight}
                    self._put_off(partial(self._put, key, value, ttl, **given))
                    return value
                if self._closed:
                    raise LifecycleError(f"cache {self.name!r} is closed; make a new one to store")
                if flight is not None and flight.disowned:
                    return value
                if entry is not None:
                    is_current = entry.next is not None
                elif rivals is None:
                    is_current = not self._foreign and key not in self._map
                else:
                    is_current = rivals.keys == self._keys_of_hash(rivals.hash)
                if is_current:
                    self._ring = False
                    if self._timed and self._expiry.due(now) is not None:
                        self._drop_due(now, removed)
                    if entry is None or entry.next is None:
                        self._insert(key, facts, rivals, removed)
                    elif only_if_absent:
                        value = entry.value
                        self._order.touch(entry)
                    else:
                        self._replace(entry, facts, removed)
                    self._ring = self._home
                    break
            looks = _look_again(looks)
        if self._timed and self._watched != janitor.epoch:
            self._ensure_watched()
        if self._deferred or (removed and self._listener.is_asked):
            self._settle(removed)
        return value

    def _insert(
        self, key: Any, facts: _Facts, rivals: _Rivals | None, removed: Removed
    ) -> Any:
        """Make room for a new entry and link it; inside a change."""
        value, weight, size, now, expires, custom = facts
        if self._measured:
            self._make_room(weight, size, 1, now, removed)
        elif _len(self._map) >= self._maxsize:
            self._evict(now, removed)
        is_foreign = rivals is not None and rivals.is_foreign
        kind = FullEntry if custom or is_foreign else self._kind
        entry = new_entry(kind, key, value)
        entry.written = now
        is_timed = kind is FullEntry and (custom or self._timed)
        if is_timed:
            self._date(entry, now, expires, custom=custom)
        if self._measured:
            entry.weight = weight
            entry.size = size
            self._weight += weight
            self._bytes += size
        if rivals is not None and is_foreign:
            entry.hash = rivals.hash
            self._foreign += 1
        # Whole from here on: a repair believes what it finds in the dict.
        self._map[entry if is_foreign else key] = entry
        self._order.add(entry)
        if is_timed:
            self._expiry.file(entry, custom=custom)
        return entry

    def _replace(self, entry: Any, facts: _Facts, removed: Removed) -> None:
        """Give a linked entry a new value; inside a change."""
        value, weight, size, now, expires, custom = facts
        if custom and type(entry) is Entry:  # which has no room for a deadline
            self._drop(entry, "replaced", removed)
            self._insert(entry.key, facts, None, removed).hits = entry.hits
            return
        removed.append((entry.key, entry.value, "replaced"))
        self._replaced += 1
        if self._measured:
            more, larger = weight - entry.weight, size - entry.size
            if self._is_over(more, larger):
                self._order.remove(entry)  # it must not make room for itself
                self._make_room(more, larger, 0, now, removed)
                self._order.add(entry)
            entry.weight = weight
            entry.size = size
            self._weight += more
            self._bytes += larger
        entry.value = value
        self._order.touch(entry)
        entry.written = now
        if type(entry) is FullEntry and (custom or self._timed):
            self._date(entry, now, expires, custom=custom)
            self._expiry.file(entry, custom=custom)

    def _date(self, entry: Any, now: Any, expires: Any, *, custom: bool) -> None:
        """Note when *entry* expires; inside a change."""
        entry.expires = expires
        if not custom and expires is not None:
            entry.written = None  # which the deadline implies, and costs a number less
        if self._idle is not None:
            entry.used = now
        if not self._timed and expires is not None:
            self._timed = True
            self._home = None

    def _drop_due(self, now: Any, removed: Removed) -> None:
        for _ in range(_MOST_EXPIRED):
            entry = self._expiry.due(now)
            if entry is None:
                return
            self._drop(entry, "expired", removed)

    def _is_over(self, weight: Any = 0, size: int = 0) -> bool:
        """Return whether so much more, in the entries that are there, is too much."""
        load = self._weight + weight if self._weighs else _len(self._map)
        return load > self._maxsize or (
            self._maxbytes is not None and self._bytes + size > self._maxbytes
        )

    def _make_room(self, weight: Any, size: int, count: int, now: Any, removed: Removed) -> None:
        """Evict until so much more fits, or nothing is left to evict; inside a change."""
        while (
            (self._weight + weight if self._weighs else _len(self._map) + count) > self._maxsize
            or (self._maxbytes is not None and self._bytes + size > self._maxbytes)
        ) and self._evict(now, removed):
            pass

    def _evict(self, now: Any, removed: Removed) -> bool:
        """Drop an expired entry, or the one that should leave next; False without any."""
        entry = self._expiry.due(now) if self._timed else None
        cause: Cause = "size" if entry is None else "expired"
        if entry is None:
            entry = self._order.victim()
            if entry is None:
                return False
        self._drop(entry, cause, removed)
        return True

    # -- measuring --------------------------------------------------------------------------------

    @staticmethod
    def getsizeof(value: Any) -> float:  # noqa: ARG004 - reason: a subclass may weigh it
        """Return the weight of *value*; override it, or give *getsizeof*."""
        return 1

    def _weight_of(self, value: Any) -> Any:
        weight: Any = self.getsizeof(value)
        if not weight >= 0:
            raise ConfigError(f"getsizeof must give a number >= 0 (got {weight!r})")
        # Of infinities no sum could ever be made finite again.
        return min(weight, sys.maxsize) or 1

    def _entry_bytes(self, key: Any, value: Any) -> int:
        if self._sizer is None:
            return self._overhead + bytes_of(key) + bytes_of(value)
        size = self._sizer(value)
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"sizer must give a whole number of bytes (got {type(size).__name__})")
        if size < 0:
            raise ConfigError(f"sizer must give a number of bytes >= 0 (got {size})")
        return self._overhead + bytes_of(key) + size

    def _refuse(self, key: Any, weight: Any, size: int) -> bool:
        """Deal with a value larger than the whole cache; False when it is to be kept alone."""
        if self._oversized == "keep_one":
            return False
        by_weight = weight > self._maxsize
        if self._oversized == "raise" or (self._oversized is None and by_weight):
            given, allowed, unit = (
                (weight, self._maxsize, "maxsize")
                if by_weight
                else (size, self._maxbytes, "maxbytes")
            )
            raise ValueTooLargeError(
                f"value too large: it counts {given} of {unit}={allowed} in cache {self.name!r}; "
                f"raise the bound, or choose oversized='reject' or 'keep_one'"
            )
        with self._lock:
            self._refused += 1
        # The old value is out of date from here on, whether or not the new one is kept.
        self._take(key, None, cause="replaced")
        return True

    # -- removing ---------------------------------------------------------------------------------

    def _take(self, key: Any, default: Any = MISSING, *, cause: Cause = "explicit") -> Any:
        """Remove *key* and return its live value, *default* or KeyError when there is none."""
        if self._flights or self._async_flights:
            self._disown(key)
        now = self._timer() if self._timed else None
        removed: Removed = []
        looks = 0
        while (entry := self._find(key)) is not None:
            with self._lock:
                if self._ring is False and self._is_inside_a_change():
                    self._put_off(partial(self._take, key, None, cause=cause))
                    return entry.value
                if entry.next is not None:
                    is_due = now is not None and self._expiry.is_due(entry, now)
                    self._ring = False
                    self._drop(entry, "expired" if is_due else cause, removed)
                    self._ring = self._home
                    break
            looks = _look_again(looks)
        self._settle(removed)
        for _, value, why in removed:
            if why != "expired":
                return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def _drop(self, entry: Any, cause: Cause, removed: Removed) -> None:
        """Take *entry* out for *cause* and stage what it held; inside a change."""
        removed.append((entry.key, entry.value, cause))
        self._causes[cause] += 1
        self._order.remove(entry, cause == "size")
        if self._timed:
            self._expiry.forget(entry)
        if entry.hash is None:
            del self._map[entry.key]
        else:
            del self._map[entry]
            self._foreign -= 1
        if self._measured:
            self._weight -= entry.weight
            self._bytes -= entry.size

    def _drop_each(
        self, pick: Callable[[], Any], cause: Cause, most: int, removed: Removed
    ) -> None:
        while _len(removed) < most:
            entry = pick()
            if entry is None:
                return
            self._drop(entry, cause, removed)

    def _drop_batch(self, pick: Callable[[], Any], cause: Cause, most: int = _BATCH) -> Removed:
        """
        Drop up to *most* entries that *pick* names, and return them once the listener has been.

        *pick* is code of ours and runs under the lock. From inside another change of this thread
        nothing is dropped.
        """
        removed: Removed = []
        with self._lock:
            if self._ring is not False or not self._is_inside_a_change():
                self._ring = False
                self._drop_each(pick, cause, most, removed)
                self._ring = self._home
        self._settle(removed)
        return removed

    def _drop_while(self, is_over: Callable[[], bool], cause: Cause) -> tuple[int, int]:
        """Evict in batches while it is too much; return entries and counted bytes."""
        items = freed = 0

        def pick() -> Any:
            nonlocal freed
            entry = self._order.victim() if is_over() else None
            freed += 0 if entry is None else entry.size
            return entry

        while True:
            removed = self._drop_batch(pick, cause)
            items += _len(removed)
            if _len(removed) < _BATCH:
                return items, freed

    def _expire(self, now: Any = MISSING) -> Removed:
        """Drop everything that is due, in batches, and return it."""
        moment = self._timer() if now is MISSING else now
        everything: Removed = []
        while True:
            removed = self._drop_batch(partial(self._expiry.due, moment), "expired")
            everything += removed
            if _len(removed) < _BATCH:
                return everything

    def _drop_all(self, cause: Cause, *, closing: bool = False) -> None:
        """Drop every entry, and the loads under way."""
        self._flights.disown_all()
        self._async_flights.disown_all()
        if self._timed:
            self._expire()
        with self._lock:
            if self._ring is False and self._is_inside_a_change():
                self._put_off(partial(self._drop_all, cause, closing=closing))
                return
            self._ring = False
            self._closed = self._closed or closing
            self._set_home()
            before = self._map, self._expiry.heap  # alive until after the lock
            entries = list(self._map.values())
            _detach(entries)
            self._map = {}
            self._order.clear()
            self._expiry.clear()
            self._causes[cause] += _len(entries)
            self._weight = self._bytes = self._foreign = 0
            self._ring = self._home
        del before
        self._settle([(entry.key, entry.value, cause) for entry in entries])

    # -- keeping whole ----------------------------------------------------------------------------

    def _is_inside_a_change(self) -> bool:
        """
        Return whether this thread broke into a change of its own; repair what was torn if not.

        Called under the lock where ``_ring`` is False. A change holds the lock until it is over, so
        it is going on exactly if this thread holds the lock twice.
        """
        if _depth(self._lock) > 1:
            return True
        self._repair()
        return False

    def _repair(self) -> None:
        """Rebuild order, deadlines and sums from the dict; under the lock. O(entries)."""
        entries, strays = in_order(self._order, self._map.values())
        # What had left when the change was torn must die outside the lock.
        self._put_off([strays, self._expiry.heap].clear)
        self._order.clear()
        self._weight = self._bytes = self._foreign = 0
        for entry in entries:
            self._order.add(entry)
            self._weight += entry.weight if self._measured else 0
            self._bytes += entry.size
            self._foreign += entry.hash is not None
        self._expiry.rebuild(entries)
        self._ring = self._home

    def _removals(self) -> dict[str, int]:
        """Return how many entries left, by cause."""
        removals: dict[str, int] = {**self._causes}
        removals["replaced"] += self._replaced
        return removals

    def _settle(self, removed: Removed) -> None:
        """After a change, outside the lock: do what was put off, and call the removal listener."""
        if self._deferred:
            self._run_deferred()
        if removed:
            self._listener.notify(removed)

    def _put_off(self, call: Callable[[], Any]) -> None:
        """Make *call* once the change that this thread is in is over."""
        self._deferred.append(call)
        self._home = None

    def _run_deferred(self) -> None:
        """Do what was put off, unless a change is still going on."""
        for _ in range(_len(self._deferred)):
            if self._ring is False:
                return
            try:
                call = self._deferred.popleft()
            except IndexError:  # another thread took it
                break
            call()
        self._set_home()

    def _set_home(self) -> None:
        is_plain = type(self._order) is LruOrder and not (
            self._timed or self._deferred or self._closed or self._maxsize < 1
        )
        self._home = self._order.root if is_plain else None

    def _disown(self, key: Any) -> None:
        """See to it that a load of *key* that is under way does not store its result."""
        self._flights.disown(key)
        self._async_flights.disown(key)

    def _after_fork_in_child(self) -> None:
        """Free a lock that a vanished thread holds; what it left half done is repaired on use."""
        self._flights.clear()
        self._async_flights.clear()
        self._watched = _UNWATCHED
        free_in_child(self._lock)

    # -- sweeping ---------------------------------------------------------------------------------

    def _ensure_watched(self) -> None:
        self._watched = janitor.epoch
        janitor.watch(self, after=0.1 if self._counts_seconds() else _POLL_SECONDS)

    def _counts_seconds(self) -> bool:
        return self._timer is time.monotonic

    def _sweep(self) -> float | None:
        """Drop what has expired; return seconds until the next deadline, None without one."""
        self._watched = _UNWATCHED
        self._expire()
        with self._lock:
            deadline = None if self._closed else self._expiry.next_deadline()
        if deadline is None:
            return None
        self._watched = janitor.epoch
        return float(deadline - self._timer()) if self._counts_seconds() else _POLL_SECONDS


def _look_again(looks: int) -> int:
    if looks == _MOST_LOOKS:
        raise RuntimeError("the key's __eq__ changes the cache during every look-up of it")
    return looks + 1


def _detach(entries: list[Any]) -> None:
    for entry in entries:
        entry.prev = entry.next = None
        if type(entry) is FullEntry:
            entry.older = entry.newer = entry.ticket = None


def _depth(lock: Any) -> int:
    """Return how many times this thread, which holds *lock*, has acquired it."""
    count = getattr(lock, "_recursion_count", None)
    if count is not None:
        return int(count())
    return 1 if " count=1 " in repr(lock) else 2  # early releases of CPython 3.11
