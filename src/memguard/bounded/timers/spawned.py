"""One spawned task: the handle that its owner gets, and what the registry knows of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from memguard.bounded import callsite
from memguard.bounded.lifetime.owners import Estate
from memguard.units import format_seconds

if TYPE_CHECKING:
    import asyncio


T = TypeVar("T")


class Record:
    """What is known of one task."""

    __slots__ = ("began", "estate", "handle", "name", "site")

    def __init__(self, name: str, site: callsite.Site) -> None:
        self.name = name
        self.site = site
        self.began = time.monotonic()
        self.estate: Estate | None = None
        self.handle: SpawnedTask[Any] | None = None

    def told(self) -> str:
        """Return name, place and age for a message."""
        age = format_seconds(time.monotonic() - self.began)
        return f"{self.name!r} spawned at {callsite.shown(self.site)}, {age} ago"


class SpawnedTask(Generic[T]):
    """
    A handle on one task: close it to cancel, await it for the result.

    Bounded by: one task.
    Locks: none.
    Keeps alive: the task, its coroutine and, when it is done, its result or exception.
    """

    __slots__ = ("_loop", "_stopped", "task")

    is_ours = True

    task: asyncio.Task[T]
    """The asyncio task itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stopped = False

    def _start(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        self.task = self._loop.create_task(coro, name=name)
        if self._stopped:  # its owner ended while the task was being made
            self.task.cancel()
        return self.task

    def close(self) -> None:
        """Ask the task to cancel; idempotent, from any thread. It may take its time."""
        self._stopped = True
        task = getattr(self, "task", None)
        if task is None or task.done():
            return
        import asyncio  # noqa: PLC0415 - reason: see spawn

        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            task.cancel()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
                self._loop.call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        """Cancel the task and wait until it is done; what it raises is not raised here."""
        import asyncio  # noqa: PLC0415 - reason: see spawn

        self.close()
        if self._loop is asyncio.get_running_loop() and asyncio.current_task() is not self.task:
            await asyncio.wait([self.task])

    @property
    def closed(self) -> bool:
        """Whether the task is done."""
        return self.task.done()

    def __await__(self) -> Generator[Any, None, T]:
        return self.task.__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def is_here(record: Record) -> bool:
    """Return whether the task is one that the current task can wait for."""
    import asyncio  # noqa: PLC0415 - reason: see spawn

    if record.handle is None:
        return False
    task = record.handle.task
    return task.get_loop() is asyncio.get_running_loop() and task is not asyncio.current_task()
