"""The monitor looks, tells and relieves: driven by hand, in a process of the test's making."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from memguard.errors import ConfigError, LifecycleError
from memguard.observe.headroom import Fill, Headroom
from memguard.observe.limits import Bound, Limit
from memguard.observe.readings import Reading
from memguard.relief.gauge import Gauge
from memguard.relief.levels import LevelRules
from memguard.relief.monitor import PressureMonitor
from memguard.relief.records import Alert, AlertKind, ReliefReport
from memguard.relief.steps import Relief
from tests.clock import FakeClock
from tests.relieving import MIB, Process, bytes_in, filled


class Obedient(Relief):
    """Relief whose process does what is asked: what is freed is gone at once."""

    def __init__(self, process: Process, *, effect: float = 1.0) -> None:
        super().__init__(timer=process.clock, read=process.read)
        self.process = process
        self.effect = effect
        self.asked: list[tuple[int, str]] = []
        self.desperate: list[bool] = []
        self.rooms: list[int] = []

    def relieve(self, target: Any = None, **options: Any) -> ReliefReport:
        self.asked.append((target, options["level"]))
        self.desperate.append(options["last_resort"])
        before = self.process.used or 0
        self.process.used = before - int(target * self.effect)
        return ReliefReport(
            reason=options["reason"], goal=target, before=before, after=self.process.used
        )

    def regrow(self, room: int) -> int:
        self.rooms.append(room)
        return 0


@pytest.fixture
def process(fake_clock: FakeClock) -> Process:
    return Process(fake_clock, used=30 * MIB)


def monitor_of(process: Process, **options: Any) -> PressureMonitor:
    return PressureMonitor(timer=process.clock, read=process.read, gauge=process.gauge(), **options)


def tick(monitor: PressureMonitor, process: Process, *, times: int = 1, step: float = 1.0) -> None:
    for _ in range(times):
        process.clock.advance(step)
        monitor.tick()


def test_it_has_no_opinion_before_it_has_looked(process: Process) -> None:
    monitor = monitor_of(process)
    assert monitor.pressure().level == "insufficient_data"
    assert monitor.pressure().at is None
    tick(monitor, process, times=2)
    assert monitor.level == "ok"
    assert monitor.pressure().used_ratio == pytest.approx(0.3)
    assert monitor.pressure().headroom == 70 * MIB


def test_without_a_limit_there_is_never_enough_data(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=30 * MIB, limit=None)
    monitor = monitor_of(process, relief=Relief())
    tick(monitor, process, times=5)
    assert monitor.level == "insufficient_data"
    assert monitor.pressure().used_ratio is None


def test_a_blind_process_is_no_error(process: Process) -> None:
    process.used = None
    monitor = monitor_of(process)
    tick(monitor, process, times=3)
    assert monitor.level == "insufficient_data"
    assert monitor.statistics().errors == 0


def test_at_elevated_what_is_too_much_is_given_back(process: Process) -> None:
    relief = Obedient(process)
    monitor = monitor_of(process, relief=relief)
    tick(monitor, process, times=2)
    process.used = 80 * MIB
    tick(monitor, process)
    assert monitor.level == "elevated"
    assert relief.asked == [(10 * MIB, "elevated")]
    assert monitor.pressure().used == 70 * MIB


def test_at_critical_it_is_urgent(process: Process) -> None:
    relief = Obedient(process, effect=0.3)
    monitor = monitor_of(process, relief=relief)
    process.used = 95 * MIB
    tick(monitor, process)
    tick(monitor, process, step=0.06)
    assert [level for _, level in relief.asked] == ["critical", "critical"]


def test_a_process_among_others_gives_its_share(process: Process) -> None:
    process.used, process.others = 20 * MIB, 60 * MIB
    relief = Obedient(process)
    monitor = monitor_of(process, relief=relief)
    tick(monitor, process)
    assert relief.asked == [(int(10 * MIB * 20 / 80), "elevated")]


def test_relief_that_gives_nothing_is_asked_ever_more_seldom_and_told(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    alerts: list[Alert] = []
    relief = Obedient(process, effect=0.0)
    monitor = monitor_of(process, relief=relief, on_alert=alerts.append)
    process.used = 95 * MIB
    with caplog.at_level(logging.WARNING, "memguard"):
        tick(monitor, process, times=300, step=0.1)
    kinds = [alert.kind for alert in alerts]
    assert kinds == ["level", "ineffective", "recycle"]
    assert len(relief.asked) < 15
    assert any("relief.ineffective" in line for line in caplog.messages)
    assert any("relief.recycle_requested" in line for line in caplog.messages)
    assert "memory fell by 0" in alerts[1].reasons[-1]
    assert json.loads(json.dumps(alerts[1].to_dict()))["kind"] == "ineffective"
    assert relief.desperate[:2] == [False, False]
    assert all(relief.desperate[2:]), "when two runs were in vain, a long pause is the lesser evil"


def test_runs_whose_callbacks_free_something_later_are_not_futile(process: Process) -> None:
    """Each callback only sets a flag; a thread of the host obeys it 0.3 s later."""
    relief = Relief(timer=process.clock, read=process.read)
    asked: list[float] = []
    relief.on_pressure(lambda: asked.append(process.clock()))
    alerts: list[Alert] = []
    monitor = monitor_of(process, relief=relief, on_alert=alerts.append, hold_off=0.1)
    for _ in range(20):
        process.used = 95 * MIB
        tick(monitor, process, times=3, step=0.1)
        process.used = 50 * MIB
        tick(monitor, process, times=5, step=0.1)
    relief.stop_callbacks(30)
    assert {alert.kind for alert in alerts} == {"level"}
    assert len(asked) >= 40, "asked in nearly every look that saw critical"
    assert relief.statistics().callback_freed == 20 * 45 * MIB


def test_runs_whose_callbacks_free_nothing_are_futile_when_it_could_be_seen(
    process: Process,
) -> None:
    relief = Relief(timer=process.clock, read=process.read)
    relief.on_pressure(lambda: None)
    alerts: list[Alert] = []
    monitor = monitor_of(process, relief=relief, on_alert=alerts.append)
    process.used = 95 * MIB
    tick(monitor, process, times=10, step=0.1)
    assert [alert.kind for alert in alerts] == ["level"], "a second: too soon to say"
    tick(monitor, process, times=100, step=0.1)
    relief.stop_callbacks(30)
    assert [alert.kind for alert in alerts] == ["level", "ineffective", "recycle"]


def test_caches_may_grow_again_only_after_pressure_has_passed(process: Process) -> None:
    relief = Obedient(process)
    monitor = monitor_of(process, relief=relief)
    process.used = 80 * MIB
    tick(monitor, process)
    process.used = 40 * MIB
    tick(monitor, process, times=9)
    assert not relief.rooms
    tick(monitor, process, times=4)
    assert monitor.level == "ok"
    assert relief.rooms == [30 * MIB] * len(relief.rooms)
    assert relief.rooms


def test_growing_again_counts_on_what_was_used_a_moment_ago(process: Process) -> None:
    relief = Obedient(process)
    monitor = monitor_of(process, relief=relief)
    tick(monitor, process, times=2)
    relief.rooms.clear()
    process.used = 60 * MIB
    tick(monitor, process)
    process.used = 40 * MIB
    tick(monitor, process)
    assert relief.rooms == [10 * MIB, 10 * MIB]


def test_real_caches_are_held_and_get_their_bounds_back_at_the_end(process: Process) -> None:
    cache = filled("held by the monitor", entries=400, maxbytes=64 * MIB)
    size = bytes_in(cache)
    relief = Relief(timer=process.clock, read=process.read)
    monitor = monitor_of(process, relief=relief)
    process.used = 72 * MIB + size // 2
    tick(monitor, process)
    process.used = 80 * MIB
    tick(monitor, process)
    assert bytes_in(cache) < size
    assert (cache.maxbytes or 0) <= size
    assert relief.statistics().lowered_caches == 1
    monitor.stop()
    assert cache.maxbytes == 64 * MIB


def test_a_level_is_told_once_and_kept_for_later(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Alert] = []
    monitor = monitor_of(process, on_level=told.append)
    with caplog.at_level(logging.INFO, "memguard"):
        tick(monitor, process, times=2)
        process.used = 80 * MIB
        tick(monitor, process, times=3)
    assert [(alert.previous, alert.level) for alert in told] == [
        ("insufficient_data", "ok"),
        ("ok", "elevated"),
    ]
    assert tuple(told) == monitor.alerts
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "source='/g/memory.max'" in caplog.messages[-1]


def test_ten_alerts_are_kept_and_the_others_counted(process: Process) -> None:
    monitor = monitor_of(process, rules=LevelRules(hold_off=0.1))
    for _ in range(12):
        process.used = 80 * MIB
        tick(monitor, process, times=2)
        process.used = 30 * MIB
        tick(monitor, process, times=8)
    statistics = monitor.statistics()
    assert len(monitor.alerts) == 10
    assert statistics.alerts == statistics.level_changes > 12
    assert statistics.alerts_dropped == statistics.alerts - 10
    assert statistics.alerts_by_kind == (("level", statistics.alerts),)


def test_an_alert_on_its_way_is_not_taken_for_one_that_was_dropped(process: Process) -> None:
    """Whoever asks from a callback, or another thread, sees no count that goes back later."""
    seen: list[int] = []
    monitor = monitor_of(process, rules=LevelRules(hold_off=0.1))

    class Asking(Counter[AlertKind]):
        """Asks between an alert and its count."""

        def __setitem__(self, kind: AlertKind, count: int) -> None:
            seen.append(monitor.statistics().alerts_dropped)
            super().__setitem__(kind, count)

    monitor._alerts._raised = Asking()
    for _ in range(8):
        process.used = 80 * MIB
        tick(monitor, process, times=2)
        process.used = 30 * MIB
        tick(monitor, process, times=8)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert monitor.statistics().alerts_dropped == monitor.statistics().alerts - 10


def test_an_error_that_says_it_is_false_is_raised_like_any_other(process: Process) -> None:
    class EmptyError(Exception):
        def __len__(self) -> int:
            return 0

    errors = [EmptyError("first"), ValueError("second")]

    def fail(_: Alert) -> None:
        raise errors.pop(0)

    monitor = monitor_of(process, on_level=fail, on_alert=fail, on_error="raise")
    tick(monitor, process)
    process.clock.advance(1)
    with pytest.raises(EmptyError, match="first"):
        monitor.tick()


def test_a_start_for_which_there_is_no_thread_leaves_it_stopped(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of threads, or the interpreter is ending."""
    monitor = monitor_of(process)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            monitor.start()
    assert not monitor.statistics().running
    monitor.start()
    assert monitor.stop()


