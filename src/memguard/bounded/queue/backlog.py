"""What is in a queue, who waits at its two ends, and who is to be woken next."""

from __future__ import annotations

import itertools
import time
import weakref
from collections import OrderedDict, deque
from typing import Any

from memguard.bounded.sizing.entries import Parts
from memguard.bounded.waiting import Waiter
from memguard.errors import LifecycleError
from memguard.lifecycle import locks

Item = tuple[Any, int]
"""An item and its bytes, 0 where they are not counted."""
Reference = weakref.ref[Waiter]

NAP = 1.0
"""Seconds after which a call looks by itself, and what it was promised goes to others."""


class Line:
    """
    The calls that wait at one end: those in line, and those that were woken and are on their way.

    Bounded by: the calls that wait.
    Locks: that of the backlog.
    Keeps alive: nothing. A call that ended without a word, because a signal handler broke it off or
        its event loop was closed, dies with its waiter, and is passed over.
    """

    __slots__ = ("_in_line", "_on_their_way")

    def __init__(self) -> None:
        self._in_line: OrderedDict[Reference, int] = OrderedDict()
        self._on_their_way: dict[Reference, float] = {}

    def __len__(self) -> int:
        return len(self._in_line) + len(self._on_their_way)

    def first(self) -> tuple[Waiter, int] | None:
        """Return who waits longest, and the bytes that it waits with."""
        while self._in_line:
            reference, size = next(iter(self._in_line.items()))
            waiter = reference()
            if waiter is not None and not waiter.is_gone:
                return waiter, size
            del self._in_line[reference]
        return None

    def promised(self) -> int:
        """Return how many were woken and are not back yet; who takes too long, is not."""
        if self._on_their_way:
            latest = time.monotonic() - NAP
            for reference, woken in list(self._on_their_way.items()):
                if woken < latest or reference() is None:
                    del self._on_their_way[reference]
        return len(self._on_their_way)

    def may_go(self, waiter: Waiter | None) -> bool:
        """Return whether it is the turn of *waiter*, or of a call that comes just now."""
        if waiter is not None and waiter.reference in self._on_their_way:
            return True
        first = self.first()
        # In line still, nobody woke it: it looks after a nap.
        return not self.promised() and (first is None or first[0] is waiter)

    def stand(self, waiter: Waiter, size: int) -> None:
        """Have *waiter* stand in line; in front if it was woken in vain."""
        reference = waiter.reference
        was_woken = self._on_their_way.pop(reference, None) is not None
        if reference not in self._in_line:
            self._in_line[reference] = size
            if was_woken:
                self._in_line.move_to_end(reference, last=False)

    def leave(self, waiter: Waiter | None) -> None:
        """Let *waiter* go, wherever it is."""
        if waiter is not None:
            self._in_line.pop(waiter.reference, None)
            self._on_their_way.pop(waiter.reference, None)

    def wake(self, waiter: Waiter) -> Waiter:
        """Return *waiter*, which is to be woken."""
        del self._in_line[waiter.reference]
        self._on_their_way[waiter.reference] = time.monotonic()
        return waiter

    def prune(self) -> None:
        """Forget those that ended without a word."""
        for reference in [*self._in_line, *self._on_their_way]:
            waiter = reference()
            if waiter is None or waiter.is_gone:
                self._in_line.pop(reference, None)
                self._on_their_way.pop(reference, None)

    def empty(self) -> list[Waiter]:
        """Let all go, and return them."""
        everybody = [reference() for reference in (*self._in_line, *self._on_their_way)]
        self._in_line.clear()
        self._on_their_way.clear()
        return [waiter for waiter in everybody if waiter is not None]


