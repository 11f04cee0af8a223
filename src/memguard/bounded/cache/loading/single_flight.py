"""
Single flight: many callers miss one key, one of them loads, all get the result.

No lock is held while a loader runs. A caller that would wait for a load that (through any number of
threads or tasks) waits for the caller itself loads on its own instead: a double load is better than
a deadlock. Errors reach every waiter; an interrupt or exit reaches only the thread it was meant
for, and one of the waiters takes over.

Cost: an undisturbed load takes two dict operations and no lock.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

_mutex = threading.Lock()
"""Guards who waits for whom, in the whole process; held for a few assignments only."""

_waiting: dict[int, Flight] = {}
"""Thread -> the flight it waits for."""


class Flight:
    """One load under way on a thread."""

    __slots__ = ("_error", "_gate", "_is_over", "_value", "_waiters", "disowned", "owner")

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.disowned = False
        """True when the key was deleted meanwhile: the result goes to the callers only."""
        self._value: Any = None
        self._error: BaseException | None = None
        self._is_over = False
        self._waiters = 0
        self._gate: threading.Event | None = None

    def land(self, value: Any = None, error: BaseException | None = None) -> None:
        """Hand the outcome to everybody who waits."""
        with _mutex:
            self._is_over = True
            self._value = value
            # An error refers, through its traceback, to frames that refer to this flight: it is
            # kept only for those who wait, and only until the last of them has it.
            self._error = error if self._waiters or error is None else _FORGOTTEN
            gate = self._gate
        if gate is not None:
            gate.set()

    def wait(self) -> bool:
        """Wait for the end and return True; False at once when that would be a deadlock."""
        me = threading.get_ident()
        with _mutex:
            if self._is_over:
                self._waiters += 1
                return True
            if self._waits_for(me):
                return False
            if self._gate is None:
                self._gate = threading.Event()
            self._waiters += 1
            _waiting[me] = self
        try:
            self._gate.wait()
        finally:
            with _mutex:
                _waiting.pop(me, None)
        return True

    def _waits_for(self, thread: int) -> bool:
        """Return whether this load waits, through any number of others, for *thread*."""
        flight: Flight | None = self
        while flight is not None:
            if flight.owner == thread:
                return True
            flight = _waiting.get(flight.owner)
        return False

    def outcome(self) -> tuple[Any, BaseException | None]:
        """Return value and error, once for each `wait` that returned True."""
        with _mutex:
            result = self._value, self._error
            self._waiters -= 1
            if not self._waiters and self._error is not None:
                self._error = _FORGOTTEN
        return result


_FORGOTTEN = BaseException("the load failed before this thread began to wait for it")


def board(flights: dict[Any, Any], key: Any, flight: Flight) -> tuple[bool, Any]:
    """
    Decide who loads *key*: ``(True, None)`` when the caller must, ``(False, value)`` when not.

    A caller that must load calls `land` afterwards, whatever happens, and should first look whether
    the value is there by now: another load may have ended between its look and this call.
    *flights* belongs to the caller and holds the loads under way, nothing else. Equality and hash
    of *key* are used outside of every lock.

    Raises:
        Exception: What the load that this caller waited for has raised.
    """
    while True:
        other = flights.setdefault(key, flight)
        if other is flight or not other.wait():
            return True, None
        value, error = other.outcome()
        if error is None:
            return False, value
        if isinstance(error, Exception):
            try:
                raise error
            finally:
                del error  # the traceback refers to this frame
        # The leader was interrupted, or failed before this thread waited: look again who leads.
        del error


def land(
    flights: dict[Any, Any],
    key: Any,
    flight: Flight,
    value: Any = None,
    error: BaseException | None = None,
) -> None:
    """End a load: take it out of *flights* and hand its outcome to everybody who waits."""
    if flights.get(key) is flight:  # a deletion may have made room for a younger one
        flights.pop(key, None)
    flight.land(value, error)


def abandon(flights: dict[Any, Any], key: Any, flight: Flight) -> None:
    """Take out a load that could not be started; who waits for it tries itself."""
    land(flights, key, flight, error=_FORGOTTEN)


def _after_fork_in_child() -> None:
    """Nobody waits in a new process: the other threads are gone."""
    global _mutex  # noqa: PLW0603 - reason: a vanished thread may hold the old one
    _mutex = threading.Lock()
    _waiting.clear()


_hooked = False


def hook_fork() -> None:
    """Make forked children forget who waited; called by the first cache, not by the import."""
    global _hooked  # noqa: PLW0603 - reason: once per process
    if not _hooked:
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork_in_child)
        _hooked = True  # last: two threads may hook it twice, which does no harm


class AsyncFlight:
    """One load under way on an event loop, in a task of its own."""

    __slots__ = ("awaits", "disowned", "task", "waiters")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.disowned = False
        self.waiters = 0
        self.awaits: list[AsyncFlight] = []
        """Flights that this one's loader, or a task started by it, waits for."""

    def reaches(self, others: tuple[AsyncFlight, ...]) -> bool:
        """Return whether this flight is, or waits in any number of steps for, one of *others*."""
        seen: list[AsyncFlight] = []
        stack = [self]
        while stack:
            flight = stack.pop()
            if flight in others:
                return True
            if flight not in seen:
                seen.append(flight)
                stack += flight.awaits
        return False


