"""Ask relief for the room that work waits for: on the monitor's thread, one run at a time."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable

from memguard.bounded.waiting import Waiter
from memguard.lifecycle.loops import running_loop
from memguard.relief.records import ReliefReport

_VAIN_SECONDS = 0.1
"""A run that freed nothing answers for others as long as this."""
_PAUSE = 5.0
"""Seconds at least between two runs that do what lately freed nothing, and long collections."""
_LOST_SECONDS = 5.0
"""A run that has not ended by then never will: its thread was stopped."""
_GENEROUS = 1.25
"""Relief is content with four fifths of its goal."""


class Request:
    """
    One run that was asked for.

    Bounded by: the calls that wait for it.
    Locks: none.
    Keeps alive: nothing.
    """

    __slots__ = ("_waiters", "at", "cost", "done", "has_run")

    def __init__(self, at: float, cost: int) -> None:
        self.at = at
        self.cost = cost
        """Bytes of the work that room is made for."""
        self.done = False
        self.has_run = False
        """False where another run was under way, and this one did nothing."""
        self._waiters: list[weakref.ref[Waiter]] = []

    def wake_when_done(self, waiter: Waiter) -> None:
        """Wake *waiter* when the run has ended, or now if it has."""
        self._waiters.append(waiter.reference)
        if self.done:
            waiter.wake()

    def end(self) -> None:
        """Say that it has ended."""
        self.done = True
        for reference in list(self._waiters):
            waiter = reference()
            if waiter is not None:
                waiter.wake()


class RoomMaker:
    """
    Run relief for work that waits, and know when that would be in vain.

    Bounded by: one request that has not ended.
    Locks: none. Relief runs in the thread of the monitor; where there is none in that of the
        caller, but never in that of an event loop.
    Keeps alive: what it was given.

    Args:
        relieve: Frees so many bytes; the second argument says to leave nothing untried.
        run_soon: Runs a function in the thread of the monitor; False if there is none.
        timer: Monotonic seconds.
    """

    def __init__(
        self,
        relieve: Callable[[int, bool], ReliefReport],
        run_soon: Callable[[Callable[[], object]], bool] | None,
        timer: Callable[[], float],
    ) -> None:
        self._relieve = relieve
        self._run_soon = run_soon
        self._timer = timer
        self.reset()

    def reset(self) -> None:
        """Start over: also in a forked child."""
        self.runs = 0
        """Runs of relief, up to two for a request."""
        self.fell = 0
        """By how much the memory of the process fell in them, bytes."""
        self._pending: Request | None = None
        self._vain_at = self._thorough_at = float("-inf")

    def ask(self, cost: int, goal: Callable[[], int]) -> Request | None:
        """
        Ask for room for work of *cost*, or for a part in what is asked for already.

        Args:
            cost: Bytes that the work requested.
            goal: Returns how many bytes are missing now; asked again while room is made.

        Returns:
            The request; None if there is no use in asking now.
        """
        now = self._timer()
        pending = self._pending
        if pending is not None and not pending.done and now - pending.at < _LOST_SECONDS:
            return pending
        if now - self._vain_at < _VAIN_SECONDS:
            return None
        request = self._pending = Request(now, cost)

        def run() -> None:
            self._run(request, goal)

        if self._run_soon is None or not self._run_soon(run):
            if running_loop() is not None:
                self._pending = None
                return None
            run()
        return request

    def _run(self, request: Request, goal: Callable[[], int]) -> None:
        try:
            wanted = goal()
            request.has_run = wanted <= 0 or self._free(wanted, thorough=False)
            if wanted > 0 and request.has_run and self._timer() - self._thorough_at > _PAUSE:
                wanted = goal()
                if wanted > 0:
                    self._free(wanted, thorough=True)
                    self._thorough_at = self._timer()
        finally:
            request.end()

    def _free(self, wanted: int, *, thorough: bool) -> bool:
        fell = 0
        with contextlib.suppress(Exception):  # a callback's, which relief has counted
            report = self._relieve(int(wanted * _GENEROUS), thorough)
            if report.busy:
                return False
            fell = max(0, report.rss_freed or 0)
        self.runs += 1
        self.fell += fell
        self._vain_at = float("-inf") if fell else self._timer()
        return True
