"""What memguard's receivers do when Celery's own tracer runs tasks in this process."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.local import Proxy

import memguard
from memguard.errors import ConfigError, LifecycleError
from memguard.integrations.workers.celery import CeleryWorkers, setup
from memguard.leaks.finding.findings import Finding
from tests.specimens import leak_report

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Celery's workers do not run on Windows"
)

MIB = 1 << 20
KEPT: list[mmap.mmap] = []
WORK: dict[str, Callable[[], object]] = {}
OPTIONS: dict[str, Any] = {
    "limit": None,
    "guard": {"leaks": False, "gc_watch": False, "relief": False, "history": False},
}


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("of-a-test", broker="memory://", set_as_current=False)
    yield app
    app.close()
    while KEPT:
        KEPT.pop().close()


@pytest.fixture(autouse=True)
def no_garbage_of_others() -> Iterator[None]:
    """What other tests have left would be given back in a task of this one."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Controller:
    """What Celery sends ``worker_init`` with, as far as it is looked at."""

    def __init__(self, app: object) -> None:
        self.app = app
        self.concurrency = 2


def at_work(app: Celery, **options: Any) -> CeleryWorkers:
    """Set up *app*, and begin as in a process of its pool."""
    workers = setup(app, **{**OPTIONS, **options})
    signals.worker_init.send(sender=Controller(app))
    signals.worker_process_init.send(sender="host")
    return workers


def task_of(app: Celery, work: Callable[[], object], name: str) -> Any:
    """Return a task of that name, made once, which does *work*."""
    WORK[name] = work
    if name in app.tasks:
        return app.tasks[name]

    def body() -> None:
        WORK[name]()

    return app.task(name=name)(body)


def run(app: Celery, work: Callable[[], object], name: str = "work") -> None:
    """Have Celery's tracer run *work* as a task, as a process of the pool does."""
    task = task_of(app, work, name)
    build_tracer(name, task, app=app)(str(uuid.uuid4()), (), {})


def keep() -> None:
    """Keep eight MiB that no allocator has had before: it would give what was freed again."""
    pages = mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for place in range(0, len(pages), 4096):
        pages[place] = 1
    KEPT.append(pages)


def nothing() -> None:
    os.urandom(100)


def test_what_a_task_keeps_is_added_up_under_its_name(app: Celery) -> None:
    workers = at_work(app)
    try:
        for _ in range(3):
            run(app, keep, "keeps")
            run(app, nothing, "harmless")
        worst, harmless = workers.growth()
    finally:
        workers.close()
    assert (worst.name, worst.runs, harmless.name, harmless.runs) == ("keeps", 3, "harmless", 3)
    assert 20 * MIB < worst.grown < 30 * MIB
    assert 7 * MIB < worst.largest < 10 * MIB
    assert harmless.grown < MIB


