"""Alerts as a whole: a real guard, real receivers, threads, forks and exits."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from memguard import MemoryGuard
from memguard.errors import ConfigError, LifecycleError
from memguard.report.alerting import (
    Alerts,
    FileSink,
    GcShareAbove,
    LogSink,
    Notice,
    RateLimit,
    SlackSink,
    UsedAbove,
    WebhookSink,
    When,
    delivery,
)
from tests.alerting import PATIENCE, Answer, Receiver, hang, pressure_alert, rogue
from tests.clock import FakeClock
from tests.specimens import leak_report
from tests.waiting import wait_for

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LINGER_SECONDS", 0.05)
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Switch:
    """A condition that a test turns on and off."""

    def __init__(self) -> None:
        self.on: bool | str | None = False

    def rule(self, **options: Any) -> When:
        return When("switched", lambda _: self.on, **{"resolve_after": 0.0, **options})


@pytest.fixture
def guard() -> MemoryGuard:
    return MemoryGuard(limit="1TiB", leaks=False, name="shop")


def settled(alerts: Alerts) -> None:
    """Wait for the first look of its own thread: one by hand during it would do nothing."""
    wait_for(lambda: alerts.statistics().evaluations and not alerts._turn.is_taken)


def bad(value: Any) -> Any:
    return value


def test_a_message_reaches_every_sink_and_so_does_its_end(
    guard: MemoryGuard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    switch = Switch()
    heard: list[Notice] = []
    with Receiver() as hook, Receiver() as slack, caplog.at_level(logging.INFO, "memguard"):
        alerts = Alerts(
            guard,
            rules=[switch.rule()],
            sinks=[
                WebhookSink(hook.url),
                SlackSink(slack.url),
                FileSink(tmp_path / "alerts.jsonl"),
                LogSink(),
                heard.append,
            ],
            labels={"env": "test"},
            interval="1h",
        )
        with alerts:
            settled(alerts)
            switch.on = "it burns"
            alerts.tick()
            alerts.tick()
            (active,) = alerts.active
            assert (active.firing, active.notices, active.summary) == (True, 1, "it burns")
            switch.on = False
            alerts.tick()
            assert alerts.flush(PATIENCE)
            assert alerts.active == ()
    statuses = [body["status"] for _, _, body in hook.requests]
    assert statuses == ["firing", "resolved"]
    first, last = (body for _, _, body in hook.requests)
    assert first["fingerprint"] == last["fingerprint"] == active.fingerprint
    assert (first["number"], last["number"]) == (1, 2)
    assert (first["guard"], first["pid"], first["labels"]) == ("shop", os.getpid(), {"env": "test"})
    assert first["summary"] == "it burns"
    assert last["ended_at"] is not None
    assert len(slack.requests) == 2
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 2
    assert [told.status for told in heard] == ["firing", "resolved"]
    assert "alert.firing" in caplog.text
    assert "alert.resolved" in caplog.text
    found = alerts.statistics()
    assert (found.sent, found.failed, found.dropped, found.notices) == (10, 0, 0, 2)
    assert not found.running


def test_it_looks_by_itself_and_at_once_when_the_guard_has_something_to_tell(
    guard: MemoryGuard,
) -> None:
    """An interval of an hour; the guard's own alert and a leak bring a look each."""
    with Alerts(guard, rules=[], interval="1h") as alerts:
        wait_for(lambda: alerts.statistics().evaluations == 1)
        guard._alerted(pressure_alert("level"))
        wait_for(lambda: alerts.statistics().evaluations == 2)
        guard._leaked(leak_report())
        wait_for(lambda: alerts.statistics().evaluations == 3)
    assert len(guard._subscribers) == 0


def test_a_real_guard_near_its_limit_is_told() -> None:
    """A limit that this process is far above: the monitor says so, and the alert goes out."""
    heard: list[Notice] = []
    guard = MemoryGuard(limit="1MiB", relief=False, leaks=False, interval=0.05)
    with guard, Alerts(guard, rules=[UsedAbove(0.9, fire_after=0)], sinks=[heard.append]) as alerts:
        wait_for(lambda: heard)
        assert alerts.flush(PATIENCE)
    assert heard[0].rule == "memory_used"
    assert (heard[0].value or 0) > 0.9
    assert "1.0 MiB used" in heard[0].summary


