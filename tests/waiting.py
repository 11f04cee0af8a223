"""To wait for what another thread, a process or a server will do, never for a time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], object], seconds: float = 30.0, *, pause: float = 0.005
) -> None:
    """
    Wait until *condition* holds; fail when it does not in time.

    Args:
        condition: Asked again and again.
        seconds: A generous deadline: other work may keep this machine busy.
        pause: Seconds between two questions.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(pause)
