from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.leaks.report import CurvePoint, TrendSummary
from memguard.report.render.html.chart import fitted_line, memory_chart, two_curves
from memguard.report.render.html.plot import HEIGHT
from tests.html_page import Page
from tests.specimens import MiB, leak_report

TREND = leak_report().trend
wild_points = st.lists(
    st.builds(
        CurvePoint,
        seconds=st.floats(),
        bytes=st.integers(-(2**70), 2**70) | st.just(10**400),
    ),
    max_size=12,
)


def drawn(trend: TrendSummary) -> str:
    chart = memory_chart(trend)
    assert chart is not None
    return chart.drawing


def steps(drawing: str, kind: str) -> list[tuple[float, float]]:
    """Return the points of the line of a class."""
    path = re.search(rf'<path class="{kind}" d="M([^"Z]*)', drawing)
    assert path, kind
    return [(float(x), float(y)) for x, y in (step.split() for step in path[1].split("L"))]


@given(
    wild_points,
    st.floats(),
    st.floats(),
    st.none() | st.integers(-(2**70), 2**70) | st.just(10**400),
)
def test_whatever_the_numbers_every_point_is_inside_the_drawing(
    points: list[CurvePoint], slope: float, span: float, limit: int | None
) -> None:
    trend = replace(
        TREND, curve=tuple(points), bytes_per_hour=slope, span_seconds=span, limit_bytes=limit
    )
    chart = memory_chart(trend)
    if chart is None:
        return
    page = Page.of(chart.drawing)
    assert page.strangers() == []
    assert not re.search(r"nan|inf", chart.drawing)
    for x, y in steps(chart.drawing, "curve"):
        assert 0 <= x <= 1000
        assert 0 <= y <= HEIGHT


def rising(count: int = 60, *, step: int = MiB) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(seconds=30.0 * n, bytes=96 * MiB + n * step) for n in range(count))


def test_more_memory_is_higher_and_later_is_further_right() -> None:
    points = steps(drawn(replace(TREND, curve=rising())), "curve")
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert points[0][0] == 0
    assert points[-1][0] == 1000


def test_the_trend_of_a_straight_rise_lies_on_the_curve() -> None:
    trend = replace(TREND, curve=rising(), bytes_per_hour=120.0 * MiB, span_seconds=1770.0)
    line = fitted_line(trend)
    assert line is not None
    for point in trend.curve:
        assert line.at(point.seconds) == pytest.approx(point.bytes)


def test_the_trend_is_drawn_over_the_stretch_it_was_taken_from() -> None:
    """A spike and a long flat start before it do not move the line."""
    flat = tuple(CurvePoint(seconds=30.0 * n, bytes=96 * MiB) for n in range(-60, 0))
    spike = (CurvePoint(seconds=901.0, bytes=900 * MiB),)
    trend = replace(
        TREND, curve=(*flat, *rising(), *spike), bytes_per_hour=120.0 * MiB, span_seconds=1770.0
    )
    line = fitted_line(trend)
    assert line is not None
    assert line.seconds == 0.0
    assert line.level == pytest.approx(96 * MiB, rel=0.01)


def test_a_curve_that_hardly_moves_is_shown_from_near_its_lowest_level() -> None:
    drawing = drawn(replace(TREND, curve=rising(step=1000), bytes_per_hour=0.0, limit_bytes=None))
    assert ">0 B<" not in drawing
    assert max(y for _, y in steps(drawing, "curve")) > 150


def test_a_curve_that_doubles_is_shown_from_zero() -> None:
    assert ">0 B<" in drawn(replace(TREND, curve=rising(200), limit_bytes=None))


@pytest.mark.parametrize(
    ("limit", "shown"), [(200 * MiB, True), (400 * MiB, False), (0, False), (None, False)]
)
def test_a_limit_is_drawn_when_it_is_near(
    limit: int | None,
    shown: bool,  # noqa: FBT001 - reason: a table's column
) -> None:
    chart = memory_chart(replace(TREND, curve=rising(), limit_bytes=limit))
    assert chart is not None
    assert (chart.limit is not None) is shown
    assert ('<path class="limit"' in chart.drawing) is shown
    assert ("limit 200 MiB" in chart.drawing) is shown


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (40.0, ["0 s", "10 s", "20 s", "30 s", "40 s"]),
        (1800.0, ["0 s", "10 min", "20 min", "30 min"]),
        (9 * 3600.0, ["0 s", "2 h", "4 h", "6 h", "8 h"]),
        (30 * 86400.0, ["0 s", "10 d", "20 d", "30 d"]),
    ],
)
def test_times_are_round_numbers_of_a_unit(seconds: float, labels: list[str]) -> None:
    curve = (CurvePoint(seconds=0.0, bytes=MiB), CurvePoint(seconds=seconds, bytes=2 * MiB))
    texts = Page.of(drawn(replace(TREND, curve=curve, limit_bytes=None))).texts
    assert [text for text in texts if "B" not in text] == labels


def test_two_curves_share_their_axes() -> None:
    old = replace(TREND, curve=rising(60))
    new = replace(TREND, curve=rising(31, step=0))
    drawing = two_curves(old, new)
    assert drawing is not None
    before, after = steps(drawing, "curve old"), steps(drawing, "curve")
    assert before[0] == after[0]
    assert after[-1][0] == pytest.approx(1000 * 30 / 59, abs=0.1)
    assert two_curves(old, replace(new, curve=())) is None


def test_a_slope_that_is_not_known_is_not_drawn() -> None:
    chart = memory_chart(replace(TREND, curve=rising(), bytes_per_hour=math.nan))
    assert chart is not None
    assert chart.line is None
    assert '<path class="trend"' not in chart.drawing
