"""What ``memguard top`` shows: the right figures, in the room there is, and nothing hostile."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.cli.top import view
from memguard.cli.top.view import ASCII, BLOCKS, Trail, chart, gauge
from memguard.leaks.growth.series import Point
from memguard.leaks.growth.trend import pace
from memguard.report.health.health_report import (
    AlertHealth,
    ContainerHealth,
    DegradedHealth,
    LeakHealth,
)
from memguard.report.publish.process_status import ProcessStatus
from memguard.units import MiB
from tests.process_statuses import a_status


def shown(status: ProcessStatus, *, width: int = 100, age: float = 0.0) -> str:
    trail = Trail()
    trail.add(status)
    return view.plain(status, trail.points, age=age, width=width)


def lines_of(status: ProcessStatus, *, height: int, width: int = 80) -> int:
    trail = Trail()
    trail.add(status)
    sections = view.sections(status, trail.points, width=width, height=height)
    return sum(len(section.lines) + 2 for section in sections)


def test_it_shows_what_the_guard_knows() -> None:
    text = shown(a_status())
    for words in (
        "shop.py, process 4242   guard memguard",
        "150.0 MiB private   180.0 MiB resident   1.0 MiB swapped   7 threads   40 fds   12 tasks",
        "78%  400.0 MiB of 512.0 MiB (memory.max)   elevated",
        "elevated   all that it counts: +10.0 MiB/min",
        "78 % of the limit is used",
        "last 5 min: 100.0 MiB to 150.0 MiB, growth +10.0 MiB/min",
        "collector 1.25% of the time, longest pause 30 ms",
        "relief: 3 runs, 20.0 MiB freed",
        "leak detector: watching, 1 finding",
        "containers: 2, 12.0 MiB as they report",
        "12.0 MiB        400  sessions  BoundedCache",
        "?      1,234  handlers  ListenerRegistry",
        "elevated (was ok)  78 % of the limit is used",
        "leak  +61.0 MiB, 2.0 MiB/min, live Python objects",
        "held by       shop.SESSIONS : dict",
        "allocated at  shop.py:57  remember",
    ):
        assert words in text
    assert "no update" not in text


def test_a_curve_of_one_point_has_no_length() -> None:
    (span,) = view._pace([Point(7.0, 150 * MiB)])
    assert span.text == "150.0 MiB now; the curve begins here"


def test_what_is_not_known_is_not_made_up() -> None:
    unknown = a_status(
        resident_bytes=None,
        private_bytes=None,
        swapped_bytes=None,
        threads=None,
        open_descriptors=None,
        asyncio_tasks=None,
        limit_bytes=None,
        used_bytes=None,
        level="insufficient_data",
        reasons=(),
        curve_seconds=(),
        curve_bytes=(),
        gc=None,
        relief=None,
        leaks_state=None,
        largest=(),
        count=0,
        alerts=(),
        leaks=(),
        errors=2,
    )
    text = shown(unknown)
    assert "? private   ? resident   ? swapped" in text
    assert "no limit known   not known yet" in text
    assert "no history is kept" in text
    assert "not watched for" in text
    assert "failures inside memguard: 2" in text
    assert "%" not in text


def test_the_bound_of_the_host_is_not_taken_for_that_of_the_process() -> None:
    assert "(the whole host)" in shown(a_status(limit_source="MemTotal"))


def test_its_own_growth_comes_first_and_that_of_its_limit_is_named_as_such() -> None:
    lines = shown(a_status(limit_source="MemTotal")).splitlines()
    own = next(n for n, line in enumerate(lines) if "growth +10.0 MiB/min" in line)
    shared = next(n for n, line in enumerate(lines) if "all that it counts" in line)
    assert own < shared
    assert "(the whole host)   elevated   all that it counts: +10.0" in lines[shared]
    assert "all that" not in shown(a_status(growth_bytes_per_minute=float("nan")))


def test_what_is_off_is_said_with_its_reason() -> None:
    off = DegradedHealth(part="history", reason="the disk is full; kept in memory only")
    assert "off: history  the disk is full; kept in memory only" in shown(a_status(degraded=(off,)))
    assert "off:" not in shown(a_status())


def test_late_news_say_so() -> None:
    assert "no update for 34.0 s" in shown(a_status(within=3.0), age=34.0)
    assert "no update" not in shown(a_status(within=30.0), age=34.0)
    assert "no update for" in shown(a_status(within=float("nan")), age=34.0)


HOSTILE = "\x1b[2J\x1b]0;title\x07\r\n\x00\x9b31m\u202egnp.exe\ud800"


def test_a_hostile_name_does_nothing_to_the_terminal() -> None:
    hostile = a_status(
        program=HOSTILE,
        guard=HOSTILE,
        python=HOSTILE,
        memguard=HOSTILE,
        level=HOSTILE,
        reasons=(HOSTILE,),
        limit_source=HOSTILE,
        leaks_state=HOSTILE,
        degraded=(DegradedHealth(part=HOSTILE, reason=HOSTILE),),
        largest=(ContainerHealth(name=HOSTILE, kind=HOSTILE, items=1, bytes=1),),
        alerts=(
            AlertHealth(
                kind=HOSTILE,
                level=HOSTILE,
                previous_level=HOSTILE,
                time_seconds=1e19,
                reasons=(HOSTILE,),
                used_bytes=None,
                limit_bytes=None,
            ),
        ),
        leaks=(
            LeakHealth(
                id=HOSTILE,
                kind=HOSTILE,
                updated_at=HOSTILE,
                growth_bytes=2**62,
                growth_bytes_per_hour=float("nan"),
                verdict=HOSTILE,
                holder=HOSTILE,
                holder_type=HOSTILE,
                allocated_at=HOSTILE,
            ),
        ),
    )
    for text in (shown(hostile), view.listed([hostile])):
        assert all(line.isprintable() for line in text.split("\n"))
        assert len(text.splitlines()) < 40


def test_a_level_is_not_read_as_markup() -> None:
    """Square brackets are words: rich is never asked to look for markup in them."""
    assert "[red]x[/red]" in shown(a_status(guard="[red]x[/red]"))


@given(st.integers(14, 80), st.integers(0, 30), st.integers(0, 10), st.integers(0, 5))
def test_it_fits_into_the_terminal(height: int, containers: int, alerts: int, reports: int) -> None:
    full = a_status().health
    status = a_status(
        largest=full.containers.largest[:1] * containers,
        alerts=full.alerts[:1] * alerts,
        leaks=full.leaks[:1] * reports,
    )
    assert lines_of(status, height=height) <= max(height, 17)


def test_containers_that_do_not_fit_are_counted() -> None:
    trail = Trail()
    many = a_status(largest=a_status().health.containers.largest[:1] * 30, count=30)
    *_, containers, _, _ = view.sections(many, trail.points, width=80, height=30)
    assert containers.lines[-1][0].text.endswith(" more")
    assert len(containers.lines) - 1 + int(containers.lines[-1][0].text.split()[0]) == 30


# Over time


def test_a_reading_told_twice_is_one_point() -> None:
    trail = Trail()
    first = a_status(
        time_seconds=1000.0, curve_seconds=(2.0, 1.0), curve_bytes=(1, 2), private_bytes=3
    )
    trail.add(first)
    trail.add(first)
    second = a_status(
        time_seconds=1001.0, curve_seconds=(3.0, 2.0, 1.0), curve_bytes=(1, 2, 3), private_bytes=4
    )
    trail.add(second)
    assert [(point.at, point.value) for point in trail.points] == [
        (998.0, 1),
        (999.0, 2),
        (1000.0, 3),
        (1001.0, 4),
    ]


def test_a_trail_has_an_end_and_no_place_for_nonsense() -> None:
    trail = Trail()
    for n in range(2000):
        trail.add(
            a_status(time_seconds=float(n), curve_seconds=(), curve_bytes=(), private_bytes=n)
        )
    assert len(trail.points) == view.MOST_POINTS
    trail.add(a_status(time_seconds=float("nan")))
    assert trail.points[-1].value == 1999


def test_growth_is_told_from_enough_readings_only() -> None:
    steady = [Point(float(n), n * MiB) for n in range(100)]
    assert pace(steady) == pytest.approx((60 * MiB, 98.0))
    assert pace(steady[:5]) is None
    assert pace([Point(n / 100, n) for n in range(100)]) is None  # a second tells nothing
    assert pace([]) is None


def test_a_curve_rises_where_memory_does() -> None:
    points = [Point(float(n), n * MiB) for n in range(9)]
    assert chart(points, width=9, rows=1) == ["▁▂▃▄▅▅▆▇█"]
    assert chart(points, width=9, rows=1, glyphs=ASCII)[0].endswith("#")
    upper, lower = chart(points, width=9, rows=2)
    assert upper.startswith("  ")
    assert upper.endswith("█")
    assert lower.endswith("█████")


def test_noise_is_no_mountain() -> None:
    points = [Point(float(n), 100 * MiB + n % 2 * 4096) for n in range(50)]
    assert set(chart(points, width=50, rows=4)[-1]) == {"▁"}


def test_an_odd_series_is_drawn_as_well() -> None:
    assert chart([], width=10, rows=2) == []
    assert chart([Point(0.0, 1)], width=0, rows=2) == []
    assert chart([Point(0.0, 5)], width=3, rows=1) == ["▁▁▁"]


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 2**62)), max_size=50),
    st.integers(1, 200),
    st.integers(1, 6),
)
def test_a_curve_has_the_size_that_was_asked_for(
    told: list[tuple[float, int]], width: int, rows: int
) -> None:
    points = [Point(at, value) for at, value in sorted(told)]
    drawn = chart(points, width=width, rows=rows)
    assert [len(line) for line in drawn] == [width] * (rows if points else 0)
    assert not re.search(f"[^{BLOCKS.eighths}]", "".join(drawn))


def test_a_gauge_is_never_longer_than_it_may_be() -> None:
    assert gauge(0.5, width=4) == "██░░"
    assert gauge(7.0, width=4) == "████"
    assert gauge(-1.0, width=4, glyphs=ASCII) == "----"
