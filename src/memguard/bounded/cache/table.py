"""
The core of a cache in plain Python: contents under one lock.

The rules, on which everything in this module rests:

* Entries are *found* outside the lock, because the ``__hash__`` and ``__eq__`` of keys are user
  code, and *confirmed* under it: an entry that was found must still be linked, and if none was
  found, no key of that hash may have been added. Otherwise the search starts again.
* A change sets ``_ring`` to False before its first write and back to ``_home`` after its last. A
  call that finds it False, under the lock, either interrupts a change of its own thread (as a
  finalizer or signal handler: its change is deferred until the interrupted one is complete), or
  follows one that an exception interrupted; then everything derived from the dict is rebuilt.
* Removed keys and values are staged in ``removed``, which outlives the lock: their destructors
  and the removal listener run outside of it. Sizes and the time are read before it is taken.
* ``get``, ``[]`` and ``[]=``, by which most programs live, are written out in one frame each for
  the plainest kind of table, an LRU order without deadlines. There ``_home`` is the root of the
  order; it is None in any other table, and while something is put off.
* A call that finds ``_ring`` False before it takes the lock asks first whether this is a forked
  child: the thread that holds the lock may be one of the parent, which is not there to release it.
  Therefore whatever calls anything under the lock, so that another thread may run meanwhile, has
  set ``_ring`` to False before.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar, overload

from memguard.bounded.cache.contents import Contents
from memguard.bounded.cache.entry import MISSING, Cause, Entry, FullEntry, Rivals, is_plain
from memguard.bounded.cache.eviction import LruOrder, in_order
from memguard.bounded.cache.loading.single_flight import Flights
from memguard.bounded.cache.loading.single_flight_async import FlightsOfLoops
from memguard.bounded.cache.maintenance import depth, free_in_child, look_again
from memguard.bounded.cache.measure import Measure, checked_weight
from memguard.bounded.cache.removal_listener import RemovalListener, Removed
from memguard.errors import LifecycleError
from memguard.lifecycle import fork, janitor, locks

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_len = len  # the program may cache the built-in itself, and then must not meet it here

_BATCH = 256
"""Entries removed at a time, so that no thread waits long for the lock."""

_POLL_SECONDS = 0.5
"""How often the janitor looks at a cache whose timer does not count seconds."""

_UNWATCHED = -1


class Table(Generic[K, V]):
    """
    Entries within bounds: ``get [] []= in pop del len``, eviction, expiry and the counts.

    Bounded by: *maxsize* units of weight, *maxbytes* bytes, or both.
    Locks: one re-entrant mutex; no code of the user's runs under it.
    Keeps alive: keys and values of its entries.
    """

    __slots__ = (
        "_async_flights", "_closed", "_contents", "_deferred", "_flights", "_hits", "_home",
        "_is_light", "_listener", "_lock", "_map", "_measure", "_misses", "_refused", "_replaced",
        "_ring", "_timer", "_ttl", "_watched", "name",
    )  # fmt: skip

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
        self._lock = locks.RLock()
        self._contents = Contents(
            maxsize=maxsize, maxbytes=maxbytes, weighs=weighs, policy=policy, ttl=ttl, idle=idle
        )
        self._map = self._contents.map
        self._closed = False
        self._deferred: deque[Callable[[], Any]] = deque()
        self._listener = listener
        self._home: Any = None
        self._is_light = False
        """Whether a write goes the short way: as a hit, and without measure and listener."""
        self._set_home()
        self._ring: Any = self._home
        self._measure = Measure(self._contents.kind, idle, sizer, oversized, maxbytes and name)
        self._ttl = None if ttl == math.inf else ttl
        self._timer = timer
        self._watched = _UNWATCHED
        """The janitor's epoch in which this table asked to be swept."""
        self._hits = self._misses = self._refused = 0
        self._replaced = 0
        """Values replaced by the short way; the contents count the others."""
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
        if entry is None:
            if self._ring is not False and not (self._contents.foreign or self._deferred):
                with self._lock:
                    self._misses += 1
                return default
        elif self._ring:
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
        if self._ring:
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
        if not (self._is_light and self._ring) or self._flights or self._async_flights:
            self._put(key, value)
            return
        now = self._timer()
        entry = self._map.get(key)
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
                    gone: Any = entry.value  # outlives the lock: its destructor is the user's code
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
                contents = self._contents
                table = self._map
                if root and not contents.foreign and key not in table:
                    self._ring = False
                    if _len(table) >= contents.maxsize:
                        gone = root.next
                        following = gone.next
                        gone.prev = gone.next = None
                        root.next = following
                        following.prev = root
                        del table[gone.key]
                        contents.causes["size"] += 1
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
        return entry is not None and not self._is_due(entry)

    def __len__(self) -> int:
        if self._contents.is_timed:
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
        if self._contents.is_timed:
            self._expire()
        removed = self._drop_batch(self._contents.order.victim, "explicit", 1)
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
        if self._contents.is_timed:
            now = self._timer()
            entries = [entry for entry in entries if not self._contents.expiry.is_due(entry, now)]
        return entries

    def _in_order(self) -> list[Any]:
        """Return all entries, the next to leave first."""
        return self._read(lambda held: in_order(self._contents.order, held.values())[0])

    def _read(self, look: Callable[[dict[Any, Any]], T]) -> T:
        """Return what *look*, our own code, takes from the dict while nothing can change."""
        self._check_holder()
        with self._lock:
            is_inside = self._ring is False and self._is_inside_a_change()
            self._ring = False
            found = look(self._map)
            if is_inside:
                return found
            self._ring = self._home
        if self._deferred:
            self._run_deferred()
        return found

    # -- finding ----------------------------------------------------------------------------------

    def _find(self, key: Any) -> Any:
        """Return the entry of *key* or None. Runs ``__hash__`` and ``__eq__``: no lock is held."""
        if self._ring is False:
            fork.check()
        if self._deferred:
            self._run_deferred()
        entry = self._map.get(key)
        if entry is None and self._contents.foreign:
            entry, _ = self._compare(key)
        return entry

    def _check_holder(self) -> None:
        """Before the lock is taken: see to it that who holds it is there to release it."""
        if self._ring is False:
            fork.check()

    def _compare(self, key: Any) -> tuple[Any, Rivals]:
        """Compare *key* with every key of its hash; return its entry, and whom it met."""
        hashed = hash(key)
        rivals = Rivals(hashed, self._contents.keys_of_hash(hashed), not is_plain(key))
        for rival in rivals.keys:
            known = rival.key if type(rival) is FullEntry else rival
            if known is key or known == key:
                return (rival if type(rival) is FullEntry else self._map.get(rival)), rivals
        return None, rivals

    def _look_up(self, key: Any) -> Any:
        """Return the live value of *key*, or MISSING; an access to it."""
        now = self._timer() if self._contents.is_timed else None
        looks = 0
        while True:
            entry = self._find(key)
            with self._lock:
                is_inside = self._ring is False and self._is_inside_a_change()
                self._ring = False
                is_there = entry is not None and not (
                    now is not None and self._contents.expiry.is_due(entry, now)
                )
                if is_inside:
                    return entry.value if is_there else MISSING
                if not is_there:
                    self._misses += 1
                    self._ring = self._home
                    return MISSING
                if entry.next is not None:
                    entry.hits += 1
                    self._hits += 1
                    if self._contents.idle is not None:
                        entry.used = now
                    self._contents.order.touch(entry)
                    self._ring = self._home
                    return entry.value
                self._ring = self._home
            looks = look_again(looks)

    def _peek(self, key: Any) -> Any:
        """Return the live value of *key* or MISSING; counts and touches nothing."""
        entry = self._find(key)
        return MISSING if entry is None or self._is_due(entry) else entry.value

    def _is_due(self, entry: Any) -> bool:
        contents = self._contents
        return contents.is_timed and contents.expiry.is_due(entry, self._timer())

    # -- storing ----------------------------------------------------------------------------------

    def _put(  # noqa: C901, PLR0912, PLR0915 - reason: one change, which nothing may come between
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
            ttl: A lifetime for this entry only; by default that of the cache.
            only_if_absent: Leave a live entry as it is.
            flight: The load that produced *value*; nothing is stored when it was disowned.
        """
        contents = self._contents
        if self._ring is False or contents.is_timed:  # which the janitor of the parent sweeps
            fork.check()
        if self._deferred:
            self._run_deferred()
        if flight is None and (self._flights or self._async_flights):
            self._disown(key)
        weight: Any = checked_weight(self.getsizeof(value)) if contents.weighs else 1
        size = 0
        custom = ttl is not MISSING
        if contents.maxbytes is not None:
            size = self._measure.bytes_of(key, value, custom)
        too_much = weight > contents.maxsize or size > (contents.maxbytes or size)
        if too_much and self._refuse(key, weight, size):
            return value
        now = self._timer()
        lifetime = ttl if custom else self._ttl
        dates = now, None if lifetime is None else now + lifetime, custom
        before: Any = None  # outlives the lock, as what is removed
        removed: Removed = []
        looks = 0
        while True:
            entry = self._map.get(key)
            rivals = None
            if entry is None and (self._contents.foreign or not is_plain(key)):
                entry, rivals = self._compare(key)
            with self._lock:
                if self._ring is False and self._is_inside_a_change():
                    given: dict[str, Any] = {"only_if_absent": only_if_absent, "flight": flight}
                    self._put_off(partial(self._put, key, value, ttl, **given))
                    return value
                if self._closed:
                    raise LifecycleError(f"cache {self.name!r} is closed; make a new one to store")
                if flight is not None and flight.disowned:
                    return value
                # From here on, and not only once something is written: what a destructor asks for
                # while we look would change what we have seen.
                self._ring = False
                if entry.next is not None if entry is not None else self._is_absent(key, rivals):
                    if contents.is_timed and contents.expiry.due(now) is not None:
                        contents.drop_due(now, removed)
                    # An entry that has expired: whether its key is plain says nothing of this one.
                    if entry is None or entry.next is not None:
                        if entry is None:
                            foreign = (
                                rivals.hash if rivals is not None and rivals.is_foreign else None
                            )
                            contents.insert(key, value, weight, size, dates, foreign, removed)
                        elif only_if_absent:
                            value = entry.value
                            contents.order.touch(entry)
                        else:
                            before = contents.replace(entry, value, weight, size, dates, removed)
                            if self._listener.is_set:
                                removed.append((entry.key, before, "replaced"))
                        if custom:
                            self._set_home()
                        self._ring = self._home
                        break
                self._ring = self._home
            looks = look_again(looks)
        if self._contents.is_timed and self._watched != janitor.epoch:
            self._ensure_watched()
        if self._deferred or (removed and self._listener.is_set):
            self._settle(removed)
        return value

    def _is_absent(self, key: Any, rivals: Rivals | None) -> bool:
        """Return whether *key*, which was not found outside the lock, is still not there."""
        if rivals is not None:
            return rivals.keys == self._contents.keys_of_hash(rivals.hash)
        return not self._contents.foreign and key not in self._map

    def _set_deadlines(self, deadlines: list[tuple[Any, Any]]) -> None:
        """Give entries that follow the cache's own ttl other deadlines."""
        self._check_holder()
        with self._lock:
            self._ring = False
            self._contents.expiry.assign(deadlines, self._map.values())
            self._ring = self._home

    # -- measuring --------------------------------------------------------------------------------

    @staticmethod
    def getsizeof(value: Any) -> float:  # noqa: ARG004 - reason: a subclass may weigh it
        """Return the weight of *value*; override it, or give *getsizeof*."""
        return 1

    def _refuse(self, key: Any, weight: Any, size: int) -> bool:
        """Deal with a value larger than the whole cache; False if it is kept as the only entry."""
        contents = self._contents
        given: tuple[Any, Any, str] = size, contents.maxbytes, "maxbytes"
        if weight > contents.maxsize:
            given = weight, contents.maxsize, "maxsize"
        if self._measure.keeps_alone(*given, self.name):
            return False
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
        now = self._timer() if self._contents.is_timed else None
        removed: Removed = []
        looks = 0
        while (entry := self._find(key)) is not None:
            with self._lock:
                if self._ring is False and self._is_inside_a_change():
                    self._put_off(partial(self._take, key, None, cause=cause))
                    return entry.value
                if entry.next is not None:
                    self._ring = False  # first: a destructor may remove the entry meanwhile
                    is_due = now is not None and self._contents.expiry.is_due(entry, now)
                    self._contents.drop(entry, "expired" if is_due else cause, removed)
                    self._ring = self._home
                    break
            looks = look_again(looks)
        self._settle(removed)
        for _, value, why in removed:
            if why != "expired":
                return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def _drop_batch(self, pick: Callable[[], Any], cause: Cause, most: int = _BATCH) -> Removed:
        """
        Drop up to *most* entries that *pick* names, and return them once the listener has been.

        *pick* is our own code and runs under the lock. From inside another change of this thread
        nothing is dropped.
        """
        removed: Removed = []
        self._check_holder()
        with self._lock:
            if self._ring is not False or not self._is_inside_a_change():
                self._ring = False
                self._contents.drop_each(pick, cause, most, removed)
                self._ring = self._home
        self._settle(removed)
        return removed

    def _drop_while(self, is_over: Callable[[], bool], cause: Cause) -> tuple[int, int]:
        """Evict in batches while it is too much; return entries and counted bytes."""
        items = freed = 0

        def pick() -> Any:
            nonlocal freed
            entry = self._contents.order.victim() if is_over() else None
            freed += 0 if entry is None else self._contents.parts.freed_by(entry.size)
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
            removed = self._drop_batch(partial(self._contents.expiry.due, moment), "expired")
            everything += removed
            if _len(removed) < _BATCH:
                return everything

    def _drop_all(self, cause: Cause, *, closing: bool = False) -> None:
        """Drop every entry, and the loads under way."""
        self._flights.disown_all()
        self._async_flights.disown_all()
        if self._contents.is_timed:
            self._expire()
        self._check_holder()
        with self._lock:
            if self._ring is False and self._is_inside_a_change():
                self._put_off(partial(self._drop_all, cause, closing=closing))
                return
            self._ring = False
            self._closed = self._closed or closing
            self._set_home()
            tickets = self._contents.expiry.heap  # alive until after the lock, as the entries are
            entries = self._contents.clear(cause)
            self._ring = self._home
        del tickets
        self._settle([(entry.key, entry.value, cause) for entry in entries])

    # -- keeping whole ----------------------------------------------------------------------------

    def _is_inside_a_change(self) -> bool:
        """
        Return whether this thread interrupts a change of its own; if not, repair a torn change.

        Called under the lock while ``_ring`` is False. A change holds the lock until it is over, so
        it is going on exactly if this thread holds the lock twice.
        """
        if depth(self._lock) > 1:
            return True
        self._repair()
        return False

    def _repair(self) -> None:
        """Rebuild order, deadlines and sums from the dict; under the lock. O(entries)."""
        # What had left when the change was torn must die outside the lock.
        self._put_off(self._contents.rebuild().clear)
        self._ring = self._home

    def _removals(self) -> dict[str, int]:
        """Return how many values left, by cause."""
        removals: dict[str, int] = dict(self._contents.causes.items())
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
        self._set_home()

    def _run_deferred(self) -> None:
        """Do what was put off, unless a change is still going on."""
        if self._ring is False:
            return
        fresh: deque[Callable[[], Any]] = deque()
        with self._lock:
            calls, self._deferred = self._deferred, fresh
        try:
            while calls:  # in this loop, or each of them would do the rest from within itself
                calls.popleft()()
        finally:
            with self._lock:
                self._deferred.extendleft(reversed(calls))  # what one that raised has left
                self._set_home()

    def _set_home(self) -> None:
        is_plain = type(self._contents.order) is LruOrder and not (
            self._contents.is_timed or self._deferred or self._closed or self._contents.maxsize < 1
        )
        self._home = self._contents.order.root if is_plain else None
        self._is_light = is_plain and not (self._contents.is_measured or self._listener.is_set)

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
        is_watched = False
        try:
            self._watched = janitor.epoch  # first: a sweep may end before the call returns
            after = 0.1 if self._counts_seconds() else _POLL_SECONDS
            is_watched = janitor.watch(self, after=after)
        finally:
            if not is_watched:
                self._watched = _UNWATCHED

    def _counts_seconds(self) -> bool:
        return self._timer is time.monotonic

    def _sweep(self) -> float | None:
        """Drop what has expired; return seconds until the next deadline, None without one."""
        self._watched = _UNWATCHED
        self._expire()
        deadline = self._read(lambda _: self._contents.expiry.next_deadline())
        if deadline is None or self._closed:
            return None
        self._watched = janitor.epoch
        return float(deadline - self._timer()) if self._counts_seconds() else _POLL_SECONDS
