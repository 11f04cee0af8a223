"""A thread of ours for calls that may be slow, so that no other thread has to wait for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from memguard.lifecycle import locks, threads, uwsgi
from memguard.lifecycle.at_exit import stop_at_exit
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.wake import Wake

LINGER_SECONDS = 1.0
"""An idle thread ends after so long; the next job starts another one."""
MOST_THREADS = 8
"""One that works, and those that were replaced because their job does not end."""
_EXIT_SECONDS = 0.5

Job = Callable[[], object]


class _Worker:
    """A thread, and the job that it is in."""

    __slots__ = ("job", "thread", "wake")

    def __init__(self, work: Callable[[_Worker], None], name: str) -> None:
        self.job: Job | None = None
        self.wake = Wake()
        self.thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)


class Lane:
    """
    Do jobs one after another in one thread, which starts with the first of them.

    A job that does not end holds up the others until `replace` gives them another thread; its own
    ends with it. The threads are daemons, so that none of them can hold up an exit.

    Bounded by: ``MOST_THREADS`` threads; the jobs, by who puts them.
    Locks: one re-entrant mutex around the jobs that wait, for a signal handler may stop what is
        stopping; a job runs under none.
    Keeps alive: the jobs, until they are done; itself, while a thread runs.

    Args:
        name: Of its threads.
        failures: Counts what jobs raise.
    """

    def __init__(self, name: str, failures: Failures) -> None:
        self._name = name
        self._failures = failures
        self.reset()

    def reset(self) -> None:
        """Have no thread and no jobs, as in a forked child. Only sets fields."""
        self._lock = locks.RLock()
        self._jobs: deque[Job] = deque()
        self._current: _Worker | None = None
        self._replaced: list[_Worker] = []

    @property
    def is_mine(self) -> bool:
        """True in the thread that would do the next job: who waits for that there waits forever."""
        current = self._current
        return current is not None and current.thread is threading.current_thread()

    def put(self, job: Job) -> bool:
        """
        Have *job* done after those that wait. Returns at once; thread-safe.

        Returns:
            False when no thread is to be had: it will not be done.
        """
        if uwsgi.obstacle() is not None:
            return False
        with self._lock:
            self._jobs.append(job)
        if self._ensure_worker():
            return True
        with self._lock:
            # Unless a thread that was free again has taken it meanwhile.
            return not self._take_back(job)

    def replace(self, job: Job) -> None:
        """Let another thread do the next jobs if the present one is still in *job*."""
        with self._lock:
            current = self._current
            if current is None or current.job is not job:
                return
            self._current = None
            self._replaced.append(current)
        self._ensure_worker()

    def stop(self, timeout: float) -> bool:
        """
        Drop the jobs that wait, and end the threads; a later job starts another one.

        Args:
            timeout: Seconds to wait for the job that is under way.

        Returns:
            True when all threads have ended, that of the caller aside.
        """
        self.drop_waiting()
        return self.join(timeout)

    def drop_waiting(self) -> None:
        """Drop the jobs that wait, and let each thread end after its own. Returns at once."""
        with self._lock:
            current, self._current = self._current, None
            if current is not None:
                self._replaced.append(current)
                current.wake.set()
            self._jobs.clear()

    def join(self, timeout: float) -> bool:
        """Wait for the threads that are to end, as `stop` does."""
        workers = self._replaced.copy()
        ends_at = time.monotonic() + timeout
        for worker in workers:
            threads.join(worker.thread, max(0.0, ends_at - time.monotonic()))
        me = threading.current_thread()
        return not any(each.thread.is_alive() for each in workers if each.thread is not me)

    def _ensure_worker(self) -> bool:
        """Wake the thread, or start one if there are jobs; False when none is to be had."""
        with self._lock:
            if self._current is not None:
                self._current.wake.set()
                return True
            if not self._jobs:
                return True
            if len(self._replaced) >= MOST_THREADS - 1:
                return False
            worker = self._current = _Worker(self._work, self._name)
        started = False
        try:
            stop_at_exit(self, _EXIT_SECONDS)
            worker.thread.start()
            started = True
        except (RuntimeError, MemoryError):  # no thread to be had, or the interpreter is ending
            pass
        finally:  # a signal handler may raise as well
            if not started and worker.thread.ident is None:
                with self._lock:
                    self._leave(worker)
        return started

    def _take_back(self, job: Job) -> bool:
        if job not in self._jobs:
            return False
        self._jobs.remove(job)
        return True

    # -- in its threads ---------------------------------------------------------------------------

    def _work(self, worker: _Worker) -> None:
        try:
            while (job := self._next(worker)) is not None:
                self._do(job)
                del job
        finally:
            with self._lock:
                self._leave(worker)
            # Where gevent was patched in meanwhile: see `lifecycle.ticker`.
            threading.current_thread()

    def _do(self, job: Job) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - reason: counted, and the thread lives on
            self._failures.add("lane", error)

    def _next(self, worker: _Worker) -> Job | None:
        """Wait for the next job; None when the thread shall end."""
        until = time.monotonic() + LINGER_SECONDS
        while True:
            left = until - time.monotonic()
            with self._lock:
                job, stays = self._take(worker, may_wait=left > 0)
            if job is not None or not stays:
                return job
            worker.wake.wait(left)

    def _take(self, worker: _Worker, *, may_wait: bool) -> tuple[Job | None, bool]:
        worker.job = None
        if self._current is None and self._jobs and worker in self._replaced:
            self._replaced.remove(worker)  # its job has ended after all, and nobody is in its place
            self._current = worker
        if self._current is not worker:
            return None, False
        if self._jobs:
            worker.job = self._jobs.popleft()
            return worker.job, True
        if not may_wait:
            self._current = None  # from here on, who puts a job starts another thread
        return None, may_wait

    def _leave(self, worker: _Worker) -> None:
        worker.job = None
        if self._current is worker:
            self._current = None
        if worker in self._replaced:
            self._replaced.remove(worker)
