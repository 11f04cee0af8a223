"""The thread of every watcher: it ticks, it can be stopped, and it outlives failures."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable

import pytest

from memguard.lifecycle.ticker import Ticker
from tests.waiting import wait_for


class Target:
    """Counts ticks, and does what a test asks at each."""

    def __init__(self, act: Callable[[], object] = lambda: None, delay: float = 0.001) -> None:
        self.ticks = 0
        self.looks = 0
        self.seen = threading.Event()
        self.act = act
        self.delay = delay

    def tick(self) -> float:
        self.ticks += 1
        if self.ticks >= 3:
            self.seen.set()
        self.act()
        return self.delay

    def look_on_request(self) -> None:
        self.looks += 1
        self.seen.set()


def test_a_ticker_ticks_until_it_is_stopped() -> None:
    target = Target()
    ticker = Ticker(target, "memguard-test")
    assert not ticker.alive
    ticker.start()
    assert ticker.alive
    assert target.seen.wait(10)
    assert ticker.stop(10)
    assert not ticker.alive
    ticks = target.ticks
    time.sleep(0.02)
    assert target.ticks == ticks
    assert not any(thread.name == "memguard-test" for thread in threading.enumerate())


def test_stopping_does_not_wait_for_the_interval() -> None:
    target = Target(delay=3600.0)
    ticker = Ticker(target, "memguard-test")
    ticker.start()
    began = time.monotonic()
    assert ticker.stop(10)
    assert time.monotonic() - began < 5


def test_stopping_twice_or_before_the_start_is_no_error() -> None:
    ticker = Ticker(Target(), "memguard-test")
    assert ticker.stop(1)
    ticker.start()
    assert ticker.stop(10)
    assert ticker.stop(10)


def test_a_tick_that_takes_longer_than_the_wait_is_told() -> None:
    gate = threading.Event()
    target = Target(lambda: gate.wait(20))
    ticker = Ticker(target, "memguard-test")
    ticker.start()
    while not target.ticks:
        time.sleep(0.001)
    assert not ticker.stop(0.01)
    gate.set()
    assert ticker.stop(10)
    assert target.ticks == 1


def test_a_ticker_stopped_from_its_own_tick_ends_after_it() -> None:
    answers: list[bool] = []
    target = Target(lambda: answers.append(ticker.stop(10)))
    ticker = Ticker(target, "memguard-test")
    ticker.start()
    ticker._thread.join(10)
    assert answers == [True]
    assert target.ticks == 1


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_a_failing_tick_is_logged_without_its_text_and_the_thread_lives_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        if target.ticks == 2:
            raise error

    target = Target(fail)
    ticker = Ticker(target, "memguard-test")
    with caplog.at_level(logging.ERROR, "memguard"):
        ticker.start()
        assert target.seen.wait(10)
        assert ticker.stop(10)
    (line,) = caplog.messages
    assert "event='ticker.failed'" in line
    assert type(error).__name__ in line
    assert "mine" not in line


def test_a_ticker_whose_first_tick_fails_does_not_spin() -> None:
    def fail() -> None:
        raise ValueError

    target = Target(fail)
    ticker = Ticker(target, "memguard-test")
    ticker.start()
    time.sleep(0.2)
    assert ticker.stop(10)
    assert target.ticks < 20


def test_a_request_is_answered_at_once() -> None:
    target = Target(delay=3600.0)
    ticker = Ticker(target, "memguard-test")
    ticker.start()
    ticker.request()
    assert target.seen.wait(10)
    assert target.looks == 1
    assert ticker.stop(10)


def test_requests_that_come_while_one_is_answered_are_one() -> None:
    gate, begun = threading.Event(), threading.Event()

    class Slow(Target):
        def look_on_request(self) -> None:
            self.looks += 1
            begun.set()
            gate.wait(20)

    target = Slow(delay=3600.0)
    ticker = Ticker(target, "memguard-test").start()
    ticker.request()
    assert begun.wait(20)
    for _ in range(1000):
        ticker.request()
    gate.set()
    wait_for(lambda: target.looks == 2)
    assert ticker.stop(20)
    assert target.looks == 2


@pytest.mark.timeout(300)
@pytest.mark.stress
def test_a_wait_that_is_over_before_it_begins_ends() -> None:
    """`queue.SimpleQueue.get` does not always: one in ten thousand waits forever."""

    def request() -> None:
        ticker.request()

    def is_past(ticks: int) -> bool:
        return target.ticks > ticks

    target = Target(request, delay=1e-6)
    ticker = Ticker(target, "memguard-test").start()
    for ticks in range(0, 100_001, 10_000):  # however long all of them take, it goes on
        wait_for(functools.partial(is_past, ticks))
    assert ticker.stop(20)
