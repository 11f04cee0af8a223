"""
Celery workers: guarded, told apart by task, and replaced between two tasks.

Beside the application::

    from memguard.integrations.workers.celery import setup

    app = Celery(...)
    setup(app, limit="400MiB")

Nothing happens in a process that only sends tasks.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.extras import missing
from memguard.integrations.workers.celery_pool import end_between_tasks, pool_process
from memguard.integrations.workers.options import WorkerGuard, WorkerOptions, fair_share
from memguard.integrations.workers.recycler import Recycler
from memguard.integrations.workers.task_growth import GrowthTable, TaskGrowth
from memguard.integrations.workers.turns import Turns
from memguard.leaks.report import LeakReport
from memguard.observe.readings import read_memory
from memguard.relief.gc_policy import prefork
from memguard.units import format_bytes

try:
    from celery import signals
except ImportError:
    raise missing("celery", "celery") from None

__all__ = ["CeleryWorkers", "setup"]

_MOST_RUNS = 1000
"""Tasks under way at the same time that are known; with more of them none is measured anyway."""
_MOST_TOLD = 5
"""Kinds of task in one line of the log."""
_WORTH_TELLING = 1 << 20
"""Bytes: the first tasks of every process touch what they use, and that is no growth of theirs."""


class CeleryWorkers:
    """
    What memguard does in the worker of one Celery application; made by `setup`.

    Bounded by: in each process of the pool a guard, one more thread and two hundred names of tasks.
    Locks: one mutex around the tasks under way, one around the sums of `growth`.
    Keeps alive: itself, by Celery's signals, until `close`; the application not.
    """

    def __init__(self, app: Any, options: WorkerOptions, *, every: int = 1) -> None:
        self._app = weakref.ref(app)
        self._options = options
        self._every = every
        self._table = GrowthTable()
        self._turns: Turns | None = None
        self._processes: int | None = None
        self._is_active = self._is_frozen = False
        self._begun_in = 0
        self._guard: WorkerGuard | None = None
        self._recycler: Recycler | None = None
        self._tasks = 0
        self._lock = threading.Lock()
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
        self._stop()
        _forget(self)

    @property
    def recycler(self) -> Recycler | None:
        """That of this process; None where there is none."""
        return self._recycler

    def growth(self) -> tuple[TaskGrowth, ...]:
        """Return what each kind of task added to this process, the worst first. Thread-safe."""
        return self._table.rows()

    # -- the process that forks -------------------------------------------------------------------

    def _on_worker_init(self, sender: Any = None, **_: Any) -> None:
        """Celery is about to work; of all applications in this process, for *sender*'s."""
        self._is_active = sender is not None and sender.app is self._app()
        count = getattr(sender, "concurrency", None)
        self._processes = count if isinstance(count, int) else os.cpu_count()
        if self._is_active and self._options.replaces:
            try:
                self._turns = Turns()
            except (OSError, LifecycleError) as error:
                log.event(logging.WARNING, "worker.recycling_off", reason=str(error))

    def _on_before_fork(self, **_: Any) -> None:
        if self._is_active and self._options.freeze and not self._is_frozen:
            self._is_frozen = True
            prefork()

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
        if not self._is_active or self._begun_in == os.getpid():
            return
        self._begun_in = os.getpid()
        self._tasks, self._lock, self._runs = 0, threading.Lock(), {}
        try:
            if self._options.guard is not None:
                theirs = self._options.guard.get("on_leak")

                def on_leak(report: LeakReport) -> None:
                    self._tell_growth("worker.leak", logging.WARNING, report=report.id)
                    if theirs is not None:
                        theirs(report)

                self._guard = WorkerGuard({**self._options.guard, "on_leak": on_leak})
            self._watch()
        except Exception as error:  # noqa: BLE001 - reason: a worker unguarded is better than none
            log.event(logging.ERROR, "worker.not_guarded", error=str(error))

    def _watch(self) -> None:
        if not self._options.replaces:
            return
        limit = self._options.limit or fair_share(self._processes)
        if limit is None or self._turns is None:
            reason = "no limit was given or found" if limit is None else "not forked, but spawned"
            log.event(logging.INFO, "worker.recycling_off", reason=reason)
            return
        worker = pool_process()
        recycler = Recycler(
            self._options.rules(limit),
            self._turns,
            # What ends it is the answer of `take_turn`, between two tasks.
            end=None if worker is None else lambda _reason: None,
            relief=None if self._guard is None else self._guard.guard.relief,
            requests=lambda: self._tasks,
            waits_for_boundary=worker is not None,
            spread=self._options.spread,
            look_seconds=self._options.look,
        )
        if worker is not None:
            end_between_tasks(worker, recycler.take_turn)
        self._recycler = recycler.start()

    def _on_end(self, **_: Any) -> None:
        if self._begun_in == os.getpid():
            self._tell_growth("worker.growth", logging.INFO, least=_WORTH_TELLING)
            self._stop()

    def _stop(self) -> None:
        recycler, self._recycler = self._recycler, None
        if recycler is not None:
            recycler.stop()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    # -- tasks ------------------------------------------------------------------------------------

    def _on_prerun(self, task: Any = None, task_id: str = "", **_: Any) -> None:
        if self._begun_in != os.getpid() or task.request.is_eager:
            return  # one that another task calls is part of that one
        thread, run = threading.get_ident(), _Run(task_id)
        with self._lock:
            others = [known for ident, known in self._runs.items() if ident != thread]
            for other in (*others, *([run] if others else [])):
                other.is_alone = False  # two at a time: whose growth would it be?
            if len(others) < _MOST_RUNS:
                self._runs[thread] = run
            self._tasks += 1
            run.is_measured = run.is_alone and self._tasks % self._every == 0
        if run.is_measured:
            run.before = read_memory().private

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

    def _tell_growth(self, event: str, level: int, *, least: int = 1, **keys: Any) -> None:
        rows = [row for row in self._table.rows() if row.grown >= least][:_MOST_TOLD]
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


