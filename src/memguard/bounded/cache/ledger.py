"""
The slow half of `BoundedCache`: weights, deadlines, foreign keys, causes. See `_store`.

Every change here is one *section*: it runs under the lock, entirely or not at all, and calls no
code of the user's. What needs the user's code (sizes, clock, equality of foreign keys) is fetched
before and checked inside; what must be told or destroyed afterwards is staged in ``removed``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memguard.bounded.cache.entry import MISSING, Cause, Entry, FullEntry, full_entry, is_plain
from memguard.bounded.cache.removal_listener import Removed, Teller
from memguard.bounded.cache.section import LOOK_AGAIN, PUT_OFF, Section
from memguard.errors import LifecycleError, ValueTooLargeError

_len = len  # the program may cache the built-in itself, and then must not meet it here

_MOST_LOOKS = 1000
_MOST_EXPIRED = 64
"""Expired entries removed by one insertion; the janitor and `len` remove the rest."""


class Ledger(Section):
    """Everything that changes a cache, in sections; abstract in how entries are measured."""

    __slots__ = ("_oversized", "_refused", "_teller")

    name: str
    _teller: Teller
    _oversized: str | None
    _refused: int

    if TYPE_CHECKING:  # what the loading half of the cache, and the cache itself, bring

        def _disown(self, key: Any) -> None: ...

        # Runs user code: never called under the lock.
        def _weight_of(self, value: Any) -> Any: ...

    def _put(  # noqa: C901 - reason: one section, which may not be left half done
        self,
        key: Any,
        value: Any,
        *,
        ttl: Any = MISSING,
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
        if (
            flight is not None
            and self._direct
            and not self._rich
            and ttl is MISSING
            and is_plain(key)
            and self._insert_loaded(key, value, flight)
        ):
            return value
        if self._closed:
            raise LifecycleError(f"cache {self.name!r} is closed; make a new one to store entries")
        weight = self._weight_of(value) if self._weighs else 1
        size = self._entry_bytes(key, value) if self._maxbytes is not None else 0
        too_much = weight > self._maxsize or (self._maxbytes is not None and size > self._maxbytes)
        if too_much and self._refuse(key, weight, size):
            return value
        now = self._timer()
        custom = ttl is not MISSING
        lifetime = ttl if custom else self._ttl
        expires = None if lifetime is None else now + lifetime
        foreign_hash = None if is_plain(key) else hash(key)
        removed: Removed = []
        fresh = full_entry(key, value, foreign_hash)
        fresh.weight = weight
        fresh.size = size
        fresh.expires = expires
        fresh.used = None if self._idle is None else now
        fresh.written = now

        def work(seen: Entry | None, chain: Any) -> Any:
            found = self._confirm(key, foreign_hash, seen, chain)
            if found is LOOK_AGAIN:
                return found
            if flight is not None and flight.disowned:
                return value
            if self._timed:
                self._drop_due(now, removed, _MOST_EXPIRED)
            listed = found is not None and self._timed and found.prev is not None
            if found is not None and listed and self._is_due(found, now):
                self._drop(found, "expired", removed)
            if found is not None and found.prev is None:
                found = None  # it was among those
            if found is not None:
                if only_if_absent:
                    self._order.touch([found])
                    return found.value
                removed.append((found.key, found.value, "replaced"))
                self._causes["replaced"] += 1
            self._store_entry(fresh, found, custom=custom, now=now, removed=removed)
            return value

        for _ in range(_MOST_LOOKS):
            outcome = self._section(work, *self._seek(key, foreign_hash))
            if outcome is not LOOK_AGAIN:
                break
        else:
            raise RuntimeError("the key's __eq__ changes the cache during every look-up of it")
        if outcome is PUT_OFF:
            self._later(
                self._put, key, value, ttl=ttl, only_if_absent=only_if_absent, flight=flight
            )
            return value
        if self._timed:
            self._ensure_watched()
        self._teller.tell(removed)
        return outcome

    def _store_entry(
        self, fresh: FullEntry, found: Any, *, custom: bool, now: Any, removed: Removed
    ) -> None:
        """Make room and put *fresh* in, or its contents into *found*; inside a section."""
        entry = fresh
        if found is not None and type(found) is FullEntry:
            entry = found
            self._weight += fresh.weight - entry.weight
            self._bytes += fresh.size - entry.size
            entry.weight, entry.size = fresh.weight, fresh.size
            entry.value, entry.written = fresh.value, fresh.written
            entry.expires, entry.used = fresh.expires, fresh.used
            self._order.touch([entry])
            entry.hits -= 1
        else:
            if found is not None:  # a small entry cannot carry what a full one does
                fresh.key = found.key
                fresh.hits = found.hits
                self._unlink(found)
            if self._is_over(fresh.weight, fresh.size):
                self._make_room(fresh.weight, fresh.size, None, now, removed)
            self._link(fresh)
        if found is not None and self._is_over():  # the value has grown
            self._make_room(0, 0, entry, now, removed)
        if entry.expires is not None or self._idle is not None:
            self._timed = self._rich = True
            self._plainly_sized = False
            self._expiry.file(entry, custom=custom)
        elif entry.filed is not None:
            self._expiry.file(entry)

    def _make_room(
        self, weight: Any, size: int, keep: Entry | None, now: Any, removed: Removed
    ) -> None:
        """Evict until *weight* and *size* more fit; *keep* stays, even when it is too much."""
        while self._count and self._is_over(weight, size):
            victim: Entry | None = self._expiry.due(now) if self._timed else None
            cause: Cause = "size" if victim is None else "expired"
            if victim is None:
                victim = self._order.victim()
            if victim is None:
                return
            if victim is not keep:
                self._drop(victim, cause, removed)
            elif self._count == 1:
                return
            else:  # to the end of the line
                self._order.remove(victim)
                self._order.add(victim)

    def _is_over(self, weight: Any = 0, size: int = 0) -> bool:
        load = self._weight if self._weighs else self._count
        return load + weight > self._maxsize or (
            self._maxbytes is not None and self._bytes + size > self._maxbytes
        )

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
        self._refused += 1
        # The old value is out of date from here on, whether or not the new one is kept.
        self._take(key, None, cause="replaced")
        return True

    def _take(
        self,
        key: Any,
        default: Any,
        *,
        cause: Cause = "explicit",
    ) -> Any:
        """Remove *key* and return its live value, *default* or KeyError when there is none."""
        self._disown(key)
        removed: Removed = []
        now = self._timer() if self._timed else None
        foreign_hash = None if is_plain(key) else hash(key)

        def work(seen: Entry | None, chain: Any) -> Any:
            found = self._confirm(key, foreign_hash, seen, chain)
            if found is LOOK_AGAIN:
                return found
            if found is None:
                return MISSING
            if self._timed and self._is_due(found, now):
                self._drop(found, "expired", removed)
                return MISSING
            self._drop(found, cause, removed)
            return found.value

        for _ in range(_MOST_LOOKS):
            outcome = self._section(work, *self._seek(key, foreign_hash))
            if outcome is not LOOK_AGAIN:
                break
        else:
            raise RuntimeError("the key's __eq__ changes the cache during every look-up of it")
        if outcome is PUT_OFF:
            entry, _ = self._seek(key, foreign_hash)
            outcome = MISSING if entry is None or entry.prev is None else entry.value
            self._later(self._take, key, None, cause=cause)
        self._teller.tell(removed)
        if outcome is not MISSING:
            return outcome
        if default is MISSING:
            raise KeyError(key)
        return default

    def _drop_due(self, now: Any, removed: Removed, most: int) -> None:
        """Drop up to *most* entries whose time has come; inside a section."""
        if not self._timed:
            return
        for _ in range(most):
            entry = self._expiry.due(now)
            if entry is None:
                return
            # It may be renewed without the lock until it bears the mark of removal, so look again.
            self._order.remove(entry)
            if self._is_due(entry, now):
                self._drop(entry, "expired", removed)
            else:
                self._order.add(entry)
                self._expiry.file(entry)

    def _purge(
        self, pick: Callable[[], Entry | None], cause: Cause, most: int, removed: Removed
    ) -> Any:
        """Drop up to *most* entries that *pick* names; return how many, or PUT_OFF."""

        def work() -> int:
            dropped = 0
            while dropped < most:
                entry = pick()
                if entry is None:
                    break
                self._drop(entry, cause, removed)
                dropped += 1
            return dropped

        return self._section(work)

    def _expire_all(self, now: Any = MISSING) -> Removed:
        """Drop everything that is due, in batches; return what was dropped, already told."""
        moment = self._timer() if now is MISSING else now
        everything: Removed = []
        while True:
            removed: Removed = []
            outcome = self._section(self._drop_due, moment, removed, 256)
            self._teller.tell(removed)
            everything += removed
            if outcome is PUT_OFF or _len(removed) < 256:
                return everything
