"""
Eviction: the order in which linked entries are evicted. Pure structure: no lock, no clock.

The table drives both orders in the same way, under its lock: `touch` records an access, `victim`
names the next entry to leave, `remove` takes an entry out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from memguard.bounded.cache.entry import Entry

_len = len  # the program may cache the built-in itself, and then must not meet it here


class Order(Protocol):
    """What a table needs of an eviction policy."""

    root: Any

    def add(self, entry: Any) -> None:
        """Take in an unlinked entry, as the most recent one."""

    def touch(self, entry: Any) -> None:
        """Record an access to a linked entry, whose ``hits`` count it already."""

    def remove(self, entry: Any) -> None:
        """Unlink *entry* and set its ``next`` to None."""

    def victim(self) -> Any:
        """Return the entry that should leave next, still linked; None when empty."""

    def evict(self) -> Any:
        """Return the entry that had to make room, unlinked; None when empty."""

    def __iter__(self) -> Iterator[Any]:
        """Yield linked entries, the next to leave first. The cache must not change meanwhile."""

    def clear(self) -> None:
        """Forget everything; the caller sets ``next`` of the entries to None."""


def new_ring() -> Any:
    """Return the root of an empty ring: its ``next`` is the oldest, its ``prev`` the newest."""
    root = Entry()
    root.prev = root.next = root
    return root


def _walk(root: Any) -> Iterator[Any]:
    entry = root.next
    while entry is not root:
        yield entry
        entry = entry.next  # of None, if an order is torn: see in_order


class LruOrder:
    """Least recently used leaves first: one ring, an access moves an entry to its end."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = new_ring()

    def add(self, entry: Any) -> None:
        """Append *entry*."""
        root = self.root
        last = root.prev
        last.next = root.prev = entry
        entry.prev = last
        entry.next = root

    def touch(self, entry: Any) -> None:
        """Move *entry* to the end."""
        prev, following, root = entry.prev, entry.next, self.root
        prev.next = following
        following.prev = prev
        last = root.prev
        last.next = root.prev = entry
        entry.prev = last
        entry.next = root

    def remove(self, entry: Any) -> None:
        """Unlink *entry*."""
        prev, following = entry.prev, entry.next
        entry.prev = entry.next = None
        prev.next = following
        following.prev = prev

    def victim(self) -> Any:
        """Return the least recently used entry."""
        first = self.root.next
        return None if first is self.root else first

    def evict(self) -> Any:
        """Unlink the least recently used entry."""
        root = self.root
        entry = root.next
        if entry is root:
            return None
        following = entry.next
        entry.prev = entry.next = None
        root.next = following
        following.prev = root
        return entry

    def __iter__(self) -> Iterator[Any]:
        return _walk(self.root)

    def clear(self) -> None:
        """Start over with an empty ring; the root stays, for the table holds on to it."""
        self.root.prev = self.root.next = self.root


class S3FifoOrder:
    """
    S3-FIFO: a small queue on probation, a main queue, and the hashes of who left lately.

    One-time visitors leave from the small queue without disturbing the main one; who comes back
    soon after is let into the main queue at once. A hit only counts, nothing moves.

    Bounded by: the ghost list holds at most as many hashes as there are entries.

    Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23,
    doi 10.1145/3600006.3613147; small queue 10 %, frequency capped at 3.
    """

    __slots__ = ("ghost_queue", "ghosts", "main_size", "root", "small", "small_size")

    _MOST_STEPS = 1000
    """Second chances in one search, so that one insertion never walks a large queue."""

    def __init__(self) -> None:
        self.root = new_ring()  # the main queue
        self.small = new_ring()
        self.small_size = 0
        self.main_size = 0
        self.ghosts: dict[int, int] = {}
        self.ghost_queue: deque[int] = deque()

    def add(self, entry: Any) -> None:
        """Put *entry* on probation, or into the main queue when it left only recently."""
        entry.mark = entry.hits
        came_back = self.ghosts.pop(_hash_of(entry), None) is not None
        self._append(entry, main=came_back)

    def touch(self, entry: Any) -> None:
        """Move nothing: the count of hits is all that S3-FIFO needs."""

    def remove(self, entry: Any) -> None:
        """Unlink *entry*."""
        if entry.queue is self.small:
            self.small_size -= 1
        else:
            self.main_size -= 1
        prev, following = entry.prev, entry.next
        entry.prev = entry.next = None
        prev.next = following
        following.prev = prev

    def evict(self) -> Any:
        """Unlink the victim; remember its hash when it was on probation."""
        entry = self.victim()
        if entry is not None:
            self.remove(entry)
            if entry.queue is self.small:
                self._remember(_hash_of(entry))
        return entry

    def victim(self) -> Any:
        """Return the first entry that has not earned another round."""
        for _ in range(self._MOST_STEPS):
            total = self.small_size + self.main_size
            if not total:
                return None
            if self.small_size and (self.small_size * 10 >= total or not self.main_size):
                entry = self.small.next
                if entry.hits - entry.mark <= 1:
                    return entry
                mark = entry.hits
            else:
                entry = self.root.next
                earned = min(3, entry.hits - entry.mark)
                if earned <= 0:
                    return entry
                mark = entry.hits - (earned - 1)
            self.remove(entry)
            entry.mark = mark
            self._append(entry, main=True)
        return self.root.next if self.main_size else self.small.next

    def __iter__(self) -> Iterator[Any]:
        yield from _walk(self.small)
        yield from _walk(self.root)

    def clear(self) -> None:
        """Forget everything, ghosts too."""
        S3FifoOrder.__init__(self)

    def _append(self, entry: Any, *, main: bool) -> None:
        if main:
            self.main_size += 1
        else:
            self.small_size += 1
        entry.queue = root = self.root if main else self.small
        last = root.prev
        last.next = root.prev = entry
        entry.prev = last
        entry.next = root

    def _remember(self, hashed: int) -> None:
        self.ghosts[hashed] = self.ghosts.get(hashed, 0) + 1
        self.ghost_queue.append(hashed)
        while _len(self.ghost_queue) > max(1, self.small_size + self.main_size):
            oldest = self.ghost_queue.popleft()
            left = self.ghosts.get(oldest, 1) - 1
            if left:
                self.ghosts[oldest] = left
            else:
                self.ghosts.pop(oldest, None)


def in_order(order: Order, entries: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """
    Return *entries* in *order*, as far as its links can still be followed, the others last.

    Also return what else was met on the way: entries that left while it was torn.
    """
    missing = {id(entry): entry for entry in entries}
    most = _len(missing)
    ordered: list[Any] = []
    strays: list[Any] = []
    for entry in order:
        if entry is None or _len(strays) > most:  # a link leads nowhere, or in a circle
            break
        known = missing.pop(id(entry), None)
        (strays if known is None else ordered).append(entry)
    return ordered + list(missing.values()), strays


def _hash_of(entry: Any) -> int:
    # Only a plain key is hashed here, under the table's lock; a foreign key brings its hash along.
    return hash(entry.key) if entry.hash is None else entry.hash
