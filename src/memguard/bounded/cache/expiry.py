"""
Expiry: the deadlines of entries in order. Pure structure: no lock, no clock.

Entries that follow the cache's own ttl stand in a ring in the order in which they were written,
which is the order in which they expire: filing and removal cost a few assignments and no memory.
Entries with a ttl of their own, and all entries of a cache with an idle limit, hold a ticket in a
heap. A ticket names the earliest moment at which a look is worth while, so an access moves nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import Any

from memguard.bounded.cache.entry import FullEntry, new_entry

_len = len  # the program may cache the built-in itself, and then must not meet it here


Dates = tuple[Any, Any, bool]
"""When an entry is written, when it expires, and whether that does not follow the cache's ttl."""


class ExpiryIndex:
    """
    The deadlines of one cache.

    Bounded by: one row for each live entry; dead tickets are swept out when they outnumber the
        rest.
    """

    __slots__ = ("_idle", "_next_number", "_severed", "heap", "root")

    def __init__(self, idle: Any = None) -> None:
        self._idle = idle
        self._severed = 0
        self.root = new_entry(FullEntry, None, None)
        self.heap: list[list[Any]] = []
        self._next_number = count().__next__
        self.clear()

    def file(self, entry: Any, dates: Dates) -> None:
        """Note when *entry* was written and when it expires, and file it, or file it again."""
        entry.written, entry.expires, custom = dates
        if self._idle is not None:
            entry.used = entry.written
        if custom or self._idle is not None:
            self._file_in_heap(entry)
            return
        older = entry.older
        if older is not None:
            newer = entry.newer
            older.newer = newer
            newer.older = older
            entry.older = None
        elif entry.ticket is not None:
            self.forget(entry)
        if entry.expires is not None:
            entry.written = None  # which the deadline implies, and costs a number less
            self._file_last(entry)

    def _file_last(self, entry: Any) -> None:
        root = self.root
        last = root.older
        entry.older, entry.newer = last, root
        last.newer = root.older = entry

    def _file_in_heap(self, entry: Any) -> None:
        deadline = self.deadline(entry)
        ticket = entry.ticket
        if ticket is not None and deadline is not None and not deadline < ticket[0]:
            return  # the ticket comes up first and is written again then
        self.forget(entry)
        if deadline is not None:
            entry.ticket = ticket = [deadline, self._next_number(), entry]
            heapq.heappush(self.heap, ticket)

    def forget(self, entry: Any) -> None:
        """Take *entry* out, wherever it stands."""
        older = entry.older
        if older is not None:
            newer = entry.newer
            older.newer = newer
            newer.older = older
            entry.older = entry.newer = None
        ticket = entry.ticket
        if ticket is not None:
            entry.ticket = None
            ticket[2] = None  # the heap must not keep a removed value alive
            self._severed += 1
            if self._severed > 64 and self._severed * 2 > _len(self.heap):
                self.heap = [kept for kept in self.heap if kept[2] is not None]
                heapq.heapify(self.heap)
                self._severed = 0

    def is_due(self, entry: Any, now: Any) -> bool:
        """Return whether the time of *entry* has come."""
        expires = entry.expires
        if expires is not None and not now < expires:
            return True
        return self._idle is not None and not now < entry.used + self._idle

    def due(self, now: Any) -> Any:
        """Return one entry whose time has come, still filed; None when there is none."""
        first = self.root.newer
        if first is not self.root and not now < first.expires:
            return first
        heap = self.heap
        while heap and not now < heap[0][0]:
            ticket = heap[0]
            entry = ticket[2]
            if entry is None:
                heapq.heappop(heap)
                self._severed -= 1
                continue
            deadline = self.deadline(entry)
            if not now < deadline:
                return entry
            ticket[0] = deadline  # it was used or written again meanwhile
            heapq.heapreplace(heap, ticket)
        return None

    def deadline(self, entry: Any) -> Any:
        """Return the earlier of the two limits of *entry*, None when it has none."""
        expires = entry.expires
        if self._idle is None:
            return expires
        idle_until = entry.used + self._idle
        return idle_until if expires is None or idle_until < expires else expires

    def next_deadline(self) -> Any:
        """Return a moment before which nothing is due, None when nothing is filed."""
        first = self.root.newer
        in_ring = None if first is self.root else first.expires
        if not self.heap:
            return in_ring
        in_heap = self.heap[0][0]
        return in_heap if in_ring is None or in_heap < in_ring else in_ring

    def assign(self, deadlines: Iterable[tuple[Any, Any]], entries: Iterable[Any]) -> None:
        """Give some of *entries*, which are all, other deadlines."""
        for entry, expires in deadlines:
            entry.expires = expires
        self.rebuild(entries)

    def rebuild(self, entries: Iterable[Any]) -> None:
        """Start over with *entries*, in any order."""
        self.clear()
        following = []
        for entry in entries:
            if type(entry) is FullEntry:
                entry.older = entry.newer = entry.ticket = None
                if entry.written is None:
                    following.append(entry)
                else:
                    self._file_in_heap(entry)
        for entry in sorted(following, key=lambda entry: entry.expires):
            self._file_last(entry)

    def clear(self) -> None:
        """Forget everything."""
        self.root.older = self.root.newer = self.root
        self.heap = []
        self._severed = 0
