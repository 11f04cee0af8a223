"""
Celery workers: a guard in each, growth by task, and replacement between two tasks.

Beside the application::

    from memguard.integrations.workers.celery import setup

    app = Celery(...)
    setup(app, limit="400MiB")

Nothing happens in a process that only sends tasks.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

from memguard import log
from memguard.bounded.options import check_instance, check_positive_int
from memguard.errors import LifecycleError
from memguard.extras import missing
from memguard.integrations.workers.recycler import Recycler
from memguard.integrations.workers.worker import WorkerKeywords, WorkerOptions, WorkerProcess
from memguard.leaks.report import LeakReport
from memguard.lifecycle import locks
from memguard.lifecycle.fork import reset_after_fork
from memguard.observe.readings import read_memory
from memguard.units import format_bytes

try:
    from celery import signals
except ImportError:
    raise missing("celery", "celery") from None

__all__ = ["CeleryWorkers", "TaskGrowth", "setup"]

_MOST_RUNS = 1000
"""Tasks under way at the same time that are known; with more of them none is measured anyway."""
_MOST_LOGGED = 5
"""Kinds of task in one line of the log."""
_LEAST_LOGGED = 1 << 20
"""Bytes: memory that the first tasks of a process touch for the first time is not their growth."""
MOST_NAMES = 200
OTHERS = "(other tasks)"
_RECYCLED = 0x9B
"""``billiard.pool.EX_RECYCLE``: the exit status of a process that is to be replaced."""


class CeleryWorkers:
    """
    What memguard does in the worker of one Celery application; made by `setup`.

    Bounded by: in each process of the pool a guard, one more thread and two hundred names of tasks.
    Locks: one mutex around the tasks under way, one around the sums of `growth`.
    Keeps alive: itself, by Celery's signals, until `close`; the application not.
    """

    def __init__(self, app: Any, options: WorkerOptions, *, every: int = 1) -> None:
        self._app = weakref.ref(app)
        self._process = WorkerProcess(options)
        self._every = every
        self._table = GrowthTable()
        self._processes: int | None = None
        self._is_active = False
        self._tasks = 0
        self._lock = locks.Lock()
        self._runs: dict[int, _Run] = {}
        self._receivers = (
            (signals.worker_init, self._on_worker_init),
            (signals.worker_before_create_process, self._on_before_fork),
            (signals.worker_process_init, self._on_process_init),
            (signals.worker_ready, self._on_ready),
            (signals.worker_process_shutdown, self._on_end),
            (signals.worker_shutdown, self._on_end),
            (signals.task_prerun, self._on_prerun),
            (signals.task_postrun, self._on_postrun),
        )
        for signal, receiver in self._receivers:
            signal.connect(receiver, weak=False)

    def close(self) -> None:
        """Take the receivers away, and stop what was started in this process. Idempotent."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
        self._process.end()
        for app, known in list(_known.items()):
            if known is self:
                del _known[app]

    @property
    def recycler(self) -> Recycler | None:
        """That of this process; None if there is none."""
        return self._process.recycler

    def growth(self) -> tuple[TaskGrowth, ...]:
        """Return what each kind of task added to this process, the worst first. Thread-safe."""
        return self._table.rows()

    # -- the process that forks -------------------------------------------------------------------

    def _on_worker_init(self, sender: Any = None, **_: Any) -> None:
        """Celery is about to work; of all applications in this process, for *sender*'s."""
        self._is_active = sender is not None and sender.app is self._app()
        count = getattr(sender, "concurrency", None)
        self._processes = count if isinstance(count, int) else os.cpu_count()
        if self._is_active:
            self._process.share_turns()

    def _on_before_fork(self, **_: Any) -> None:
        if self._is_active:
            self._process.freeze()

    # -- the process that works -------------------------------------------------------------------

    def _on_process_init(self, **_: Any) -> None:
        """Begin in a process of the pool: forked, spawned, or the only one (``solo``)."""
        if not self._is_active:
            # A process that was spawned knows nothing of `worker_init`.
            from celery import current_app  # noqa: PLC0415 - reason: asking creates one

            app = current_app._get_current_object()  # noqa: SLF001 - reason: how Celery's proxies are compared
            self._is_active = app is self._app()
        self._begin()

    def _on_ready(self, sender: Any = None, **_: Any) -> None:
        """Begin in the main process, where tasks run in threads or greenlets of it."""
        pool = type(getattr(sender, "pool", None)).__module__
        if pool in ("celery.concurrency.thread", "celery.concurrency.gevent"):
            self._begin()

    def _begin(self) -> None:
        process = self._process
        if not self._is_active or process.is_begun:
            return
        self._tasks, self._lock, self._runs = 0, locks.Lock(), {}
        theirs = (process.options.guard or {}).get("on_leak")

        def on_leak(report: LeakReport) -> None:
            self._log_growth("worker.leak", log.WARNING, report=report.id)
            if theirs is not None:
                theirs(report)

        try:
            process.begin(on_leak=on_leak)
            self._watch()
        except Exception as error:  # noqa: BLE001 - reason: a worker unguarded is better than none
            log.event(log.ERROR, "worker.not_guarded", error=str(error))

    def _watch(self) -> None:
        worker = pool_process()
        why_not = self._process.recycle(
            self._processes,
            # What ends it is the answer of `take_turn`, between two tasks.
            end=None if worker is None else lambda _reason: None,
            requests=lambda: self._tasks,
            waits_for_boundary=worker is not None,
        )
        recycler = self._process.recycler
        if recycler is None:
            if self._process.options.limit is not None:
                log.event(log.INFO, "worker.recycling_off", reason=why_not)
            return
        if worker is not None:
            end_between_tasks(worker, recycler.take_turn)
        recycler.start()

    def _on_end(self, **_: Any) -> None:
        if self._process.is_begun:
            self._log_growth("worker.growth", log.INFO, least=_LEAST_LOGGED)
            self._process.end()

    # -- tasks ------------------------------------------------------------------------------------

    def _on_prerun(self, task: Any = None, task_id: str = "", **_: Any) -> None:
        if not self._process.is_begun or task.request.is_eager:
            return  # one that another task calls is part of that one
        thread, run = threading.get_ident(), _Run(task_id)
        with self._lock:
            self._begin_task(run, thread)
        if run.is_measured:
            run.before = read_memory().private

    def _begin_task(self, run: _Run, thread: int) -> None:
        others = [known for ident, known in self._runs.items() if ident != thread]
        for other in (*others, *([run] if others else [])):
            other.is_alone = False  # two at a time: whose growth would it be?
        if len(others) < _MOST_RUNS:
            self._runs[thread] = run
        self._tasks += 1
        run.is_measured = run.is_alone and self._tasks % self._every == 0

    def _on_postrun(self, task: Any = None, task_id: str = "", **_: Any) -> None:
        thread = threading.get_ident()
        with self._lock:
            run = self._runs.get(thread)
            if run is None or run.task_id != task_id:
                return
            del self._runs[thread]
        if run.is_measured and run.is_alone:
            after = read_memory().private
            if after is not None and run.before is not None:
                self._table.add(task.name, after - run.before)

    def _log_growth(self, event: str, level: int, *, least: int = 1, **keys: Any) -> None:
        rows = [row for row in self._table.rows() if row.grown >= least][:_MOST_LOGGED]
        if rows:
            worst = ", ".join(
                f"{row.name} {format_bytes(row.grown, signed=True)} in {row.runs} runs"
                for row in rows
            )
            log.event(level, event, task=rows[0].name, grown=rows[0].grown, worst=worst, **keys)