class Backlog:
    """
    The items, the longest waiting first, and the calls that wait for one or for room.

    Whoever is to be woken is returned, and is woken outside of the lock: one call at either end,
    which then tries again, and whose success wakes the next.

    Bounded by: *maxsize* items, *maxbytes* bytes.
    Locks: one mutex around numbers; no code of users runs under it. A signal handler or destructor
        that interrupts it in the same thread is known by `is_mine`, and must not change anything.
    Keeps alive: the items.
    """

    def __init__(self, name: str, maxsize: int | None, maxbytes: int | None) -> None:
        self.name = name
        self.maxsize = maxsize
        self.maxbytes = maxbytes
        self.closed = False
        self.puts = self.gets = self.dropped = self.refused = self.most = 0
        self.items: deque[Item] = deque()
        """The oldest first; changed under the lock only."""
        self._parts = Parts()
        self._bytes = 0
        self.restart_in_child()

    def restart_in_child(self) -> None:
        """In a forked child: keep the items, forget who waited and a lock that is held for ever."""
        self._lock = locks.RLock()
        self._is_dirty = True
        self._putters, self._getters = Line(), Line()

    def is_mine(self) -> bool:
        """Return whether this very thread is in the middle of a change, which it interrupts."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - reason: what threading.Condition asks
        return owned

    # -- the two ends -----------------------------------------------------------------------------

    def put(
        self, item: Any, size: int, waiter: Waiter | None, *, drop: bool
    ) -> tuple[bool, list[Item], bool, list[Waiter]]:
        """
        Put *item* if there is room and nobody before it, else have *waiter* stand in line, if any.

        Args:
            item: What is put.
            size: Its bytes.
            waiter: That of the call, if it is to wait.
            drop: Make room by taking out the oldest.

        Returns:
            Whether it was put, what was taken out for it, whether that was the first ever, and
            whom to wake.

        Raises:
            LifecycleError: The queue is closed.
        """
        with self._lock:
            self._repair()
            self._raise_if_closed()
            if drop or self._putters.may_go(waiter):
                first = drop and not self.dropped
                gone = self._make_room(size) if drop else []
                if self._has_room(size):
                    self._putters.leave(waiter)
                    self._append(item, size)
                    return True, gone, first and bool(gone), self._next()
            if waiter is not None:
                self._putters.stand(waiter, size)
            return False, [], False, []

    def get(self, waiter: Waiter | None) -> tuple[list[Item], list[Waiter]]:
        """
        Return the oldest item if it is this call's turn, and whom to wake; else stand in line.

        Raises:
            LifecycleError: The queue is closed and empty.
        """
        with self._lock:
            self._repair()
            if self.items and self._may_get(waiter):
                self._getters.leave(waiter)
                self.gets += 1
                return [self._take_oldest()], self._next()
            if not self.items:
                self._raise_if_closed()
            if waiter is not None:
                self._getters.stand(waiter, 0)
            return [], []

    def leave(self, waiter: Waiter | None) -> list[Waiter]:
        """Let *waiter* go without what it waited for; return who is to be woken in its place."""
        if self.is_mine():  # a task that ends in a destructor: its waiter dies, and is passed over
            return []
        with self._lock:
            self._repair()
            self._putters.leave(waiter)
            self._getters.leave(waiter)
            return self._next()

    def count_refused(self) -> None:
        """Count a call that ended without room."""
        with self._lock:
            self.refused += 1

    def close(self) -> list[Waiter]:
        """Take no more items; return everybody who waits."""
        self.closed = True
        if self.is_mine():  # who waits sees it after a nap
            return []
        with self._lock:
            return [*self._putters.empty(), *self._getters.empty()]

    def clear(self) -> tuple[list[Item], list[Waiter]]:
        """Take out all items, and return them."""
        with self._lock:
            gone = list(self.items)
            self._is_dirty = True
            self.items.clear()
            self._repair()
            return gone, self._next()

    # -- looking ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of items. No lock."""
        return len(self.items)

    def bytes(self) -> int:
        """Return the bytes of the items, what they share once."""
        if self.is_mine():
            return self._bytes
        with self._lock:
            self._repair()
            return self._bytes

    def waiting(self) -> tuple[int, int]:
        """Return how many calls wait for room, and how many for an item."""
        if not self.is_mine():
            with self._lock:
                self._putters.prune()
                self._getters.prune()
        return len(self._putters), len(self._getters)

    def some(self, most: int) -> list[Any]:
        """Return up to *most* items, the oldest. Cost: a copy of the list of items."""
        return [item for item, _ in itertools.islice(self.items.copy(), most)]

    # -- under the lock ---------------------------------------------------------------------------

    def _raise_if_closed(self) -> None:
        if self.closed:
            raise LifecycleError(f"queue {self.name!r} is closed; make a new one")

    def _may_get(self, waiter: Waiter | None) -> bool:
        # More items than were promised are for whoever comes, if nobody stands in line.
        getters = self._getters
        is_spare = getters.first() is None and len(self.items) > getters.promised()
        return is_spare or getters.may_go(waiter)

    def _has_room(self, size: int) -> bool:
        if self.maxsize is not None and len(self.items) >= self.maxsize:
            return False
        return self.maxbytes is None or self._bytes + self._parts.added_by(size) <= self.maxbytes

    def _make_room(self, size: int) -> list[Item]:
        gone = []
        while self.items and not self._has_room(size):
            gone.append(self._take_oldest())
            self.dropped += 1
        return gone

    def _append(self, item: Any, size: int) -> None:
        self._is_dirty = True
        self.items.append((item, size))
        self._bytes += self._parts.take(size)
        self._is_dirty = False
        self.puts += 1
        self.most = max(self.most, len(self.items))

    def _take_oldest(self) -> Item:
        self._is_dirty = True
        entry = self.items.popleft()
        self._bytes -= self._parts.drop(entry[1])
        self._is_dirty = False
        return entry

    def _repair(self) -> None:
        """Count anew, where a signal handler has broken a change off."""
        if self._is_dirty:
            self._parts.clear()
            self._bytes = sum(self._parts.take(size) for _, size in self.items)
            self._is_dirty = False

    def _next(self) -> list[Waiter]:
        woken = []
        first = self._getters.first()
        if first is not None and len(self.items) > self._getters.promised():
            woken.append(self._getters.wake(first[0]))
        first = self._putters.first()
        if first is not None and not self._putters.promised() and self._has_room(first[1]):
            woken.append(self._putters.wake(first[0]))
        return woken
