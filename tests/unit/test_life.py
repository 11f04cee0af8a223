"""The life of a finding: what is only suspected, and when growth is over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from memguard.leaks.evidence.gathered import HolderEvidence
from memguard.leaks.finding.life import (
    Standstill,
    grown_on,
    holds_more,
    is_clear,
    state_of_growth,
)
from memguard.leaks.growth.trend import Trend, TrendKind
from memguard.leaks.report import FindingState, Holder, Verdict, VerdictKind
from tests.detecting import MiB, holder
from tests.specimens import leak_report

KiB = 1024


def trend(rising: float) -> Trend:
    return Trend(
        kind=TrendKind.LEAK,
        bytes_per_hour=3600.0 * MiB,
        confidence=0.999,
        baseline_bytes=100 * MiB,
        current_bytes=160 * MiB,
        samples=60,
        span_seconds=60.0,
        rising_seconds=rising,
    )


@pytest.mark.parametrize(
    ("rising", "lasted", "seconds_to_limit", "state"),
    [
        (20.0, 20.0, None, "suspected"),
        (20.0, 20.0, 3600.0, "suspected"),
        (20.0, 20.0, 59.0, "leaking"),
        (40.0, 0.0, None, "leaking"),
        (20.0, 40.0, None, "leaking"),
        (39.0, 39.0, 61.0, "suspected"),
    ],
)
def test_growth_is_a_leak_when_it_outlasts_a_warm_up_or_the_limit_is_near(
    rising: float, lasted: float, seconds_to_limit: float | None, state: FindingState
) -> None:
    assert (
        state_of_growth(
            trend(rising), lasted=lasted, window=60.0, seconds_to_limit=seconds_to_limit
        )
        == state
    )


def test_what_rises_through_a_whole_window_has_lasted_however_it_began() -> None:
    found = state_of_growth(
        trend(20.0), lasted=0.0, window=60.0, seconds_to_limit=None, whole_window=True
    )
    assert found == "leaking"


@pytest.mark.parametrize(("rising", "state"), [(29.0, "suspected"), (30.0, "leaking")])
def test_half_a_window_is_enough_where_it_is_seen_what_grows(
    rising: float, state: FindingState
) -> None:
    found = state_of_growth(
        trend(rising), lasted=0.0, window=60.0, seconds_to_limit=None, clear=True
    )
    assert found == state


@pytest.mark.parametrize(
    ("change", "kind", "clear"),
    [
        ({}, "live_objects", True),
        ({}, "native", False),
        ({}, "cycles", False),
        ({"anchored": False}, "live_objects", False),
        ({"anchored": False}, "extension", True),
        ({"bound": 20_000}, "live_objects", False),
        ({"bound": 2**62}, "live_objects", True),
        ({"inventory_name": "sessions"}, "live_objects", False),
        ({"bytes_per_minute": 0.1 * MiB}, "live_objects", False),
        ({"bytes_per_minute": None}, "live_objects", False),
    ],
)
def test_it_is_seen_what_grows_where_a_name_without_a_bound_explains_it(
    change: dict[str, Any],
    kind: VerdictKind,
    clear: bool,  # noqa: FBT001 - reason: parametrized
) -> None:
    report = leak_report(verdict=Verdict(kind=kind, advice=""))
    (first,) = report.holders
    assert is_clear(replace(report, holders=(replace(first, **change),))) is clear


def standstill(
    state: FindingState, *, pace: float = MiB, least_growth: int = MiB
) -> tuple[Standstill, float]:
    """Return one at a reading a second, of growth from 100 to 160 MiB at *pace* bytes a second."""
    still = Standstill(interval=1.0, window=60.0, least_growth=least_growth)
    still.confirm(0.0, 160 * MiB, baseline=100 * MiB, bytes_per_hour=pace * 3600, state=state)
    return still, 0.0


def readings_until_over(still: Standstill, levels: Iterable[float]) -> int | None:
    for number, level in enumerate(levels, 1):
        still.add(float(number), round(level))
        if still.is_over(float(number)) or still.was_given_back():
            return number
    return None


def test_a_suspicion_that_ends_is_over_within_thirty_readings() -> None:
    still, _ = standstill("suspected")
    growing = [160 * MiB + n * MiB for n in range(20)]
    over = readings_until_over(still, growing + [growing[-1]] * 60)
    assert over is not None
    assert 20 < over - len(growing) <= 30


def test_a_leak_has_ended_when_it_stood_still_for_most_of_a_window() -> None:
    still, _ = standstill("leaking")
    growing = [160 * MiB + n * MiB for n in range(20)]
    over = readings_until_over(still, growing + [growing[-1]] * 80)
    assert over is not None
    assert 45 <= over - len(growing) <= 60


def test_growth_that_goes_on_is_never_over_however_it_comes() -> None:
    steady = (160 * MiB + n * MiB / 2 for n in range(1000))
    assert readings_until_over(standstill("leaking")[0], steady) is None
    stairs = (160 * MiB + n // 30 * 30 * MiB for n in range(1000))
    assert readings_until_over(standstill("leaking")[0], stairs) is None
    garbage = (160 * MiB + n * MiB / 2 + n % 7 * 3 * MiB for n in range(1000))
    assert readings_until_over(standstill("leaking")[0], garbage) is None


def test_a_slow_leak_is_given_the_time_in_which_it_would_show() -> None:
    """Three MiB an hour at a reading a minute are less in a window than noise may be."""
    still = Standstill(interval=60.0, window=3600.0, least_growth=16 * MiB)
    pace = 3 * MiB
    still.confirm(0.0, 160 * MiB, baseline=144 * MiB, bytes_per_hour=float(pace), state="leaking")
    over = []
    for minute in range(1, 48 * 60):
        still.add(minute * 60.0, 160 * MiB + pace * minute // 60)
        over.append(still.is_over(minute * 60.0))
    assert not any(over)
    level = 160 * MiB + pace * 48
    minutes = next(n for n in range(10_000) if _over_after(still, 48 * 60 + n, level))
    assert 60 < minutes < 8 * 60


def _over_after(still: Standstill, minute: int, level: int) -> bool:
    still.add(minute * 60.0, level)
    return still.is_over(minute * 60.0)


def test_a_leak_that_slows_to_a_crawl_has_ended() -> None:
    still, _ = standstill("leaking")
    assert readings_until_over(still, (160 * MiB + n * 10 * KiB for n in range(200))) is not None


def test_growth_that_falls_back_was_given_back_after_a_few_readings() -> None:
    still, _ = standstill("leaking")
    over = readings_until_over(still, [160 * MiB] * 10 + [105 * MiB] * 20)
    assert over is not None
    assert over - 10 <= 5
    assert still.was_given_back()


def test_one_low_reading_gives_nothing_back() -> None:
    still, _ = standstill("leaking")
    for number, level in enumerate([160, 160, 160, 160, 101, 160, 160], 1):
        still.add(float(number), level * MiB)
        assert not still.was_given_back()


def test_what_has_paused_before_is_given_twice_the_time() -> None:
    once, twice = standstill("leaking")[0], standstill("leaking")[0]
    twice.paused()
    flat = [160 * MiB] * 200
    first, second = readings_until_over(once, flat), readings_until_over(twice, flat)
    assert first is not None
    assert second is not None
    assert second > 1.8 * first


def test_the_wait_for_a_leak_that_pauses_is_bounded() -> None:
    still, _ = standstill("leaking")
    for _ in range(100):
        still.paused()
    assert readings_until_over(still, [160 * MiB] * 2000) is not None


def known(path: str = "shop.app.SESSIONS", *, per_minute: float = 600.0) -> Holder:
    return Holder(
        path=path,
        type="dict",
        entries=5000,
        entries_added=4000,
        entries_per_minute=per_minute,
        bytes_per_entry=1024,
        bytes_added=4000 * 1024,
        bytes_per_minute=per_minute * 1024,
    )


@pytest.mark.parametrize(
    ("seen", "goes_on"),
    [
        (holder(entries_per_minute=500.0), True),
        (holder(entries_per_minute=5.0), False),
        (holder(entries_per_minute=500.0, steady=False), False),
        (holder("shop.app.OTHER", entries_per_minute=500.0), False),
    ],
)
def test_a_level_that_stands_still_is_no_end_while_the_holder_grows(
    seen: HolderEvidence,
    goes_on: bool,  # noqa: FBT001 - reason: parametrized
) -> None:
    assert holds_more([known()], [seen]) is goes_on


def test_the_last_revision_counts_what_a_holder_gained_after_it_was_reported() -> None:
    """A suspicion is reported early; by its end the holder has several times as much."""
    (grown,) = grown_on([known()], [holder(entries=9000)])
    assert (grown.entries, grown.entries_added) == (9000, 8000)
    assert grown.bytes_added == 8000 * 1024
    assert grown_on([known()], [holder("shop.app.OTHER", entries=9000)]) == (known(),)
    assert grown_on([known()], [holder(entries=9000, steady=False)]) == (known(),)
