"""
The locks of memguard: a signal handler that raises never leaves one held.

Make every lock that a host's thread may take with `Lock`, `RLock` or `Condition` of this module,
and take it with ``with``::

    self._lock = locks.RLock()
    ...
    with self._lock:
        ...

Put no loop directly in the block, but in a function that it calls: from CPython 3.12 on the jump
back of a loop may not be covered by the ``with`` around it (``tests/unit/test_locked_blocks.py``).

For work that only one thread may do at a time, or waiting for a limited time, use
`memguard.lifecycle.turn`: an exception between ``if lock.acquire(blocking=False):`` and the ``try``
below it leaves the lock held, on every version.

CPython 3.14 looks for signals between taking the lock of a ``with`` and entering its block: a
handler that raises there (``KeyboardInterrupt``, a timeout) leaves the lock held forever. There,
the classes below note in one C call, inside a ``try``, that the lock was taken. No other version
has that gap, and `Lock` and `RLock` are those of ``threading`` itself: they cost nothing extra.
``tests/integration/test_lock_signals.py`` proves both by force.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Protocol

__all__ = ["FREE_THREADED", "Condition", "Lock", "RLock"]

FREE_THREADED = "free-threading" in sys.version  # sysconfig says it too, and takes 1 ms to load
"""True if this CPython was built without a GIL, whether one was switched on or not."""


class _Acquirable(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...  # noqa: FBT001, FBT002 - reason: as in threading

    def release(self) -> None: ...


if sys.version_info[:2] == (3, 14):
    import _thread

    def _enter(lock: _Acquirable) -> bool:
        held: list[bool] = []
        try:
            held.extend(map(lock.acquire, (True,)))
        except BaseException:
            if held:
                lock.release()
            raise
        return True

    class RLock(_thread.RLock):  # type: ignore[misc]
        """``threading.RLock``, without the gap of CPython 3.14."""

        __slots__ = ()
        __enter__ = _enter  # type: ignore[assignment]

    class Lock:
        """``threading.Lock``, without the gap of CPython 3.14; the built-in has no subclasses."""

        __slots__ = ("__exit__", "acquire", "locked", "release")
        __enter__ = _enter

        def __init__(self) -> None:
            lock = threading.Lock()
            self.acquire, self.release, self.locked = lock.acquire, lock.release, lock.locked
            # In C, as the built-in's: a handler could interrupt a Python function before its work.
            self.__exit__ = lock.__exit__

else:
    Lock = threading.Lock
    RLock = threading.RLock


class Condition(threading.Condition):
    """
    ``threading.Condition``, entered and left by the methods of its lock.

    Its own are Python functions, which a handler can interrupt on every version once they have
    taken the lock, or before they release it.
    """

    __slots__ = ("__enter__", "__exit__")

    def __init__(self, lock: Any = None) -> None:
        lock = RLock() if lock is None else lock
        super().__init__(lock)
        self.__enter__ = lock.__enter__  # type: ignore[method-assign]
        self.__exit__ = lock.__exit__  # type: ignore[method-assign]
