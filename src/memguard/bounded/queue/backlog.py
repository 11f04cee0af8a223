"""What is in a queue, who waits at its two ends, and who is to be woken next."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from memguard.bounded.sizing.entries import Parts
from memguard.errors import LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.waiting import Waiter

Item = tuple[Any, int]
"""An item and its bytes, 0 where they are not counted."""


class Backlog:
    """
    The items, the longest waiting first, and the calls that wait for one or for room.

    Whoever is to be woken is returned, and is woken outside of the lock: one call at either end,
    which then tries again, and whose success wakes the next.

    Bounded by: *maxsize* items, *maxbytes* bytes.
    Locks: one re-entrant mutex around numbers; no code of users runs under it.
    Keeps alive: the items.
    """

    def __init__(self, name: str, maxsize: int | None, maxbytes: int | None) -> None:
        self.name = name
        self.maxsize = maxsize
        self.maxbytes = maxbytes
        self.closed = False
        self.puts = self.gets = self.dropped = self.most = 0
        self._items: deque[Item] = deque()
        self._parts = Parts()
        self._bytes = 0
        self.restart_in_child()

    def restart_in_child(self) -> None:
        """In a forked child: keep the items, forget who waited and a lock that is held for ever."""
        self._lock = locks.RLock()
        self._is_dirty = True
        self._putters: OrderedDict[Waiter, int] = OrderedDict()
        """Who waits for room, with the bytes of the item."""
        self._getters: OrderedDict[Waiter, None] = OrderedDict()

    # -- the two ends -----------------------------------------------------------------------------

    def put(
        self, item: Any, size: int, waiter: Waiter | None, last: Waiter | None, *, drop: bool
    ) -> tuple[bool, list[Item], list[Waiter]]:
        """
        Put *item* if there is room, else have *waiter* wait for it.

        Args:
            item: What is put.
            size: Its bytes.
            waiter: Who waits if there is no room; None: nobody.
            last: The waiter of the same call that was woken, or was tired of waiting: it need not
                stand behind others.
            drop: Make room by taking out the oldest.

        Returns:
            Whether it was put, what was taken out for it, and whom to wake.

        Raises:
            LifecycleError: The queue is closed.
        """
        with self._lock:
            self._repair()
            self._putters.pop(last, None)  # type: ignore[arg-type] # reason: None is never in it
            self._raise_if_closed()
            gone = self._make_room(size) if drop else []
            if (last is not None or drop or not self._putters) and self._has_room(size):
                self._append(item, size)
                return True, gone, self._next()
            if waiter is not None:
                self._putters[waiter] = size
                if last is not None:
                    self._putters.move_to_end(waiter, last=False)
            return False, gone, []

    def get(self, waiter: Waiter | None, last: Waiter | None) -> tuple[list[Item], list[Waiter]]:
        """
        Return the oldest item, if there is one, and whom to wake; else have *waiter* wait for one.

        Raises:
            LifecycleError: The queue is closed and empty.
        """
        with self._lock:
            self._repair()
            self._getters.pop(last, None)  # type: ignore[arg-type] # reason: None is never in it
            if self._items and (last is not None or not self._getters):
                self.gets += 1
                return [self._take_oldest()], self._next()
            if not self._items:
                self._raise_if_closed()
            if waiter is not None:
                self._getters[waiter] = None
                if last is not None:
                    self._getters.move_to_end(waiter, last=False)
            return [], []

    def leave(self, waiter: Waiter) -> list[Waiter]:
        """Let *waiter* go without what it waited for; return who is to be woken in its place."""
        with self._lock:
            self._repair()
            self._putters.pop(waiter, None)
            self._getters.pop(waiter, None)
            return self._next()

    def wake_next(self) -> list[Waiter]:
        """Return who is to be woken in place of one that cannot be."""
        with self._lock:
            return self._next()

    def close(self) -> list[Waiter]:
        """Take no more items; return everybody who waits."""
        with self._lock:
            self.closed = True
            waiting = [*self._putters, *self._getters]
            self._putters.clear()
            self._getters.clear()
            return waiting

    def clear(self) -> tuple[list[Item], list[Waiter]]:
        """Take out all items, and return them."""
        with self._lock:
            gone = list(self._items)
            self._is_dirty = True
            self._items.clear()
            self._repair()
            return gone, self._next()

    # -- looking ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of items. No lock."""
        return len(self._items)

    def bytes(self) -> int:
        """Return the bytes of the items, what they share once."""
        with self._lock:
            self._repair()
            return self._bytes

    def waiting(self) -> tuple[int, int]:
        """Return how many calls wait for room, and how many for an item."""
        with self._lock:
            return len(self._putters), len(self._getters)

    def some(self, most: int) -> list[Any]:
        """Return up to *most* items, the oldest."""
        with self._lock:
            return self._oldest(most)

    # -- under the lock ---------------------------------------------------------------------------

    def _raise_if_closed(self) -> None:
        if self.closed:
            raise LifecycleError(f"queue {self.name!r} is closed; make a new one")

    def _has_room(self, size: int) -> bool:
        if self.maxsize is not None and len(self._items) >= self.maxsize:
            return False
        # An item shares parts with others, at best: it is judged as if it did not.
        return self.maxbytes is None or self._bytes + size <= self.maxbytes

    def _make_room(self, size: int) -> list[Item]:
        gone = []
        while self._items and not self._has_room(size):
            gone.append(self._take_oldest())
            self.dropped += 1
        return gone

    def _oldest(self, most: int) -> list[Any]:
        return [self._items[place][0] for place in range(min(most, len(self._items)))]

    def _append(self, item: Any, size: int) -> None:
        self._is_dirty = True
        self._items.append((item, size))
        self._bytes += self._parts.take(size)
        self._is_dirty = False
        self.puts += 1
        self.most = max(self.most, len(self._items))

    def _take_oldest(self) -> Item:
        self._is_dirty = True
        entry = self._items.popleft()
        self._bytes -= self._parts.drop(entry[1])
        self._is_dirty = False
        return entry

    def _repair(self) -> None:
        """Count anew, where a signal handler has broken a change off."""
        if self._is_dirty:
            self._parts.clear()
            self._bytes = sum(self._parts.take(size) for _, size in self._items)
            self._is_dirty = False

    def _next(self) -> list[Waiter]:
        woken = []
        if self._items and self._getters:
            woken.append(self._getters.popitem(last=False)[0])
        if self._putters:
            first = next(iter(self._putters))
            if self._has_room(self._putters[first]):
                del self._putters[first]
                woken.append(first)
        return woken
