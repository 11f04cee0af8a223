"""`TaskRegistry`: asyncio tasks that are held until they are done, and end with their owner."""

from __future__ import annotations

import functools
import time
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from memguard import log
from memguard.bounded import callsite, options
from memguard.bounded.lifetime import owners, registrations
from memguard.bounded.lifetime.registrations import Bounds
from memguard.bounded.timers.loops import call_on
from memguard.errors import LifecycleError
from memguard.lifecycle.loops import running_loop
from memguard.units import format_seconds, parse_seconds

if TYPE_CHECKING:
    import asyncio

__all__ = ["SpawnedTask", "TaskRegistry", "TaskRegistryStatistics"]

T = TypeVar("T")

_MAX_LISTED = 10


@dataclass(frozen=True, slots=True)
class TaskRegistryStatistics:
    """What a registry of tasks holds and what became of its tasks."""

    name: str
    closed: bool
    tasks: int
    """Tasks that are not done."""
    maxsize: int
    spawned: int
    finished: int
    """Tasks that returned."""
    failed: int
    """Tasks that raised."""
    cancelled: int
    """Tasks that were cancelled."""
    stubborn: int
    """Tasks that were not done at the deadline of `aclose` or of ``async with``."""


class _Record:
    """What the registry knows of one task."""

    __slots__ = ("began", "handle", "name", "owned", "site")

    def __init__(self, name: str, site: callsite.Site, handle: SpawnedTask[Any]) -> None:
        self.name = name
        self.site = site
        self.handle = handle
        self.began = time.monotonic()
        self.owned: owners.Owned | None = None

    def describe(self) -> str:
        """Return name, site and age for a message."""
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
        if task is not None and not task.done():
            call_on(self._loop, task.cancel)

    async def aclose(self) -> None:
        """Cancel the task and wait until it is done; what it raises is not raised here."""
        import asyncio  # noqa: PLC0415 - reason: see `loops`

        self.close()
        if self._can_be_awaited():
            await asyncio.wait([self.task])

    def _can_be_awaited(self) -> bool:
        """Return whether the current task can wait for it."""
        import asyncio  # noqa: PLC0415 - reason: see `loops`

        task = getattr(self, "task", None)  # None while a task that starts eagerly is being made
        is_here = task is not None and running_loop() is self._loop
        return is_here and asyncio.current_task() is not task

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


# Registries with tasks that are not done: a registry that is dropped lives as long as its tasks.
_busy: dict[int, TaskRegistry] = {}