def test_the_end_tells_of_tasks_that_kept_a_mebibyte_and_of_no_others(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    """A young process touches pages with each first task; that is no growth of the task's."""
    workers = at_work(app)
    try:
        workers._table.add("harmless", MIB - 1)
        with caplog.at_level(logging.INFO, "memguard"):
            workers._on_end()
            assert "worker.growth" not in caplog.text
        workers._begin()
        workers._table.add("keeps", MIB)
        with caplog.at_level(logging.INFO, "memguard"):
            workers._on_end()
    finally:
        workers.close()
    [line] = [line for line in caplog.messages if "worker.growth" in line]
    assert "task='keeps'" in line
    assert "harmless" not in line


def test_a_task_that_fails_is_measured_too(app: Celery) -> None:
    def fail() -> None:
        keep()
        raise ValueError("the task's own")

    workers = at_work(app)
    try:
        run(app, fail)
        [row] = workers.growth()
    finally:
        workers.close()
    assert row.runs == 1
    assert row.grown > 7 * MIB


def test_one_that_a_task_calls_belongs_to_that_task(app: Celery) -> None:
    inner = task_of(app, keep, "inner")
    workers = at_work(app)
    try:
        run(app, inner.apply, "outer")
        [row] = workers.growth()
    finally:
        workers.close()
    assert (row.name, row.runs) == ("outer", 1)
    assert row.grown > 7 * MIB


def test_two_at_a_time_are_not_measured_for_nobody_knows_whose_growth_it_was(app: Celery) -> None:
    inside, outside = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        outside.wait(20)

    workers = at_work(app)
    try:
        other = threading.Thread(target=run, args=(app, slow, "slow"))
        other.start()
        assert inside.wait(20)
        run(app, nothing, "quick")
        outside.set()
        other.join()
        assert workers.growth() == ()
        run(app, nothing, "quick")
        assert [row.name for row in workers.growth()] == ["quick"]
    finally:
        workers.close()


def test_one_in_so_many_is_measured(app: Celery) -> None:
    workers = at_work(app, every=5)
    try:
        for _ in range(12):
            run(app, nothing)
        [row] = workers.growth()
    finally:
        workers.close()
    assert row.runs == 2


def test_a_leak_report_names_the_task_that_added_most(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "memguard")
    told: list[object] = []
    workers = at_work(app, guard={**OPTIONS["guard"], "leaks": True, "on_leak": told.append})
    try:
        run(app, keep, "keeps")
        detector = memguard.install().detector
        assert detector is not None
        report = leak_report(id="a-report")
        detector._delivery.deliver(Finding(report, "new"))  # a leak takes minutes
    finally:
        workers.close()
    [line] = [r.getMessage() for r in caplog.records if "worker.leak" in r.getMessage()]
    assert "task='keeps'" in line
    assert f"report={report.id!r}" in line
    assert told == [report]


def test_a_process_that_only_sends_tasks_is_left_alone(app: Celery) -> None:
    workers = setup(app, **OPTIONS)
    try:
        run(app, nothing)
        assert workers.growth() == ()
        with pytest.raises(LifecycleError):
            memguard.status()
        assert [t.name for t in threading.enumerate() if "memguard" in t.name] == []
    finally:
        workers.close()


def test_the_worker_of_another_application_is_not_ours(app: Celery) -> None:
    workers = setup(app, **OPTIONS)
    try:
        signals.worker_init.send(sender=Controller(object()))
        signals.worker_process_init.send(sender="host")
        with pytest.raises(LifecycleError):
            memguard.status()
    finally:
        workers.close()


def test_the_guard_of_the_application_is_used_and_left_running(app: Celery) -> None:
    theirs = memguard.install(name="theirs", leaks=False, gc_watch=False)
    try:
        workers = at_work(app)
        assert memguard.install() is theirs
        workers.close()
        assert theirs.status().running
    finally:
        memguard.uninstall()


def receivers() -> list[int]:
    found = vars(signals).values()
    return [len(signal.receivers or ()) for signal in found if hasattr(signal, "receivers")]


def test_closing_takes_every_receiver_away_and_setup_is_possible_again(app: Celery) -> None:
    before = receivers()
    workers = setup(app, **OPTIONS)
    with pytest.raises(LifecycleError, match="already"):
        setup(app, **OPTIONS)
    workers.close()
    workers.close()
    assert receivers() == before
    setup(app, **OPTIONS).close()


def test_it_does_not_keep_the_application_alive() -> None:
    app = Celery("short-lived", broker="memory://", set_as_current=False)
    workers = setup(app, **OPTIONS)
    gone = weakref.ref(app)
    app.close()
    del app
    gc.collect()
    workers.close()
    assert gone() is None


def test_a_proxy_stands_for_its_application_and_anything_else_is_refused(app: Celery) -> None:
    workers = setup(Proxy(lambda: app), **OPTIONS)
    with pytest.raises(LifecycleError, match="already"):
        setup(app, **OPTIONS)
    workers.close()
    for wrong in ("shop", None, object()):
        with pytest.raises(TypeError, match="app must be a Celery "):
            setup(wrong, **OPTIONS)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"every": 0}, ConfigError),
        ({"every": True}, TypeError),
        ({"limit": "much"}, ConfigError),
        ({"limit": 0}, ConfigError),
        ({"min_tasks": "many"}, TypeError),
        ({"spread": 0.9}, ConfigError),
        ({"spread": "wide"}, TypeError),
        ({"look": 0}, ConfigError),
        ({"freeze": 1}, TypeError),
        ({"guard": "yes"}, TypeError),
        ({"guard": {"interval": -1}}, ConfigError),
        ({"guard": {"intervall": 1}}, TypeError),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_connected(
    wrong: dict[str, Any], error: type[Exception], app: Celery
) -> None:
    before = len(signals.task_prerun.receivers or ())
    with pytest.raises(error):
        setup(app, **{**OPTIONS, **wrong})
    assert len(signals.task_prerun.receivers or ()) == before
