"""What tests of the middleware wait for."""

from __future__ import annotations

import threading
import time

from memguard import MemoryGuard
from memguard.relief.records import PressureState


def wait_for_a_look(guard: MemoryGuard) -> None:
    """Wait for the first, which would else find that memory is not critical after all."""
    deadline = time.monotonic() + 30
    while not guard.monitor.statistics().ticks or guard.monitor.pressure().at is None:
        assert time.monotonic() < deadline, "the monitor did not look"
        time.sleep(0.005)


def make_critical(guard: MemoryGuard) -> None:
    """Have a running *guard* say that memory is critical; where little is left, it looks often."""
    wait_for_a_look(guard)
    guard.monitor.tick = lambda: 3600.0  # type: ignore[method-assign]  # reason: what it saw must stay
    guard.monitor._turn.run(bool, busy=False, timeout=-1)  # a look that is under way
    guard.monitor._state = PressureState(level="critical", used=99, limit=100)


def wait_for_anyio() -> None:
    """Wait for the threads of Starlette's sync code: ended with their loop, and not yet gone."""
    for thread in threading.enumerate():
        if thread.name.startswith("AnyIO"):
            thread.join(20)
