"""Timers: the timetable by a clock that the test moves, the handles, the bounds."""

from __future__ import annotations

import datetime as dt
import functools
import gc
import logging
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.bounded import inventory
from memguard.bounded.lifetime.scope import Scope
from memguard.bounded.timers.schedule import REPEAT, RETRY_SECONDS, Row
from memguard.bounded.timers.threaded import Timer, TimerRegistry
from memguard.errors import CapacityError, ConfigError, LifecycleError
from tests.clock import FakeClock


class Thing:
    """Can be weakly referenced."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1


class Stepped(TimerRegistry):
    """A registry whose calls are made by the test, when the test says so, without a thread."""

    def __init__(self, clock: FakeClock, **options: Any) -> None:
        super().__init__(timer=clock, **options)
        self._schedule.wake = lambda: None

    def step(self) -> float | None:
        return self._schedule.step(self._call)

    def _call(self, row: Row) -> None:
        repeat = row[REPEAT]
        call = self._schedule.take(row)
        if call is not None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - reason: as a worker does
                self._schedule.failed(row, error)
        if repeat is not None:
            repeat.busy = False


@pytest.fixture
def timers(fake_clock: FakeClock) -> Stepped:
    return Stepped(fake_clock, name="timers")


def test_after_calls_once_with_its_arguments_when_the_time_has_come(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    calls: list[Any] = []

    def call(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    handle = timers.after(10, call, 1, two=2)
    assert timers.step() == pytest.approx(10)
    fake_clock.advance(9.9)
    timers.step()
    assert calls == []
    assert not handle.closed
    fake_clock.advance(0.2)
    assert timers.step() is None
    fake_clock.advance(100)
    timers.step()
    assert calls == [((1,), {"two": 2})]
    assert handle.closed


def test_timers_are_called_in_the_order_in_which_they_are_due(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    calls: list[int] = []
    for delay in (3, 1, 2, 1, 0):
        timers.after(delay, calls.append, delay)
    fake_clock.advance(5)
    timers.step()
    assert calls == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("delay", [600, 600.0, "10m", dt.timedelta(minutes=10)])
def test_durations_are_seconds_strings_or_timedeltas(
    timers: Stepped, delay: float | str | dt.timedelta
) -> None:
    timers.after(delay, print)
    assert timers.step() == pytest.approx(600)


def test_every_keeps_its_rhythm_whatever_a_call_takes(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    times: list[float] = []

    def slow() -> None:
        times.append(fake_clock())
        fake_clock.advance(3)

    start = fake_clock()
    timers.every(10, slow)
    for _ in range(200):
        fake_clock.advance(0.5)
        timers.step()
    assert [time - start for time in times[:4]] == pytest.approx([10, 20, 30, 40], abs=0.6)


def test_ticks_that_went_by_are_one_call_and_counted(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    thing = Thing()
    timers.every(1, thing.tick)
    fake_clock.advance(10.5)  # the process was stopped
    timers.step()
    assert thing.ticks == 1
    assert timers.statistics().coalesced == 9
    assert timers.step() == pytest.approx(0.5)


def test_a_tick_during_the_last_call_is_left_out_and_counted(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    rows: list[Row] = []
    timers.every(1, print)
    for _ in range(3):
        fake_clock.advance(1)
        timers._schedule.step(rows.append)  # given to a worker that does not get to it
    assert len(rows) == 1
    assert timers.statistics().coalesced == 2


def test_jitter_is_later_than_the_tick_and_never_earlier(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    timers.every(10, lambda: None, jitter=2)
    fake_clock.advance(10)
    naps = []
    for _ in range(100):
        nap = timers.step()
        assert nap is not None
        naps.append(nap)
        fake_clock.advance(nap)
    start = 1000.0
    lateness = [(fake_clock() - start) % 10]
    assert all(nap <= 12 for nap in naps)
    assert all(0 <= late <= 2.0001 for late in lateness)
    assert len(set(naps)) > 10
    assert timers.statistics().coalesced == 0


def test_a_closed_timer_drops_callback_and_arguments_at_once(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    function_of, argument, keyword = Thing(), Thing(), Thing()
    seen = [weakref.ref(thing) for thing in (function_of, argument, keyword)]
    handle = timers.after(10, function_of.tick, argument, keyword=keyword)
    timers.step()
    del function_of, argument, keyword
    assert all(ref() is not None for ref in seen)
    handle.close()
    assert [ref() for ref in seen] == [None, None, None]
    assert handle.closed
    handle.close()
    fake_clock.advance(20)
    timers.step()
    assert timers.statistics().cancelled == 1
    assert timers.statistics().fired == 0


def test_a_call_that_was_made_keeps_nothing(timers: Stepped, fake_clock: FakeClock) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    timers.after(0, thing.tick)
    timers.step()
    del thing
    assert seen() is None
    assert fake_clock() == 1000


def test_a_timer_ends_with_its_owner(timers: Stepped, fake_clock: FakeClock) -> None:
    owner, calls = Thing(), list[int]()
    timers.every(1, calls.append, 1, owner=owner)
    timers.after(1, calls.append, 2, owner=owner)
    assert len(timers) == 2
    del owner
    assert len(timers) == 0
    fake_clock.advance(5)
    timers.step()
    assert calls == []


def test_a_method_of_the_owner_does_not_keep_it_alive(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    owner = Thing()
    seen = weakref.ref(owner)
    timers.every(1, owner.tick, owner=owner)
    fake_clock.advance(1)
    timers.step()
    assert owner.ticks == 1
    del owner
    assert seen() is None
    fake_clock.advance(1)
    timers.step()
    assert timers.statistics().errors == 0
    assert len(timers) == 0


def test_a_method_without_owner_is_kept_until_it_was_called(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    timers.after(1, thing.tick)
    del thing
    assert seen() is not None
    fake_clock.advance(1)
    timers.step()
    assert seen() is None


def test_a_scope_ends_its_timers(timers: Stepped) -> None:
    with Scope() as scope:
        timers.every(1, print, owner=scope)
        timers.after(1, print, owner=scope).close()
        assert scope.statistics().held == 1
        assert len(timers) == 1
    assert len(timers) == 0
    with pytest.raises(LifecycleError):
        timers.after(1, print, owner=scope)
    assert len(timers) == 0


def test_a_callback_that_would_keep_its_owner_alive_is_refused(timers: Stepped) -> None:
    owner = Thing()
    with pytest.raises(ConfigError, match="through its closure"):
        timers.every(1, lambda: owner.tick(), owner=owner)  # noqa: PLW0108 - reason: the point
    with pytest.raises(ConfigError, match="the arguments hold the owner"):
        timers.after(1, print, owner, owner=owner)
    with pytest.raises(ConfigError, match="the arguments of a partial"):
        timers.after(1, functools.partial(print, owner), owner=owner)
    with pytest.raises(TypeError, match="owner cannot be weakly referenced"):
        timers.after(1, print, owner=[])
    assert len(timers) == 0


def test_an_exception_is_counted_logged_once_and_ends_nothing(
    timers: Stepped, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    timers.every(1, lambda: 1 / 0)
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(3):
            fake_clock.advance(1)
            timers.step()
    statistics = timers.statistics()
    assert (statistics.fired, statistics.errors, statistics.timers) == (3, 3, 1)
    assert len(caplog.records) == 1
    for part in ("timers.callback_failed", "ZeroDivisionError", "test_timers.py"):
        assert part in caplog.text


def test_a_callback_may_close_its_own_timer(timers: Stepped, fake_clock: FakeClock) -> None:
    handles: list[Timer] = []
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        handles[0].close()

    handles.append(timers.every(1, call))
    for _ in range(3):
        fake_clock.advance(1)
        timers.step()
    assert calls == [1]


def test_a_handle_works_in_a_block(timers: Stepped) -> None:
    with timers.every(1, print) as handle:
        assert not handle.closed
        assert len(timers) == 1
    assert handle.closed
    assert len(timers) == 0


def test_a_handle_outlives_its_registry(fake_clock: FakeClock) -> None:
    timers = Stepped(fake_clock)
    handle = timers.after(1, print)
    del timers
    gc.collect()
    assert handle.closed
    handle.close()


def test_a_full_registry_refuses_and_names_who_filled_it(
    fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    timers = Stepped(fake_clock, maxsize=10, name="timers")
    with caplog.at_level(logging.WARNING, "memguard"):
        handles = [timers.after(1, print) for _ in range(10)]
    assert len(caplog.records) == 1
    for part in ("timers.many", "maxsize=10", "'9x unit/test_timers.py:"):
        assert part in caplog.text
    with pytest.raises(CapacityError, match=r"holds maxsize=10 timers from 10x unit/test_"):
        timers.after(1, print)
    handles[0].close()
    timers.after(1, print)
    assert list(timers.sites().values()) == [9, 1]
    timers.cancel_all()
    timers.step()
    with caplog.at_level(logging.WARNING, "memguard"):
        handles = [timers.after(1, print) for _ in range(10)]
    assert timers.statistics().warnings == 2


def test_a_closed_registry_takes_nothing(timers: Stepped) -> None:
    with timers:
        handle = timers.every(1, print)
    assert timers.close()
    assert handle.closed
    with pytest.raises(LifecycleError, match="timers is closed"):
        timers.after(1, print)
    assert timers.statistics().closed


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"maxsize": 0}, ConfigError, r"maxsize must be >= 1 \(got 0\)"),
        ({"workers": 0}, ConfigError, r"workers must be >= 1 \(got 0\)"),
        ({"workers": "many"}, TypeError, r"workers must be an int \(got str\)"),
        ({"on_error": "no"}, ConfigError, "on_error must be 'log' or 'raise'"),
        ({"timer": 3}, TypeError, r"timer must be callable \(got int\)"),
        ({"name": ""}, ConfigError, "name must not be empty"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TimerRegistry(**options)


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda timers: timers.after(-1, print), ConfigError, "delay must be a finite number"),
        (lambda timers: timers.after(None, print), TypeError, "delay must be a number of seconds"),
        (lambda timers: timers.after(float("nan"), print), ConfigError, "delay must be a finite"),
        (lambda timers: timers.every(0, print), ConfigError, r"interval must be > 0 seconds"),
        (lambda timers: timers.every("soon", print), ConfigError, "interval must be a duration"),
        (lambda timers: timers.every(1, print, jitter=1), ConfigError, "jitter must be less than"),
        (lambda timers: timers.every(1, print, jitter=-1), ConfigError, "jitter must be a finite"),
        (lambda timers: timers.after(1, 3), TypeError, r"fn must be callable \(got int\)"),
        (lambda timers: timers.after(1, coroutine), TypeError, "use AsyncTimerRegistry"),
    ],
)
def test_bad_timers_are_refused(
    timers: Stepped, call: Callable[[Stepped], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(timers)
    assert len(timers) == 0


def test_it_tells_reports_what_it_holds(fake_clock: FakeClock) -> None:
    timers = Stepped(fake_clock, name="told timers")
    timers.after(1, print)
    assert timers.footprint().items == 1
    assert timers.reclaim(fraction=1.0).items == 0
    owner = Thing()
    timers.after(1, print, owner=owner)
    del owner
    assert timers.reclaim(fraction=1.0).items == 1
    assert isinstance(timers, inventory.Reclaimable)
    rows = [row for row in inventory.inventory() if row.name == "told timers"]
    assert [(row.kind, row.items) for row in rows] == [("Stepped", 1)]
    assert bool(timers)
    assert repr(timers) == "Stepped(name='told timers', timers=1)"
    assert TimerRegistry().name.startswith("TimerRegistry@unit/test_timers.py:")


@pytest.mark.stress
def test_a_hundred_thousand_timers_are_small_and_cancelling_them_leaves_nothing(
    fake_clock: FakeClock,
) -> None:
    """Handles kept by the caller included."""
    timers = Stepped(fake_clock)
    # Logging asks of each class of arguments whether it is a Mapping, once: every kind of Mapping
    # that the process has loaded keeps the answer (0.5 KB each, 220 KB where there are 400).
    timers._schedule._warn()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        handles = [timers.after(3600 + number, print) for number in range(100_000)]
        timers.step()
        each = (tracemalloc.get_traced_memory()[0] - before) / len(handles)
        for handle in handles:
            handle.close()
        kind = type(handle)
        del handle, handles
        timers.step()
        timers.step()
        waiting = sum(type(each) is kind for each in gc.get_objects())
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert each <= 400
    assert waiting == 0, "none of them was left to the collector"
    assert len(timers) == 0
    assert timers._schedule._heap == []
    assert left < 50_000  # half a byte for each: free lists and the log


def test_a_hundred_thousand_short_timers_leave_nothing(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    schedule = timers._schedule
    for number in range(100_000):
        thing = Thing()
        if number % 3 == 0:
            timers.after(3600, thing.tick).close()
        elif number % 3 == 1:
            timers.after(0, thing.tick)
        else:
            timers.every(3600, thing.tick, owner=thing)
        if number % 100 == 0:
            timers.step()
    del thing
    fake_clock.advance(1)
    timers.step()
    assert (len(timers), len(schedule._incoming)) == (0, 0)
    assert len(schedule._heap) <= 64
    assert len(schedule._sites) < 10


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("after"), st.integers(0, 20)),
        st.tuples(st.just("every"), st.integers(1, 20)),
        st.tuples(st.just("close"), st.integers(0, 50)),
        st.tuples(st.just("advance"), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_the_schedule_agrees_with_a_list(operations: list[tuple[str, int]]) -> None:
    """The model: rows of due time, interval and number, looked through at each step."""
    clock, called = FakeClock(0.0), list[int]()
    timers = Stepped(clock)
    model: list[list[int]] = []
    handles: list[tuple[int, Timer]] = []
    for number, (operation, value) in enumerate(operations):
        if operation == "after":
            handles.append((number, timers.after(value, called.append, number)))
            model.append([int(clock()) + value, 0, number])
        elif operation == "every":
            handles.append((number, timers.every(value, called.append, number)))
            model.append([int(clock()) + value, value, number])
        elif operation == "close" and handles:
            closed, handle = handles[value % len(handles)]
            handle.close()
            model = [row for row in model if row[2] != closed]
        elif operation == "advance":
            now = int(clock.advance(value))
            due = sorted((row for row in model if row[0] <= now), key=lambda row: (row[0], row[2]))
            called.clear()
            timers.step()
            assert called == [row[2] for row in due]
            model = [row for row in model if row[0] > now or row[1]]
            for row in due:
                if row[1]:
                    row[0] += ((now - row[0]) // row[1] + 1) * row[1]
        assert len(timers) == len(model)


@pytest.mark.parametrize("interval", [1e-13, 1e-6, 0.0009])
def test_an_interval_too_short_for_the_clock_is_one_call_a_millisecond(
    fake_clock: FakeClock, interval: float
) -> None:
    fake_clock.advance(1e6)  # the clock's own steps are larger than the smallest interval
    timers, thing = Stepped(fake_clock), Thing()
    timers.every(interval, thing.tick)
    timers.after(0.0005, thing.tick)
    for _ in range(4):
        fake_clock.advance(0.002)
        nap = timers.step()
        assert nap is not None
        assert nap >= 0.001
    assert thing.ticks == 5
    assert timers.statistics().coalesced >= 4


def test_a_clock_that_raises_is_asked_again_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fails = [False]

    class Flaky(FakeClock):
        def __call__(self) -> float:
            if fails[0]:
                raise OSError("as planned")
            return super().__call__()

    clock, thing = Flaky(), Thing()
    timers = Stepped(clock)
    timers.after(1, thing.tick)
    clock.advance(1)
    fails[0] = True
    with caplog.at_level(logging.WARNING, "memguard"):
        assert [timers.step(), timers.step()] == [RETRY_SECONDS, RETRY_SECONDS]
    assert caplog.text.count("timers.clock_failed") == 1
    fails[0] = False
    timers.step()
    assert thing.ticks == 1


def test_a_timer_added_while_the_schedule_is_stepped_is_not_forgotten(
    timers: Stepped, fake_clock: FakeClock
) -> None:
    calls: list[int] = []
    timers.after(1, lambda: timers.after(0, calls.append, 1))
    fake_clock.advance(1)
    assert timers.step() == 0.0
    timers.step()
    assert calls == [1]


def test_the_stepping_thread_is_woken_only_when_it_must_look_earlier(fake_clock: FakeClock) -> None:
    registry, woken = Stepped(fake_clock), list[int]()
    schedule = registry._schedule
    schedule.wake = lambda: woken.append(1)

    def add(delay: float) -> Timer:
        return schedule.add(print, delay, args=(), kwargs={}, owner=None)

    add(10)
    schedule.step(lambda _: None)
    woken.clear()
    later = [add(20) for _ in range(200)]
    assert woken == []
    add(5)
    assert woken == [1]
    schedule.step(lambda _: None)
    for handle in later:
        handle.close()
    assert len(woken) > 1  # most rows of the heap are empty
    schedule.step(lambda _: None)
    assert len(schedule._heap) == 2
    woken.clear()
    for handle in [add(20) for _ in range(200)]:
        handle.close()
    assert woken  # empty rows that have not even come into the heap count as well
