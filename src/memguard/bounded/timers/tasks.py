"""`TaskRegistry`: asyncio tasks that are held until they are done, and end with their owner."""

from __future__ import annotations

import functools
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from memguard import log
from memguard.bounded import callsite, inventory, options
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.bounded.lifetime import owners
from memguard.bounded.timers.spawned import Record, SpawnedTask, is_here
from memguard.errors import CapacityError, LifecycleError
from memguard.units import parse_seconds

if TYPE_CHECKING:
    import asyncio


__all__ = ["SpawnedTask", "TaskRegistry", "TaskRegistryStatistics"]

T = TypeVar("T")

_MOST_LOGGED = 100
_WARN_AT = 0.8
_MOST_LISTED = 10


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
    """Tasks that came to their end."""
    failed: int
    """Tasks that raised."""
    cancelled: int
    """Tasks that were cancelled, by whomever."""
    stubborn: int
    """Tasks that were not done at the deadline of `aclose` or of ``async with``."""


# Registries with tasks that are not done: their tasks run to the end, whoever drops the registry.
_busy: dict[int, TaskRegistry] = {}


class TaskRegistry:
    """
    Spawn tasks that the collector cannot take away, that fail aloud, and end with their owner.

    asyncio itself holds running tasks weakly, and tells of an exception that nobody fetched when
    the task is collected, which may be never. See ``docs/timers.md``.

    Thread-safe: `spawn` belongs to the thread of the running loop, as in asyncio; statistics and
    `close` may be called from anywhere. One registry may serve several loops. A forked child
    starts without tasks.

    Bounded by: *maxsize* tasks that are not done; a warning with the places that spawned them at
    four fifths of it.
    Locks: none.
    Keeps alive: tasks until they are done, and so long itself; not owners.

    Args:
        maxsize: Most tasks at the same time.
        timeout: Seconds that the end of an ``async with`` waits for tasks to end by themselves,
            before it cancels them.
        grace: Seconds that cancelled tasks have to end, before they are left behind and named.
        on_error: ``"log"`` counts and logs what tasks raise, with the place that spawned them;
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
        self._maxsize = options.check_positive_int(maxsize, "maxsize")
        self._timeout = parse_seconds(timeout, name="timeout")
        self._grace = parse_seconds(grace, name="grace")
        self._on_error = options.check_choice(on_error, options.ON_ERROR, "on_error")
        self.name = callsite.name_for(type(self).__name__, name)
        """What reports call it."""
        self._records: dict[int, Record] = {}
        self._left: list[Any] = []
        self._orphans = owners.orphans()
        self._closed = self._warned = False
        self._spawned = self._finished = self._failed = self._cancelled = self._stubborn = 0
        self._logged: set[tuple[str, str]] = set()
        inventory.register(self, name=self.name, kind=type(self).__name__)

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
            TypeError: *coro* is no coroutine, or *owner* not weakly referenceable.
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
        import asyncio  # noqa: PLC0415 - reason: asyncio is 7 MiB for a host that does without it

        self._left = []
        self._settle()
        if self._closed:
            raise LifecycleError(f"{self.name} is closed and takes no more tasks")
        if len(self._records) >= self._maxsize:
            raise CapacityError(
                f"{self.name} is full: it holds maxsize={self._maxsize} tasks, "
                f"spawned at {self._grouped()}; await some, or give it a larger maxsize"
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise LifecycleError("spawn needs a running event loop in this thread") from None
        record = Record(name or str(getattr(coro, "__qualname__", type(coro).__name__)), site)
        handle: SpawnedTask[T] = SpawnedTask(loop)
        serial = next(owners.serials)
        if owner is not None:
            self._look_for_owner(coro, owner, site)
            record.estate = owners.adopt(owner, handle, serial)
        self._records[serial] = record
        self._spawned += 1
        _busy[id(self)] = self
        record.handle = handle
        handle._start(coro, record.name).add_done_callback(  # noqa: SLF001 - reason: the other half
            functools.partial(self._ended, serial, record)
        )
        if len(self._records) > self._maxsize * _WARN_AT:
            self._warn()
        return handle

    def _look_for_owner(self, coro: Any, owner: Any, site: callsite.Site) -> None:
        """Warn where the coroutine keeps its owner alive, so that only a hand can end it."""
        frame = getattr(coro, "cr_frame", None)
        if frame is None or issubclass(type(owner), owners.Owner):
            return
        if any(value is owner for value in frame.f_locals.values()):
            self._log_once(
                "tasks.holds_its_owner",
                callsite.shown(site),
                advice="the owner is not collected while the task runs: "
                "call end(owner), or give a Scope as owner and close it",
            )

    def _ended(self, serial: int, record: Record, task: asyncio.Task[Any]) -> None:
        self._records.pop(serial, None)
        record.handle = None
        if record.estate is not None:
            record.estate.release(serial)
        if not self._records:
            _busy.pop(id(self), None)
            self._warned = False
        if task.cancelled():
            self._cancelled += 1
            return
        error = task.exception()
        if error is None:
            self._finished += 1
            return
        self._failed += 1
        self._log_once(
            "tasks.failed",
            callsite.shown(record.site),
            task=record.name,
            error=type(error).__name__,
            exc_info=error,
        )
        if self._on_error == "raise":
            task.get_loop().call_exception_handler(
                {"message": f"task {record.told()} raised", "exception": error, "task": task}
            )

    # -- ending ---------------------------------------------------------------------------------

    def end(self, owner: Any) -> int:
        """Cancel the tasks in the name of *owner* here, the youngest first; say how many."""
        estate = owners.estate_of(owner)
        if estate is None:
            return 0
        mine = {id(record.handle) for record in list(self._records.copy().values())}
        things = [thing for thing in list(estate.things.copy().values()) if id(thing) in mine]
        for thing in reversed(things):
            thing.close()
        return len(things)

    def close(self) -> None:
        """Cancel every task and take no more; idempotent, from any thread. Does not wait."""
        self._closed = True
        for record in reversed(list(self._records.copy().values())):
            if record.handle is not None:
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
        import asyncio  # noqa: PLC0415 - reason: see spawn

        self._closed = True
        patience = parse_seconds(timeout, name="timeout")
        try:
            if patience and (tasks := self._tasks_here()):
                await asyncio.wait(tasks, timeout=patience)
        finally:
            self.close()
        if tasks := self._tasks_here():
            await asyncio.wait(tasks, timeout=self._grace)
        left = [record for record in list(self._records.copy().values()) if is_here(record)]
        if left:
            self._stubborn += len(left)
            log.event(
                logging.WARNING,
                "tasks.stubborn",
                registry=self.name,
                tasks=len(left),
                which="; ".join(record.told() for record in left[:_MOST_LISTED]),
            )
        return not left

    def _tasks_here(self) -> list[asyncio.Task[Any]]:
        return [
            record.handle.task
            for record in list(self._records.copy().values())
            if record.handle is not None and is_here(record)
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: object, _traceback: object
    ) -> None:
        # As a task group does: an exception of the block cancels at once.
        await self.aclose(timeout=self._timeout if kind is None else 0.0)

    # -- asking ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        if self._orphans:
            owners.wind_up()

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    def sites(self) -> dict[str, int]:
        """Return the places that spawned the running tasks, and how many each has."""
        records = list(self._records.copy().values())
        return dict(callsite.counted(record.site for record in records).most_common())

    def statistics(self) -> TaskRegistryStatistics:
        """Return what it holds and what became of its tasks. Thread-safe, O(1)."""
        self._settle()
        return TaskRegistryStatistics(
            name=self.name,
            closed=self._closed,
            tasks=len(self._records),
            maxsize=self._maxsize,
            spawned=self._spawned,
            finished=self._finished,
            failed=self._failed,
            cancelled=self._cancelled,
            stubborn=self._stubborn,
        )

    def footprint(self) -> Footprint:
        """Return how many tasks run; they weigh no bytes. Never raises."""
        return Footprint(items=len(self._records), bytes=None)

    def reclaim(
        self,
        *,
        fraction: float | None = None,  # noqa: ARG002 - reason: the protocol's
        to_bytes: int | None = None,  # noqa: ARG002 - reason: the protocol's
    ) -> Reclaimed:
        """Give nothing back: a task that runs is wanted."""
        return Reclaimed(items=0, bytes=None)

    def _grouped(self) -> str:
        return callsite.grouped(record.site for record in list(self._records.copy().values()))

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            log.event(
                logging.WARNING,
                "tasks.many",
                registry=self.name,
                tasks=len(self._records),
                maxsize=self._maxsize,
                spawned_at=self._grouped(),
            )

    def _log_once(self, event: str, place: str, **keys: Any) -> None:
        kind = f"{event} {keys.get('error', '')}"
        if (kind, place) not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add((kind, place))
            log.event(logging.WARNING, event, registry=self.name, spawned_at=place, **keys)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, tasks={len(self._records)})"

    def _after_fork_in_child(self) -> None:
        # The loop is the parent's. Nothing is dropped here, where destructors might wait for locks.
        self._left = [self._records]
        self._records = {}
        _busy.pop(id(self), None)
