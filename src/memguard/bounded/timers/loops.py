"""Event loops, for calls from any thread; asyncio is not loaded before it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, None without."""
    import asyncio  # noqa: PLC0415 - reason: asyncio is 7 MiB for a host that does without it

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Make *call* on *loop*: now if it runs in this thread, else soon; never once it is closed."""
    if running_loop() is loop:
        call()
    else:
        with contextlib.suppress(RuntimeError):  # it is closed: nothing runs any more
            loop.call_soon_threadsafe(call)
