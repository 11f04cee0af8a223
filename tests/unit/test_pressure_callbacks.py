"""Callbacks of relief: what they are given, in which order they come, and how they are judged."""

from __future__ import annotations

import functools
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.bounded import inventory
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle.failures import Failures
from memguard.observe.readings import Reading
from memguard.relief import calls
from memguard.relief import lane as lanes
from memguard.relief.caches import SLICE_SECONDS, Shares, next_slice
from memguard.relief.callbacks import arguments_of
from memguard.relief.effects import WORTH, Effect, Record
from memguard.relief.lane import Lane
from memguard.relief.records import ReliefReport
from memguard.relief.steps import Relief
from tests.clock import FakeClock
from tests.relieving import MIB, bytes_in, filled
from tests.waiting import wait_for


class Memory:
    """The memory of a process, as a test has it."""

    def __init__(self, private: int = 1000 * MIB) -> None:
        self.private = private

    def __call__(self) -> Reading:
        return Reading(at=0, anon=self.private, rss=self.private)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def relief(
    request: pytest.FixtureRequest,
    fake_clock: FakeClock,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Relief]:
    """
    One whose process has 1000 MiB, and whose time stands still.

    It waits for callbacks as long as a busy machine takes, unless one is to be slow.
    """
    if request.node.get_closest_marker("slow_callback") is None:
        monkeypatch.setattr(calls, "PATIENCE", {"elevated": 10.0, "critical": 10.0})
    relief = Relief(timer=fake_clock, read=memory)
    yield relief
    relief.stop_callbacks(0)


def step(report: ReliefReport, name: str) -> Any:
    return next(each for each in report.steps if each.name == name)


def under_pressure(relief: Relief, goal: int, level: Any = "elevated") -> ReliefReport:
    """Run as a monitor does."""
    return relief.relieve(goal, level=level, force=False)


# -- what a callback is given ---------------------------------------------------------------------


class Methods:
    def none(self) -> None: ...

    def goal(self, goal_bytes: int) -> None: ...

    @staticmethod
    def both(goal_bytes: int, level: str) -> None: ...

    def __call__(self, goal_bytes: int) -> None: ...


def one(goal_bytes: int) -> None: ...


def two(goal_bytes: int, level: str) -> None: ...


def three(goal_bytes: int, level: str, more: int) -> None: ...


def one_and_default(goal_bytes: int, force: object = False) -> None: ...  # noqa: FBT002 - reason: as hosts write it


def by_keyword(*, goal: int) -> None: ...


def partly_by_keyword(goal: int, *, level: str) -> None: ...


def any_number(*args: object) -> None: ...


def of_an_index(index: object, goal_bytes: int) -> None: ...


def with_default(index: object = None) -> None: ...


@functools.wraps(Methods.both)
def wrapped(*args: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda: None, 0),
        (one, 1),
        (two, 2),
        (one_and_default, 1),
        (any_number, 0),
        (with_default, 0),
        (functools.partial(of_an_index, {}), 1),
        (Methods().none, 0),
        (Methods().goal, 1),
        (Methods.both, 2),
        (Methods(), 1),
        (wrapped, 2),
        ({}.clear, 0),
        ([].clear, 0),
        (gc.collect, 0),
        (int, 0),
        (threading.Event().set, 0),
        (Mock(), 0),
    ],
)
def test_a_callback_is_given_what_it_needs(function: Callable[..., Any], count: int) -> None:
    assert arguments_of(function) == count


