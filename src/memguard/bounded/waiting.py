"""Who waits for a container: threads and asyncio tasks, in one order."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import asyncio


class Work:
    """
    One of our calls that holds an object of a pool, or the room for one.

    The pool refers to it weakly: when an exception ends the call before it has tidied up, its
    death shows that what it had is to be taken back.
    """

    __slots__ = ("__weakref__",)


class Waiter(Work):
    """
    A call that waits until it is given something.

    Args:
        loop: The event loop of the task that waits; None for a thread.
    """

    __slots__ = ("_future", "_loop", "_woken", "given", "reference")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.given: Any = None
        """What it was given: a slot, or room for a new object; None until then."""
        self.reference = weakref.ref(self)
        """Always the same, so that it may be asked for after its death."""
        self._loop = loop
        if loop is None:
            self._woken = threading.Lock()
            self._woken.acquire()
        else:
            self._future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        """
        Wake the waiter; return False when its event loop is closed. Waking twice does no harm.

        Runs code of the event loop: call it outside of locks.
        """
        if self._loop is None:
            with suppress(RuntimeError):  # it was woken before
                self._woken.release()
            return True
        try:
            self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:
            return False
        return True

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def sleep(self, seconds: float) -> None:
        """Wait until woken, in a thread."""
        self._woken.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))

    async def sleep_async(self, seconds: float) -> None:
        """Wait until woken, in a task."""
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        await asyncio.wait((self._future,), timeout=seconds)
        if self._future.done() and self._loop is not None:
            self._future = self._loop.create_future()  # it may sleep again

    @property
    def is_gone(self) -> bool:
        """Whether its event loop is closed, so that it never wakes again."""
        return self._loop is not None and self._loop.is_closed()


WaitQueue: TypeAlias = "OrderedDict[Waiter, None]"
"""The waiters, the longest waiting first; leaving takes the same time from any place."""
