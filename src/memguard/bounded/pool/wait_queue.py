"""
A line of waiters, served in the order of arrival, without any lock.

Each hand-over is one atomic step: the first to fill a waiter's box decides, be it a server with a
gift or the waiter that gives up. So nothing is handed to somebody who has left, and nothing that
was handed over is lost, whatever interrupts either side.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

LOOK_AGAIN_SECONDS = 0.1
"""How long a waiter sleeps at most before it looks at what the collector has brought back."""

_NOTHING: Any = (None,)
_GIFT, _OWNER = "gift", "owner"


class Waiter:
    """One thread that waits. The thread calls `sleep` and `leave`; anybody may `offer`."""

    __slots__ = ("_bell", "_box")

    def __init__(self) -> None:
        self._box: dict[str, Any] = {}
        self._bell = threading.Lock()
        self._bell.acquire()

    def offer(self, gift: Any) -> bool:
        """Hand *gift* over; False when the waiter has left or was served before."""
        parcel = (gift,)  # of its own, for the same gift may be offered twice
        if self._box.setdefault(_GIFT, parcel) is not parcel:
            return False
        self._bell.release()
        return True

    def sleep(self, seconds: float) -> bool:
        """Wait for a gift; return whether there is one."""
        return self._bell.acquire(timeout=seconds) or _GIFT in self._box

    def leave(self) -> Any:
        """Return the gift, or None; nothing can be handed over afterwards."""
        return self._box.setdefault(_GIFT, _NOTHING)[0]


class AsyncWaiter:
    """One task that waits; it can be served from any thread."""

    __slots__ = ("_box", "_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._box: dict[str, Any] = {}
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    def offer(self, gift: Any) -> bool:
        """Hand *gift* over; False when the waiter has left, was served, or its loop is closed."""
        parcel = (gift,)  # of its own, for the same gift may be offered twice
        if self._box.setdefault(_GIFT, parcel) is not parcel:
            return False
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:  # the loop is closed: nobody will fetch it, unless it is fetched now
            fetched: bool = self._box.setdefault(_OWNER, "server") != "server"
            return fetched
        return True

    def _ring(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def sleep(self, seconds: float) -> bool:
        """Wait for a gift; return whether there is one."""
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        await asyncio.wait((self._future,), timeout=seconds)
        return _GIFT in self._box

    def leave(self) -> Any:
        """Return the gift, or None; nothing can be handed over afterwards."""
        parcel = self._box.setdefault(_GIFT, _NOTHING)
        if parcel is _NOTHING or self._box.setdefault(_OWNER, "waiter") != "waiter":
            return None
        return parcel[0]


class WaitingLine(deque["Waiter | AsyncWaiter"]):
    """The waiters, the longest waiting first; empty is falsy."""

    def forget(self, waiter: Waiter | AsyncWaiter) -> None:
        """Take *waiter* out, if it is in."""
        with suppress(ValueError):
            self.remove(waiter)
