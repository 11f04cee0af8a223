"""`BoundedQueue`: items wait between threads and tasks, never more of them than may."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, Self, TypeVar

from memguard import log
from memguard.bounded import callsite, inventory, options
from memguard.bounded.queue.backlog import NAP, Backlog, Item
from memguard.bounded.sizing.contents import DEFAULT_MAX_NODES
from memguard.bounded.sizing.entries import OpaqueTypes, SharedBytes, average_bytes, sized, weigh
from memguard.bounded.waiting import Waiter
from memguard.errors import (
    ConfigError,
    LifecycleError,
    QueueEmptyError,
    QueueFullError,
    ValueTooLargeError,
)
from memguard.lifecycle import fork
from memguard.lifecycle.failures import Failures
from memguard.units import format_bytes, format_seconds, parse_seconds

T = TypeVar("T")

WHEN_FULL = ("wait", "refuse", "drop_oldest")
_SAMPLE = 20
_SLOT_BYTES = sys.getsizeof((None, 0)) + 8
"""What an item takes besides itself: a pair with its size, and a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedQueueStatistics:
    """What a queue has done since it was made."""

    name: str
    items: int
    bytes: int | None
    """Of the items now; None where bytes are not counted."""
    maxsize: int | None
    maxbytes: int | None
    most: int
    """Most items at the same time."""
    puts: int
    gets: int
    dropped: int
    """Items taken out for newer ones."""
    refused: int
    """Calls of put that ended without room."""
    waiting_to_put: int
    waiting_to_get: int
    opaque: tuple[str, ...]
    """Types of items whose memory only their library knows: *bytes* are too few."""
    errors: int
    """Calls of *on_drop* that raised; each kind is logged once."""