class TaskRegistry:
    """
    Spawn tasks that are never collected early, log their errors, and end with their owner.

    asyncio itself holds running tasks weakly, and reports an exception that was never retrieved
    when the task is collected, which may be never. See ``docs/timers.md``.

    Thread-safe: `spawn` belongs to the thread of the running loop, as in asyncio; statistics and
    `close` may be called from anywhere. One registry may serve several loops. A forked child
    starts without tasks.

    Bounded by: *maxsize* tasks that are not done; a warning with the lines that spawned them at
    four fifths of it.
    Locks: none.
    Keeps alive: tasks until they are done, and so long itself; not owners.

    Args:
        maxsize: Most tasks at the same time.
        timeout: Seconds that the end of an ``async with`` waits for tasks to end by themselves,
            before it cancels them.
        grace: Seconds that cancelled tasks have to end, before they are left and named.
        on_error: ``"log"`` counts and logs what tasks raise, with the line that spawned them;
            ``"raise"`` also hands it to the loop's exception handler.
        name: What reports call it; the line that made it by default.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        *,
        maxsize: int = 10_000,
        timeout: float | str = 30.0,
        grace: float | str = 5.0,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
    ) -> None:
        self._timeout = parse_seconds(timeout, name="timeout")
        self._grace = parse_seconds(grace, name="grace")
        self._raises = options.check_choice(on_error, options.ON_ERROR, "on_error") == "raise"
        advice = "await some, or give it a larger maxsize"
        self._bounds = Bounds(self, name, maxsize, "tasks", advice)
        self.name = self._bounds.name
        """What reports call it."""
        self._records: dict[int, _Record] = {}
        self._left: list[Any] = []
        self._spawned = self._finished = self._failed = self._cancelled = self._stubborn = 0

    def spawn(
        self, coro: Coroutine[Any, Any, T], *, owner: Any = None, name: str | None = None
    ) -> SpawnedTask[T]:
        """
        Run *coro* as a task of the running loop, and hold it until it is done.

        Args:
            coro: A coroutine; it is closed when it cannot be run.
            owner: An object, or a `Scope`, whose end cancels the task. It is not kept alive by
                the registry, but a coroutine that was made by its own method keeps it: then only
                a `Scope` or `end` can end it.
            name: The task's name.

        Returns:
            A handle: await it, or ``.close()`` it to cancel.

        Raises:
            TypeError: *coro* is not a coroutine, or *owner* cannot be weakly referenced.
            CapacityError: The registry is full; the message names who filled it.
            LifecycleError: The registry is closed, the scope has ended, or no loop is running.
        """
        if not hasattr(coro, "send") or not hasattr(coro, "close"):
            raise TypeError(
                f"coro must be a coroutine (got {type(coro).__name__}); "
                f"call the coroutine function first"
            )
        site = callsite.caller(2)
        try:
            return self._spawn(coro, owner, options.check_name(name), site)
        except BaseException:
            coro.close()  # or the interpreter warns that it was never awaited
            raise

    def _spawn(
        self, coro: Coroutine[Any, Any, T], owner: Any, name: str | None, site: callsite.Site
    ) -> SpawnedTask[T]:
        self._left = []
        self._settle()
        self._bounds.admit(len(self._records), self._sites)
        loop = running_loop()
        if loop is None:
            raise LifecycleError("spawn needs a running event loop in this thread")
        handle: SpawnedTask[T] = SpawnedTask(loop)
        name = name or str(getattr(coro, "__qualname__", type(coro).__name__))
        record = _Record(name, site, handle)
        serial = next(owners.serials)
        if owner is not None:
            self._look_for_owner(coro, owner, site)
        try:
            self._records[serial] = record
            _busy[id(self)] = self
            if owner is not None:
                record.owned = owners.adopt(owner, handle, serial)
            task = handle._start(coro, name)  # noqa: SLF001 - reason: the other half
        except BaseException:
            self._forget(serial, record)
            raise
        self._spawned += 1
        task.add_done_callback(functools.partial(self._ended, serial, record))
        if self._bounds.is_crowded(len(self._records)):
            log.event(
                log.WARNING,
                "tasks.many",
                registry=self.name,
                tasks=len(self._records),
                maxsize=self._bounds.maxsize,
                spawned_at=callsite.grouped(self._sites()),
            )
        return handle

    def _look_for_owner(self, coro: Any, owner: Any, site: callsite.Site) -> None:
        """Warn if the coroutine keeps its owner alive, so that nothing ends it automatically."""
        frame = getattr(coro, "cr_frame", None)
        if frame is None or issubclass(type(owner), owners.Owner):
            return
        if any(value is owner for value in frame.f_locals.values()):
            self._bounds.warn_once(
                "tasks.holds_its_owner",
                callsite.shown(site),
                spawned_at=callsite.shown(site),
                advice="the owner is not collected while the task runs: "
                "call end(owner), or give a Scope as owner and close it",
            )

    def _forget(self, serial: int, record: _Record) -> None:
        self._records.pop(serial, None)
        if record.owned is not None:
            record.owned.release(serial)
        if not self._records:
            _busy.pop(id(self), None)

    def _ended(self, serial: int, record: _Record, task: asyncio.Task[Any]) -> None:
        self._forget(serial, record)
        if task.cancelled():
            self._cancelled += 1
            return
        error = task.exception()
        if error is None:
            self._finished += 1
            return
        self._failed += 1
        site, kind = callsite.shown(record.site), type(error).__name__
        self._bounds.warn_once(
            "tasks.failed",
            (site, kind),
            spawned_at=site,
            task=record.name,
            error=kind,
            exc_info=error,
        )
        if self._raises:
            task.get_loop().call_exception_handler(
                {"message": f"task {record.describe()} raised", "exception": error, "task": task}
            )

    # -- ending ---------------------------------------------------------------------------------

    def end(self, owner: Any) -> int:
        """Cancel the tasks in the name of *owner* here, the youngest first; return how many."""
        owned = owners.owned_by(owner)
        serials = [] if owned is None else list(owned.registrations.copy())
        mine = [self._records[serial] for serial in reversed(serials) if serial in self._records]
        for record in mine:
            record.handle.close()
        return len(mine)

    def close(self) -> None:
        """Cancel every task and take no more; idempotent, from any thread. Does not wait."""
        self._bounds.closed = True
        for record in reversed(list(self._records.copy().values())):
            record.handle.close()

    async def aclose(self, *, timeout: float | str = 0.0) -> bool:
        """
        Take no more tasks, wait for those that run, then cancel them, and wait for that.

        Tasks of other loops are cancelled and not waited for. Idempotent.

        Args:
            timeout: Seconds, or a string, to wait before tasks are cancelled.

        Returns:
            True when every task is done; False when some ignored their cancellation for *grace*
            seconds: these are counted, named in the log, and go on.
        """
        import asyncio  # noqa: PLC0415 - reason: see `loops`

        self._bounds.closed = True
        patience = parse_seconds(timeout, name="timeout")
        try:
            if patience and (mine := self._awaitable()):
                await asyncio.wait([record.handle.task for record in mine], timeout=patience)
        finally:
            self.close()
        if mine := self._awaitable():
            await asyncio.wait([record.handle.task for record in mine], timeout=self._grace)
        left = self._awaitable()
        if left:
            self._stubborn += len(left)
            log.event(
                log.WARNING,
                "tasks.stubborn",
                registry=self.name,
                tasks=len(left),
                which="; ".join(record.describe() for record in left[:_MAX_LISTED]),
            )
        return not left

    def _awaitable(self) -> list[_Record]:
        """Return the tasks that the current one can wait for."""
        records = list(self._records.copy().values())
        return [record for record in records if record.handle._can_be_awaited()]  # noqa: SLF001 - reason: the other half

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: object, _traceback: object
    ) -> None:
        # As a task group does: an exception of the block cancels at once.
        await self.aclose(timeout=self._timeout if kind is None else 0.0)

    # -- asking ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        if owners.collected:
            owners.end_collected()

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    def sites(self) -> dict[str, int]:
        """Return where the running tasks were spawned, and how many at each line."""
        return dict(callsite.counted(self._sites()).most_common())

    def _sites(self) -> list[callsite.Site]:
        return [record.site for record in list(self._records.copy().values())]

    def statistics(self) -> TaskRegistryStatistics:
        """Return what it holds and what became of its tasks. Thread-safe, O(1)."""
        self._settle()
        return TaskRegistryStatistics(
            name=self.name,
            closed=self._bounds.closed,
            tasks=len(self._records),
            maxsize=self._bounds.maxsize,
            spawned=self._spawned,
            finished=self._finished,
            failed=self._failed,
            cancelled=self._cancelled,
            stubborn=self._stubborn,
        )

    footprint = registrations.footprint
    reclaim = registrations.reclaim

    def _count_all(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, tasks={len(self._records)})"

    def _after_fork_in_child(self) -> None:
        # The loop is the parent's. Nothing is dropped here, where destructors might wait for locks.
        self._left = [self._records]
        self._records = {}
        _busy.pop(id(self), None)