class _Run:
    """A task under way."""

    __slots__ = ("before", "is_alone", "is_measured", "task_id")

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.before: int | None = None
        self.is_alone, self.is_measured = True, False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGrowth:
    """What one kind of task did to the memory of this process. Bytes."""

    name: str
    """The task's, or ``(other tasks)`` for those beyond the first two hundred."""
    runs: int
    """How many runs were measured."""
    grown: int
    """By how much memory was higher after all of them together than before; may be negative."""
    largest: int
    """The most that one run added."""


class GrowthTable:
    """
    Add up, by the name of the task, what its runs added to this process's memory.

    Bounded by: two hundred names; the rest is added up under one more.
    Locks: one mutex around the sums.
    Keeps alive: names.

    In a forked child it is empty.
    """

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Start over; runs in a forked child."""
        self._lock = locks.Lock()
        self._sums: dict[str, tuple[int, int, int]] = {}

    def add(self, name: str, grown: int) -> None:
        """Add one run of *name*, after which there were *grown* bytes more. Thread-safe; 1 µs."""
        with self._lock:
            if name not in self._sums and len(self._sums) >= MOST_NAMES:
                name = OTHERS
            runs, total, largest = self._sums.get(name, (0, 0, grown))
            self._sums[name] = (runs + 1, total + grown, max(largest, grown))

    def rows(self) -> tuple[TaskGrowth, ...]:
        """Return what is known, the one that added most first. Thread-safe."""
        with self._lock:
            sums = list(self._sums.items())
        found = [
            TaskGrowth(name=name, runs=runs, grown=total, largest=largest)
            for name, (runs, total, largest) in sums
        ]
        return tuple(sorted(found, key=lambda row: (-row.grown, row.name)))


# Only the next two know how a process of Celery's prefork pool waits for its next task: billiard
# calls ``wait_for_job`` for each. Between two calls the result of the last task has been sent and
# no other one was taken; ``max_tasks_per_child`` ends a process there, by the same way out.


def pool_process() -> Any | None:
    """Return billiard's worker of this process; None outside its prefork pool."""
    try:
        from billiard import current_process  # noqa: PLC0415 - reason: only inside Celery
    except ImportError:
        return None
    worker = getattr(current_process(), "_target", None)
    return worker if callable(getattr(worker, "wait_for_job", None)) else None


