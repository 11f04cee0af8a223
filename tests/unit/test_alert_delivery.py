"""The way to one sink: in order, bounded, tried again, and ended in time."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from memguard.lifecycle.failures import Failures
from memguard.report.alerting import CallSink, DeliveryError, LogSink, Notice, delivery
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.delivery import DeliveryQueue, RetryPolicy
from tests.alerting import PATIENCE, notice
from tests.waiting import wait_for

QUICK = RetryPolicy(queue=5, first_pause=0.01, longest_pause=0.05, give_up=60.0)


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LINGER_SECONDS", 0.05)


class Host:
    """A function of the host's that does what a test wants with each message."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.heard: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, told: Notice) -> None:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.heard.append(told.summary)


Make = Callable[..., DeliveryQueue]


@pytest.fixture
def lane_to() -> Iterator[Make]:
    made: list[DeliveryQueue] = []

    def make(call: Any, patience: RetryPolicy = QUICK) -> DeliveryQueue:
        lane = DeliveryQueue(
            CallSink(call), "memguard-test-lane", patience, Failures("alerts.failed")
        )
        made.append(lane)
        return lane

    yield make
    for lane in made:
        lane.cut()
        assert lane.join(PATIENCE)


def summaries(*numbers: int) -> list[str]:
    return [f"number {number}" for number in numbers]


def test_messages_arrive_in_their_order_and_the_thread_ends(lane_to: Make) -> None:
    host = Host()
    lane = lane_to(host)
    assert lane._thread is None
    for number in range(5):
        lane.put(notice(number))
    assert lane.wait_empty(PATIENCE)
    assert host.heard == summaries(0, 1, 2, 3, 4)
    wait_for(lambda: lane._thread is None)
    lane.put(notice(5))
    assert lane.wait_empty(PATIENCE)
    assert lane.statistics().sent == 6


def test_a_sink_that_hangs_stops_nobody_and_what_does_not_fit_is_counted(
    lane_to: Make, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host()
    host.gate.clear()
    lane = lane_to(host)
    lane.put(notice(0))
    assert host.entered.wait(PATIENCE)
    with caplog.at_level(logging.WARNING, "memguard"):
        for number in range(1, 9):
            lane.put(notice(number))
    found = lane.statistics()
    assert (found.queued, found.dropped) == (6, 3)
    assert [line for line in caplog.messages if "alerts.queue_full" in line] == [
        "event='alerts.queue_full' sink='call' queue=5 why=None"
    ]
    host.gate.set()
    assert lane.wait_empty(PATIENCE)
    assert host.heard == summaries(0, 4, 5, 6, 7, 8)


def test_a_delivery_that_failed_is_tried_again_and_nothing_overtakes_it(lane_to: Make) -> None:
    host = Host(DeliveryError("busy"), DeliveryError("busy"), None)
    lane = lane_to(host)
    lane.put(notice(0))
    lane.put(notice(1))
    assert lane.wait_empty(PATIENCE)
    assert host.heard == summaries(0, 1)
    found = lane.statistics()
    assert (found.sent, found.retried, found.failed, found.last_error) == (2, 2, 0, None)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("a secret"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (MemoryError(), "MemoryError"),
        (DeliveryError("refused", retry=False), "refused"),
    ],
)
def test_a_failure_for_good_is_counted_logged_without_its_text_and_not_repeated(
    lane_to: Make, caplog: pytest.LogCaptureFixture, error: BaseException, why: str
) -> None:
    host = Host(error)
    lane = lane_to(host)
    with caplog.at_level(logging.WARNING, "memguard"):
        lane.put(notice(0))
        lane.put(notice(1))
        assert lane.wait_empty(PATIENCE)
    assert host.heard == summaries(1)
    found = lane.statistics()
    assert (found.sent, found.retried, found.failed) == (1, 0, 1)
    wait_for(lambda: f"why={why!r}" in caplog.text)
    text = "\n".join(caplog.messages)
    assert "secret" not in text


