"""
The contents of a table and everything derived from them. Pure: no lock, clock or user code.

The dict is the truth. An entry in it is complete, one that is not in it has ``next is None``;
order, deadlines and sums say nothing that `rebuild` could not find out from the dict.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from memguard.bounded.cache.entry import (
    CAUSES,
    Cause,
    Entry,
    FullEntry,
    SameHash,
    SizedEntry,
    new_entry,
)
from memguard.bounded.cache.eviction import LruOrder, Order, S3FifoOrder, in_order
from memguard.bounded.cache.expiry import Dates, ExpiryIndex
from memguard.bounded.cache.removal_listener import Removed
from memguard.bounded.sizing.entries import Parts

_len = len  # the program may cache the built-in itself, and then must not meet it here

_MOST_EXPIRED = 64
"""Expired entries removed by one insertion; the janitor and `len` remove the rest."""


class Contents:
    """
    Entries within bounds, their order of eviction, their deadlines and their sums.

    Bounded by: *maxsize* units of weight, *maxbytes* bytes, or both.
    Locks: none; the table drives it under its own.
    Keeps alive: keys and values of entries that have not left.
    """

    __slots__ = (
        "bytes", "causes", "expiry", "foreign", "idle", "is_measured", "is_timed", "kind", "map",
        "maxbytes", "maxsize", "order", "parts", "weighs", "weight",
    )  # fmt: skip

    def __init__(
        self,
        *,
        maxsize: float | None,
        maxbytes: int | None,
        weighs: bool,
        policy: str,
        ttl: Any,
        idle: Any,
    ) -> None:
        self.map: dict[Any, Any] = {}
        """The entries by their keys; those of foreign keys, by themselves."""
        self.set_maxsize(maxsize)
        self.maxbytes = maxbytes
        self.weighs = weighs
        self.is_measured = weighs or maxbytes is not None
        self.idle = idle
        self.is_timed = idle is not None or ttl not in (None, math.inf)
        self.order: Order = LruOrder() if policy == "lru" else S3FifoOrder()
        self.expiry = ExpiryIndex(idle)
        self.kind: type[Entry | SizedEntry | FullEntry] = FullEntry
        if policy == "lru" and not (self.is_timed or weighs):
            self.kind = Entry if maxbytes is None else SizedEntry
        self.weight: Any = 0
        self.bytes = 0
        self.parts = Parts()
        """What is large in the entries, which several of them may share."""
        self.foreign = 0
        """Entries whose key is foreign."""
        self.causes = dict.fromkeys(CAUSES, 0)

    def set_maxsize(self, maxsize: float | None) -> None:
        """Change the bound; what no longer fits is evicted by the caller."""
        # An int, for comparing an int with a float is slow.
        self.maxsize = sys.maxsize if maxsize is None or maxsize == math.inf else maxsize

    def keys_of_hash(self, hashed: int) -> list[Any]:
        """Return the keys of the dict that have this hash; foreign keys as their entries."""
        probe = SameHash(hashed)
        self.map.get(probe)
        return probe.keys

    def insert(  # noqa: PLR0917 - reason: a hot path
        self,
        key: Any,
        value: Any,
        weight: Any,
        size: int,
        dates: Dates,
        foreign: int | None,
        removed: Removed,
    ) -> Any:
        """Make room for a new entry and link it; *foreign* is the hash of a foreign key."""
        written, expires, custom = dates
        more = size
        if self.is_measured:
            if type(size) is not int:  # first, or it would make room by parts that it has itself
                more = self.parts.take(size)
            self._make_room(weight, more, 1, written, removed)
        elif _len(self.map) >= self.maxsize:
            self._evict(written, removed)
        kind = self.kind if foreign is None and not custom else FullEntry
        entry = new_entry(kind, key, value)
        entry.written = written
        if kind is FullEntry and (custom or self.is_timed):
            self.is_timed = self.is_timed or expires is not None
            self.expiry.file(entry, dates)
        if self.is_measured:
            entry.size = size
            self.bytes += more
            if self.weighs:
                entry.weight = weight
                self.weight += weight
        # Complete from here on: a repair believes what it finds in the dict.
        if foreign is None:
            self.map[key] = entry
        else:
            entry.hash = foreign
            self.map[entry] = entry
            self.foreign += 1
        self.order.add(entry)
        return entry

    def replace(  # noqa: PLR0917 - reason: a hot path
        self, entry: Any, value: Any, weight: Any, size: int, dates: Dates, removed: Removed
    ) -> Any:
        """Give a linked entry a new value, and room if that is larger; return the old value."""
        written, expires, custom = dates
        before = entry.value
        if custom and type(entry) is not FullEntry:  # it has no room for a deadline
            self.order.remove(entry)
            self._forget(entry, "replaced", [])
            fresh = self.insert(entry.key, value, weight, size, dates, None, removed)
            fresh.hits = entry.hits
            return before
        self.causes["replaced"] += 1
        if self.is_measured:
            more, larger = weight - entry.weight, size - entry.size
            if type(size) is not int or type(entry.size) is not int:
                larger = self.parts.take(size) - self.parts.drop(entry.size)
            entry.size = size
            if (more > 0 or larger > 0) and self.is_over(more, larger):
                self.order.remove(entry)  # it must not make room for itself
                self._make_room(more, larger, 0, written, removed)
                self.order.add(entry)
            self.bytes += larger
            if self.weighs:
                entry.weight = weight
                self.weight += more
        entry.value = value
        entry.written = written
        self.order.touch(entry)
        if type(entry) is FullEntry and (custom or self.is_timed):
            self.is_timed = self.is_timed or expires is not None
            self.expiry.file(entry, dates)
        return before

    def drop(self, entry: Any, cause: Cause, removed: Removed) -> None:
        """Take *entry* out for *cause* and stage what it held."""
        self.order.remove(entry)
        self._forget(entry, cause, removed)

    def _forget(self, entry: Any, cause: Cause, removed: Removed) -> None:
        """Take an unlinked entry out of all but the order."""
        removed.append((entry.key, entry.value, cause))
        self.causes[cause] += 1
        if self.is_timed:
            self.expiry.forget(entry)
        if entry.hash is None:
            del self.map[entry.key]
        else:
            del self.map[entry]
            self.foreign -= 1
        if self.is_measured:
            self.bytes -= entry.size if type(entry.size) is int else self.parts.drop(entry.size)
            if self.weighs:
                # Sums of fractions leave a rest.
                self.weight = self.weight - entry.weight if self.map else 0

    def drop_each(self, pick: Callable[[], Any], cause: Cause, most: int, removed: Removed) -> None:
        """Drop up to *most* entries that *pick* names."""
        while _len(removed) < most:
            entry = pick()
            if entry is None:
                return
            self.drop(entry, cause, removed)

    def drop_due(self, now: Any, removed: Removed) -> None:
        """Drop some of the entries whose time has come."""
        for _ in range(_MOST_EXPIRED):
            entry = self.expiry.due(now)
            if entry is None:
                return
            self.drop(entry, "expired", removed)

    def is_over(self, weight: Any = 0, size: int = 0) -> bool:
        """Return whether so much more, in the entries that are there, is too much."""
        load = self.weight + weight if self.weighs else _len(self.map)
        return load > self.maxsize or (
            self.maxbytes is not None and self.bytes + size > self.maxbytes
        )

    def _make_room(self, weight: Any, size: int, count: int, now: Any, removed: Removed) -> None:
        while (
            (self.weight + weight if self.weighs else _len(self.map) + count) > self.maxsize
            or (self.maxbytes is not None and self.bytes + size > self.maxbytes)
        ) and self._evict(now, removed):
            pass

    def _evict(self, now: Any, removed: Removed) -> bool:
        """Drop an expired entry, or the one that should leave next; False without any."""
        entry = self.expiry.due(now) if self.is_timed else None
        if entry is not None:
            self.drop(entry, "expired", removed)
            return True
        entry = self.order.evict()
        if entry is None:
            return False
        self._forget(entry, "size", removed)
        return True

    def clear(self, cause: Cause) -> list[Any]:
        """Take everything out for *cause*; return the entries, for the caller to drop."""
        entries = list(self.map.values())
        for entry in entries:
            entry.prev = entry.next = None
            if type(entry) is FullEntry:
                entry.older = entry.newer = entry.ticket = None
        self.map.clear()
        self.order.clear()
        self.expiry.clear()
        self.parts.clear()
        self.causes[cause] += _len(entries)
        self.weight = self.bytes = self.foreign = 0
        return entries

    def rebuild(self) -> list[Any]:
        """Make order, deadlines and sums again; return what had left, for the caller to drop."""
        entries, strays = in_order(self.order, self.map.values())
        for entry in strays:
            entry.prev = entry.next = None
        strays.append(self.expiry.heap)
        self.order.clear()
        self.parts.clear()
        self.weight = self.bytes = self.foreign = 0
        for entry in entries:
            self.order.add(entry)
            self.weight += entry.weight if self.weighs else 0
            self.bytes += self.parts.take(entry.size)
            self.foreign += entry.hash is not None
        self.expiry.rebuild(entries)
        return strays