def end_between_tasks(worker: Any, wants_to: Callable[[], bool]) -> None:
    """
    End *worker* before it takes its next task, as soon as *wants_to* returns true.

    Call it in ``worker_process_init``: afterwards billiard has its own reference.
    """
    wait = worker.wait_for_job

    def wait_or_end(*arguments: Any, **options: Any) -> Any:
        if wants_to():
            sys.exit(_RECYCLED)  # billiard's own, while a worker runs: it notes the status
        return wait(*arguments, **options)

    worker.wait_for_job = wait_or_end


def setup(
    app: Any, *, min_tasks: int = 20, every: int = 1, **options: Unpack[WorkerKeywords]
) -> CeleryWorkers:
    """
    Guard the worker processes of *app*, and return what does.

    In each process of the pool a guard is started after the fork, and the growth of memory is added
    up by the name of the task. A process of the prefork pool that has outgrown *limit* ends between
    two tasks, when its turn has come; other pools are only watched and logged.

    Args:
        app: The `Celery` application; ``current_app`` stands for the one that it is now.
        min_tasks: Tasks that a process must have done before it is replaced.
        every: Measure one task in so many; each costs two readings, 40 µs.
        **options: Those of `WorkerOptions`: *limit*, *min_age*, *interval*, *spread*, *look*,
            *freeze* and *guard*.

    Raises:
        LifecycleError: It was called for this application already.
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """
    from celery import Celery  # noqa: PLC0415 - reason: lazy in Celery, too

    get_object = getattr(app, "_get_current_object", None)  # of Celery's proxies
    app = check_instance(app if get_object is None else get_object(), Celery, "app")
    check_positive_int(every, "every", "; 1 measures every task")
    checked = WorkerOptions(min_requests=min_tasks, **options)
    if app in _known:
        raise LifecycleError(
            "setup() was already called for this application; close() that one first"
        )
    workers = _known[app] = CeleryWorkers(app, checked, every=every)
    return workers


_known: weakref.WeakKeyDictionary[Any, CeleryWorkers] = weakref.WeakKeyDictionary()
