"""`AsyncTimerRegistry`: the timers of `TimerRegistry`, called on an event loop."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from memguard.bounded import callsite
from memguard.bounded.lifetime.callables import weak_callback
from memguard.bounded.timers.base import BaseTimerRegistry
from memguard.bounded.timers.loops import call_on
from memguard.bounded.timers.schedule import (
    REPEAT,
    SITE,
    Repeat,
    Row,
    TimerRegistryStatistics,
)
from memguard.errors import LifecycleError
from memguard.lifecycle.loops import running_loop

if TYPE_CHECKING:
    import asyncio

__all__ = ["AsyncTimerRegistry"]


class AsyncTimerRegistry(BaseTimerRegistry):
    """
    Call functions and coroutine functions after a delay or at intervals, on an event loop.

    It belongs to the loop on which its first timer was started, and to another one when that loop
    is closed or no timers are left. Each call has an empty context of its own, so that a timer
    does not keep the context of the request that started it. A registry that is dropped ends its
    timers. A forked child starts with no timers. See ``docs/timers.md``.

    Thread-safe: timers are started on the loop's thread; handles may be closed from anywhere.

    Bounded by: *maxsize* timers; a warning with the lines that started them at four fifths of it.
    Locks: none around calls.
    Keeps alive: callbacks and arguments until the call or the cancellation, coroutines until they
        are done; not owners.

    Args:
        maxsize: Most timers at the same time.
        on_error: ``"log"`` counts and logs what callbacks raise; ``"raise"`` also hands it to the
            loop's exception handler.
        name: What reports call it; the line that made it by default.
        timer: The clock, in seconds; it must not go backwards.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        *,
        maxsize: int = 100_000,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(maxsize, on_error, name, timer)
        # Weak: neither the schedule nor the loop keeps the registry.
        self._look_later = weak_callback(self._look)
        self._schedule.wake = weak_callback(self._wake)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._running: dict[int, asyncio.Future[Any]] = {}

    def _prepare(self, fn: Any) -> None:  # noqa: ARG002 - reason: every kind of function will do
        self._left = []
        loop = running_loop()
        if loop is None:
            raise LifecycleError(
                "timers of an AsyncTimerRegistry are started on a running event loop; "
                "elsewhere use TimerRegistry"
            )
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self._schedule.rows:
            raise LifecycleError(
                f"{self.name} belongs to another event loop, where timers of it are waiting"
            )
        self._schedule.cancel_all()  # those of a closed loop: nothing will call them
        self._schedule.next_due = float("inf")
        self._running = {}
        self._alarm, self._loop = None, loop

    # -- on the loop ----------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
                self._loop.call_soon_threadsafe(self._look_later)

    def _look(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        nap = self._schedule.step(self._fire)
        if nap is not None and self._loop is not None:
            self._alarm = self._loop.call_later(
                nap, self._look_later, context=contextvars.Context()
            )

    def _fire(self, row: Row) -> None:
        repeat: Repeat | None = row[REPEAT]
        call = self._schedule.take(row)
        context = contextvars.Context()
        task: asyncio.Future[Any] | None = None
        try:
            result: Any = None if call is None else context.run(call)
            if hasattr(result, "__await__"):
                task = context.run(_in_task, result)
                self._running[id(task)] = task
                task.add_done_callback(functools.partial(self._done, row, repeat))
        except Exception as error:  # noqa: BLE001 - reason: the other timers are not to blame
            self._failed(row, error)
        finally:
            if repeat is not None and task is None:
                repeat.busy = False

    def _done(self, row: Row, repeat: Repeat | None, task: asyncio.Future[Any]) -> None:
        self._running.pop(id(task), None)
        if repeat is not None:
            repeat.busy = False
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(row, error)

    def _failed(self, row: Row, error: BaseException) -> None:
        self._schedule.failed(row, error)
        if self._raises and self._loop is not None:
            message = f"a timer of {self.name} started at {callsite.shown(row[SITE])} raised"
            self._loop.call_exception_handler({"message": message, "exception": error})

    # -- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End every timer, cancel coroutines under way, take no more timers. Idempotent."""
        self._schedule.close()
        if self._loop is not None:
            for task in (*self._running.copy().values(), self._alarm):
                if task is not None:
                    call_on(self._loop, task.cancel)

    async def aclose(self) -> None:
        """End every timer, cancel coroutines under way, and wait for these. Idempotent."""
        import asyncio  # noqa: PLC0415 - reason: see `loops`

        self.close()
        current = asyncio.current_task()
        tasks = [task for task in self._running.copy().values() if task is not current]
        if tasks and running_loop() is self._loop:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def statistics(self) -> TimerRegistryStatistics:
        """Return what it holds and has done. Thread-safe, O(1)."""
        return self._schedule.statistics(threads=0, waiting=len(self._running))

    def _after_fork_in_child(self) -> None:
        # The loop is the parent's.
        self._left = [self._schedule.start_empty(), self._running, self._alarm, self._loop]
        self._running = {}
        self._alarm = self._loop = None


def _in_task(awaitable: Any) -> asyncio.Future[Any]:
    import asyncio  # noqa: PLC0415 - reason: see `loops`

    try:
        future: asyncio.Future[Any] = asyncio.ensure_future(awaitable)
    except BaseException:
        if hasattr(awaitable, "close"):
            awaitable.close()  # or the interpreter warns that it was never awaited
        raise
    return future