_aboard: ContextVar[tuple[AsyncFlight, ...]] = ContextVar("memguard_loads", default=())
"""The loads that the running task is part of; tasks that a loader starts inherit it."""


class AsyncFlights(dict[int, tuple["weakref.ref[Any]", dict[Any, AsyncFlight]]]):
    """
    Loads under way, for each event loop its own, for a future belongs to one loop.

    A dict, so that "nothing was ever loaded here" is asked without a call; rows of dead loops leave
    when the next loop comes.
    """

    __slots__ = ()

    def of_running_loop(self) -> dict[Any, AsyncFlight]:
        """Return the loads of the running loop."""
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        loop = asyncio.get_running_loop()
        row = self.get(id(loop))
        if row is not None and row[0]() is loop:
            return row[1]
        for ident, (reference, _) in list(self.copy().items()):
            if reference() is None:
                self.pop(ident, None)
        flights: dict[Any, AsyncFlight] = {}
        self[id(loop)] = (weakref.ref(loop), flights)
        return flights

    def disown(self, key: Any) -> None:
        """See to it that no load of *key* stores its result."""
        for _, flights in list(self.copy().values()):
            flight = flights.get(key)
            if flight is not None:
                flight.disowned = True

    def disown_all(self) -> None:
        """See to it that no load stores its result."""
        for _, flights in list(self.copy().values()):
            for flight in list(flights.copy().values()):
                flight.disowned = True


async def fly_async(
    flights: AsyncFlights,
    key: Any,
    load: Callable[[AsyncFlight], Awaitable[Any]],
) -> Any:
    """
    Await what ``load(flight)`` gives, running it in one task for each *key* and event loop.

    A caller that is cancelled leaves alone; the load is cancelled only when nobody waits any more.
    """
    import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

    mine = flights.of_running_loop()
    aboard = _aboard.get()
    flight = mine.get(key)
    if flight is not None and aboard and flight.reaches(aboard):
        return await load(AsyncFlight())
    if flight is None or flight.task is None or flight.task.done():
        flight = AsyncFlight()
        mine[key] = flight
        flight.task = asyncio.ensure_future(_lead_async(mine, key, flight, load))
        flight.task.add_done_callback(_retrieve)
    for outer in aboard:
        outer.awaits.append(flight)
    flight.waiters += 1
    task = flight.task
    try:
        return await asyncio.shield(task)
    finally:
        flight.waiters -= 1
        for outer in aboard:
            outer.awaits.remove(flight)
        if not flight.waiters and not task.done():
            task.cancel()
        del task, flight


async def _lead_async(
    flights: dict[Any, AsyncFlight],
    key: Any,
    flight: AsyncFlight,
    load: Callable[[AsyncFlight], Awaitable[Any]],
) -> Any:
    _aboard.set((*_aboard.get(), flight))
    try:
        return await load(flight)
    finally:
        if flights.get(key) is flight:
            flights.pop(key, None)
        flight.task = None


def start_in_loop(
    flights: AsyncFlights, key: Any, load: Callable[[AsyncFlight], Awaitable[Any]], *, most: int
) -> bool:
    """Start a load that nobody waits for, unless *key* or *most* keys are being loaded already."""
    import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

    mine = flights.of_running_loop()
    if key in mine or len(mine) >= most:
        return False
    flight = AsyncFlight()
    flight.waiters = 1  # the cache itself, so that a caller who joins and leaves cancels nothing
    mine[key] = flight
    flight.task = asyncio.ensure_future(_lead_async(mine, key, flight, load))
    flight.task.add_done_callback(_retrieve)
    return True


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark the outcome as seen, so that a load nobody waits for any more warns of nothing."""
    if not task.cancelled():
        task.exception()
