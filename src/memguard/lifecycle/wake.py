"""An event that destructors and signal handlers may set: ``threading.Event`` may deadlock."""

from __future__ import annotations

import threading


class Wake:
    """
    Wakes the one thread that waits for it, or the next one that will.

    `set` is a single C call that neither waits nor runs Python code: it is allowed in destructors,
    weak reference callbacks and signal handlers, also when they interrupt another `set`.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiter, now or when it comes."""
        try:  # noqa: SIM105 - reason: a death callback may come when modules are gone already
            self._lock.release()
        except RuntimeError:  # set already
            pass

    def wait(self, timeout: float) -> bool:
        """Wait for at most *timeout* seconds; return whether it was set, and clear it."""
        return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
