"""A mutex that knows who holds it: one that its own holder is never made to wait for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from memguard.errors import LifecycleError


class Turn:
    """
    Let one thread at a time work; the same thread is refused, not deadlocked.

    While the heap is walked, objects die in our thread, and their finalizers may call anything, the
    detector too.

    Bounded by: one holder.
    Locks: it is one.
    Keeps alive: nothing.
    """

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def take(self, timeout: float = -1.0) -> bool:
        """Wait up to *timeout* seconds, -1 for ever; False when in vain, at once in its holder."""
        if self._owner == threading.get_ident() or not self._lock.acquire(timeout=timeout):
            return False
        self._owner = threading.get_ident()
        return True

    def give_back(self) -> None:
        """Let the next one work."""
        self._owner = None
        self._lock.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """
        Wait for it, and hold it.

        Raises:
            LifecycleError: This thread holds it already.
        """
        if not self.take():
            raise LifecycleError(
                "the detector is at work in this very thread: a finalizer or callback that runs "
                "meanwhile cannot ask for another look; ask later, or in another thread"
            )
        try:
            yield
        finally:
            self.give_back()

    def run(self, work: Callable[[], None], timeout: float) -> bool:
        """Do *work* while holding it; False when it could not be taken in *timeout* seconds."""
        if not self.take(timeout):
            return False
        try:
            work()
        finally:
            self.give_back()
        return True
