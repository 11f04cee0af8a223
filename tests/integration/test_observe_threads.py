"""The observe rooms under real threads, each test with a deadline."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memguard.observe.gcwatch import GcWatch
from memguard.observe.history import History
from memguard.observe.readings import Reading, read_memory


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run *work* in *count* threads at once and re-raise what failed in them."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(count)

    def body(number: int) -> None:
        try:
            barrier.wait(20)
            work(number)
        except BaseException as error:  # noqa: BLE001 - reason: raised again in the test's thread
            failures.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def test_the_numbers_of_a_watch_agree_however_many_threads_collect() -> None:
    deadline = time.monotonic() + 1.5
    with GcWatch(ring=16) as watch:

        def work(number: int) -> None:
            seen = turns = 0
            while turns < 50 or time.monotonic() < deadline:
                turns += 1
                if number == 0:
                    statistics = watch.statistics()
                    watch.tick()
                    assert statistics.collections >= seen
                    seen = statistics.collections
                    for row in statistics.generations:
                        assert sum(count for _, count in row.histogram) == row.collections
                        assert row.pause_max <= row.pause_total
                else:
                    cycle: list[Any] = []
                    cycle.append(cycle)
                    del cycle
                    gc.collect(number % 2)

        in_threads(4, work)
        assert watch.statistics().collections > 50


def test_a_history_loses_nothing_between_threads(tmp_path: Path) -> None:
    """Eight writers across many minutes, with readers between them, and a file."""
    lock = threading.Lock()
    now = [0.0]

    def clock() -> float:
        with lock:
            now[0] += 1.0
            return now[0]

    with History(path=tmp_path / "history.db", clock=clock, keep_minutes=5) as history:

        def work(number: int) -> None:
            for turn in range(150):
                history.add(Reading(at=0.0, anon=100 + number))
                if turn % 10 == 0:
                    before = history.statistics().added
                    told = sum(hour.count for hour in history.hours())
                    after = history.statistics().added
                    assert before <= told <= after, "a minute on its way counts once"

        in_threads(8, work)
        statistics = history.statistics()
        hours = history.hours()
        assert statistics.added == 1200
        assert statistics.file_errors == 0
        assert sum(hour.count for hour in hours) == 1200
        total = sum(hour.count * hour.average for hour in hours)
        assert abs(total / 1200 - 103.5) < 1.0


def test_readings_may_be_taken_by_many_threads_at_once() -> None:
    def work(_: int) -> None:
        for _ in range(100):
            row = read_memory(include=("malloc", "limit"))
            assert row.source != "none"
            assert row.private is not None

    in_threads(4, work)