def test_one_sink_that_hangs_delays_no_other_and_stopping_is_bounded(guard: MemoryGuard) -> None:
    switch = Switch()
    with rogue(hang) as port, Receiver() as receiver:
        alerts = Alerts(
            guard,
            rules=[switch.rule()],
            sinks=[
                WebhookSink(f"http://127.0.0.1:{port}/", name="dead", timeout="5m"),
                WebhookSink(receiver.url, name="alive"),
            ],
            interval="1h",
        ).start()
        settled(alerts)
        switch.on = True
        alerts.tick()
        switch.on = False
        alerts.tick()
        wait_for(lambda: len(receiver.requests) == 2)
        began = time.monotonic()
        assert alerts.stop(timeout=1.0)
        assert time.monotonic() - began < 15
    dead, alive = alerts.statistics().sinks
    assert (dead.name, dead.sent, dead.dropped) == ("dead", 0, 2)
    assert (alive.name, alive.sent, alive.dropped) == ("alive", 2, 0)


def test_looking_never_waits_for_sinks_however_many_messages_there_are(guard: MemoryGuard) -> None:
    """A function of the host's that hangs: looks go on, the queue stays within its bound."""
    gate, switch = threading.Event(), Switch()
    alerts = Alerts(
        guard,
        rules=[switch.rule()],
        sinks=[lambda _: gate.wait(PATIENCE)],
        queue=3,
        rate=RateLimit(1000, 1),
        rate_per_rule=RateLimit(1000, 1),
        interval="1h",
    )
    with alerts:
        settled(alerts)
        for number in range(40):
            switch.on = number % 2 == 0
            alerts.tick()
        found = alerts.statistics()
        assert found.notices == 40
        assert found.queued <= 4
        assert found.dropped >= 36
        assert not alerts.stop(timeout=0.2)  # it cannot be ended, and that is said
        gate.set()
        assert alerts._delivery._queues[0].join(PATIENCE)


def test_stopping_delivers_what_waits(guard: MemoryGuard) -> None:
    heard: list[str] = []
    switch = Switch()

    def slow(told: Notice) -> None:
        time.sleep(0.05)
        heard.append(told.status)

    alerts = Alerts(guard, rules=[switch.rule()], sinks=[slow], interval="1h").start()
    settled(alerts)
    for number in range(8):
        switch.on = number % 2 == 0
        alerts.tick()
    assert alerts.stop(timeout=PATIENCE)
    assert len(heard) == 8
    assert alerts.stop()


def test_it_can_be_started_again_and_knows_what_was_told(guard: MemoryGuard) -> None:
    """What ended while it was stopped is told when it looks again."""
    switch, heard = Switch(), []
    alerts = Alerts(
        guard,
        rules=[switch.rule()],
        sinks=[lambda told: heard.append(told.status)],
        interval="1h",
    )
    with alerts:
        with pytest.raises(LifecycleError, match="already started"):
            alerts.start()
        settled(alerts)
        switch.on = True
        alerts.tick()
    switch.on = False
    with alerts:
        wait_for(lambda: len(heard) == 2)
    alerts.close()
    assert heard == ["firing", "resolved"]
    with pytest.raises(LifecycleError, match="not started"):
        alerts.send_test()


def test_a_test_message_shows_whether_sinks_work(guard: MemoryGuard) -> None:
    with Receiver() as receiver:
        sinks = [WebhookSink(receiver.url, min_severity="critical")]
        with Alerts(guard, rules=[], sinks=sinks, interval="1h") as alerts:
            alerts.send_test()
            assert alerts.flush(PATIENCE)
            assert alerts.statistics().sent == 1
    ((_, _, body),) = receiver.requests
    assert (body["status"], body["rule"]) == ("test", "test")


def test_a_grave_sink_hears_the_end_of_what_it_heard_and_nothing_else(guard: MemoryGuard) -> None:
    minor, major = Switch(), Switch()
    with Receiver() as receiver:
        alerts = Alerts(
            guard,
            rules=[
                minor.rule(),
                When("grave", lambda _: major.on, severity="critical", resolve_after=0.0),
            ],
            sinks=[WebhookSink(receiver.url, min_severity="critical")],
            interval="1h",
        )
        with alerts:
            settled(alerts)
            for on in (True, False):
                minor.on = major.on = on
                alerts.tick()
            assert alerts.flush(PATIENCE)
        heard = [(body["rule"], body["status"]) for _, _, body in receiver.requests]
    assert heard == [("grave", "firing"), ("grave", "resolved")]


