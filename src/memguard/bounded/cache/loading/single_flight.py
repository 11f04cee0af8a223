"""
Single flight: many callers miss one key, one of them loads, all get the result.

No lock is held while a loader runs. A caller that would wait for a load that (through any number of
threads or tasks) waits for the caller itself loads on its own instead: a double load is better than
a deadlock. Errors reach every waiter; an interrupt or exit reaches only the thread it was meant
for, and one of the waiters takes over.

Cost: an undisturbed load takes two dict operations and no lock.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from memguard.lifecycle import fork, locks

_mutex = locks.RLock()
"""Guards which thread waits for which flight, in the whole process; held for a few assignments.
Re-entrant, because a signal handler may load as well."""

_LONGEST_NAP = 1.0
"""Seconds after which a waiter checks again: a handler that raised may have ended the load."""

_waiting: dict[int, Flight] = {}
"""Thread -> the flight it waits for."""

_FORGOTTEN = BaseException("the load failed before this thread began to wait for it")


class Flights(dict[Any, Any]):
    """
    Loads under way, by key; of the threads that use a cache, or of the tasks of one event loop.

    Bounded by: the loads under way.
    Locks: none; ``__eq__`` and ``__hash__`` of keys run here, outside of every lock.
    Keeps alive: keys, and flights until they have landed.
    """

    __slots__ = ()

    def disown(self, key: Any) -> None:
        """See to it that a load of *key* does not store its result."""
        flight = self.get(key)
        if flight is not None:
            flight.disowned = True

    def disown_all(self) -> None:
        """See to it that no load stores its result."""
        for flight in list(self.copy().values()):
            flight.disowned = True

    def end(self, key: Any, flight: Any) -> None:
        """Take *flight* out, unless a younger one has its place."""
        if self.get(key) is flight:
            self.pop(key, None)


class Lead:
    """
    Kept only by the call that loads: when it is gone, that call has ended.

    A signal handler that raises may end a call before it has landed its flight.
    """

    __slots__ = ("__weakref__",)


class Flight:
    """One load under way on a thread, as long as its *lead* is there or until it has landed."""

    __slots__ = ("_error", "_gate", "_lead", "_value", "_waiters", "disowned", "owner")

    def __init__(self, lead: Lead) -> None:
        self.owner = threading.get_ident()
        self.disowned = False
        """True when the key was written or deleted meanwhile: the result is not stored."""
        self._value: Any = None
        self._error: BaseException | None = _FORGOTTEN
        self._lead: weakref.ref[Lead] | None = weakref.ref(lead)
        self._waiters = 0
        self._gate: locks.Condition | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has landed, or will not."""
        return self._lead is None or self._lead() is None

    def land(self, value: Any = None, error: BaseException | None = None) -> None:
        """Hand the outcome to all waiters."""
        with _mutex:
            self._value = value
            # An error refers, through its traceback, to frames that refer to this flight: it is
            # kept only for those who wait, and only until the last of them has it.
            self._error = error if self._waiters or error is None else _FORGOTTEN
            self._lead = None
            if self._gate is not None:
                self._gate.notify_all()

    def wait(self) -> bool:
        """Wait for the end and return True; False at once when that would be a deadlock."""
        me = threading.get_ident()
        with _mutex:
            if self.is_over:
                self._waiters += 1
                return True
            if self._waits_for(me):
                return False
            if self._gate is None:
                self._gate = locks.Condition(_mutex)
            self._waiters += 1
            outer = _waiting.get(me)
            try:
                _waiting[me] = self
                self._wait_at(self._gate)
            finally:
                # A waiting signal handler has interrupted a wait of its thread.
                if outer is None:
                    _waiting.pop(me, None)
                else:
                    _waiting[me] = outer
        return True

    def _wait_at(self, gate: locks.Condition) -> None:
        while not self.is_over:
            gate.wait(_LONGEST_NAP)

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


def board(flights: Flights, key: Any, flight: Flight, lock: Any) -> tuple[bool, Any]:
    """
    Decide who loads *key*: ``(True, None)`` when the caller must, ``(False, value)`` when not.

    A caller that must load calls `land` afterwards, whatever happens, `abandon` if a signal
    handler interrupted even that, and should first look whether
    the value is there by now: another load may have ended between its look and this call.

    Args:
        flights: The loads under way of the cache.
        key: Its equality and hash are used outside of every lock.
        flight: The caller's own.
        lock: That of the cache. A caller that holds it (a signal handler that interrupted a change)
            does not wait: the thread it would wait for may need the lock.

    Raises:
        Exception: What the load that this caller waited for has raised.
    """
    while True:
        other = flights.setdefault(key, flight)
        if other is flight or lock._is_owned() or not other.wait():  # noqa: SLF001 - reason: threading.Condition relies on it as well
            return True, None
        value, error = other.outcome()
        if error is None:
            return False, value
        if isinstance(error, Exception):
            try:
                raise error
            finally:
                del error  # the traceback refers to this frame
        # The leader was interrupted, or failed before this thread waited: look again which call
        # leads.
        del error
        flights.end(key, other)  # if its landing had failed, every caller would find it


def land(
    flights: Flights,
    key: Any,
    flight: Flight,
    value: Any = None,
    error: BaseException | None = None,
) -> None:
    """End a load: take it out of *flights* and hand its outcome to all waiters."""
    try:
        flights.end(key, flight)
    finally:
        flight.land(value, error)


def abandon(flights: Flights, key: Any, flight: Flight) -> None:
    """Take out a load that could not be started or landed; its waiters try themselves."""
    land(flights, key, flight, error=_FORGOTTEN)


def _after_fork_in_child() -> None:
    """No thread waits in a forked child: the other threads are gone."""
    global _mutex  # noqa: PLW0603 - reason: a vanished thread may hold the old one
    _mutex = locks.RLock()
    _waiting.clear()


def hook_fork() -> None:
    """Make forked children forget all waits; called by the first cache, not by the import."""
    fork.call_in_child(_after_fork_in_child)
