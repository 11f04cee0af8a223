"""The watch on the collector, driven by calling its callback as gc would."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError, LifecycleError
from memguard.observe.gcwatch import PAUSE_BOUNDS_NS, GcWatch, Tally


class FakeNanoseconds:
    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


class Bench:
    """A started watch whose collections are staged."""

    def __init__(self, **options: Any) -> None:
        self.timer = FakeNanoseconds()
        self.watch = GcWatch(timer_ns=self.timer, **options)

    def collect(
        self,
        generation: int = 0,
        *,
        pause_ns: int = 1000,
        collected: int = 0,
        uncollectable: int = 0,
    ) -> None:
        info = {"generation": generation, "collected": 0, "uncollectable": 0}
        self.watch._tally.callback("start", info)
        self.timer.now += pause_ns
        info.update(collected=collected, uncollectable=uncollectable)
        self.watch._tally.callback("stop", info)


@pytest.fixture
def bench() -> Any:
    """A watch that counts staged collections; the real collector is kept quiet meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    staged = Bench()
    staged.watch.start()
    yield staged
    staged.watch.close()
    if enabled:
        gc.enable()


def test_pauses_and_yields_are_counted_by_generation(bench: Bench) -> None:
    bench.collect(0, pause_ns=2_000_000, collected=5)
    bench.collect(0, pause_ns=1_000_000, collected=7)
    bench.collect(2, pause_ns=40_000_000, collected=100, uncollectable=3)
    statistics = bench.watch.statistics()
    young, middle, old = statistics.generations
    assert (young.collections, young.collected) == (2, 12)
    assert young.pause_total == pytest.approx(0.003)
    assert young.pause_max == pytest.approx(0.002)
    assert middle.collections == 0
    assert (old.collections, old.collected, old.uncollectable) == (1, 100, 3)
    assert statistics.collections == 3
    assert statistics.collected == 112
    assert statistics.uncollectable == 3
    assert statistics.pause_total == pytest.approx(0.043)
    assert statistics.pause_max == pytest.approx(0.040)


def test_the_share_of_wall_time_is_pauses_over_watched_time(bench: Bench) -> None:
    bench.collect(pause_ns=10_000_000)
    bench.timer.now += 90_000_000
    statistics = bench.watch.statistics()
    assert statistics.watched_seconds == pytest.approx(0.1)
    assert statistics.wall_share == pytest.approx(0.1)


def test_time_while_stopped_is_not_watched(bench: Bench) -> None:
    bench.timer.now += 1_000_000_000
    bench.watch.stop()
    bench.timer.now += 50_000_000_000
    bench.watch.start()
    bench.timer.now += 1_000_000_000
    assert bench.watch.statistics().watched_seconds == pytest.approx(2.0)


@given(st.lists(st.integers(0, 10**10), max_size=30))
def test_every_pause_is_in_exactly_one_bucket_and_in_the_right_one(pauses: list[int]) -> None:
    bench = Bench()
    for pause in pauses:
        bench.collect(pause_ns=pause)
    histogram = bench.watch.statistics().generations[0].histogram
    lower = -1.0
    for upper, count in histogram:
        expected = sum(lower < pause / 1e9 <= upper for pause in pauses)
        assert count == expected
        lower = upper
    assert len(histogram) == len(PAUSE_BOUNDS_NS) + 1
    assert sum(count for _, count in histogram) == len(pauses)


def test_a_tick_gives_each_collection_once_and_oldest_first(bench: Bench) -> None:
    bench.collect(0, collected=1)
    bench.collect(1, collected=2)
    first = bench.watch.tick()
    assert [(one.generation, one.collected) for one in first] == [(0, 1), (1, 2)]
    assert first[0].pause == pytest.approx(1e-6)
    assert bench.watch.tick() == ()
    bench.collect(2, collected=3)
    assert [one.collected for one in bench.watch.tick()] == [3]


