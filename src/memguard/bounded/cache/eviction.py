"""
Who leaves first: orders of eviction over linked entries. Pure structure: no lock, no clock.

Both orders are driven in the same way by the store, which holds its lock: `touch` replays accesses,
`victim` names the next entry to leave, `remove` takes an entry out. Every loop re-reads the links,
because a finalizer may use the cache between any two of its steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from memguard.bounded.cache.entry import Entry

_len = len  # the program may cache the built-in itself, and then must not meet it here


class Order(Protocol):
    """What the store needs of an eviction policy."""

    root: Entry

    def add(self, entry: Entry) -> None:
        """Take in an unlinked entry, as the most recent one."""

    def touch(self, batch: list[Entry]) -> None:
        """Replay accesses, oldest first; entries that have left are skipped."""

    def remove(self, entry: Entry, *, evicted: bool = False) -> None:
        """Take out a linked entry; *evicted* when the policy chose it for want of room."""

    def victim(self) -> Entry | None:
        """Return the entry that should leave next, still linked; None when empty."""

    def __iter__(self) -> Iterator[Entry]:
        """Yield linked entries, the next to leave first. The cache must not change meanwhile."""

    def clear(self) -> None:
        """Forget everything; the entries are marked by the caller."""


def new_ring() -> Entry:
    """Return the root of an empty ring: its ``next`` is the oldest, its ``prev`` the newest."""
    root = Entry()
    root.prev = root.next = root
    root.key = root.value = root.written = None
    root.hits = 0
    return root


class LruOrder:
    """Least recently used leaves first: one ring, an access moves an entry to its end."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = new_ring()

    def add(self, entry: Entry) -> None:
        """Append *entry*."""
        root = self.root
        last = root.prev
        entry.prev, entry.next = last, root
        last.next = root.prev = entry

    def touch(self, batch: list[Entry]) -> None:
        """Move each entry to the end, in turn."""
        root = self.root
        for entry in batch:
            entry.hits += 1
            prev = entry.prev
            if prev is not None:
                following = entry.next
                prev.next = following
                following.prev = prev
                last = root.prev
                last.next = root.prev = entry
                entry.prev = last
                entry.next = root

    def remove(self, entry: Entry, *, evicted: bool = False) -> None:  # noqa: ARG002 - reason: part of the protocol
        """Unlink *entry* and mark it as gone."""
        prev, following = entry.prev, entry.next
        prev.next = following
        following.prev = prev
        entry.prev = None

    def victim(self) -> Entry | None:
        """Return the least recently used entry."""
        first: Entry = self.root.next
        return None if first is self.root else first

    def __iter__(self) -> Iterator[Entry]:
        entry = self.root.next
        while entry is not self.root:
            yield entry
            entry = entry.next

    def clear(self) -> None:
        """Start over with an empty ring; the root stays, for the store holds on to it."""
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

    def touch(self, batch: list[Entry]) -> None:
        """Count the hits; S3-FIFO moves nothing on a hit."""
        for entry in batch:
            entry.hits += 1

    def remove(self, entry: Any, *, evicted: bool = False) -> None:
        """Unlink *entry*; remember its hash when it was evicted while on probation."""
        small = entry.queue is self.small
        if small:
            self.small_size -= 1
        else:
            self.main_size -= 1
        prev, following = entry.prev, entry.next
        prev.next = following
        following.prev = prev
        entry.prev = None
        if evicted and small:
            self._remember(_hash_of(entry))

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
                self.remove(entry)
                entry.mark = entry.hits
                self._append(entry, main=True)
            else:
                entry = self.root.next
                earned = min(3, entry.hits - entry.mark)
                if earned <= 0:
                    return entry
                self.remove(entry)
                entry.mark = entry.hits - (earned - 1)
                self._append(entry, main=True)
        return self.root.next if self.main_size else self.small.next

    def __iter__(self) -> Iterator[Entry]:
        entry: Any
        for root in (self.small, self.root):
            entry = root.next
            while entry is not root:
                yield entry
                entry = entry.next

    def clear(self) -> None:
        """Forget everything, ghosts too."""
        S3FifoOrder.__init__(self)

    def _append(self, entry: Any, *, main: bool) -> None:
        if main:
            queue = self.root
            self.main_size += 1
        else:
            queue = self.small
            self.small_size += 1
        entry.queue = queue
        last = queue.prev
        entry.prev, entry.next = last, queue
        last.next = queue.prev = entry

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


def _hash_of(entry: Any) -> int:
    # Only a plain key is hashed here, under the store's lock; a foreign key brings its hash along.
    return hash(entry.key) if entry.hash is None else entry.hash
