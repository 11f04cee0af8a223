"""One piece of work at a time in a thread of its own, for any number who wait, up to a bound."""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from memguard.lifecycle.fork import reset_after_fork

T = TypeVar("T")
MOST_WAITING = 64
"""Requests that wait for one piece of work; further ones are told to come back."""
_EXIT_SECONDS = 1.0
_NO_THREAD = "RuntimeError"

Asked = Literal["accepted", "busy", "no thread"]
"""What came of asking: it is done; others are served; the system gives no thread."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a piece of work gave: a value, or the name of what it raised."""

    value: T | None = None
    error: str | None = None


class Errand(Generic[T]):
    """
    Do one thing at a time, in a thread of its own.

    Not in the executor of an event loop: there it would wait behind the host's own work, and one
    that hangs would hold up the end of the host, which joins the threads of its executors.

    Bounded by: one thread, ``MOST_WAITING`` who wait.
    Locks: one mutex around the list of those; work and answers are called outside of it.
    Keeps alive: *work*; while it runs, those who wait.
    """

    def __init__(self, name: str, work: Callable[[], T] | None = None) -> None:
        self._name = name
        self._work = work
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Have nothing under way: so it is in a forked child, which the thread did not follow."""
        self._lock = threading.Lock()
        self._waiting: list[Callable[[Outcome[T]], object]] | None = None

    def ask(
        self,
        tell: Callable[[Outcome[T]], object],
        *,
        join: bool,
        work: Callable[[], T] | None = None,
    ) -> Asked:
        """
        Have the work done, and *tell* called with its outcome, in its thread.

        Args:
            tell: Takes the outcome; must not block.
            join: Where the work is under way already, wait for that outcome; else be refused.
            work: To be done instead of the usual work.

        Returns:
            What came of asking; *tell* is called only where that is ``"accepted"``.
        """
        work = work or self._work
        if work is None:
            raise TypeError("this Errand has no usual work; give one")
        with self._lock:
            if self._waiting is not None:
                if not join or len(self._waiting) >= MOST_WAITING:
                    return "busy"
                self._waiting.append(tell)
                return "accepted"
            self._waiting = [tell]
        try:
            thread = threading.Thread(target=self._run, args=(work,), name=self._name, daemon=True)
            _join_at_exit(thread)
            thread.start()
        except Exception:  # noqa: BLE001 - reason: no thread or no memory to be had, or the interpreter ends
            self._tell(
                [each for each in self._end() if each is not tell], Outcome(error=_NO_THREAD)
            )
            return "no thread"
        return "accepted"

    def _run(self, work: Callable[[], T]) -> None:
        outcome: Outcome[T] = Outcome(error="BaseException")
        try:
            outcome = Outcome(value=work())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: told to those who wait, by its name
            outcome = Outcome(error=type(error).__name__)
        finally:  # whatever else it raised, it is not under way any more
            self._tell(self._end(), outcome)

    def _end(self) -> list[Callable[[Outcome[T]], object]]:
        """Have nothing under way, and return those who waited."""
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
        return waiting

    def _tell(self, waiting: list[Callable[[Outcome[T]], object]], outcome: Outcome[T]) -> None:
        for tell in waiting:
            with contextlib.suppress(Exception):  # the event loop of one may be closed by now
                tell(outcome)


_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def _join_at_exit(thread: threading.Thread) -> None:
    _register_exit()
    _threads.add(thread)


@functools.cache
def _register_exit() -> None:
    atexit.register(_join_all)


def _join_all() -> None:
    """Give work that is under way a moment to end, before the interpreter takes its modules."""
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in list(_threads):
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
