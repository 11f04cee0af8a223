"""The threads of a `TimerRegistry`: one that schedules, and a few that call."""

from __future__ import annotations

import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable

from memguard import log
from memguard.bounded.timers.schedule import REPEAT, Repeat, Row, Schedule
from memguard.lifecycle import locks, threads, uwsgi
from memguard.lifecycle.at_exit import call_at_exit
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.wake import Wake

CLOCK_NAME = "memguard-timers"
WORKER_NAME = "memguard-timer-worker"
_IDLE_SECONDS = 2.0
_LONGEST_NAP = 60.0
_EXIT_SECONDS = 2.0

_all: weakref.WeakSet[Workers] = weakref.WeakSet()


class Workers:
    """
    Threads that start when they are needed, and end when there was nothing to do for a while.

    Daemons, so that none of them can hold up an exit; an exit joins them for a bounded time.

    Bounded by: one thread for the clock, and *most* others.
    Locks: one re-entrant mutex around numbers; a destructor may start a timer while it is held.
    Keeps alive: the schedule; not the registry.
    """

    def __init__(self, registry: object, schedule: Schedule, most: int, *, raises: bool) -> None:
        self.threads: set[threading.Thread] = set()
        self.outstanding = 0
        """Calls that wait for a thread or are being made."""
        self.failed_starts = 0
        self._schedule = schedule
        self._most = most
        self._raises = raises
        self._hook_failures = Failures("timers.excepthook_failed", registry=schedule.bounds.name)
        self._wake = Wake()
        self._ready: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._lock = locks.RLock()
        self._clock_thread: threading.Thread | None = None
        self._starting = self._stopping = False
        self._working = 0
        schedule.wake = self.wake
        # Kept here, not by the registry: of two that are collected together, no callback is called.
        self._farewell = weakref.ref(registry, lambda _: self.leave())

    def wake(self) -> bool:
        """
        Have the clock thread look again; False when there is none, and none can be started.

        Allowed in destructors, except for the first call.
        """
        self._wake.set()
        if not (self._has_clock() or self._starting or self._stopping):
            return self._start_clock()
        return True

    def leave(self) -> None:
        """Let every thread end; allowed in destructors."""
        self._stopping = True
        self._wake.set()
        for _ in range(self._most):
            self._ready.put(None)

    def stop(self, timeout: float) -> bool:
        """End the threads; False when one is still in a callback after *timeout* seconds."""
        self.leave()
        deadline = time.monotonic() + timeout
        for name in (CLOCK_NAME, WORKER_NAME):  # the clock first: it may be starting another
            for thread in list(self.threads.copy()):
                if thread.name == name:
                    threads.join(thread, max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in list(self.threads.copy()))

    def stop_at_exit(self) -> None:
        """Drop the timers, and let every thread end. Does not wait."""
        self._schedule.close()
        self.leave()

    def _new_thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        return threading.Thread(target=target, name=name, daemon=True)

    def _start(self, thread: threading.Thread) -> bool:
        """Start *thread*; return whether that was possible."""
        started = False
        try:
            if not sys.is_finalizing():  # it would never run, and start() might wait forever
                self.threads.add(thread)
                thread.start()
                started = True
        except RuntimeError:  # no more threads, or the interpreter is ending
            pass
        finally:  # a signal handler may raise as well
            if not started:
                self.threads.discard(thread)
                if thread.is_alive():  # interrupted when it ran already: `stop` waits for it, too
                    self.threads.add(thread)
                self.failed_starts += 1
        return started

    # -- the clock ------------------------------------------------------------------------------

    def _has_clock(self) -> bool:
        return self._clock_thread is not None and self._clock_thread.is_alive()

    def _start_clock(self) -> bool:
        # Its workers would not have the thread, which may keep them from ever running.
        if uwsgi.is_before_fork():
            return False
        if not sys.is_finalizing():
            _all.add(self)
            call_at_exit(_stop_all, _EXIT_SECONDS)
        with self._lock:
            if self._has_clock() or self._starting or self._stopping:
                return True
            try:
                self._starting = True
                # Recorded before it runs, so that a signal handler that raises leaves no unknown
                # thread.
                self._clock_thread = self._new_thread(self._watch_clock, CLOCK_NAME)
                started = self._start(self._clock_thread)
                if not started:
                    self._clock_thread = None
            finally:
                self._starting = False
        return started or sys.is_finalizing()  # at the end nobody waits for a timer

    def _watch_clock(self) -> None:
        me = threading.current_thread()
        try:
            self.threads.add(me)  # unless it is there: its start may have been interrupted
            while not self._stopping:
                if self._clock_thread is not me:  # another one was started instead
                    return
                nap = self._schedule.step(self._hand_over)
                if nap is not None:
                    self._wake.wait(min(nap, _LONGEST_NAP))
                elif not self._wake.wait(_IDLE_SECONDS) and self._may_rest(me):
                    return
            self._drop_timers()
        finally:
            self.threads.discard(me)

    def _may_rest(self, me: threading.Thread) -> bool:
        with self._lock:
            self._clock_thread = None
            # A thread that added a timer before this line saw this thread and started none.
            if not self._schedule.rows or self._clock_thread is not None:
                return True
            self._clock_thread = me
            return False

    def _drop_timers(self) -> None:
        """Drop the callbacks of a registry that was collected with timers waiting, and log it."""
        lost = self._schedule.close()
        if lost and not sys.is_finalizing():
            log.event(
                log.WARNING,
                "timers.dropped",
                registry=self._schedule.bounds.name,
                timers=lost,
                advice="the registry was collected: keep it as long as its timers are wanted",
            )

    # -- the workers ----------------------------------------------------------------------------

    def _hand_over(self, row: Row) -> None:
        with self._lock:
            self.outstanding += 1
            enough = self._working >= min(self.outstanding, self._most)
            self._working += not enough
        if not enough and not self._start(self._new_thread(self._work, WORKER_NAME)):
            with self._lock:
                self._working -= 1
                alone = self._working == 0
            if alone:  # late timers are better than none
                self._call(row)
                return
        self._ready.put(row)

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while True:
                try:
                    # May outlast its time (see `lifecycle.ticker`), and idle until the next row.
                    row = self._ready.get(timeout=_IDLE_SECONDS)
                except queue.Empty:
                    with self._lock:
                        if self.outstanding < self._working:
                            self._working -= 1
                            return
                    continue
                if row is None or self._stopping:
                    return
                self._call(row)
                del row  # otherwise the wait for the next one keeps it
        finally:
            self.threads.discard(me)

    def _call(self, row: Row) -> None:
        repeat: Repeat | None = row[REPEAT]
        try:
            call = self._schedule.take(row)
            if call is not None:
                call()
        except BaseException as error:  # noqa: BLE001 - reason: a worker outlives every callback
            self._failed(row, error)
        finally:
            if repeat is not None:
                repeat.busy = False
            with self._lock:
                self.outstanding -= 1

    def _failed(self, row: Row, error: BaseException) -> None:
        self._schedule.failed(row, error)
        if self._raises:
            args = (type(error), error, error.__traceback__, threading.current_thread())
            try:
                threading.excepthook(threading.ExceptHookArgs(args))
            except BaseException as failure:  # noqa: BLE001 - reason: the hook is the host's code, too
                self._hook_failures.add("threading.excepthook", failure)


def _stop_all(timeout: float) -> None:
    """At exit: let all end, then wait for callbacks that are under way, *timeout* in all."""
    everyone = list(_all)
    for workers in everyone:
        workers.stop_at_exit()
    deadline = time.monotonic() + timeout
    for workers in everyone:
        workers.stop(max(0.0, deadline - time.monotonic()))
