"""What tests of the middleware wait for."""

from __future__ import annotations

import time

from memguard import MemoryGuard


def wait_for_a_look(guard: MemoryGuard) -> None:
    """Wait for the first, which would else find that memory is not critical after all."""
    deadline = time.monotonic() + 30
    while not guard.monitor.statistics().ticks or guard.monitor.pressure().at is None:
        assert time.monotonic() < deadline, "the monitor did not look"
        time.sleep(0.005)
