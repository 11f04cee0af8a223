"""`AsyncTimerRegistry`: the timers of `TimerRegistry`, called on an event loop."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from memguard.bounded import callsite, inventory, options
from memguard.bounded.timers.schedule import CYCLE, SITE, Cycle, Row, Timetable
from memguard.bounded.timers.threaded import TimerBook, TimerRegistryStatistics
from memguard.errors import LifecycleError

if TYPE_CHECKING:
    import asyncio


__all__ = ["AsyncTimerRegistry"]


class AsyncTimerRegistry(TimerBook):
    """
    Call functions and coroutine functions after a delay or at intervals, on an event loop.

    It belongs to the loop on which its first timer was started, and to another one when that loop
    is closed or no timers are left. Each call has an empty context of its own, so that a timer
    does not keep the context of the request that started it. A registry that is dropped ends its
    timers. A forked child starts with no timers. See ``docs/timers.md``.

    Thread-safe: timers are started on the loop's thread; handles may be closed from anywhere.

    Bounded by: *maxsize* timers; a warning with the places that started them at four fifths of it.
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
        options.check_positive_int(maxsize, "maxsize")
        self._on_error = options.check_choice(on_error, options.ON_ERROR, "on_error")
        options.check_callable(timer, "timer", optional=False)
        self.name = callsite.name_for(type(self).__name__, name)
        """What reports call it."""
        self._table = Timetable(self.name, maxsize, timer)
        # Weak: neither the table nor the loop keeps the registry.
        self._look_later = functools.partial(_look, weakref.ref(self))
        self._table.on_hurry = functools.partial(_hurry, weakref.ref(self))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._running: dict[int, asyncio.Task[Any]] = {}
        self._left: list[Any] = []
        inventory.register(self, name=self.name, kind=type(self).__name__)

    def _prepare(self, fn: Any) -> None:  # noqa: ARG002 - reason: every kind of function will do
        import asyncio  # noqa: PLC0415 - reason: asyncio is 7 MiB for a host that does without it

        self._left = []
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise LifecycleError(
                "timers of an AsyncTimerRegistry are started on a running event loop; "
                "elsewhere use TimerRegistry"
            ) from None
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self._table.rows:
            raise LifecycleError(
                f"{self.name} belongs to another event loop, where timers of it are waiting"
            )
        if self._table.rows:  # of a loop that is closed: nobody will call them
            self._table.cancel_all()
        self._running = {}
        self._alarm, self._loop = None, loop
        self._table.next_due = float("inf")

    # -- on the loop ----------------------------------------------------------------------------

    def _look(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        nap = self._table.step(self._fire)
        if nap is not None and self._loop is not None:
            self._alarm = self._loop.call_later(
                nap, self._look_later, context=contextvars.Context()
            )

    def _fire(self, row: Row) -> None:
        cycle: Cycle | None = row[CYCLE]
        call = self._table.take(row)
        if call is None:
            _free(cycle)
            return
        context = contextvars.Context()
        try:
            result = context.run(call)
        except Exception as error:  # noqa: BLE001 - reason: the other timers are not to blame
            _free(cycle)
            self._failed(row, error)
        except BaseException:
            _free(cycle)
            raise
        else:
            if hasattr(result, "__await__"):
                context.run(self._run, row, cycle, result)
            else:
                _free(cycle)

    def _run(self, row: Row, cycle: Cycle | None, awaitable: Any) -> None:
        import asyncio  # noqa: PLC0415 - reason: see above

        task = asyncio.ensure_future(awaitable)
        self._running[id(task)] = task
        task.add_done_callback(functools.partial(self._done, row, cycle))

    def _done(self, row: Row, cycle: Cycle | None, task: asyncio.Task[Any]) -> None:
        self._running.pop(id(task), None)
        _free(cycle)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(row, error)

    def _failed(self, row: Row, error: BaseException) -> None:
        self._table.failed(row, error)
        if self._on_error == "raise" and self._loop is not None:
            place = callsite.shown(row[SITE])
            message = f"a timer of {self.name} started at {place} raised"
            self._loop.call_exception_handler({"message": message, "exception": error})

    # -- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End every timer, cancel coroutines under way, take no more timers. Idempotent."""
        self._table.closed = True
        self._table.cancel_all()
        for task in list(self._running.copy().values()):
            self._on_loop(task.cancel)
        if self._alarm is not None:
            self._on_loop(self._alarm.cancel)

    async def aclose(self) -> None:
        """End every timer, cancel coroutines under way, and wait for these. Idempotent."""
        import asyncio  # noqa: PLC0415 - reason: see above

        self.close()
        current = asyncio.current_task()
        tasks = [task for task in self._running.copy().values() if task is not current]
        if tasks and asyncio.get_running_loop() is self._loop:
            await asyncio.wait(tasks)

    def _on_loop(self, call: Callable[[], object]) -> None:
        """Make *call* on the loop, now where it is the running one."""
        import asyncio  # noqa: PLC0415 - reason: see above

        loop = self._loop
        if loop is None:
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            call()
        else:
            with contextlib.suppress(RuntimeError):  # it is closed: nothing runs any more
                loop.call_soon_threadsafe(call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def statistics(self) -> TimerRegistryStatistics:
        """Return what it holds and has done. O(1); not from two threads at the same time."""
        table = self._table
        table.settle()
        return TimerRegistryStatistics(
            name=self.name,
            closed=table.closed,
            timers=len(table.rows),
            maxsize=table.maxsize,
            fired=table.fired.read(),
            coalesced=table.coalesced,
            cancelled=table.cancelled.read(),
            errors=table.errors.read(),
            warnings=table.warnings,
            threads=0,
            waiting=len(self._running),
        )

    def _after_fork_in_child(self) -> None:
        # The loop is the parent's. Nothing is dropped here, where destructors might wait for locks.
        self._left = [self._table.forget(), self._running, self._alarm, self._loop]
        self._running = {}
        self._alarm = self._loop = None


def _free(cycle: Cycle | None) -> None:
    if cycle is not None:
        cycle.busy = False


def _look(me: weakref.ref[AsyncTimerRegistry]) -> None:
    registry = me()
    if registry is not None:
        registry._look()  # noqa: SLF001 - reason: its own other half


def _hurry(me: weakref.ref[AsyncTimerRegistry]) -> None:
    registry = me()
    if registry is not None and registry._loop is not None:  # noqa: SLF001 - reason: its own other half
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
            registry._loop.call_soon_threadsafe(registry._look_later)  # noqa: SLF001 - reason: as above
