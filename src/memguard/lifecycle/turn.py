"""One thread at a time, with a known owner: a mutex that its owner never waits for."""

from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from memguard.errors import LifecycleError

# Both as they are now: if gevent replaces them later, a lock of the system that a greenlet holds
# must know its thread, whose other greenlets would otherwise wait for it with all of the thread.
_allocate_lock = threading.Lock
_get_ident = threading.get_ident

T = TypeVar("T")
B = TypeVar("B")


class Turn:
    """
    Let one thread at a time do work that must not overlap with itself.

    A finalizer, a signal handler, a callback or another greenlet that runs in the thread of the
    owner and asks for another turn is refused; it would wait for itself forever.

    Bounded by: one owner.
    Locks: it is one. Make a new one in a forked child: the owner may not be there.
    Keeps alive: nothing.
    """

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        self._owner: int | None = None

    @property
    def is_mine(self) -> bool:
        """True in the thread that works."""
        return self._owner == _get_ident()

    @property
    def is_taken(self) -> bool:
        """True while some thread works."""
        return self._lock.locked()

    def run(self, work: Callable[[], T], *, busy: B, timeout: float = 0.0) -> T | B:
        """
        Return what *work* returns; *busy* if another thread, or this one, is at work.

        Args:
            work: Called with no argument, in this thread.
            busy: What to return when another thread has the turn.
            timeout: Seconds to wait for another thread, -1 forever. The owner never waits.
        """
        if self.is_mine:
            return busy
        taken = [False]
        try:
            # One C call takes the lock and notes that it did: a signal handler that raises comes
            # before it or after it, and `finally` knows which. Nothing is allocated in between.
            acquire = map(self._lock.acquire, (True,), (timeout,))
            deque(map(operator.setitem, (taken,), (0,), acquire), maxlen=0)
            if not taken[0]:
                return busy
            self._owner = _get_ident()
            return work()
        finally:
            if taken[0]:
                self._owner = None
                self._lock.release()

    def wait(self, work: Callable[[], T]) -> T:
        """
        Return what *work* returns, after waiting for as long as it takes.

        Raises:
            LifecycleError: This thread is at work already, maybe in another greenlet.
        """
        if self.is_mine:
            raise LifecycleError(
                "this thread is inside that very work: a finalizer or callback that runs meanwhile "
                "cannot ask for it again; ask later, or in another thread"
            )
        # With no timeout only the owner is refused, and that case was excluded above.
        return self.run(work, busy=None, timeout=-1)  # type: ignore[return-value] # reason: see the line above
