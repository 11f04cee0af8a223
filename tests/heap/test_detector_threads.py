"""A detector among real threads: it finds, it does not break anything, it comes to an end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memguard.errors import LifecycleError
from memguard.leaks.detector import LeakDetector
from memguard.leaks.report import LeakReport
from memguard.observe.readings import Reading, read_memory
from tests.waiting import wait_for

HELD: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    yield
    HELD.clear()


@contextmanager
def threads(count: int, work: Callable[[int], object]) -> Iterator[list[BaseException]]:
    """Do *work* over and over in *count* threads; what it raised is in the list."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        number = 0
        try:
            while not ended.is_set():
                work(number)
                number += 1
        except BaseException as error:  # noqa: BLE001 - reason: it is asserted on
            failures.append(error)

    running = [threading.Thread(target=run) for _ in range(count)]
    for thread in running:
        thread.start()
    try:
        yield failures
    finally:
        ended.set()
        for thread in running:
            thread.join(30)


def detector(**options: Any) -> LeakDetector:
    chosen: dict[str, Any] = {
        "interval": 0.05,
        "min_growth_bytes": "1MiB",
        "growth_threshold": 1.02,
        "warmup": 0.2,
        "cooldown": 0.1,
        "trace_seconds": 0.3,
    }
    return LeakDetector(**{**chosen, **options})


def _alive(ref: weakref.ref[Any]) -> bool:
    return ref() is not None


def churn(number: int) -> None:
    """Make garbage in cycles, resize dicts, raise and catch, fill tuples, and sleep a little."""
    node: dict[str, Any] = {}
    node["me"] = [node, bytearray(500)]
    assert tuple(n for n in range(number % 50)) == tuple(range(number % 50))
    local = {n: [n] for n in range(100)}
    for key in list(local)[::2]:
        del local[key]
    try:
        local[-1].clear()
    except KeyError:
        if number % 20 == 0:
            time.sleep(0.001)
    if number % 100 == 0:
        gc.collect(number // 100 % 2)


@pytest.mark.timeout(120)
@pytest.mark.stress
def test_investigations_among_eight_busy_threads_do_no_harm_and_come_to_an_end() -> None:
    told: list[LeakReport] = []

    def leak_and_churn(number: int) -> None:
        churn(number)
        if number % 10 == 0:
            HELD.append(bytearray(1000))

    with threads(8, leak_and_churn) as failures:
        watching = detector(on_leak=told.append).start()
        try:
            wait_for(lambda: watching.statistics().investigations >= 3, 60)
        finally:
            assert watching.stop(30)
    assert failures == []
    statistics = watching.statistics()
    assert statistics.errors == 0, statistics.errors_by_kind
    assert statistics.state == "idle"
    assert told


class Reentrant:
    """Its finalizer asks the detector for everything, where it runs in the detector's thread."""

    refused: list[str] = []  # noqa: RUF012 - reason: shared on purpose
    target: LeakDetector

    def __del__(self) -> None:
        if threading.current_thread().name != "memguard-detector-reentrant":
            return
        self.target.tick()
        self.target.statistics()
        assert isinstance(self.target.reports, tuple)
        try:
            self.target.check(seconds=0)
        except LifecycleError as error:
            self.refused.append(type(error).__name__)


@pytest.mark.timeout(90)
@pytest.mark.stress
def test_finalizers_that_call_the_detector_do_not_block_it() -> None:
    """What dies while a reading is taken, or the heap is walked, dies in the detector's thread."""
    short: list[Reentrant] = []

    def read_and_drop() -> Reading:
        Reentrant()  # dies at once, here: within a tick, in the thread that ticks
        return read_memory()

    watching = detector(name="reentrant", read=read_and_drop)
    Reentrant.target = watching
    Reentrant.refused.clear()

    def work(number: int) -> None:
        short[:] = [Reentrant() for _ in range(200)]
        if number % 5 == 0:
            HELD.append(bytearray(5000))
        time.sleep(0.0005)

    with threads(2, work) as failures:
        watching.start()
        try:
            wait_for(lambda: Reentrant.refused and watching.reports, 60)
        finally:
            assert watching.stop(30)
    assert failures == []
    assert watching.statistics().errors == 0


@pytest.mark.timeout(150)
@pytest.mark.stress
def test_a_check_from_many_threads_at_once_is_answered_to_each() -> None:
    watching = detector(interval=3600.0)
    answers: list[str] = []
    with watching, threads(2, churn) as failures:
        askers = [
            threading.Thread(target=lambda: answers.append(watching.check(seconds=0.05).kind))
            for _ in range(4)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(120)
    assert answers == ["snapshot"] * 4
    assert failures == []


def test_a_detector_that_was_stopped_is_collected_with_what_it_called() -> None:
    class Application:
        def on_leak(self, report: LeakReport) -> None:
            """Be told."""

    application = Application()
    watching = detector(on_leak=application.on_leak).start()
    watching.stop()
    refs: list[weakref.ref[Any]] = [weakref.ref(application), weakref.ref(watching)]
    del application, watching
    gc.collect()
    assert not any(map(_alive, refs))


@pytest.mark.timeout(60)
def test_starting_and_stopping_a_hundred_times_leaves_no_thread() -> None:
    watching = detector()
    before = threading.active_count()
    for _ in range(100):
        watching.start()
        assert watching.stop()
    assert threading.active_count() == before