def test_what_cannot_be_delivered_for_too_long_is_given_up_and_said(
    lane_to: Make, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(*[DeliveryError("dead") for _ in range(10_000)])
    patience = RetryPolicy(first_pause=0.01, longest_pause=0.02, give_up=3600.0)
    lane = lane_to(host, patience)
    with caplog.at_level(logging.WARNING, "memguard"):
        lane.put(notice(0))
        wait_for(lambda: lane.statistics().retried)
        lane._policy = replace(patience, give_up=0.0)  # that long has passed by now
        assert lane.wait_empty(PATIENCE)
    assert lane.statistics().failed == 1
    assert lane.statistics().retried >= 1
    wait_for(lambda: "alert.undelivered" in caplog.text)
    (line,) = [line for line in caplog.messages if "alert.undelivered" in line]
    assert "why='dead, for too long'" in line
    assert "fingerprint='ffffffffffffffff'" in line


def test_pauses_double_up_to_a_bound_and_are_never_the_same(lane_to: Make) -> None:
    lane = lane_to(Host(), RetryPolicy(first_pause=1.0, longest_pause=300.0))
    for failing in range(1, 2000, 7):
        lane._failing = failing
        full = min(300.0, 2.0 ** (failing - 1)) if failing < 100 else 300.0
        assert full / 2 <= lane._pause() <= full
    assert len({lane._pause() for _ in range(20)}) > 10


def test_a_receiver_that_asks_for_a_pause_gets_it_and_success_ends_the_doubling(
    lane_to: Make,
) -> None:
    host = Host(DeliveryError("later", after=0.3), None)
    lane = lane_to(host)
    began = time.monotonic()
    lane.put(notice(0))
    assert lane.wait_empty(PATIENCE)
    assert time.monotonic() - began >= 0.3
    assert lane._failing == 0


def test_a_pause_that_is_longer_than_the_patience_is_not_waited_for(lane_to: Make) -> None:
    lane = lane_to(Host(DeliveryError("later", after=3600.0)), RetryPolicy(give_up=60.0))
    lane.put(notice(0))
    assert lane.wait_empty(PATIENCE)
    assert lane.statistics().failed == 1


class TestEnd:
    def test_what_waits_is_delivered_and_what_comes_later_is_not(self, lane_to: Make) -> None:
        host = Host()
        host.gate.clear()
        lane = lane_to(host)
        for number in range(3):
            lane.put(notice(number))
        lane.finish(time.monotonic() + PATIENCE)
        lane.put(notice(3))
        host.gate.set()
        assert lane.wait_empty(PATIENCE)
        assert lane.join(PATIENCE)
        assert host.heard == summaries(0, 1, 2)
        assert lane.statistics().dropped == 1
        lane.open()
        lane.put(notice(4))
        assert lane.wait_empty(PATIENCE)
        assert host.heard == summaries(0, 1, 2, 4)

    def test_a_pause_of_our_own_is_cut_short_and_one_asked_for_is_not(self, lane_to: Make) -> None:
        patience = RetryPolicy(first_pause=3000.0, longest_pause=3000.0, give_up=1e6)
        own = Host(DeliveryError("busy"))
        polite = Host(DeliveryError("later", after=2000.0))
        ours, theirs = lane_to(own, patience), lane_to(polite, patience)
        for lane in (ours, theirs):
            lane.put(notice(0))
            wait_for(lambda lane=lane: lane.statistics().last_error)  # type: ignore[misc] # reason: bound now
            lane.finish(time.monotonic() + PATIENCE)
            assert lane.wait_empty(PATIENCE)
        assert (own.heard, polite.heard) == (summaries(0), [])
        assert (ours.statistics().dropped, theirs.statistics().dropped) == (0, 1)

    def test_a_dead_receiver_does_not_hold_up_the_end(self, lane_to: Make) -> None:
        """Each message has its one last attempt."""
        patience = RetryPolicy(first_pause=3000.0, longest_pause=3000.0, give_up=1e6)
        host = Host(*[DeliveryError("dead") for _ in range(100)])
        lane = lane_to(host, patience)
        for number in range(4):
            lane.put(notice(number))
        wait_for(lambda: lane.statistics().last_error)
        lane.finish(time.monotonic() + PATIENCE)
        assert lane.wait_empty(PATIENCE)
        assert lane.join(PATIENCE)
        assert lane.statistics().dropped == 4
        assert 100 - len(host.errors) == 5

    def test_what_is_cut_while_it_waits_is_dropped(self, lane_to: Make) -> None:
        host = Host(DeliveryError("later", after=2000.0))
        lane = lane_to(host)
        lane.put(notice(0))
        wait_for(lambda: lane.statistics().last_error or lane.statistics().failed)
        host.gate.clear()
        host.entered.clear()
        lane.put(notice(1))
        lane.put(notice(2))
        assert host.entered.wait(PATIENCE)
        lane.cut()
        assert lane.statistics().dropped == 1  # the one under way is not lost yet
        host.gate.set()
        assert lane.join(PATIENCE)
        assert lane.statistics().sent == 1


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_no_thread_to_be_had_is_survived_and_tried_again(
    lane_to: Make, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    host = Host()
    lane = lane_to(host)

    def none(_: threading.Thread) -> None:
        raise error("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        lane.put(notice(0))
        assert lane.statistics().queued == 1
    assert lane._failures.kinds == ((f"thread: {error.__name__}", 1),)
    lane.start_thread()
    assert lane.wait_empty(PATIENCE)
    assert host.heard == summaries(0)


def test_a_child_begins_empty(lane_to: Make) -> None:
    host = Host()
    host.gate.clear()
    lane = lane_to(host)
    lane.put(notice(0))
    lane.put(notice(1))
    assert host.entered.wait(PATIENCE)
    thread = lane._thread
    assert thread is not None
    lane.reset()
    assert lane.statistics().queued == 0
    host.gate.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_one_function_may_be_stopped_from_itself(lane_to: Make) -> None:
    """It ends after this message; waiting for itself would be forever."""
    answers: list[bool] = []

    def stop(_: Notice) -> None:
        lane.finish(time.monotonic())
        answers.append(lane.join(10.0))

    lane = lane_to(stop)
    lane.put(notice(0))
    wait_for(lambda: answers)
    assert answers == [True]


def test_a_log_sink_says_what_fires_and_what_is_over(caplog: pytest.LogCaptureFixture) -> None:
    wire = Connection(1.0)
    with caplog.at_level(logging.INFO, "memguard"):
        LogSink().deliver(notice(), wire)
        LogSink().deliver(notice(status="resolved"), wire)
    assert [(record.levelname, record.message.split()[0]) for record in caplog.records] == [
        ("ERROR", "event='alert.firing'"),
        ("INFO", "event='alert.resolved'"),
    ]


def test_a_sink_takes_what_is_grave_enough_and_every_test() -> None:
    sink = CallSink(print, min_severity="warning")
    wants = [sink.wants(notice(severity=each)) for each in ("info", "warning", "critical")]
    assert wants == [False, True, True]
    assert sink.wants(notice(severity="info", status="test"))


def test_a_failure_to_deliver_is_plain_bounded_and_can_be_sent_between_processes() -> None:
    error = DeliveryError("x" * 500 + "\n", retry=False, after=float("nan"))
    assert (len(error.why) < 120, error.retry, error.after) == (True, False, 0.0)
    assert DeliveryError("", after=1e300).after == 7 * 86400
    copy = pickle.loads(pickle.dumps(DeliveryError("why", after=3.0)))  # noqa: S301 - reason: just made
    assert (copy.why, copy.retry, copy.after) == ("why", True, 3.0)
