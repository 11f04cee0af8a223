"""A record of a whole run in few points: bounded, spanning all of it, and true to its troughs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.leaks.growth.series import Point, TroughSeries

levels = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=400)
sizes = st.integers(4, 40)


def filled(values: list[int], maxsize: int) -> TroughSeries:
    series = TroughSeries(maxsize)
    for at, value in enumerate(values):
        series.add(float(at), value)
    return series


@given(levels, sizes)
def test_a_series_never_holds_more_points_than_its_bound(values: list[int], maxsize: int) -> None:
    series = filled(values, maxsize)
    assert 1 <= len(series.points()) <= maxsize
    assert series.seen == len(values)


@given(levels, sizes)
def test_every_point_is_a_reading_and_times_only_grow(values: list[int], maxsize: int) -> None:
    points = filled(values, maxsize).points()
    assert all(values[int(point.at)] == point.value for point in points)
    assert all(a.at < b.at for a, b in itertools.pairwise(points))


@given(levels, sizes)
def test_the_lowest_reading_is_never_lost(values: list[int], maxsize: int) -> None:
    """A merged point keeps the lowest of its readings, so the trough of the run is always there."""
    assert min(point.value for point in filled(values, maxsize).points()) == min(values)


@given(st.integers(1, 3000), sizes)
def test_the_points_span_the_whole_run_evenly(count: int, maxsize: int) -> None:
    """No stretch of the run is longer than four times the mean, and both ends are there."""
    points = filled([0] * count, maxsize).points()
    stride = count / len(points)
    gaps = [b.at - a.at for a, b in itertools.pairwise(points)]
    assert points[0].at <= 4 * stride
    assert points[-1].at >= count - 1 - 4 * stride
    assert max(gaps, default=0) <= 4 * stride


@given(levels, sizes)
def test_a_short_run_is_kept_as_it_is(values: list[int], maxsize: int) -> None:
    values = values[:maxsize]
    assert filled(values, maxsize).points() == [Point(float(n), v) for n, v in enumerate(values)]


def test_clearing_forgets_the_points_and_the_resolution() -> None:
    series = filled(list(range(100)), 4)
    series.clear()
    assert series.points() == []
    assert series.seen == 0
    series.add(0.0, 1)
    series.add(1.0, 2)
    assert series.points() == [Point(0.0, 1), Point(1.0, 2)]


def test_a_series_of_fewer_than_four_points_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"maxsize must be >= 4 points \(got 3\)"):
        TroughSeries(3)


def test_the_points_are_a_copy() -> None:
    series = filled([1, 2, 3], 4)
    series.points().clear()
    assert len(series.points()) == 3