def test_a_rule_that_fails_is_logged_once_and_raised_where_asked_for(
    guard: MemoryGuard, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> bool:
        raise ValueError("secret")

    quiet = Alerts(guard, rules=[When("mine", fail)], sinks=[print])
    with caplog.at_level(logging.WARNING, "memguard"):
        quiet.tick()
        quiet.tick()
    assert quiet.statistics().errors_by_kind == (("rule mine: ValueError", 2),)
    assert len(caplog.messages) == 1
    assert "secret" not in caplog.text
    loud = Alerts(guard, rules=[When("mine", fail)], sinks=[print], on_error="raise")
    with pytest.raises(ValueError, match="secret"):
        loud.tick()


def test_a_state_that_cannot_be_had_is_counted_and_ends_nothing(
    guard: MemoryGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = Alerts(guard, rules=[], sinks=[print])
    monkeypatch.setattr(guard, "status", None)
    assert alerts.tick() == 10.0
    assert alerts.statistics().errors_by_kind == (("state: TypeError", 1),)


def test_a_rule_that_hangs_piles_up_nothing(guard: MemoryGuard) -> None:
    gate = threading.Event()
    looks: list[object] = []

    def slow(_: object) -> bool:
        looks.append(None)
        gate.wait(PATIENCE)
        return False

    with Alerts(guard, rules=[When("slow", slow)], sinks=[print], interval="1h") as alerts:
        wait_for(lambda: alerts._turn.is_taken)
        for _ in range(1000):
            guard._alerted(pressure_alert("level"))
        assert alerts.tick() == 3600.0  # during another one it does nothing
        gate.set()
        wait_for(lambda: len(looks) == 2)
        wait_for(lambda: not alerts._turn.is_taken)
    assert len(looks) == 2


def test_time_is_that_of_the_timer(guard: MemoryGuard, fake_clock: FakeClock) -> None:
    switch = Switch()
    rule = switch.rule(fire_after="5m")
    alerts = Alerts(guard, rules=[rule], sinks=[print], timer=fake_clock, repeat="1h")
    switch.on = True
    alerts.tick()
    assert (alerts.statistics().pending, alerts.statistics().firing) == (1, 0)
    fake_clock.advance(300)
    alerts.tick()
    assert (alerts.statistics().pending, alerts.statistics().firing) == (0, 1)
    assert alerts.stop(PATIENCE)


def test_the_host_never_waits(guard: MemoryGuard) -> None:
    """What the guard's threads pay for an alert is a flag and a wake-up, whatever hangs."""
    with rogue(hang, accept=False) as port:
        sinks = [WebhookSink(f"http://127.0.0.1:{port}/", timeout="5m")]
        rule = When("always", lambda _: True, resolve_after=0.0)
        with Alerts(guard, rules=[rule], sinks=sinks, interval="1h") as alerts:
            wait_for(lambda: alerts.statistics().queued == 1)
            for _ in range(10_000):
                guard._alerted(pressure_alert("level"))  # a test's deadline is the measure
            assert alerts.stop(timeout=0.5)


class TestFork:
    @posix
    def test_a_child_is_stopped_empty_and_can_be_started(self, guard: MemoryGuard) -> None:
        """Its parent's queue is its parent's to deliver; what it finds itself, it tells itself."""
        switch = Switch()
        with Receiver(*[Answer(500) for _ in range(3)]) as receiver:
            sinks = [WebhookSink(receiver.url)]
            alerts = Alerts(guard, rules=[switch.rule()], sinks=sinks, interval="1h")
            with alerts:
                settled(alerts)
                switch.on = "of the parent"
                alerts.tick()
                wait_for(lambda: alerts.statistics().sinks[0].last_error)
                switch.on = "of the child"
                pid = os.fork()
                if pid == 0:
                    os._exit(in_child(alerts))
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
                assert alerts.flush(PATIENCE)
        delivered = [body for _, _, body in receiver.requests]
        mine = [body for body in delivered if body["pid"] == os.getpid()]
        theirs = [body for body in delivered if body["pid"] == pid]
        assert mine[-1]["summary"] == "of the parent"
        assert {body["summary"] for body in theirs} == {"of the child"}
        assert mine[0]["fingerprint"] != theirs[0]["fingerprint"]


def in_child(alerts: Alerts) -> int:
    """Return 0 when all is as it should be; nothing may be raised here."""
    try:
        found = alerts.statistics()
        if found.running or found.queued or found.firing or threading.active_count() != 1:
            return 2
        with alerts:
            wait_for(lambda: alerts.statistics().notices == 1)
            if not alerts.flush(PATIENCE):
                return 3
        return 0 if threading.active_count() == 1 else 4
    except BaseException:  # noqa: BLE001 - reason: the number is all that leaves this process
        return 5


EXIT = """
import sys, threading, time
from memguard import MemoryGuard
from memguard.report.alerting import Alerts, WebhookSink, When
guard = MemoryGuard(limit="1TiB", leaks=False)
sinks = [WebhookSink(sys.argv[1], timeout="5m", trust_env=False)]
alerts = Alerts(guard, rules=[When("always", lambda _: True)], sinks=sinks, interval="1h").start()
while not alerts.statistics().notices:
    time.sleep(0.01)
"""


def run_to_the_end(url: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXIT, url],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_waits_when_the_program_ends_is_delivered() -> None:
    with Receiver(Answer(500)) as receiver:
        assert run_to_the_end(receiver.url) == (0, "")
    assert [body["rule"] for _, _, body in receiver.requests] == ["always", "always"]


def test_a_receiver_that_hangs_does_not_keep_a_program_from_ending() -> None:
    with rogue(hang) as port:
        assert run_to_the_end(f"http://127.0.0.1:{port}/") == (0, "")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda _: Alerts(bad(None)), TypeError, "guard must be a MemoryGuard"),
        (lambda guard: Alerts(guard, rules=bad([1])), TypeError, "rules must be rules"),
        (
            lambda guard: Alerts(guard, rules=[UsedAbove(), UsedAbove(0.5)]),
            ConfigError,
            "two rules",
        ),
        (lambda guard: Alerts(guard, sinks=[]), ConfigError, "sinks must be from 1 to 20"),
        (
            lambda guard: Alerts(guard, sinks=bad([1])),
            TypeError,
            "sinks must be sinks or callables",
        ),
        (lambda guard: Alerts(guard, interval=0), ConfigError, "interval must be"),
        (lambda guard: Alerts(guard, repeat=0), ConfigError, "repeat must be"),
        (lambda guard: Alerts(guard, interval="15m"), ConfigError, "720 seconds for the rule"),
        (
            lambda guard: Alerts(guard, rules=[GcShareAbove(window="1m")], interval=31),
            ConfigError,
            "30 seconds for the rule 'gc_share'",
        ),
        (lambda guard: Alerts(guard, rate=bad(1)), TypeError, "rate must be"),
        (lambda guard: Alerts(guard, resolved=bad(1)), TypeError, "resolved must be"),
        (lambda guard: Alerts(guard, name=bad(1)), TypeError, "name must be"),
        (lambda guard: Alerts(guard, queue=0), ConfigError, "queue must be"),
        (lambda guard: Alerts(guard, queue=bad("1")), TypeError, "queue must be"),
        (lambda guard: Alerts(guard, on_error=bad("x")), ConfigError, "on_error must be"),
        (lambda guard: Alerts(guard, labels=bad([1])), TypeError, "labels must be"),
    ],
)
def test_wrong_options_are_refused(
    guard: MemoryGuard,
    make: Callable[[MemoryGuard], Alerts],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        make(guard)


def test_what_it_knows_is_plain_data(guard: MemoryGuard) -> None:
    alerts = Alerts(guard, sinks=[print, LogSink()])
    alerts.tick()
    assert json.dumps(asdict(alerts.statistics()))
    assert alerts.statistics().evaluations == 1


def test_importing_it_loads_neither_http_nor_mail() -> None:
    heavy = ["http", "http.client", "email", "ssl", "smtplib", "urllib.request", "asyncio"]
    program = (
        f"import sys, memguard.report.alerting; print([n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