class BoundedQueue(Generic[T]):
    """
    A queue between threads and asyncio tasks, bounded by items, by bytes, or both.

    One queue has both sides: `put` and `get` wait in a thread, `aput` and `aget` in a task, and a
    thread may put what a task gets. First in, first out; who waits longest is served first. An item
    is listed as memory in use, but relief never takes one out: it is work that somebody wants done.

    Thread-safe. In a signal handler or destructor that interrupts a call of the same queue in its
    thread there is never room and never an item: `put` and `get` raise at once. In a forked child
    the queue has the items that it had, and nobody waits.

    Bounded by: *maxsize* items, *maxbytes* bytes.
    Locks: one mutex around numbers; *sizer* and *on_drop* run outside of it.
    Keeps alive: the items.

    Args:
        maxsize: Most items.
        maxbytes: Most bytes of all items, as a number or ``"64MiB"``. Items are weighed when they
            are put: see ``docs/values.md``. What several of them share counts once.
        when_full: ``"wait"`` until there is room; ``"refuse"``: raise `QueueFullError` at once,
            unless `put` is called with a *timeout*;
            ``"drop_oldest"``: take out the oldest, which is counted, and logged once.
        timeout: Seconds, or ``"5s"``, that `put` and `get` wait by default; None: without limit.
        sizer: Returns the bytes that an item counts; by default it is weighed, and some 64 bytes
            are added for its place.
        on_drop: Called with each item that is taken out for a newer one.
        name: What reports call it; by default the place where it is made.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range, or neither *maxsize* nor *maxbytes* is given.
    """

    def __init__(
        self,
        *,
        maxsize: int | None = None,
        maxbytes: int | str | None = None,
        when_full: Literal["wait", "refuse", "drop_oldest"] = "wait",
        timeout: float | str | None = None,
        sizer: Callable[[T], int] | None = None,
        on_drop: Callable[[T], object] | None = None,
        name: str | None = None,
    ) -> None:
        most = None if maxsize is None else options.check_positive_int(maxsize, "maxsize")
        limit = options.check_maxbytes(maxbytes)
        options.check_bounded(most, limit, "BoundedQueue")
        self.maxsize, self.maxbytes = most, limit
        self._drops = options.check_choice(when_full, WHEN_FULL, "when_full") == "drop_oldest"
        self._get_timeout = None if timeout is None else parse_seconds(timeout, name="timeout")
        self._put_timeout = self._get_timeout if when_full == "wait" else 0.0
        self._sizer = options.check_callable(sizer, "sizer")
        self._on_drop = options.check_callable(on_drop, "on_drop")
        if on_drop is not None and not self._drops:
            raise ConfigError("on_drop is only called with when_full='drop_oldest'; leave it out")
        self.name = callsite.name_for("BoundedQueue", name)
        self._opaque = OpaqueTypes()
        self._failures = Failures("queue.call_failed", queue=self.name)
        self._backlog = Backlog(self.name, most, limit)
        inventory.register(self, name=self.name, kind="BoundedQueue", also=(self._backlog.items,))

    def _after_fork_in_child(self) -> None:
        self._backlog.restart_in_child()

    # -- threads ----------------------------------------------------------------------------------

    def put(self, item: T, timeout: float | str | None = None) -> None:
        """
        Put *item*; wait for room if that is wanted.

        If it raises, *item* was not put; but for what a signal handler raises at the last moment.

        Args:
            item: What to put.
            timeout: Seconds to wait for room; by default those of the queue.

        Raises:
            QueueFullError: There was no room in time.
            ValueTooLargeError: It is larger than *maxbytes*.
            LifecycleError: The queue is closed.
        """
        size, seconds = self._begin_put(item, timeout)
        if self._try_put(item, size, None):
            return
        put = partial(self._try_put, item, size)
        with self._naps(put, seconds, Waiter, partial(self._full, size, seconds)) as naps:
            for waiter, nap in naps:
                waiter.sleep(nap)

    def get(self, timeout: float | str | None = None) -> T:
        """
        Return the oldest item; wait for one if there is none.

        What a signal handler raises just after an item was taken out loses that item.

        Args:
            timeout: Seconds to wait; by default those of the queue.

        Raises:
            QueueEmptyError: None came in time.
            LifecycleError: The queue is closed and empty.
        """
        return self._get(self._begin_get(timeout))

    def _get(self, seconds: float | None) -> T:
        found: list[Item] = []
        if not self._try_get(found, None):
            get = partial(self._try_get, found)
            with self._naps(get, seconds, Waiter, partial(self._empty, seconds)) as naps:
                for waiter, nap in naps:
                    waiter.sleep(nap)
        item: T = found.pop()[0]
        return item

    def put_nowait(self, item: T) -> None:
        """As `put`, without waiting."""
        self.put(item, 0)

    def get_nowait(self) -> T:
        """As `get`, without waiting."""
        return self.get(0)

    # -- tasks ------------------------------------------------------------------------------------

    async def aput(self, item: T, timeout: float | str | None = None) -> None:
        """As `put`, without blocking the event loop."""
        size, seconds = self._begin_put(item, timeout)
        if self._try_put(item, size, None):
            return
        put = partial(self._try_put, item, size)
        with self._naps(put, seconds, _of_task, partial(self._full, size, seconds)) as naps:
            for waiter, nap in naps:
                await waiter.sleep_async(nap)

    async def aget(self, timeout: float | str | None = None) -> T:
        """As `get`, without blocking the event loop."""
        return await self._aget(self._begin_get(timeout))

    async def _aget(self, seconds: float | None) -> T:
        found: list[Item] = []
        if not self._try_get(found, None):
            get = partial(self._try_get, found)
            with self._naps(get, seconds, _of_task, partial(self._empty, seconds)) as naps:
                for waiter, nap in naps:
                    await waiter.sleep_async(nap)
        item: T = found.pop()[0]
        return item

    # -- until it is closed -----------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        """Yield items as they come, until the queue is closed and empty."""
        while True:
            try:
                item = self._get(None)
            except LifecycleError:
                return
            yield item
            del item  # else the wait for the next one keeps it

    async def __aiter__(self) -> AsyncIterator[T]:
        """As `__iter__`, in a task."""
        while True:
            try:
                item = await self._aget(None)
            except LifecycleError:
                return
            yield item
            del item

    def close(self) -> None:
        """
        Take no more items; idempotent.

        Who waits to put gets a `LifecycleError`; items that are in it can still be got.
        """
        fork.check()
        self._wake(self._backlog.close())

    def clear(self) -> int:
        """
        Take out all items, which are lost, and return how many there were.

        Raises:
            LifecycleError: A signal handler or destructor calls it in the middle of another call.
        """
        fork.check()
        if self._backlog.is_mine():
            raise LifecycleError(self._interrupted())
        gone, woken = self._backlog.clear()
        self._wake(woken)
        return len(gone)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- looking ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of items. No lock."""
        return len(self._backlog)

    def __bool__(self) -> bool:
        """Return True: a queue that is empty is one."""
        return True

    @property
    def closed(self) -> bool:
        """Whether it takes no more items."""
        return self._backlog.closed

    def statistics(self) -> BoundedQueueStatistics:
        """Return counts since the queue was made. Thread-safe; cost: O(calls that wait)."""
        fork.check()
        backlog = self._backlog
        putters, getters = backlog.waiting()
        return BoundedQueueStatistics(
            name=self.name,
            items=len(backlog),
            bytes=None if self.maxbytes is None else backlog.bytes(),
            maxsize=self.maxsize,
            maxbytes=self.maxbytes,
            most=backlog.most,
            puts=backlog.puts,
            gets=backlog.gets,
            dropped=backlog.dropped,
            refused=backlog.refused,
            waiting_to_put=putters,
            waiting_to_get=getters,
            opaque=self._opaque.names,
            errors=self._failures.count,
        )

    def footprint(self) -> inventory.Footprint:
        """
        Return the items and their bytes: those counted, or an estimate from the oldest twenty.

        There is no ``reclaim``: relief takes no item out.
        """
        fork.check()
        items = len(self._backlog)
        if self.maxbytes is not None:
            return inventory.Footprint(items, self._backlog.bytes(), bool(self._opaque))
        sample = [(None, item) for item in self._backlog.some(_SAMPLE)]
        each = average_bytes(sample, _SLOT_BYTES, items, DEFAULT_MAX_NODES, self._note_opaque)
        return inventory.Footprint(items, int(each * items), bool(self._opaque))

    def __repr__(self) -> str:
        return (
            f"BoundedQueue(name={self.name!r}, items={len(self)}, maxsize={self.maxsize}, "
            f"maxbytes={self.maxbytes})"
        )

    # -- steps ------------------------------------------------------------------------------------

    def _begin_put(self, item: T, timeout: float | str | None) -> tuple[int, float | None]:
        fork.check()
        seconds = _seconds(timeout, self._put_timeout)
        if self._backlog.is_mine():
            raise QueueFullError(self._interrupted())
        return self._weigh(item), seconds

    def _begin_get(self, timeout: float | str | None) -> float | None:
        fork.check()
        seconds = _seconds(timeout, self._get_timeout)
        if self._backlog.is_mine():
            raise QueueEmptyError(self._interrupted())
        return seconds

    def _interrupted(self) -> str:
        return (
            f"queue {self.name!r} is being changed by this very thread, which a signal handler or "
            "destructor has interrupted; use it after that"
        )

    def _naps(
        self,
        attempt: Callable[[Waiter | None], bool],
        seconds: float | None,
        new_waiter: Callable[[], Waiter],
        failure: Callable[[], Exception],
    ) -> contextlib.closing[Generator[tuple[Waiter, float]]]:
        """
        After a first try in vain: return the naps to take, and their waiter, until one succeeds.

        Args:
            attempt: Tries once, and has the waiter that it is given stand in line.
            seconds: To wait in all; None: without limit.
            new_waiter: Makes a waiter, if one is needed.
            failure: Returns what is raised when time is up.
        """
        return contextlib.closing(self._until(attempt, seconds, new_waiter, failure))

    def _until(
        self,
        attempt: Callable[[Waiter | None], bool],
        seconds: float | None,
        new_waiter: Callable[[], Waiter],
        failure: Callable[[], Exception],
    ) -> Generator[tuple[Waiter, float]]:
        if seconds is not None and seconds <= 0:
            raise failure()
        waiter = new_waiter()
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        try:
            while not attempt(waiter):
                pause = deadline - time.monotonic()
                if pause <= 0:
                    raise failure()  # noqa: TRY301 - reason: whoever ends in vain leaves the line
                yield waiter, min(pause, NAP)
        except BaseException:  # also where the caller was interrupted in its nap
            self._leave(waiter)
            raise

    def _try_put(self, item: T, size: int, waiter: Waiter | None) -> bool:
        done, gone, is_first, woken = self._backlog.put(item, size, waiter, drop=self._drops)
        self._wake(woken)
        if gone:
            self._say_dropped(gone, is_first=is_first)
        return done

    def _try_get(self, found: list[Item], waiter: Waiter | None) -> bool:
        got, woken = self._backlog.get(waiter)
        found += got
        self._wake(woken)
        return bool(got)

    def _leave(self, waiter: Waiter) -> None:
        self._wake(self._backlog.leave(waiter))

    def _wake(self, woken: list[Waiter]) -> None:
        while woken:
            waiter = woken.pop()
            if not waiter.wake():  # its loop is closed
                woken += self._backlog.leave(waiter)

    def _weigh(self, item: T) -> int:
        if self.maxbytes is None:
            return 0
        if self._sizer is not None:
            size = sized(item, self._sizer)
        else:
            size = weigh(item, self._note_opaque)
            size = size.more(_SLOT_BYTES) if type(size) is SharedBytes else size + _SLOT_BYTES
        if size > self.maxbytes:
            raise ValueTooLargeError(
                f"queue {self.name!r}: an item of {format_bytes(size)} is larger than "
                f"maxbytes={format_bytes(self.maxbytes)}; raise it, or put parts"
            )
        return size

    def _note_opaque(self, names: tuple[str, ...]) -> None:
        if self._opaque.note(names) and self.maxbytes is not None:
            log.event(
                log.WARNING,
                "queue.items_opaque",
                queue=self.name,
                types=", ".join(names),
                remedy="give sizer=",
            )

    def _say_dropped(self, gone: list[Item], *, is_first: bool) -> None:
        if is_first:
            log.event(log.WARNING, "queue.dropped", queue=self.name, items=len(gone))
        if self._on_drop is None:
            return
        for item, _ in gone:
            try:
                self._on_drop(item)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: the host's code; what was put is put
                self._failures.add("on_drop", error)

    def _full(self, size: int, seconds: float | None) -> QueueFullError:
        self._backlog.count_refused()
        wanted = f"an item of {format_bytes(size)}" if self.maxbytes is not None else "an item"
        bounds = [f"maxsize={self.maxsize}"] * (self.maxsize is not None)
        if self.maxbytes is not None:
            bounds.append(f"maxbytes={format_bytes(self.maxbytes)}")
        return QueueFullError(
            f"queue {self.name!r} had no room for {wanted} within {format_seconds(seconds or 0)}: "
            f"it has {len(self)} items ({', '.join(bounds)}); get faster, or raise the bound"
        )

    def _empty(self, seconds: float | None) -> QueueEmptyError:
        return QueueEmptyError(
            f"queue {self.name!r} had no item within {format_seconds(seconds or 0)}"
        )


def _seconds(timeout: float | str | None, usual: float | None) -> float | None:
    return usual if timeout is None else parse_seconds(timeout, name="timeout")


def _of_task() -> Waiter:
    import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

    return Waiter(asyncio.get_running_loop())