def test_a_noisy_signal_bounds_what_is_told_and_done(process: Process) -> None:
    relief = Obedient(process, effect=1.0)
    monitor = monitor_of(process, relief=relief)
    for number in range(600):
        process.used = (76 if number % 2 else 73) * MIB
        tick(monitor, process, step=0.1)
    assert monitor.statistics().level_changes <= 4, "in one minute"


@pytest.mark.parametrize("where", ["on_level", "on_alert", "on_reading"])
def test_a_callback_that_fails_is_counted_and_stops_nothing(process: Process, where: str) -> None:
    def fail(_: object) -> None:
        raise ValueError("mine")

    callbacks: dict[str, Any] = {where: fail}
    monitor = monitor_of(process, **callbacks)
    tick(monitor, process, times=2)
    assert monitor.level == "ok"
    assert monitor.statistics().errors_by_kind[0][0] == "callback: ValueError"
    loud = monitor_of(process, on_error="raise", **callbacks)
    with pytest.raises(ValueError, match="mine"):
        tick(loud, process, times=2)
    assert loud.level != "critical"


def test_a_gauge_that_fails_is_counted_and_the_monitor_lives_on(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = monitor_of(process)

    def broken(*_: object, **__: object) -> Any:
        raise OSError

    monkeypatch.setattr(monitor._gauge, "look", broken)
    assert monitor.tick() == 1.0
    assert monitor.statistics().errors_by_kind == (("tick: OSError", 1),)


def test_a_tick_within_a_tick_does_nothing(process: Process) -> None:
    delays: list[float] = []
    monitor: PressureMonitor = monitor_of(
        process, on_reading=lambda _: delays.append(monitor.tick())
    )
    tick(monitor, process)
    assert delays == [1.0]
    assert monitor.statistics().ticks == 1


class TestPace:
    def test_much_is_left_and_it_rests(self, fake_clock: FakeClock) -> None:
        process = Process(fake_clock, used=1 * MIB, limit=64 * 1024 * MIB)
        monitor = monitor_of(process)
        assert monitor.tick() == 1.0

    def test_little_is_left_and_it_looks_often(self, process: Process) -> None:
        monitor = monitor_of(process)
        process.used = 60 * MIB
        process.clock.advance(1)
        assert monitor.tick() == pytest.approx(0.02)

    def test_nothing_moves_and_it_looks_less_often(self, process: Process) -> None:
        monitor = monitor_of(process)
        for _ in range(300):
            process.clock.advance(monitor.tick())
        assert monitor.tick() == 0.2
        # Five looks a second, and every bound each three seconds.
        looks = process.headrooms
        for _ in range(100):
            process.clock.advance(monitor.tick())
        assert 6 <= process.headrooms - looks <= 8

    def test_at_rest_a_burst_is_seen_at_the_next_glance(self, process: Process) -> None:
        monitor = monitor_of(process)
        for _ in range(300):
            process.clock.advance(monitor.tick())
        process.used = 92 * MIB
        monitor.tick()
        assert monitor.level == "critical"

    def test_a_small_bound_counts_even_where_another_is_fuller(self, process: Process) -> None:
        """A process far below its small limit on a busy host can fill it in no time."""
        monitor = PressureMonitor(
            timer=process.clock, gauge=process.gauge(limit=40 * MIB), read=process.read
        )
        process.used, process.others, process.limit = 2 * MIB, 500 * MIB, 1000 * MIB
        process.clock.advance(1)
        assert monitor.tick() == pytest.approx(0.02)
        assert monitor.pressure().source == "/g/memory.max"

    def test_a_look_between_two_full_ones_sees_growth(self, process: Process) -> None:
        monitor = monitor_of(process)
        tick(monitor, process, times=2)
        looks = process.headrooms
        process.used = 34 * MIB
        tick(monitor, process, step=0.05)
        assert process.headrooms == looks
        assert monitor.pressure().used == 34 * MIB
        process.used = 60 * MIB
        tick(monitor, process, step=0.05)
        assert process.headrooms == looks, "many files are too many looks while it fills"
        assert monitor.pressure().used == 60 * MIB


class TestLife:
    @pytest.fixture
    def monitor(self) -> Iterator[PressureMonitor]:
        monitor = PressureMonitor("1TiB", interval=0.05)
        yield monitor
        monitor.stop()

    def test_it_runs_until_it_is_stopped_and_can_start_again(
        self, monitor: PressureMonitor
    ) -> None:
        for _ in range(2):
            with monitor:
                assert monitor.statistics().running
                with pytest.raises(LifecycleError, match="already started"):
                    monitor.start()
            assert not monitor.statistics().running
            monitor.close()

    def test_a_forked_child_starts_clean_and_stopped(self, monitor: PressureMonitor) -> None:
        monitor.tick()
        monitor._reset()
        assert monitor.statistics().ticks == 0
        assert monitor.level == "insufficient_data"


class TestOtherResources:
    def device(self, process: Process, **options: Any) -> PressureMonitor:
        return PressureMonitor(limit=100 * MIB, timer=process.clock, read=process.read, **options)

    def test_no_cache_is_emptied_or_held_for_them_and_callbacks_are_called(
        self, process: Process
    ) -> None:
        cache = filled("in ram", entries=100)
        calls: list[int] = []
        relief = Relief(timer=process.clock, read=process.read)
        relief.on_pressure(lambda: calls.append(1))
        monitor = self.device(process, relief=relief)
        assert monitor.resource == "own readings"
        before = cache.maxbytes
        process.used = 95 * MIB
        tick(monitor, process, times=3)
        assert monitor.level == "critical"
        assert len(cache) == 100
        assert cache.maxbytes == before
        assert calls

    def test_the_bounds_of_memory_are_none_of_theirs(self, process: Process) -> None:
        monitor = self.device(process, resource="cuda:0")
        tick(monitor, process, times=2)
        assert monitor.pressure().source == "option limit"
        assert monitor.pressure().used_ratio == pytest.approx(0.3)

    def test_readings_of_the_memory_of_another_platform_are_memory(self, process: Process) -> None:
        cache = filled("on that platform", entries=100)
        relief = Relief(timer=process.clock, read=process.read)
        monitor = self.device(process, relief=relief, resource="memory")
        process.used = 95 * MIB
        tick(monitor, process, times=3)
        assert len(cache) < 100


def test_address_space_that_is_no_memory_empties_no_cache(fake_clock: FakeClock) -> None:
    """Libraries, stacks of threads, arenas: nine tenths of the bound, of which nothing is freed."""
    process = Process(fake_clock, used=60 * MIB, limit=None)
    bound = Bound(bytes=1000 * MIB, kind="rlimit.as", source="RLIMIT_AS")

    def headroom(reading: Reading, *, limit: Limit) -> Headroom:
        fill = Fill(bound=bound, used=reading.vms or 0, scope="process")
        return Headroom(fills=(fill,), limit=limit)

    def reading() -> Reading:
        return replace(process.read(), vms=840 * MIB + (process.used or 0))

    gauge = Gauge(
        limit=None,
        interval=1.0,
        timer=fake_clock,
        read=reading,
        glance=reading,
        bounds=process.bounds,
        headroom=headroom,
    )
    cache = filled("under RLIMIT_AS", entries=100, maxbytes=50 * MIB)
    relief = Relief(timer=fake_clock, read=process.read)
    monitor = PressureMonitor(gauge=gauge, timer=fake_clock, relief=relief)
    tick(monitor, process, times=30)
    assert monitor.level == "ok"
    assert len(cache) == 100
    assert cache.maxbytes == 50 * MIB
    assert relief.statistics().runs == 0
    process.used = 150 * MIB
    tick(monitor, process, times=2)
    assert monitor.pressure().level == "critical"
    assert relief.statistics().runs > 0, "memory will be refused, and can be freed"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"children": True}, ConfigError, "children=True needs limit="),
        ({"children": 1, "limit": "1GiB"}, TypeError, "children must be"),
        ({"resource": "cuda:0"}, ConfigError, "needs limit="),
        ({"resource": "cuda:0", "limit": 1}, ConfigError, "needs read="),
        ({"resource": 0}, TypeError, "resource must be a string"),
        ({"limit": 0}, ConfigError, "limit must be > 0"),
        ({"limit": "a lot"}, ConfigError, "limit"),
        ({"interval": 0}, ConfigError, "interval must be from 0.01"),
        ({"elevated": 0.95}, ConfigError, "elevated < critical"),
        ({"relief": True}, TypeError, "relief must be a Relief"),
        ({"on_level": 1}, TypeError, "on_level must be callable"),
        ({"on_alert": 1}, TypeError, "on_alert must be callable"),
        ({"name": 1}, TypeError, "name must be a string"),
        ({"on_error": "x"}, ConfigError, "on_error"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        PressureMonitor(**options)