@pytest.mark.parametrize("function", [three, by_keyword, partly_by_keyword])
def test_one_that_needs_more_is_refused_when_it_is_registered(
    relief: Relief, function: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match=r"\(goal_bytes, level\) \(got one that needs goal|level"):
        relief.on_pressure(function)
    assert relief.statistics().callbacks == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stage": "late"}, ConfigError, "stage must be 'free', 'cheap' or 'costly'"),
        ({"deadline": 0}, ConfigError, "deadline must be > 0 seconds"),
        ({"deadline": "soon"}, ConfigError, "deadline"),
        ({"loop": 1}, TypeError, "loop must be an event loop of asyncio"),
    ],
)
def test_wrong_options_are_refused(
    relief: Relief, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        relief.on_pressure(int, **options)


def test_a_coroutine_function_without_a_loop_is_refused(relief: Relief) -> None:
    async def shed() -> None: ...

    for function in (shed, functools.partial(shed)):
        with pytest.raises(LifecycleError, match=r"call on_pressure\(\) from a coroutine, or pass"):
            relief.on_pressure(function)


def test_each_is_given_what_is_still_missing_and_the_level(relief: Relief, memory: Memory) -> None:
    given_to: list[Any] = []

    def frees_100(goal: int, level: str) -> None:
        given_to.append((goal, level))
        memory.private -= 100 * MIB

    def says_200(goal: int) -> int:
        given_to.append(goal)
        return 200 * MIB

    relief.on_pressure(frees_100)
    relief.on_pressure(says_200)
    relief.on_pressure(lambda goal, level: given_to.append((goal, level)))
    report = under_pressure(relief, 500 * MIB, "critical")
    assert given_to == [(500 * MIB, "critical"), 400 * MIB, (300 * MIB, "critical")]
    assert step(report, "callbacks").rss_freed == 100 * MIB
    given_to.clear()
    relief.relieve()
    assert given_to[0] == (900 * MIB, "critical"), "whatever there is"


# -- in which order -------------------------------------------------------------------------------


def test_the_stages_come_before_and_after_the_caches(relief: Relief) -> None:
    cache = filled("staged", entries=100)
    held: list[tuple[str, bool]] = []
    for stage in ("costly", "cheap", "free"):
        relief.on_pressure(lambda stage=stage: held.append((stage, len(cache) == 100)), stage=stage)
    report = relief.relieve(2**40)
    assert held == [("free", True), ("cheap", True), ("costly", False)]
    assert [each.name for each in report.steps] == [
        *("expire", "free-callbacks", "cheap-callbacks"),
        *("caches", "pools", "collect", "trim", "callbacks"),
    ]
    assert "  cheap-callbacks 1 items, not counted" in str(report)


@pytest.mark.parametrize("says", [True, False])
def test_what_costs_nothing_spares_the_caches(
    relief: Relief, memory: Memory, *, says: bool
) -> None:
    """As a report of the callback, or as memory shows."""
    cache = filled("spared", entries=1000)
    called = []

    def drop_scratch() -> int | None:
        if says:
            return 60 * MIB
        memory.private -= 60 * MIB
        return None

    relief.on_pressure(drop_scratch, stage="free")
    relief.on_pressure(lambda: called.append(1), stage="cheap")
    report = under_pressure(relief, 60 * MIB)
    assert len(cache) == 1000
    assert step(report, "caches").skipped == step(report, "cheap-callbacks").skipped == "not needed"
    assert not called


def test_caches_free_only_what_callbacks_did_not(relief: Relief) -> None:
    cache = filled("rest", entries=1000)
    relief.on_pressure(lambda: 6 * MIB, stage="cheap")
    before = bytes_in(cache)
    under_pressure(relief, 8 * MIB)
    assert 2 * MIB <= before - bytes_in(cache) < 2.2 * MIB


def test_reports_that_memory_does_not_show_are_not_believed(
    relief: Relief, fake_clock: FakeClock, memory: Memory
) -> None:
    """Otherwise a callback that only says so would keep every cache from being asked."""
    cache = filled("asked", entries=1000)
    gives = [0]

    def shed() -> int:
        memory.private -= gives[0]
        return 60 * MIB

    relief.on_pressure(shed, stage="free")
    assert step(under_pressure(relief, 5 * MIB, "critical"), "caches").skipped == "not needed"
    fake_clock.advance(5)
    assert step(under_pressure(relief, 5 * MIB, "critical"), "caches").freed >= 5 * MIB
    gives[0] = 60 * MIB
    fake_clock.advance(5)
    under_pressure(relief, 5 * MIB, "critical")
    gives[0] = 0
    fake_clock.advance(5)
    assert step(under_pressure(relief, 5 * MIB, "critical"), "caches").skipped == "not needed"
    assert len(cache) < 1000


# -- when it is judged ----------------------------------------------------------------------------


def test_an_effect_that_comes_later_counts(
    relief: Relief, fake_clock: FakeClock, memory: Memory
) -> None:
    """It set a flag; the thread that owns the data sheds a second later."""
    called: list[int] = []
    relief.on_pressure(lambda: called.append(1))
    for number in range(1, 9):
        under_pressure(relief, 100 * MIB)
        assert len(called) == number, "it frees something each time"
        fake_clock.advance(1)
        memory.private -= 50 * MIB
        relief.settle()
        fake_clock.advance(2)
        memory.private += 50 * MIB
        relief.settle()
    assert relief.statistics().callback_freed == 8 * 50 * MIB
    assert relief.statistics().callback_calls == 8


def test_while_an_effect_may_come_it_is_asked_again_only_at_critical(
    relief: Relief, fake_clock: FakeClock
) -> None:
    called: list[int] = []
    relief.on_pressure(lambda: called.append(1))
    for _ in range(3):
        under_pressure(relief, 100 * MIB)
        fake_clock.advance(0.5)
    assert len(called) == 1
    for _ in range(20):
        under_pressure(relief, 100 * MIB, "critical")
        fake_clock.advance(0.05)
    assert len(called) == 21


def test_what_caches_freed_is_not_credited_to_a_callback(
    relief: Relief, fake_clock: FakeClock, memory: Memory
) -> None:
    class Heavy:
        """A container that really frees what it says."""

        name = "heavy"

        def footprint(self) -> Footprint:
            return Footprint(items=1000, bytes=100 * MIB)

        def reclaim(self, **_: object) -> Reclaimed:
            memory.private -= 10 * MIB
            return Reclaimed(items=100, bytes=10 * MIB)

    heavy = Heavy()
    inventory.register(heavy, name="heavy", kind="test")
    called: list[int] = []
    relief.on_pressure(lambda: called.append(1), stage="free")
    done = []
    for _ in range(8):
        done.append(step(under_pressure(relief, 20 * MIB), "free-callbacks").skipped is None)
        fake_clock.advance(5)
    inventory.unregister(heavy)
    assert [number for number, was in enumerate(done) if was] == [0, 2, 6]
    assert relief.statistics().callback_freed == 0


def test_a_fall_that_two_may_have_caused_is_counted_once_and_speaks_for_both(
    relief: Relief, fake_clock: FakeClock, memory: Memory
) -> None:
    called: list[str] = []

    def sheds() -> None:
        called.append("sheds")
        memory.private -= 20 * MIB

    relief.on_pressure(lambda: called.append("flag"), priority=-1)
    relief.on_pressure(sheds)
    for _ in range(3):
        under_pressure(relief, 500 * MIB)
        fake_clock.advance(5)
        relief.settle()
    assert called == ["flag", "sheds"] * 3
    assert relief.statistics().callback_freed == 60 * MIB


def test_no_error_of_a_callback_is_kept_unless_it_is_to_be_raised(relief: Relief) -> None:
    """Its frames hold what the host's function held."""

    class Big:
        """Something large."""

    seen: list[weakref.ref[Big]] = []

    def fail() -> None:
        big = Big()
        seen.append(weakref.ref(big))
        raise ValueError

    relief.on_pressure(fail)
    gc.disable()
    try:
        relief.relieve(2**40, level="elevated", force=False)
        wait_for(lambda: seen[0]() is None, 5)
    finally:
        gc.enable()


@given(st.lists(st.integers(-50 * MIB, 50 * MIB), max_size=20), st.integers(100 * MIB, 2000 * MIB))
def test_falls_are_added_up_once(changes: list[int], private: int) -> None:
    """What memory fell by is what it fell below its mark, however often it was looked at."""
    effect = Effect(mark=private, until=0)
    seen = [private]
    for change in changes:
        seen.append(seen[-1] + change)
    total = sum(effect.see(each) for each in seen)
    assert total == effect.fell == private - min(seen)
    assert effect.is_seen == (effect.fell >= WORTH)


def test_calls_that_follow_one_another_are_judged_as_one() -> None:
    record = Record()
    record.called(before=100 * MIB, reported=MIB, until=10)
    record.called(before=120 * MIB, reported=MIB, until=20)
    assert record.effect is not None
    assert (record.effect.until, record.effect.reported) == (10, 2 * MIB)
    assert record.see(119 * MIB) == MIB
    record.judge(9.9)
    assert record.effect is not None
    record.judge(10)
    assert record.effect is None
    assert record.believed
    assert record.backoff.skips == 0


# -- slow ones, and those that do worse ------------------------------------------------------------


@pytest.fixture
def opened() -> Iterator[threading.Event]:
    """What slow callbacks wait for; set at the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.slow_callback
def test_a_slow_one_is_not_waited_for_and_not_called_again_while_it_runs(
    relief: Relief,
    fake_clock: FakeClock,
    opened: threading.Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[str] = []

    def slow() -> None:
        called.append("slow")
        assert opened.wait(30)

    relief.on_pressure(slow, priority=-1, deadline=3)
    relief.on_pressure(lambda: called.append("quick"))
    report = under_pressure(relief, 100 * MIB, "critical")
    assert report.called_back
    assert step(report, "callbacks").running == 2, "the quick one waits for its turn"
    assert ", 2 still running" in str(report)
    assert step(under_pressure(relief, 100 * MIB, "critical"), "callbacks").skipped == (
        "still running"
    )
    fake_clock.advance(3)
    under_pressure(relief, 100 * MIB, "critical")
    wait_for(lambda: "quick" in called)
    for _ in range(3):
        under_pressure(relief, 100 * MIB, "critical")
    assert called.count("slow") == 1
    assert relief.statistics().callback_overruns == 1
    said = [line for line in caplog.messages if "relief.callback_slow" in line]
    assert len(said) == 1
    assert "test_a_slow_one_is_not_waited_for" in said[0]
    opened.set()
    wait_for(lambda: under_pressure(relief, 100 * MIB, "critical") and called.count("slow") > 1)


@pytest.mark.slow_callback
def test_at_elevated_caches_wait_for_one_that_costs_less_but_not_for_ever(
    relief: Relief, fake_clock: FakeClock, opened: threading.Event
) -> None:
    cache = filled("patient", entries=1000)
    relief.on_pressure(lambda: opened.wait(30), stage="free", deadline=2)
    report = under_pressure(relief, 5 * MIB)
    assert step(report, "caches").skipped == "a callback that costs less is still running"
    assert len(cache) == 1000
    assert step(under_pressure(relief, 1 * MIB, "critical"), "caches").freed >= 1 * MIB
    fake_clock.advance(2)
    assert step(under_pressure(relief, 1 * MIB), "caches").freed >= 1 * MIB


@pytest.mark.slow_callback
def test_caches_wait_a_second_for_a_callback_that_may_take_minutes(
    relief: Relief, fake_clock: FakeClock, opened: threading.Event
) -> None:
    """Nor do they wait at all for one that only waits for its turn."""
    cache = filled("impatient", entries=1000)
    relief.on_pressure(lambda: opened.wait(30), stage="free", deadline=300)
    relief.on_pressure(lambda: None, stage="cheap")
    under_pressure(relief, 5 * MIB)
    assert len(cache) == 1000
    fake_clock.advance(1)
    assert step(under_pressure(relief, 1 * MIB), "caches").freed >= 1 * MIB


@pytest.mark.slow_callback
def test_calls_that_waited_when_it_was_stopped_are_made_again_later(
    relief: Relief, opened: threading.Event
) -> None:
    called: list[int] = []
    relief.on_pressure(lambda: opened.wait(30), priority=-1, deadline=60)
    relief.on_pressure(lambda: called.append(1))
    under_pressure(relief, 100 * MIB, "critical")
    assert not relief.stop_callbacks(0)
    under_pressure(relief, 100 * MIB, "critical")
    wait_for(lambda: called)
    opened.set()
    assert relief.stop_callbacks(30)
    assert called == [1]


@pytest.mark.slow_callback
def test_when_all_threads_are_stuck_no_other_is_put_at_risk(
    relief: Relief, fake_clock: FakeClock, opened: threading.Event
) -> None:
    called: list[int] = []
    for number in range(lanes.MOST_THREADS):
        relief.on_pressure(lambda: opened.wait(30), priority=number, deadline=1)
    relief.on_pressure(lambda: called.append(1), priority=100)
    for _ in range(lanes.MOST_THREADS + 3):
        under_pressure(relief, 100 * MIB, "critical")
        fake_clock.advance(2)
    alive = [each for each in threading.enumerate() if each.name == "memguard-callbacks"]
    assert len(alive) <= lanes.MOST_THREADS
    assert not called
    opened.set()
    wait_for(lambda: under_pressure(relief, 100 * MIB, "critical") and called)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_callback_raises_ends_nothing(
    fake_clock: FakeClock, memory: Memory, error: type[BaseException]
) -> None:
    relief = Relief(timer=fake_clock, read=memory, on_error="raise")
    called: list[int] = []

    def fail() -> None:
        raise error

    relief.on_pressure(fail)
    relief.on_pressure(lambda: called.append(1))
    if issubclass(error, Exception):
        with pytest.raises(error):
            relief.relieve(2**40)
    else:
        relief.relieve(2**40)
    assert called == [1]
    assert (f"callback: {error.__name__}", 1) in relief.statistics().errors_by_kind
    assert relief.stop_callbacks(5)


def test_one_that_comes_back_in_changes_nothing_for_the_others(relief: Relief) -> None:
    """It asks for relief, registers another, and closes its own registration."""
    seen: list[Any] = []

    def busy_one() -> None:
        seen.append(relief.relieve(1).busy)
        relief.on_pressure(lambda: seen.append("new"), priority=2)
        entry.close()

    entry = relief.on_pressure(busy_one)
    relief.on_pressure(lambda: seen.append("next"), priority=1)
    relief.relieve(2**40)
    assert seen == [True, "next"]
    relief.relieve(2**40)
    assert seen == [True, "next", "next", "new"]
    assert relief.statistics().callbacks == 2


@pytest.mark.slow_callback
def test_a_late_one_that_asks_for_relief_does_not_wait_for_itself(
    relief: Relief, opened: threading.Event
) -> None:
    reports: list[ReliefReport] = []
    called: list[str] = []

    def late() -> None:
        called.append("late")
        assert opened.wait(30)
        reports.append(relief.relieve(2**40))

    relief.on_pressure(late, deadline=60)
    under_pressure(relief, 100 * MIB, "critical")
    relief.on_pressure(lambda: called.append("other"), deadline=60)
    opened.set()
    wait_for(lambda: reports)
    assert called == ["late", "other"]
    assert not reports[0].busy


@pytest.mark.slow_callback
def test_a_closed_registration_is_not_called_from_the_queue(
    relief: Relief, opened: threading.Event
) -> None:
    called: list[int] = []
    relief.on_pressure(lambda: opened.wait(30), priority=-1, deadline=60)
    entry = relief.on_pressure(lambda: called.append(1))
    under_pressure(relief, 100 * MIB, "critical")
    entry.close()
    opened.set()
    wait_for(lambda: not relief._means.calls._under_way)
    assert not called


def test_a_function_that_returns_a_coroutine_is_refused_without_a_warning(relief: Relief) -> None:
    async def shed() -> None: ...

    def plain() -> Any:
        return shed()

    relief.on_pressure(plain)
    relief.relieve(2**40)
    assert relief.statistics().errors_by_kind == (("callback: TypeError", 1),)


def test_without_a_thread_it_is_called_here(
    relief: Relief, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    relief.on_pressure(lambda: names.append(threading.current_thread().name))
    under_pressure(relief, 100 * MIB, "critical")
    assert names == [threading.current_thread().name]


def test_a_lane_ends_its_thread_when_it_is_idle_and_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "LINGER_SECONDS", 0.01)
    lane = Lane("memguard-callbacks", Failures("relief.failed"))
    done: list[int] = []
    for number in range(50):
        assert lane.put(functools.partial(done.append, number))
        if number % 10 == 0:
            wait_for(lambda: lane._current is None)
    wait_for(lambda: len(done) == 50)
    assert done == list(range(50))
    monkeypatch.setattr(lanes, "LINGER_SECONDS", 60)
    lane.put(lambda: done.append(50))
    assert lane.stop(10)
    assert lane.put(lambda: done.append(51))
    wait_for(lambda: done[-1] == 51)
    assert lane.stop(10)


def test_a_job_that_raises_is_counted_and_the_next_is_done() -> None:
    failures, done = Failures("relief.failed"), []
    lane = Lane("memguard-callbacks", failures)
    lane.put(lambda: 1 / 0)
    lane.put(lambda: done.append(1))
    wait_for(lambda: done)
    assert failures.kinds == (("lane: ZeroDivisionError", 1),)
    assert lane.stop(10)


# -- slices of time -------------------------------------------------------------------------------


class Slow:
    """A cache whose entries weigh little and take long to free."""

    name = "slow"

    def __init__(self, clock: FakeClock, items: int, seconds: float) -> None:
        self.clock, self.items, self.seconds = clock, items, seconds
        self.slices: list[float] = []

    def footprint(self) -> Footprint:
        return Footprint(items=self.items, bytes=self.items * 300)

    def reclaim(self, *, fraction: float) -> Reclaimed:
        count = max(1, round(fraction * self.items))
        self.items -= count
        self.clock.advance(count * self.seconds)
        self.slices.append(count * self.seconds)
        return Reclaimed(items=count, bytes=count * 300)


@pytest.mark.parametrize("seconds", [1e-6, 2e-5, 0.0005, 0.003])
def test_a_cache_is_shrunk_in_slices_of_time(fake_clock: FakeClock, seconds: float) -> None:
    cache = Slow(fake_clock, 20_000, seconds)
    shares = Shares(Failures("relief.failed"), in_use=lambda: None, clock=fake_clock)
    taken = shares.take(cache, cache.footprint(), 20_000 * 300, missing=20_000 * 300)
    assert (taken.items, taken.claimed) == (20_000, 20_000 * 300)
    assert max(cache.slices) <= max(2 * SLICE_SECONDS, seconds)
    assert len(cache.slices) <= 20_000 * seconds / SLICE_SECONDS * 1.5 + 10


def test_waiting_for_the_interpreter_makes_no_slice_smaller() -> None:
    """Among busy threads a slice of any size takes long, and hardly any of it is its own."""

    class Waiting(Slow):
        def reclaim(self, *, fraction: float) -> Reclaimed:
            time.sleep(0.01)
            return super().reclaim(fraction=fraction)

    cache = Waiting(FakeClock(), 1000, 0)
    shares = Shares(Failures("relief.failed"), in_use=lambda: None)
    shares.take(cache, cache.footprint(), 1000 * 300, missing=1000 * 300)
    assert len(cache.slices) < 20


@given(st.integers(1, 10**9), st.floats(0, 1e6))
def test_the_next_slice_is_never_none_and_grows_slowly(entries: int, took: float) -> None:
    assert 1 <= next_slice(entries, took) <= 4 * entries


def test_what_expired_is_dropped_one_by_one(relief: Relief) -> None:
    """A list of documents that dies at once holds the interpreter for all of them."""
    handed: list[list[int]] = []

    class Expiring:
        name = "expiring"

        def expire(self) -> list[int]:
            handed.append([1, 2, 3])
            return handed[-1]

    container = Expiring()
    inventory.register(container, name="expiring", kind="test")
    report = relief.relieve(1)
    inventory.unregister(container)
    assert step(report, "expire").items == 3
    assert handed == [[]]
