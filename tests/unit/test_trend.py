"""What a series of levels is doing: a leak is one, and nothing bounded ever is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.leaks.growth.series import Point, TroughSeries
from memguard.leaks.growth.trend import TrendKind, TrendOptions, classify, levels, segment_troughs

MiB = 1024**2
DEFAULTS = TrendOptions()


def series(values: Sequence[float], interval: float = 30.0) -> list[Point]:
    return [Point(1000.0 + n * interval, round(value)) for n, value in enumerate(values)]


class Run(NamedTuple):
    """A run to be drawn: what it starts from, how much it grows, how noisy it is."""

    points: int
    base: int
    growth: int
    seed: int

    def shaped(self, shape: Callable[[float], float], noise: float) -> list[Point]:
        """Return points of base + growth x *shape*(share of the run), with noise."""
        rng = random.Random(self.seed)  # noqa: S311 - reason: noise, not secrets
        return series(
            [
                self.base
                + self.growth * (shape(n / (self.points - 1)) + noise * rng.uniform(-0.5, 0.5))
                for n in range(self.points)
            ]
        )


runs = st.builds(
    Run,
    points=st.integers(24, 120),
    base=st.integers(10 * MiB, 4096 * MiB),
    growth=st.integers(64 * MiB, 4096 * MiB),
    seed=st.integers(0, 2**32),
)


@given(runs, st.floats(0, 0.08))
def test_a_linear_leak_above_its_noise_is_a_leak(run: Run, noise: float) -> None:
    trend = classify(run.shaped(lambda x: x, noise), DEFAULTS)
    assert trend.kind is TrendKind.LEAK
    assert trend.bytes_per_hour == pytest.approx(
        run.growth / ((run.points - 1) * 30.0) * 3600, rel=0.25
    )


@given(runs, st.floats(0.05, 0.6))
def test_a_cache_that_filled_to_its_bound_is_not_a_leak(run: Run, full: float) -> None:
    """However steep it was: it has been flat for the last two sixths of the run."""
    points = run.shaped(lambda x: min(1.0, x / full), 0.02)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs, st.floats(3.0, 30.0))
def test_growth_that_saturates_is_not_a_leak(run: Run, pace: float) -> None:
    points = run.shaped(lambda x: 1 - math.exp(-pace * x), 0.01)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs, st.floats(0.0, 1.0), st.floats(0, 0.05))
@example(run=Run(92, 10 * MiB, 64 * MiB, 881576), when=0.875, noise=0.03125)
def test_one_step_is_not_a_leak(run: Run, when: float, noise: float) -> None:
    points = run.shaped(lambda x: float(x >= when), noise)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs, st.integers(2, 8), st.floats(0.3, 0.7))
def test_stairs_that_have_ended_are_not_a_leak(run: Run, stairs: int, end: float) -> None:
    """Models that are loaded one after the other: flat for the last third of the run."""
    points = run.shaped(lambda x: math.floor(min(x / end, 1.0) * stairs) / stairs, 0.01)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs.filter(lambda run: run.points >= 48), st.integers(2, 4))
def test_batches_over_a_ground_that_was_reached_once_are_not_a_leak(run: Run, teeth: int) -> None:
    """What the first batch has taken from the system stays; the later ones use it again."""
    points = run.shaped(lambda x: max((x * teeth) % 1.0, 0.6 if x * teeth >= 1 else 0.0), 0.002)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs, st.floats(0.0, 0.9), st.floats(0.02, 0.5))
def test_a_spike_that_came_back_is_not_a_leak(run: Run, when: float, length: float) -> None:
    end = min(when + length, 0.95)
    points = run.shaped(lambda x: float(when <= x < end), 0.02)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs, st.integers(6, 40))
def test_a_sawtooth_over_a_flat_ground_is_not_a_leak(run: Run, teeth: int) -> None:
    """Garbage that the collector takes now and then: the troughs stay where they are."""
    points = run.shaped(lambda x: (x * teeth) % 1.0, 0.02)
    assert classify(points, DEFAULTS).kind is not TrendKind.LEAK


@given(runs.filter(lambda run: run.points >= 40))
def test_a_leak_under_a_sawtooth_is_found(run: Run) -> None:
    points = run.shaped(lambda x: x + 0.1 * ((x * 40) % 1.0), 0.01)
    assert classify(points, DEFAULTS).kind is TrendKind.LEAK


@given(runs, st.integers(0, 15 * MiB))
def test_what_stays_below_the_smallest_growth_never_counts(run: Run, growth: int) -> None:
    points = run._replace(growth=growth).shaped(lambda x: x, 0.0)
    assert classify(points, DEFAULTS).kind is TrendKind.HEALTHY


@given(
    st.lists(st.integers(0, 2**36), min_size=10, max_size=60),
    st.integers(-(2**36), 2**36),
    st.integers(0, 10**6),
)
def test_the_kind_does_not_depend_on_the_ground_level_nor_on_the_time_of_day(
    values: list[int], shift: int, later: int
) -> None:
    points = series(values)
    moved = [Point(point.at + later, point.value + shift) for point in points]
    here, there = classify(points, DEFAULTS), classify(moved, DEFAULTS)
    assert there.kind is here.kind
    assert there.growth_bytes == here.growth_bytes
    assert there.confidence == here.confidence


@given(st.lists(st.integers(0, 2**36), min_size=10, max_size=60), st.integers(0, 12))
def test_the_kind_does_not_depend_on_the_unit(values: list[int], doublings: int) -> None:
    factor = 2**doublings
    points = series(values)
    larger = [Point(point.at, point.value * factor) for point in points]
    options = TrendOptions(min_growth_bytes=DEFAULTS.min_growth_bytes * factor)
    assert classify(larger, options).kind is classify(points, DEFAULTS).kind


@given(st.lists(st.integers(0, 2**36), min_size=10, max_size=60), st.integers(0, 8))
def test_the_kind_does_not_depend_on_the_interval(values: list[int], doublings: int) -> None:
    """A test at 0.25 s and a service at 60 s decide alike."""
    slow, fast = series(values), series(values, interval=30.0 / 2**doublings)
    assert classify(slow, DEFAULTS).kind is classify(fast, DEFAULTS).kind


@given(st.lists(st.integers(0, 2**50), min_size=2, max_size=80))
def test_every_series_has_a_kind_and_honest_numbers(values: list[int]) -> None:
    trend = classify(series(values), DEFAULTS)
    assert 0.0 <= trend.confidence <= 1.0
    assert math.isfinite(trend.bytes_per_hour)
    assert min(values) <= trend.baseline_bytes <= max(values)
    assert min(values) <= trend.current_bytes <= max(values)
    if trend.kind is TrendKind.LEAK:
        assert trend.growth_bytes >= DEFAULTS.min_growth_bytes
        assert trend.bytes_per_hour > 0
        assert trend.confidence >= DEFAULTS.confidence


@given(runs)
def test_a_leak_thinned_out_to_a_whole_run_is_still_one(run: Run) -> None:
    """Twenty times as many readings as points: merging keeps the troughs, and they rise."""
    whole = TroughSeries(run.points)
    for point in run._replace(points=20 * run.points).shaped(lambda x: x, 0.02):
        whole.add(*point)
    assert classify(whole.points(), DEFAULTS).kind is TrendKind.LEAK


def test_shrinking_is_called_declining() -> None:
    trend = classify(series([200 * MiB - n * MiB for n in range(60)]), DEFAULTS)
    assert trend.kind is TrendKind.DECLINING
    assert trend.bytes_per_hour < 0


def test_a_rise_that_came_back_is_called_a_spike_and_many_of_them_a_sawtooth() -> None:
    once = [100 * MiB + (80 * MiB if 20 <= n < 25 else 0) for n in range(60)]
    often = [100 * MiB + (n % 6) * 20 * MiB for n in range(60)]
    assert classify(series(once), DEFAULTS).kind is TrendKind.SPIKE
    assert classify(series(often), DEFAULTS).kind is TrendKind.SAWTOOTH


def test_one_load_that_stays_is_called_bloat_and_a_filled_cache_warming_up() -> None:
    step = [100 * MiB + (80 * MiB if n >= 20 else 0) + n * 1000 for n in range(60)]
    filling = [100 * MiB + min(n, 40) * 2 * MiB for n in range(60)]
    assert classify(series(step), DEFAULTS).kind is TrendKind.BLOAT
    assert classify(series(filling), DEFAULTS).kind is TrendKind.WARMING_UP


def test_too_few_readings_say_nothing() -> None:
    points = series([n * 100 * MiB for n in range(9)])
    assert classify(points, DEFAULTS).kind is TrendKind.HEALTHY
    with pytest.raises(ConfigError, match="at least 2 points"):
        classify(points[:1], DEFAULTS)


def test_levels_are_low_at_both_ends() -> None:
    """A first reading taken in a peak is no baseline, a last one in a peak no level."""
    points = series([900, 100, 110, 120] + [500] * 8 + [400, 410, 2000])
    assert levels(points) == (100, 400)


@given(st.lists(st.integers(), min_size=4, max_size=100))
def test_segments_cover_every_point_once(values: list[int]) -> None:
    troughs = segment_troughs(series(values))
    assert 2 <= len(troughs) <= 6
    assert min(troughs) == min(values)


@pytest.mark.parametrize("count", range(2, 8))
def test_a_few_readings_are_judged_where_that_was_ordered(count: int) -> None:
    options = TrendOptions(min_samples=2, confidence=0.0)
    trend = classify(series([100 * MiB + n * 40 * MiB for n in range(count)]), options)
    assert trend.bytes_per_hour > 0


def test_readings_at_the_same_time_do_not_divide_by_zero() -> None:
    trend = classify([Point(5.0, n * MiB) for n in range(40)], DEFAULTS)
    assert trend.bytes_per_hour == 0.0
    assert trend.kind is not TrendKind.LEAK


def test_growth_lasts_from_when_the_level_was_last_near_its_baseline() -> None:
    """Calm before it is no part of it, and a step back to the baseline begins it anew."""
    calm = [100 * MiB] * 20
    growing = [100 * MiB + n * MiB for n in range(1, 31)]
    lasted = classify(series(calm + growing, 1.0), TrendOptions()).rising_seconds
    assert 26 <= lasted <= 30
    dip = [*growing[:20], 100 * MiB, *growing[20:]]
    assert classify(series(calm + dip, 1.0), TrendOptions()).rising_seconds <= 11
    assert classify(series(calm, 1.0), TrendOptions()).rising_seconds == 0.0
