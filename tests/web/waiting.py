"""What tests of the middleware wait for."""

from __future__ import annotations

import threading
import time

from memguard import MemoryGuard


def wait_for_a_look(guard: MemoryGuard) -> None:
    """Wait for the first, which would else find that memory is not critical after all."""
    deadline = time.monotonic() + 30
    while not guard.monitor.statistics().ticks or guard.monitor.pressure().at is None:
        assert time.monotonic() < deadline, "the monitor did not look"
        time.sleep(0.005)


def wait_for_anyio() -> None:
    """Wait for the threads of Starlette's sync code: ended with their loop, and not yet gone."""
    for thread in threading.enumerate():
        if thread.name.startswith("AnyIO"):
            thread.join(20)
