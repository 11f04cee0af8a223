"""The watcher inside a worker, looked at tick by tick."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from memguard.integrations.workers.recycle_policy import RecycleOptions, TurnRecord
from memguard.integrations.workers.recycler import Recycler
from memguard.integrations.workers.turns import Turns
from memguard.observe.readings import Reading
from tests.clock import FakeClock

MIB = 1 << 20
OPTIONS = RecycleOptions(limit=100 * MIB, min_age=300, min_requests=20, interval=60)


class Worker:
    """A worker whose memory the test sets, and all that happens to it."""

    def __init__(self, clock: FakeClock, **options: Any) -> None:
        self.anon, self.shared = 20 * MIB, 0
        self.exact_readings = 0
        self.clock = clock
        self.ended: list[str] = []
        self.relieved: list[int] = []
        self.said: list[str] = []
        self.turns = Turns(timer=clock)
        self.turns.pid = -1  # as if it had been forked
        self.recycler = Recycler(
            OPTIONS,
            self.turns,
            **{
                "end": self.ended.append,
                "relief": self,
                "requests": lambda: 1000,
                "server_log": lambda _level, sentence: self.said.append(sentence),
                "timer": clock,
                "read": self.read,
                **options,
            },
        )
        self.recycler.tick()

    def read(self, include: tuple[str, ...] = ()) -> Reading:
        self.exact_readings += bool(include)
        uss = self.anon - self.shared if include else None
        return Reading(at=self.clock(), anon=self.anon, swap=0, uss=uss)

    def relieve(self, target: int | str | None = None, *, reason: str = "") -> None:
        assert isinstance(target, int), reason
        self.relieved.append(target)

    def grow(self, mib: int, *, seconds: float = 1000.0) -> None:
        self.anon += mib * MIB
        self.clock.advance(seconds)
        self.recycler.tick()


def test_a_worker_over_its_limit_gives_memory_back_and_then_ends_once(
    fake_clock: FakeClock,
) -> None:
    worker = Worker(fake_clock)
    worker.grow(90)
    assert (len(worker.relieved), worker.relieved[0], worker.ended) == (1, 20 * MIB, [])
    for _ in range(3):
        worker.grow(0, seconds=1)
    assert len(worker.ended) == 1
    assert "110.0 MiB of 100.0 MiB" in worker.ended[0]
    assert worker.said == [f"memguard: this worker ends and is replaced: {worker.ended[0]}"]
    assert worker.recycler.statistics().is_ending


def test_memory_shared_with_the_parent_does_not_count(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock)
    worker.shared = 60 * MIB
    worker.grow(90)
    worker.grow(0)
    assert (worker.relieved, worker.ended) == ([], [])
    assert worker.recycler.statistics().private == 50 * MIB


def test_the_dear_figure_is_read_at_first_and_above_the_limit_only(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock)
    for _ in range(10):
        worker.grow(1)
    assert worker.exact_readings == 1
    worker.grow(100)
    assert worker.exact_readings == 2


def test_one_that_may_not_end_yet_goes_on_asking(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock)
    granted = worker.turns.take(OPTIONS, at_once=False).granted  # another one, that is gone again
    worker.grow(90, seconds=400)
    worker.grow(0, seconds=1)
    statistics = worker.recycler.statistics()
    assert (granted, worker.ended, statistics.refused) == (True, [], 1)
    assert statistics.waiting_for == "the replacement of the last one is not ready"
    worker.turns.ready()
    worker.grow(0, seconds=1)
    assert len(worker.ended) == 1


def test_one_that_waits_is_not_asked_more_often_than_it_makes_sense(fake_clock: FakeClock) -> None:
    """Each look at a worker over its limit reads the exact figure, which is dear for a giant."""
    worker = Worker(fake_clock, look_seconds=100.0)
    worker.grow(90)
    assert len(worker.relieved) == 1
    worker.turns._write(TurnRecord(granted_at=fake_clock() - 5, granted=2, ready=2))
    assert worker.recycler.tick() == pytest.approx(55.0)


def test_where_a_fresh_worker_would_be_as_large_it_stays_and_says_so_once(
    fake_clock: FakeClock,
) -> None:
    worker = Worker(fake_clock)
    worker.grow(150, seconds=100)
    for _ in range(50):
        worker.grow(0)
    assert worker.ended == []
    assert worker.relieved == []
    [sentence] = worker.said
    assert "replacing it would not help" in sentence
    assert "170.0 MiB of 100.0 MiB" in sentence


def test_one_that_was_not_forked_from_the_maker_of_the_turns_never_ends(
    fake_clock: FakeClock,
) -> None:
    worker = Worker(fake_clock)
    worker.turns = worker.recycler._turns = Turns(timer=fake_clock)
    worker.grow(90)
    worker.grow(0, seconds=1)
    worker.grow(0, seconds=1)
    assert worker.ended == []
    assert len(worker.said) == 1
    assert "was not forked" in worker.said[0]


def test_one_that_nobody_can_end_is_told_about_and_takes_no_turn(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock, end=None)
    worker.grow(90)
    worker.grow(0, seconds=1)
    worker.grow(0, seconds=1)
    [sentence] = worker.said
    assert "should be replaced (110.0 MiB of 100.0 MiB" in sentence
    assert worker.turns.record().granted == 0


def test_a_worker_that_does_not_end_is_told_again_once(fake_clock: FakeClock) -> None:
    insisted: list[bool] = []
    worker = Worker(fake_clock, insist=lambda: insisted.append(True), grace=30.0)
    worker.grow(90)
    worker.grow(0, seconds=1)
    worker.grow(0, seconds=29)
    assert insisted == []
    worker.grow(0, seconds=2)
    worker.grow(0, seconds=99)
    assert insisted == [True]


def test_a_worker_that_somebody_else_has_ended_takes_no_turn(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock, is_leaving=lambda: fake_clock() > 1500)
    worker.grow(90)
    worker.grow(0, seconds=1)
    assert (worker.ended, worker.said, worker.turns.record().granted) == ([], [], 0)


def test_between_two_tasks_the_host_asks_for_the_turn(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock, waits_for_boundary=True)
    assert not worker.recycler.take_turn()
    worker.grow(90)
    worker.grow(0, seconds=1)
    assert (worker.recycler.is_due, worker.ended) == (True, [])
    assert worker.recycler.take_turn()
    assert len(worker.ended) == 1
    assert not worker.recycler.take_turn()


def test_a_turn_that_cannot_be_asked_for_reaches_no_host(
    fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands between two tasks of Celery's, whose loop would end with the exception."""
    worker = Worker(fake_clock, waits_for_boundary=True)
    worker.grow(90)
    worker.grow(0, seconds=1)

    def full(*_: object) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("os.pwrite", full)
    assert not worker.recycler.take_turn()
    assert (worker.ended, worker.recycler.statistics().errors) == ([], 1)
    monkeypatch.undo()
    assert worker.recycler.take_turn()


