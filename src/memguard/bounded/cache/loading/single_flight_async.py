"""Single flight for coroutines: one load for the tasks of one event loop; see `single_flight`."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from memguard.bounded.cache.loading.single_flight import Flights

if TYPE_CHECKING:
    import asyncio


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


class FlightsOfLoops(dict[int, tuple["weakref.ref[Any]", Flights]]):
    """
    Loads in progress, separate for each event loop, because a future belongs to one loop.

    A dict, so "nothing was ever loaded here" is checked without a call; rows of dead loops are
    removed when the next loop is added.
    """

    __slots__ = ()

    def of_running_loop(self) -> Flights:
        """Return the loads of the running loop."""
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        loop = asyncio.get_running_loop()
        row = self.get(id(loop))
        if row is not None and row[0]() is loop:
            return row[1]
        for ident, (reference, _) in list(self.copy().items()):
            if reference() is None:
                self.pop(ident, None)
        flights = Flights()
        self[id(loop)] = (weakref.ref(loop), flights)
        return flights

    def disown(self, key: Any) -> None:
        """See to it that no load of *key* stores its result."""
        for _, flights in list(self.copy().values()):
            flights.disown(key)

    def disown_all(self) -> None:
        """See to it that no load stores its result."""
        for _, flights in list(self.copy().values()):
            flights.disown_all()


Load = Callable[[AsyncFlight], Awaitable[Any]]
"""Loads one key, as part of a flight."""


async def fly_async(flights: FlightsOfLoops, key: Any, load: Load) -> Any:
    """
    Await what ``load(flight)`` gives, running it in one task for each *key* and event loop.

    Cancelling a caller does not affect the others; the load is cancelled only when no caller waits
    any more, and the next caller starts another one.
    """
    import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

    mine = flights.of_running_loop()
    aboard = _aboard.get()
    flight = mine.get(key)
    if flight is not None and aboard and flight.reaches(aboard):
        return await load(AsyncFlight())
    if flight is None or flight.task is None or flight.task.done():
        flight = _start(mine, key, load)
    task: Any = flight.task
    try:
        flight.waiters += 1
        for outer in aboard:
            outer.awaits.append(flight)
        return await asyncio.shield(task)
    finally:
        flight.waiters -= 1
        for outer in aboard:
            outer.awaits.remove(flight)
        if not flight.waiters and not task.done():
            mine.end(key, flight)
            task.cancel()
        del task, flight


def start_in_loop(flights: FlightsOfLoops, key: Any, load: Load, *, most: int) -> bool:
    """Start a load without waiters, unless *key* or *most* keys are being loaded already."""
    mine = flights.of_running_loop()
    if key in mine or len(mine) >= most:
        return False
    # The cache itself waits, so that a caller who joins and leaves cancels nothing.
    _start(mine, key, load).waiters = 1
    return True


def _start(flights: Flights, key: Any, load: Load) -> AsyncFlight:
    """Return a new flight, filed under *key*, whose task has been started."""
    import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

    flight = AsyncFlight()
    try:
        flights[key] = flight
        flight.task = asyncio.ensure_future(_lead(flights, key, flight, load))
    except BaseException:  # a task factory of the program's failed
        flights.end(key, flight)
        raise
    flight.task.add_done_callback(_retrieve)
    return flight


async def _lead(flights: Flights, key: Any, flight: AsyncFlight, load: Load) -> Any:
    _aboard.set((*_aboard.get(), flight))
    try:
        return await load(flight)
    finally:
        flights.end(key, flight)
        flight.task = None


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark the outcome as seen, so that a load without waiters causes no warning."""
    if not task.cancelled():
        task.exception()
