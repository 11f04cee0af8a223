"""Wait for a thread that another thread may be starting at that moment."""

from __future__ import annotations

import threading
import time

_NAP = 0.001


def join(thread: threading.Thread, timeout: float) -> bool:
    """
    Wait up to *timeout* seconds for *thread*; True when it does not run.

    `threading.Thread.join` raises if the thread exists but its start has not returned yet; here
    that is waited for. One that does not exist yet does not run: its owner must keep it from doing
    anything. False at once when *thread* is the one that asks.
    """
    if thread is threading.current_thread():
        return False
    deadline = time.monotonic() + timeout
    while thread.ident is not None:
        try:
            thread.join(max(0.0, deadline - time.monotonic()))
        except RuntimeError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_NAP)
        else:
            return not thread.is_alive()
    return True
