"""The threads of a `TimerRegistry`: one that looks at the clock, and a few that call."""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from memguard import log
from memguard.bounded.timers.schedule import CYCLE, Row, Timetable
from memguard.lifecycle.wake import Wake

CLOCK_NAME = "memguard-timers"
WORKER_NAME = "memguard-timer-worker"
_LINGER = 2.0
_LONGEST_NAP = 60.0

_crews: dict[int, weakref.ref[Crew]] = {}
_hooked = False


class Crew:
    """
    Threads that start when they are needed, and end when there was nothing to do for a while.

    Daemons, so that none of them can hold up an exit; an exit joins them for a bounded time.
    """

    def __init__(self, table: Timetable, workers: int, on_failure: Callable[..., object]) -> None:
        self.table = table
        self.most = workers
        self.on_failure = on_failure
        self.wake = Wake()
        self.ready: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        # Re-entrant: a destructor may start a timer while one of our lines holds it.
        self.lock = threading.RLock()
        self.clock_thread: threading.Thread | None = None
        self.starting = self.stopping = False
        self.threads: set[threading.Thread] = set()
        self.workers = self.outstanding = self.failed_starts = 0
        self.farewell: weakref.ref[Any] | None = None
        table.on_hurry = self.hurry

    def leave_with(self, registry: object) -> None:
        """End when *registry* is collected."""
        # Kept here, not by the registry: of two that are collected together, no callback is called.
        self.farewell = weakref.ref(registry, lambda _: self.leave())

    def hurry(self) -> None:
        """Have the clock thread look again; allowed in destructors but for the very first call."""
        self.wake.set()
        if self.clock_thread is None and not self.starting and not self.stopping:
            self._start_clock()

    def leave(self) -> None:
        """Tell every thread to end; allowed in destructors."""
        self.stopping = True
        self.wake.set()
        for _ in range(self.most):
            self.ready.put(None)

    def stop(self, timeout: float) -> bool:
        """End the threads; False when one is still in a callback after *timeout* seconds."""
        self.leave()
        deadline = time.monotonic() + timeout
        for thread in list(self.threads.copy()):
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in list(self.threads.copy()))

    # -- the clock ------------------------------------------------------------------------------

    def _start_clock(self) -> None:
        with self.lock:
            if self.clock_thread is not None or self.starting or self.stopping:
                return
            self.starting = True
            try:
                _remember(self)
                self.clock_thread = self._start(self._watch_clock, CLOCK_NAME)
            finally:
                self.starting = False

    def _start(self, target: Callable[[], None], name: str) -> threading.Thread | None:
        if sys.is_finalizing():  # it would never run, and start() might wait for it for ever
            self.failed_starts += 1
            return None
        thread = threading.Thread(target=target, name=name, daemon=True)
        self.threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self.threads.discard(thread)
            self.failed_starts += 1
            return None
        return thread

    def _watch_clock(self) -> None:
        me = threading.current_thread()
        try:
            while not self.stopping:
                nap = self.table.step(self._hand_over)
                if nap is None:
                    if not self.wake.wait(_LINGER) and self._may_rest(me):
                        return
                else:
                    self.wake.wait(min(nap, _LONGEST_NAP))
            self._clear_up()
        finally:
            self.threads.discard(me)

    def _clear_up(self) -> None:
        """Drop the callbacks of a registry that was dropped with timers waiting, and say so."""
        self.table.closed = True
        lost = self.table.cancel_all()
        if lost and not sys.is_finalizing():
            log.event(
                logging.WARNING,
                "timers.dropped",
                registry=self.table.name,
                timers=lost,
                advice="the registry was collected: keep it as long as its timers are wanted",
            )

    def _may_rest(self, me: threading.Thread) -> bool:
        with self.lock:
            self.clock_thread = None
            # Whoever added a timer before this line saw a thread and did not start one.
            if not self.table.rows or self.clock_thread is not None:
                return True
            self.clock_thread = me
            return False

    # -- the workers ----------------------------------------------------------------------------

    def _hand_over(self, row: Row) -> None:
        with self.lock:
            self.outstanding += 1
            enough = self.workers >= min(self.outstanding, self.most)
            self.workers += not enough
        if not enough and self._start(self._work, WORKER_NAME) is None:
            with self.lock:
                self.workers -= 1
                alone = self.workers == 0
            if alone:  # late timers are better than none
                self._call(row)
                return
        self.ready.put(row)

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while True:
                try:
                    # May outlast its time (see `lifecycle.ticker`), and idle until the next row.
                    row = self.ready.get(timeout=_LINGER)
                except queue.Empty:
                    with self.lock:
                        if self.outstanding < self.workers:
                            self.workers -= 1
                            return
                    continue
                if row is None or self.stopping:
                    return
                self._call(row)
                del row  # or the wait for the next one keeps it
        finally:
            self.threads.discard(me)

    def _call(self, row: Row) -> None:
        cycle = row[CYCLE]
        call = self.table.take(row)
        if call is not None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - reason: a worker outlives every callback
                self.table.failed(row, error)
                self.on_failure(error)
        if cycle is not None:
            cycle.busy = False
        with self.lock:
            self.outstanding -= 1


def _remember(crew: Crew) -> None:
    global _hooked  # noqa: PLW0603 - reason: the hook is set once per process
    if not _hooked:
        _hooked = True
        atexit.register(_stop_all)
    ident = id(crew)
    _crews[ident] = weakref.ref(crew, lambda _: _crews.pop(ident, None))


def _stop_all() -> None:
    """At exit: tell all, then wait two seconds together, for callbacks that are under way."""
    crews = [crew for ref in list(_crews.copy().values()) if (crew := ref()) is not None]
    for crew in crews:
        crew.table.closed = True
        crew.table.cancel_all()
        crew.leave()
    deadline = time.monotonic() + 2.0
    for crew in crews:
        crew.stop(max(0.0, deadline - time.monotonic()))


def on_failure(policy: str) -> Callable[[BaseException], Any]:
    """Return what to do with the exception of a callback beside counting it."""
    return _to_the_hook if policy == "raise" else _to_nobody


def _to_nobody(_error: BaseException) -> None:
    pass


def _to_the_hook(error: BaseException) -> None:
    args = (type(error), error, error.__traceback__, threading.current_thread())
    threading.excepthook(threading.ExceptHookArgs(args))
