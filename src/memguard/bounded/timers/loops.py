"""Event loops, for calls from any thread; asyncio is not loaded before it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from memguard.lifecycle.loops import running_loop

if TYPE_CHECKING:
    import asyncio


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Make *call* on *loop*: now if it runs in this thread, else soon; never once it is closed."""
    if running_loop() is loop:
        call()
    else:
        with contextlib.suppress(RuntimeError):  # it is closed: nothing runs any more
            loop.call_soon_threadsafe(call)