def test_collections_beyond_the_ring_are_counted_as_dropped() -> None:
    bench = Bench(ring=3)
    for number in range(5):
        bench.collect(collected=number)
    assert bench.watch.statistics().dropped == 2
    assert [one.collected for one in bench.watch.tick()] == [2, 3, 4]
    assert bench.watch.statistics().dropped == 2
    assert bench.watch.statistics().collections == 5


def test_log_lines_are_written_by_the_tick_and_never_by_the_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="memguard")
    bench = Bench(log_collections=True)
    bench.collect(1, pause_ns=1_500_000, collected=9)
    assert not caplog.records
    bench.watch.tick()
    (record,) = caplog.records
    assert "gc.collected" in record.getMessage()
    assert "pause_ms=1.5" in record.getMessage()


def test_a_collection_that_began_before_the_watch_is_left_out(bench: Bench) -> None:
    bench.watch._tally.callback("stop", {"generation": 2, "collected": 1, "uncollectable": 0})
    assert bench.watch.statistics().collections == 0


def test_a_generation_that_does_not_exist_yet_is_counted_with_the_oldest(bench: Bench) -> None:
    bench.collect(7)
    assert bench.watch.statistics().generations[2].collections == 1


def test_the_callback_of_before_a_fork_does_nothing() -> None:
    """The child inherits the hook; it must not count there until the watch is started anew."""
    forks, timer = [0], FakeNanoseconds()
    tally = Tally(ring=4, timer_ns=timer, forks=forks)
    info = {"generation": 0, "collected": 1, "uncollectable": 0}
    tally.begin()
    forks[0] += 1
    tally.callback("start", info)
    tally.callback("stop", info)
    assert tally.copy()[2] == 0
    tally.begin()
    tally.callback("start", info)
    tally.callback("stop", info)
    assert tally.copy()[2] == 1


def test_the_real_collector_is_watched_from_start_to_stop() -> None:
    watch = GcWatch()
    gc.collect()
    with watch:
        for _ in range(10):
            cycle: list[Any] = []
            cycle.append(cycle)
        del cycle
        gc.collect()
        during = watch.statistics()
        assert during.running
    gc.collect()
    after = watch.statistics()
    assert during.generations[2].collections >= 1
    assert during.collected >= 10
    assert during.pause_max > 0
    assert after.collections == during.collections
    assert not after.running


def test_stopping_leaves_the_callbacks_as_they_were_found() -> None:
    before = list(gc.callbacks)
    watch = GcWatch()
    watch.start()
    assert len(gc.callbacks) == len(before) + 1
    watch.stop()
    watch.stop()
    watch.close()
    assert gc.callbacks == before


def test_a_watch_that_is_dropped_unhooks_itself() -> None:
    before = list(gc.callbacks)
    watch = GcWatch()
    watch.start()
    del watch
    gc.collect()
    assert gc.callbacks == before


def test_starting_twice_is_refused() -> None:
    with GcWatch() as watch, pytest.raises(LifecycleError, match="already started"):
        watch.start()


@pytest.mark.parametrize("ring", [0, -1, 65537])
def test_a_ring_out_of_range_is_refused(ring: int) -> None:
    with pytest.raises(ConfigError, match=f"ring must be from 1 to 65536 .got {ring}"):
        GcWatch(ring=ring)


@pytest.mark.parametrize("ring", [1.5, True, "8", None])
def test_a_ring_that_is_no_number_is_refused(ring: Any) -> None:
    with pytest.raises(TypeError, match="ring must be an int"):
        GcWatch(ring=ring)


def test_a_finalizer_may_ask_for_statistics_while_the_watch_is_being_read() -> None:
    """Copying the numbers may start a collection; the finalizers it runs must not dead-lock."""
    watch = GcWatch()
    seen = []
    with watch._lock:
        seen.append(watch.statistics())
        watch.tick()
    assert len(seen) == 1
