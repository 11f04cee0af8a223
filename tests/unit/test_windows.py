"""What a detector remembers of its readings, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from memguard.leaks.finding.judge import leak_among
from memguard.leaks.growth.trend import Trend, TrendKind
from memguard.leaks.growth.windows import Windows
from memguard.leaks.options import DetectorOptions, detector_options
from memguard.observe.readings import Reading

MiB = 1024**2


def options(max_samples: int = 60) -> DetectorOptions:
    return detector_options(
        interval=1.0,
        growth_threshold=1.3,
        min_growth_bytes="16MiB",
        min_samples=10,
        max_samples=max_samples,
        warmup=None,
        cooldown=None,
        trace_frames=8,
        trace_seconds=None,
        trace_bytes="64MiB",
        retention_seconds=5.0,
        max_objects=20_000_000,
        max_reports=20,
    )


def filled(levels: Sequence[float], **chosen: int) -> Windows:
    windows = Windows(options(**chosen))
    for at, level in enumerate(levels):
        windows.add(float(at), Reading(at=float(at), anon=round(level)))
    return windows


def leak(windows: Windows) -> Trend | None:
    return leak_among(windows.trends(), options().trend, whole_window=windows.is_full)


def test_growth_is_told_as_a_share_of_what_counts() -> None:
    assert filled([100 * MiB] * 3).growth_share() == 0.0
    assert filled([100 * MiB] * 10 + [108 * MiB] * 5).growth_share() == pytest.approx(0.5)
    assert filled([100 * MiB] * 10 + [92 * MiB] * 5).growth_share() <= 0.0


def test_a_leak_is_told_as_soon_as_the_ratio_is_reached() -> None:
    short = [100 * MiB + n * 2 * MiB for n in range(25)]
    trend = leak(filled(short))
    assert trend is not None
    assert trend.kind is TrendKind.LEAK
    slow = [1000 * MiB + n * 2 * MiB for n in range(25)]
    assert leak(filled(slow)) is None


def test_slow_growth_counts_when_a_whole_window_has_seen_it() -> None:
    assert leak(filled([1000 * MiB + n * MiB for n in range(59)])) is None
    assert leak(filled([1000 * MiB + n * MiB for n in range(60)])) is not None


def test_a_leak_that_begins_late_is_seen_in_the_latest_readings() -> None:
    """A thousand flat readings do not hide it."""
    levels = [100 * MiB] * 1000 + [100 * MiB + n * 2 * MiB for n in range(60)]
    assert leak(filled(levels)) is not None


def test_a_leak_of_weeks_is_seen_in_the_whole_run() -> None:
    """In the latest readings alone it is smaller than what counts."""
    assert leak(filled([100 * MiB + n * 0.02 * MiB for n in range(5000)])) is not None


def test_the_latest_readings_are_kept_as_they_are() -> None:
    windows = filled([100 * MiB + n for n in range(200)])
    assert [point.value - 100 * MiB for point in windows._recent] == list(range(140, 200))
    windows.clear()
    assert not windows._recent


def test_tracing_is_not_growth() -> None:
    windows = Windows(options())
    for n in range(60):
        windows.add(float(n), Reading(at=0.0, anon=(100 + 10 * n) * MiB, tracer=10 * n * MiB))
    assert windows.growth_share() == 0.0


def test_what_taking_evidence_left_behind_is_not_growth() -> None:
    windows = filled([100 * MiB] * 30)
    windows.pause(30.0, Reading(at=30.0, anon=100 * MiB))
    windows.resume(31.0, Reading(at=31.0, anon=140 * MiB), 0.0)
    for n in range(31, 60):
        windows.add(float(n), Reading(at=0.0, anon=140 * MiB))
    assert windows.growth_share() == 0.0


def test_what_leaked_meanwhile_still_counts() -> None:
    windows = filled([100 * MiB + n * MiB for n in range(60)])
    trend = leak(windows)
    assert trend is not None
    windows.pause(60.0, Reading(at=60.0, anon=160 * MiB))
    windows.resume(70.0, Reading(at=70.0, anon=170 * MiB), trend.bytes_per_hour)
    windows.add(70.0, Reading(at=70.0, anon=170 * MiB))
    assert windows._recent[-1].value == pytest.approx(170 * MiB, abs=MiB)


def test_resuming_without_a_pause_changes_nothing() -> None:
    windows = filled([100 * MiB] * 20)
    windows.resume(21.0, Reading(at=21.0, anon=900 * MiB), 0.0)
    windows.add(21.0, Reading(at=21.0, anon=100 * MiB))
    assert windows.growth_share() == 0.0


def test_clearing_begins_a_new_baseline() -> None:
    windows = filled([100 * MiB + n * 2 * MiB for n in range(60)])
    assert leak(windows) is not None
    windows.clear()
    assert list(windows.trends()) == []
    assert windows.growth_share() == 0.0


def test_what_has_just_begun_anew_stays_where_it_is() -> None:
    windows = filled([100 * MiB + n * 2 * MiB for n in range(60)])
    windows.draw(60.0, Reading(at=60.0, anon=300 * MiB))
    windows.clear()
    trend = windows.describe()
    assert (trend.kind, trend.samples, trend.bytes_per_hour) == (TrendKind.HEALTHY, 0, 0.0)
    assert trend.baseline_bytes == trend.current_bytes == 300 * MiB
    windows.add(61.0, Reading(at=61.0, anon=310 * MiB))
    assert (windows.describe().samples, windows.describe().current_bytes) == (1, 310 * MiB)


def test_the_curve_is_bounded_and_begins_at_the_start() -> None:
    windows = Windows(options())
    for n in range(5000):
        windows.draw(100.0 + n, Reading(at=0.0, anon=n))
    curve = windows.curve(100.0)
    assert len(curve) < 500
    assert curve[0].seconds < 100
    assert curve[-1].seconds > 4900
