"""
The one background thread of all containers: it sweeps what expired and runs queued finalizers.

Started by the first container that needs it, never by an import. It holds weak references only,
ends by itself when nothing is left to watch, is stopped at exit with a bounded join, and does not
exist in a forked child until a container there needs it.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Protocol

from memguard.lifecycle import fork, locks, threads, uwsgi
from memguard.lifecycle.at_exit import call_at_exit
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.wake import Wake

THREAD_NAME = "memguard-janitor"
_SHORTEST_NAP = 0.02
_LONGEST_NAP = 1.0
_EXIT_SECONDS = 2.0


class Sweepable(Protocol):
    """What the janitor calls, on its own thread, outside every lock."""

    def _sweep(self) -> float | None:
        """Do what is due; return seconds until the next need, None when there is none."""


@dataclass(frozen=True, slots=True)
class JanitorStatistics:
    """What the janitor has done in this process."""

    running: bool
    watched: int
    sweeps: int
    """Calls of a container's sweep."""
    errors: int
    """Sweeps that raised; each kind is logged once."""
    failed_starts: int
    """Times the thread could not be started; expiry then happens on access only."""


class _Watch:
    """One registration: a container may be registered again while its last sweep is ending."""

    __slots__ = ("due", "reference")

    def __init__(self, container: Sweepable, due: float) -> None:
        self.reference: weakref.ref[Sweepable] = weakref.ref(container)
        self.due = due


class _Janitor:
    """What is watched, and the thread: `stop` and a fork start over with another one."""

    def __init__(self) -> None:
        # Re-entrant: while our code holds it, a destructor that calls `watch` may run.
        self.lock = locks.RLock()
        self.wake = Wake()
        self.watched: dict[int, _Watch] = {}
        self.thread: threading.Thread | None = None
        self.starting = self.stopping = False

    def watch(self, container: Sweepable, after: float) -> bool:
        with self.lock:
            self.watched[id(container)] = _Watch(container, time.monotonic() + after)
            if not (self.starting or self.is_alive() or self._start()):
                del self.watched[id(container)]
                return False
        self.wake.set()
        return True

    def is_alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def stop(self, timeout: float) -> bool:
        with self.lock:
            self.stopping = True
            self.watched.clear()
            thread = self.thread
        self.wake.set()
        return thread is None or threads.join(thread, timeout)

    def _start(self) -> bool:
        # At the end the thread would never run, and start() might wait for it; one that has the GIL
        # while uWSGI forks would keep it from its workers for ever.
        if sys.is_finalizing() or uwsgi.is_before_fork():
            _totals.failed_starts += 1
            return False
        try:
            self.starting = True
            # A daemon, so that it never holds up an exit; the hook at exit joins it before that.
            # Recorded before it runs, so that a signal handler that raises leaves no unknown
            # thread.
            self.thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            self.thread.start()
        except RuntimeError:
            _totals.failed_starts += 1
            self.thread = None
            return False
        finally:
            self.starting = False
        return True

    def _run(self) -> None:
        while self.thread is threading.current_thread():  # no other thread was started instead
            nap = self._sweep_all()
            with self.lock:
                if not self.watched or self.stopping:
                    self.thread = None
                    return
            self.wake.wait(nap)

    def _sweep_all(self) -> float:
        """Sweep every container that is due; return seconds until the next one is."""
        now = time.monotonic()
        next_due = now + _LONGEST_NAP
        for ident, watched in list(self.watched.copy().items()):
            if watched.due <= now:
                container = watched.reference()
                nap = None if container is None else _sweep(container)
                del container  # otherwise the nap would keep the last one alive
                if nap is None:
                    with self.lock:
                        if self.watched.get(ident) is watched:
                            del self.watched[ident]
                    continue
                watched.due = now + min(max(nap, _SHORTEST_NAP), _LONGEST_NAP)
            next_due = min(next_due, watched.due)
        return max(next_due - time.monotonic(), _SHORTEST_NAP)


class _Totals:
    """What janitors have done in this process."""

    def __init__(self) -> None:
        self.sweeps = self.failed_starts = 0
        self.failures = Failures("janitor.sweep_failed")


epoch = 0
"""Goes up when everything watched is forgotten, by `stop` or a fork: watch again what needs it."""

_janitor = _Janitor()
_totals = _Totals()


def watch(container: Sweepable, *, after: float = 0.0) -> bool:
    """
    Sweep *container* first *after* seconds, until it dies or returns that it needs nothing more.

    Returns False when the thread cannot run (interpreter shutting down, thread limit reached):
    counted in `statistics`; the container must then rely on sweeping itself when used.
    Thread-safe. Cost: about a microsecond; the first call of a process starts the thread.
    """
    fork.call_in_child(_after_fork_in_child)  # before the lock is first taken
    fork.check()
    if not sys.is_finalizing():
        call_at_exit(stop, _EXIT_SECONDS)
    return _janitor.watch(container, after)


def watches(container: Sweepable) -> bool:
    """Return whether *container* is on the list: `stop` and a fork take it off. O(1), no lock."""
    watched = _janitor.watched.get(id(container))
    return watched is not None and watched.reference() is container


def stop(timeout: float = 2.0) -> bool:
    """
    Stop the thread and forget everything watched; containers that need it will start it again.

    Returns True when no thread is left, False when it did not end within *timeout* seconds.
    """
    fork.check()
    janitor = _janitor
    _begin_anew()
    return janitor.stop(timeout)


def statistics() -> JanitorStatistics:
    """Return what the janitor of this process is doing. Thread-safe, O(1)."""
    fork.check()
    return JanitorStatistics(
        running=_janitor.thread is not None,
        watched=len(_janitor.watched),
        sweeps=_totals.sweeps,
        errors=_totals.failures.count,
        failed_starts=_totals.failed_starts,
    )


def _sweep(container: Sweepable) -> float | None:
    try:
        _totals.sweeps += 1
        return container._sweep()  # noqa: SLF001 - reason: the protocol between our own rooms
    except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: the thread must outlive any container
        _totals.failures.add(type(container).__name__, error)
        return _LONGEST_NAP


def _begin_anew() -> None:
    global _janitor, epoch  # noqa: PLW0603 - reason: one of each in a process, cheap to read
    epoch += 1
    _janitor = _Janitor()


def _after_fork_in_child() -> None:
    global _totals  # noqa: PLW0603 - reason: as above; lost threads may hold the parent's locks
    _totals = _Totals()
    _begin_anew()
