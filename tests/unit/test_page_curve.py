"""The curve of the live page: bounded, truthful about extremes and gaps, safe on any numbers."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from memguard.report.health.page.curve import MOST_COLUMNS, Point, columns, memory_curve
from tests.html_page import Page

MiB = 1024**2

anything = st.floats(allow_nan=True, allow_infinity=True)
points = st.builds(
    Point,
    seconds=anything,
    lowest=anything,
    highest=anything,
    level=anything,
    run=st.sampled_from(["a", "b"]),
    weight=st.integers(-1, 10**6),
)


def steady(count: int, *, step: float = 1.0, level: float = 50.0 * MiB) -> list[Point]:
    return [Point(-step * n, level, level, level) for n in range(count)]


def curve_of(points: list[Point], ceiling: float | None = None) -> str:
    found = memory_curve(points, ceiling)
    assert found is not None
    return str(found.drawing)


def strokes(drawing: str) -> list[str]:
    return re.findall(r'class="curve" d="([^"]+)"', drawing)


@given(st.lists(points, max_size=60), st.none() | anything)
@example([Point(n, 8689997255481611.0, 0.0, 0.0) for n in range(2)], None)
@example([Point(n, -8e15, -8e15, -8e15) for n in range(2)], None)
def test_any_numbers_give_a_sound_drawing_or_none(
    found: list[Point], ceiling: float | None
) -> None:
    curve = memory_curve(found, ceiling)
    if curve is not None:
        assert Page.of(curve.drawing).strangers() == []
        assert not re.search(r"\b(?:nan|inf)\b", re.sub(r'aria-label="[^"]*"', "", curve.drawing))


@given(st.lists(st.floats(-1e6, 0), min_size=2, max_size=2000))
def test_however_many_readings_a_bounded_number_of_points_is_drawn(times: list[float]) -> None:
    known = [Point(at, 1.0, 3.0, 2.0) for at in sorted(times)]
    drawn = columns(known)
    assert len(drawn) <= MOST_COLUMNS
    assert sum(point.weight for point in drawn) == len(known)
    assert drawn[-1].seconds == known[-1].seconds


def test_a_peak_among_thousands_stays_visible() -> None:
    known = steady(5000)
    known[2500] = Point(-2500.0, 50.0 * MiB, 400.0 * MiB, 400.0 * MiB)
    drawn = columns(sorted(known, key=lambda point: point.seconds))
    assert max(point.highest for point in drawn) == 400.0 * MiB
    assert "at most 400.0 MiB" in curve_of(known)
    assert 'class="range"' in curve_of(known)


def test_readings_one_by_one_have_no_range() -> None:
    assert 'class="range"' not in curve_of(steady(50))


def test_where_nothing_was_read_there_is_a_gap() -> None:
    early = [Point(-900.0 + n, 1.0 * MiB, 1.0 * MiB, 1.0 * MiB) for n in range(30)]
    assert len(strokes(curve_of(steady(100)))) == 1
    assert len(strokes(curve_of([*early, *steady(100)]))) == 2


def test_no_line_leads_from_one_run_of_the_program_to_another() -> None:
    known = [Point(float(-n), 1.0, 1.0, 1.0, "new" if n < 10 else "old") for n in range(20)]
    assert len(strokes(curve_of(known))) == 2


def test_a_program_that_begins_anew_all_the_time_is_bounded_all_the_same() -> None:
    known = [Point(float(-n), 1.0, 1.0 + n % 7, 1.0, str(n // 3)) for n in range(3000)]
    drawn = strokes(curve_of(known))
    assert sum(path.count("L") + 1 for path in drawn) <= MOST_COLUMNS


def test_fewer_than_two_moments_are_no_curve() -> None:
    assert memory_curve([], None) is None
    assert memory_curve(steady(1), None) is None
    assert memory_curve([Point(0.0, 1.0, 1.0, 1.0)] * 5, None) is None


def test_a_limit_is_drawn_where_it_is_near() -> None:
    near = memory_curve(steady(50), 100.0 * MiB)
    assert near is not None
    assert near.has_ceiling
    assert "limit 100 MiB" in near.drawing
    far = memory_curve(steady(50), 64.0 * 1024 * MiB)
    assert far is not None
    assert not far.has_ceiling
    assert "limit" not in far.drawing


def test_a_quiet_process_is_a_flat_line_in_the_middle() -> None:
    """Single pages that come and go must not look like mountains."""
    known = [
        Point(-float(n), 1e9 + 4096 * (n % 2), 1e9 + 4096 * (n % 2), 1e9 + 4096 * (n % 2))
        for n in range(60)
    ]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", strokes(curve_of(known))[0])]
    assert max(heights) - min(heights) < 5


def test_time_runs_up_to_now() -> None:
    text = Page.of(curve_of(steady(600))).text
    assert "now" in text
    assert "\u22128 min" in text
