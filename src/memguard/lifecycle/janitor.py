"""
The one background thread of the bounded floor: it sweeps what expired and runs queued finalizers.

Started by the first container that needs it, never by an import. It holds weak references only,
ends by itself when nothing is left to watch, is stopped at exit with a bounded join, and does not
exist in a forked child until a container there needs it.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Protocol

from memguard import log
from memguard.lifecycle import fork, locks
from memguard.lifecycle.wake import Wake

THREAD_NAME = "memguard-janitor"
_SHORTEST_NAP = 0.02
_LONGEST_NAP = 1.0


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


class _Run:
    """One life of the thread; a new one may begin before the old one has quite ended."""

    __slots__ = ("starting", "stopping", "thread", "wake")

    def __init__(self) -> None:
        self.wake = Wake()
        self.stopping = False
        self.starting = True
        self.thread: threading.Thread | None = None

    def is_alive(self) -> bool:
        """Return whether the thread sweeps, or is about to."""
        return self.starting or (self.thread is not None and self.thread.is_alive())


class _Janitor:
    """State of one process: a fork starts with a fresh one."""

    def __init__(self) -> None:
        # Re-entrant: while one of our lines holds it, a destructor may run that calls `watch`.
        self.mutex = locks.RLock()
        self.run: _Run | None = None
        self.watched: dict[int, _Watch] = {}
        self.sweeps = 0
        self.errors = 0
        self.failed_starts = 0
        self.logged: set[str] = set()


epoch = 0
"""Goes up when everything watched is forgotten, by `stop` or a fork: watch again what needs it."""

_state = _Janitor()
_hooked = False


def watch(container: Sweepable, *, after: float = 0.0) -> bool:
    """
    Sweep *container* first *after* seconds, until it dies or says that it needs nothing more.

    Returns False when the thread cannot run (interpreter shutting down, thread limit reached):
    counted in `statistics`; the container must then rely on sweeping itself when used.
    Thread-safe. Cost: about a microsecond; the first call of a process starts the thread.
    """
    _hook()
    state = _state
    with state.mutex:
        state.watched[id(container)] = _Watch(container, time.monotonic() + after)
        run = state.run
        if run is None or not run.is_alive():
            run = _start(state)
            if run is None:
                del state.watched[id(container)]
                return False
    run.wake.set()
    return True


def watches(container: Sweepable) -> bool:
    """Return whether *container* is on the list: `stop` and a fork take it off. O(1), no lock."""
    watched = _state.watched.get(id(container))
    return watched is not None and watched.reference() is container


def stop(timeout: float = 2.0) -> bool:
    """
    Stop the thread and forget everything watched; containers that need it will start it again.

    Returns True when no thread is left, False when it did not end within *timeout* seconds.
    """
    global epoch  # noqa: PLW0603 - reason: one number for the process, cheap to read
    state = _state
    with state.mutex:
        epoch += 1
        run, state.run = state.run, None
        state.watched.clear()
        if run is not None:
            run.stopping = True
    if run is None or run.thread is None or run.thread.ident is None:
        return True
    run.wake.set()
    if run.thread is threading.current_thread():  # a finalizer on the janitor itself asked
        return False
    run.thread.join(timeout)
    return not run.thread.is_alive()


def statistics() -> JanitorStatistics:
    """Return what the janitor of this process is doing. Thread-safe, O(1)."""
    state = _state
    return JanitorStatistics(
        running=state.run is not None,
        watched=len(state.watched),
        sweeps=state.sweeps,
        errors=state.errors,
        failed_starts=state.failed_starts,
    )


def _start(state: _Janitor) -> _Run | None:
    if sys.is_finalizing():
        # A destructor of the last minute: the new thread would never run, and before CPython 3.12
        # start() would wait for it for ever.
        state.failed_starts += 1
        return None
    # Filed before it runs: an exception of a signal handler must not leave a thread unknown.
    state.run = run = _Run()
    try:
        # Daemon, so that it can never hold up an exit; the atexit hook joins it before that.
        run.thread = threading.Thread(
            target=_sweep_until_done, args=(state, run), name=THREAD_NAME, daemon=True
        )
        run.thread.start()
    except RuntimeError:
        state.failed_starts += 1
        state.run = None
        return None
    finally:
        run.starting = False
    return run


def _hook() -> None:
    """Set the hooks of this process: before the mutex is first held, which a fork may meet."""
    global _hooked  # noqa: PLW0603 - reason: hooks are set once per process
    if not _hooked and not sys.is_finalizing():
        fork.call_in_child(_after_fork_in_child)
        atexit.register(stop)
        log.prepare()
        _hooked = True  # last: two threads may set them twice, which does no harm


def _sweep_until_done(state: _Janitor, run: _Run) -> None:
    while not run.stopping:
        nap = _sweep_all(state)
        with state.mutex:
            if not state.watched or state.run is not run:
                if state.run is run:
                    state.run = None
                return
        run.wake.wait(nap)


def _sweep_all(state: _Janitor) -> float:
    """Sweep every container that is due; return seconds until the next one is."""
    now = time.monotonic()
    next_due = now + _LONGEST_NAP
    for ident, watched in list(state.watched.copy().items()):
        if watched.due <= now:
            container = watched.reference()
            nap = None if container is None else _sweep_one(state, container)
            del container  # or the nap would keep the last one alive
            if nap is None:
                with state.mutex:
                    if state.watched.get(ident) is watched:
                        del state.watched[ident]
                continue
            watched.due = now + min(max(nap, _SHORTEST_NAP), _LONGEST_NAP)
        next_due = min(next_due, watched.due)
    return max(next_due - time.monotonic(), _SHORTEST_NAP)


def _sweep_one(state: _Janitor, container: Sweepable) -> float | None:
    try:
        state.sweeps += 1
        return container._sweep()  # noqa: SLF001 - reason: the protocol between our own rooms
    except Exception as error:  # noqa: BLE001 - reason: the thread must outlive any container
        state.errors += 1
        kind = type(error).__name__
        if kind not in state.logged and len(state.logged) < 100:
            state.logged.add(kind)
            log.event(log.WARNING, "janitor.sweep_failed", error=kind)
        return _LONGEST_NAP


def _after_fork_in_child() -> None:
    global _state, epoch  # noqa: PLW0603 - reason: threads that are gone may hold the parent's locks
    epoch += 1
    _state = _Janitor()