def setup(
    app: Any,
    *,
    limit: int | str | None = "auto",
    min_age: float | str = 300.0,
    min_tasks: int = 20,
    interval: float | str = 60.0,
    spread: float = 0.1,
    look: float | str = 5.0,
    freeze: bool = True,
    every: int = 1,
    guard: Mapping[str, Any] | None = {},
) -> CeleryWorkers:
    """
    Guard the worker processes of *app*, and return what does.

    In each process of the pool a guard is started after the fork, and the growth of memory is added
    up by the name of the task. A process of the prefork pool that has outgrown *limit* ends between
    two tasks, when its turn has come; those of other pools are only told about.

    Args:
        app: The `Celery` application; ``current_app`` stands for the one that it is now.
        limit: Private memory of one process above which it is replaced: bytes, ``"400MiB"``, or
            ``"auto"``, which is its share of nine tenths of the container's bound. None replaces
            none.
        min_age: Seconds that a process must have worked before it is replaced.
        min_tasks: And tasks.
        interval: Least seconds between two replacements.
        spread: Part of the limit, by up to which that of each process is lowered by chance.
        look: Seconds between two looks.
        freeze: Freeze what is loaded before the first fork.
        every: Measure one task in so many; each costs two readings, 40 µs.
        guard: Options of the `MemoryGuard` in each process; None starts none.

    Raises:
        LifecycleError: It was called for this application already.
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """
    from celery import Celery  # noqa: PLC0415 - reason: lazy in Celery, too

    get_object = getattr(app, "_get_current_object", None)  # of Celery's proxies
    app = app if get_object is None else get_object()
    if not isinstance(app, Celery):
        raise TypeError(f"app must be a Celery application (got {type(app).__name__})")
    if isinstance(every, bool) or not isinstance(every, int):
        raise TypeError(f"every must be an int (got {type(every).__name__})")
    if every < 1:
        raise ConfigError(f"every must be >= 1 (got {every}); 1 measures every task")
    options = WorkerOptions(
        limit=limit,
        min_age=min_age,
        min_requests=min_tasks,
        interval=interval,
        spread=spread,
        look=look,
        freeze=freeze,
        guard=guard,
    )
    if app in _known:
        raise LifecycleError("setup() was called for this application already; close() that first")
    workers = _known[app] = CeleryWorkers(app, options, every=every)
    return workers


_known: weakref.WeakKeyDictionary[Any, CeleryWorkers] = weakref.WeakKeyDictionary()


def _forget(workers: CeleryWorkers) -> None:
    for app, known in list(_known.items()):
        if known is workers:
            del _known[app]
