"""
Who was there before a test and after it: what it leaves behind, and what belongs to a fixture.

A fixture of wider scope may start what it likes; that is its own until it is torn down, and only
what outlives it is left behind. What is just ending gets a little time.
"""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

from memguard.integrations.testing import leftover_kinds as things
from memguard.integrations.testing.leftover_kinds import Key, Things

_POLL_SECONDS = 0.02
_ENDING = ("threads", "timers", "pools")
"""Kinds of which some may be about to go by themselves."""


class Leftovers:
    """
    The ledger of a session.

    Bounded by: what is there when a test begins, and what the fixtures that are up have started.
    Locks: none; pytest's own thread.
    Keeps alive: weak references only.

    Args:
        ignored: Tells by its name whether a thread does not count.
        grace: Seconds that what is ending has to end.
        timer: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        ignored: Callable[[str], bool],
        grace: float,
        *,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._ignored = ignored
        self._grace = grace
        self._timer = timer
        self._sleep = sleep
        self._kinds: frozenset[str] = frozenset()
        self._before: Things = {}
        self._owned: dict[str, Things] = {}
        self._outlived: dict[Key, str] = {}
        self._tasks = _Tasks()

    def begin(self, kinds: frozenset[str]) -> None:
        """Take down what is there before a test; *kinds* is what counts in it."""
        self._kinds = kinds
        self._before = self._present()
        self._outlived = {}
        self._tasks.begin(active="tasks" in kinds)

    def _present(self) -> Things:
        return things.present(self._kinds, self._ignored)

    def fixture_begins(self) -> Things:
        """Return what is there before a fixture of wider scope is set up."""
        return self._present()

    def fixture_is_up(self, fixture: str, before: Things) -> None:
        """Give what is there since *before* to *fixture*."""
        own = things.more(self._present(), before)
        # What a fixture within this one has started is its own already.
        for inner in self._owned.values():
            own = things.more(own, inner)
        if own:
            self._owned[fixture] = own
        for key, thing in own.items():
            earlier = self._before.get(key)
            is_known = earlier is not None and thing.is_same(earlier)
            self._before[key] = thing.plus(earlier) if earlier and is_known else thing
        self._tasks.forgive()

    def fixture_is_down(self, fixture: str) -> None:
        """Take back what *fixture* was given: from now on it is left behind."""
        for key, thing in self._owned.pop(fixture, {}).items():
            earlier = self._before.get(key)
            if earlier is not None and thing.is_same(earlier):
                self._before[key] = earlier.minus(thing)
                self._outlived[key] = fixture

    def call_is_over(self) -> None:
        """Note the tasks that the test has not waited for."""
        self._tasks.suspect()

    def look_at_tasks(self) -> None:
        """Strike out what has ended; to be called while fixtures go down, before their loop."""
        self._tasks.look()

    def found(self) -> list[str]:
        """
        Return a description of everything that was left behind.

        Blocks for up to the grace while there is something: a thread may be about to end.
        """
        deadline = self._timer() + self._grace
        self._tasks.look()
        left = things.more(self._present(), self._before)
        if left or self._tasks.suspects:
            gc.collect()  # what nobody holds is not left behind
        while True:
            self._tasks.look()
            left = things.more(self._present(), self._before)
            may_end = any(thing.kind in _ENDING for thing in left.values())
            if not may_end or self._timer() >= deadline:
                break
            self._sleep(_POLL_SECONDS)
        return [*self._told(left), *self._tasks.told()]

    def _told(self, left: Things) -> list[str]:
        rows = []
        for key, thing in left.items():
            text = thing.told()
            owner = self._outlived.get(key)
            if text is not None:
                rows.append(f"{text}\n    outlives the fixture {owner!r}" if owner else text)
        return rows


class _Tasks:
    """
    The tasks that a test has begun.

    A plugin that closes a loop after the test cancels whatever still runs in it. So they are looked
    at when the test is over, and again as its fixtures go down, while the loop is open.
    """

    def __init__(self) -> None:
        self._active = False
        self._known: dict[int, weakref.ref[Any]] = {}
        self.suspects: list[weakref.ref[Any]] = []
        self._texts: list[str] = []
        self._is_over = False

    def begin(self, *, active: bool) -> None:
        self._active = active
        self.suspects, self._texts, self._is_over = [], [], False
        self._known = {}
        self.forgive()

    def forgive(self) -> None:
        """Take down what runs now as nobody's fault."""
        if self._active:
            self._known.update((id(task), weakref.ref(task)) for task in things.pending_tasks())

    def suspect(self) -> None:
        if self._active:
            tasks = things.pending_tasks()
            self.suspects = [weakref.ref(task) for task in tasks if not self._is_known(task)]
            self.look()

    def _is_known(self, task: Any) -> bool:
        known = self._known.get(id(task))
        return known is not None and known() is task

    def look(self) -> None:
        tasks = [task for ref in self.suspects if (task := ref()) is not None]
        if self._is_over or not self.suspects:
            return
        if any(map(things.has_closed_loop, tasks)):
            self._is_over = True  # what was pending at the last look was so to the end
            return
        pending = [task for task in tasks if things.is_pending(task)]
        self.suspects = [weakref.ref(task) for task in pending]
        self._texts = [things.task_told(task) for task in pending]

    def told(self) -> list[str]:
        return self._texts
