"""The event loop of a thread, for hosts with asyncio and without."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, None without; loads nothing."""
    asyncio = sys.modules.get("asyncio")
    running = None if asyncio is None else getattr(asyncio, "_get_running_loop", None)
    return None if running is None else running()