@pytest.mark.parametrize("fails", ["end", "server_log", "requests"])
def test_a_failing_callback_is_counted_and_said_once(
    fails: str, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("the host's")

    caplog.set_level(logging.WARNING, "memguard")
    worker = Worker(fake_clock, **{fails: broken})
    worker.grow(90)
    worker.grow(0, seconds=1)
    worker.grow(0, seconds=1)
    assert worker.recycler.statistics().errors >= 1
    messages = [record.getMessage() for record in caplog.records]
    failed = [text for text in messages if text.startswith("event='worker.recycler_failed'")]
    assert len(failed) == 1
    assert "error='RuntimeError'" in failed[0]


def test_the_limits_of_workers_that_grow_alike_are_spread(fake_clock: FakeClock) -> None:
    limits = {Worker(fake_clock, spread=0.2).recycler.options.limit for _ in range(20)}
    assert len(limits) > 10
    assert min(limits) >= 80 * MIB
    assert max(limits) <= 100 * MIB


def test_it_starts_and_stops_its_thread(fake_clock: FakeClock) -> None:
    worker = Worker(fake_clock)
    starts: list[Callable[..., object]] = [worker.recycler.start, worker.recycler.start]
    for start in starts:
        start()
    assert worker.recycler.statistics().running
    assert worker.turns.record().ready == 1
    assert worker.recycler.stop()
    assert worker.recycler.stop()
    assert not worker.recycler.statistics().running


def test_a_giant_whose_exact_figure_takes_long_is_looked_at_less_often(
    fake_clock: FakeClock,
) -> None:
    def slow(include: tuple[str, ...] = ()) -> Reading:
        began = time.thread_time()
        while include and time.thread_time() - began < 0.05:
            pass
        return Reading(at=fake_clock(), anon=200 * MIB, swap=0, uss=200 * MIB)

    worker = Worker(fake_clock, read=slow, look_seconds=1.0)
    assert 5.0 <= worker.recycler.tick() <= 60.0
