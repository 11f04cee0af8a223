"""Options of a detector: refused with what is allowed and what to do, or filled in."""

from __future__ import annotations

from typing import Any

import pytest

from memguard.errors import ConfigError
from memguard.leaks.options import DetectorOptions, detector_options

GIVEN: dict[str, Any] = {
    "interval": 30.0,
    "growth_threshold": 1.3,
    "min_growth_bytes": "16MiB",
    "min_samples": 10,
    "max_samples": 60,
    "warmup": None,
    "cooldown": None,
    "trace_frames": 8,
    "trace_seconds": None,
    "trace_bytes": "64MiB",
    "retention_seconds": 5.0,
    "max_objects": 20_000_000,
    "max_reports": 20,
}


def options(**changes: Any) -> DetectorOptions:
    return detector_options(**{**GIVEN, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interval": 2e10}, r"interval must be at most 7 days \(got 20000000000.0\)"),
        ({"interval": 0}, r"interval must be > 0 seconds \(got 0\); to end it call stop\(\)"),
        ({"growth_threshold": 1.0}, r"growth_threshold must be from 1.001 .*\(got 1.0\)"),
        ({"growth_threshold": 101}, r"growth_threshold must be .* to 100, a ratio such as"),
        ({"growth_threshold": float("nan")}, r"growth_threshold must be from .*\(got nan\)"),
        ({"min_growth_bytes": 0}, r"min_growth_bytes must be >= 1 byte \(got 0\)"),
        ({"min_samples": 5}, r"min_samples must be from 6 to 10000 \(got 5\)"),
        ({"max_samples": 11}, r"max_samples must be from 12 to 10000 \(got 11\)"),
        ({"min_samples": 100}, r"max_samples must be >= min_samples \(got 60 < 100\)"),
        ({"trace_frames": 0}, r"trace_frames must be from 1 to 64 \(got 0\)"),
        ({"trace_frames": 65}, r"trace_frames must be from 1 to 64 \(got 65\)"),
        ({"trace_seconds": 61}, r"trace_seconds must be at most 60 \(got 61\); tracing slows"),
        ({"trace_bytes": 0}, r"trace_bytes must be >= 1 byte"),
        ({"max_objects": 9999}, r"max_objects must be from 10000 to 1000000000"),
        ({"max_reports": 0}, r"max_reports must be from 1 to 10000 \(got 0\)"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        options(**changes)


@pytest.mark.parametrize("name", ["interval", "warmup", "cooldown", "trace_seconds"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "soon"])
def test_seconds_that_are_none_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        options(**{name: value})


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_value_of_the_wrong_kind_is_refused_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        options(**{name: object()})
    with pytest.raises(TypeError, match=name):
        options(**{name: True})


@pytest.mark.parametrize(
    "name", ["min_samples", "max_samples", "trace_frames", "max_objects", "max_reports"]
)
def test_a_count_must_be_whole(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an int"):
        options(**{name: 12.5})


@pytest.mark.parametrize("interval", [0.25, 1.0, 60.0])
def test_windows_are_multiples_of_the_interval(interval: float) -> None:
    chosen = options(interval=interval)
    assert chosen.warmup == 10 * interval
    assert chosen.cooldown == 20 * interval


@pytest.mark.parametrize(("interval", "seconds"), [(0.1, 1.0), (2.0, 4.0), (600.0, 5.0)])
def test_the_tracing_window_is_two_intervals_within_bounds(interval: float, seconds: float) -> None:
    assert options(interval=interval).trace_seconds == seconds


def test_units_are_read() -> None:
    chosen = options(interval="2m", warmup="1h", trace_bytes="1MiB", min_growth_bytes="2KiB")
    assert (chosen.interval, chosen.warmup) == (120.0, 3600.0)
    assert (chosen.trace_bytes, chosen.trend.min_growth_bytes) == (1024**2, 2048)


def test_nothing_to_wait_for_is_allowed() -> None:
    chosen = options(warmup=0, cooldown=0, trace_seconds=0, retention_seconds=0)
    assert chosen.warmup == chosen.cooldown == chosen.trace_seconds == 0
    assert chosen.retention_seconds == 0
