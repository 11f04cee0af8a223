"""The options of a detector: checked at construction, with defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memguard.bounded.options import check_bytes, check_int, check_number
from memguard.errors import ConfigError
from memguard.leaks.growth.trend import TrendOptions
from memguard.units import parse_seconds

OnError = Literal["log", "raise"]
MOST_INTERVAL = 7 * 86_400.0
"""Seconds; no system call waits as long as a float can express."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorOptions:
    """Validated options; every default that hangs on *interval* is filled in. Seconds and bytes."""

    interval: float
    trend: TrendOptions
    max_samples: int
    warmup: float
    cooldown: float
    trace_frames: int
    trace_seconds: float
    trace_bytes: int
    retention_seconds: float
    max_objects: int
    max_reports: int


def detector_options(
    *,
    interval: float | str,
    growth_threshold: float,
    min_growth_bytes: int | str,
    min_samples: int,
    max_samples: int,
    warmup: float | str | None,
    cooldown: float | str | None,
    trace_frames: int,
    trace_seconds: float | str | None,
    trace_bytes: int | str,
    retention_seconds: float | str,
    max_objects: int,
    max_reports: int,
) -> DetectorOptions:
    """
    Return the options of a detector.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range; the message names the range.
    """
    seconds = parse_seconds(interval, name="interval")
    if seconds <= 0:
        raise ConfigError(f"interval must be > 0 seconds (got {interval!r}); to end it call stop()")
    if seconds > MOST_INTERVAL:
        raise ConfigError(f"interval must be at most 7 days (got {interval!r})")
    ratio = check_number(
        growth_threshold, "growth_threshold", 1.001, 100, ", a ratio such as 1.3 for 30 %"
    )
    check_int(min_samples, "min_samples", 6, 10_000)
    check_int(max_samples, "max_samples", 12, 10_000)
    if max_samples < min_samples:
        raise ConfigError(
            f"max_samples must be >= min_samples (got {max_samples} < {min_samples}); "
            "the window holds max_samples readings"
        )
    check_int(trace_frames, "trace_frames", 1, 64)
    check_int(max_objects, "max_objects", 10_000, 10**9)
    check_int(max_reports, "max_reports", 1, 10_000)
    if trace_seconds is None:
        traced = min(max(2 * seconds, 1.0), 5.0)
    else:
        traced = parse_seconds(trace_seconds, name="trace_seconds")
    if traced > 60:
        raise ConfigError(
            f"trace_seconds must be at most 60 (got {trace_seconds!r}); tracing slows every "
            "allocation down, so a burst is kept short"
        )
    return DetectorOptions(
        interval=seconds,
        trend=TrendOptions(
            growth_threshold=float(ratio),
            min_growth_bytes=check_bytes(min_growth_bytes, "min_growth_bytes"),
            min_samples=min_samples,
        ),
        max_samples=max_samples,
        warmup=min_samples * seconds if warmup is None else parse_seconds(warmup, name="warmup"),
        cooldown=20 * seconds if cooldown is None else parse_seconds(cooldown, name="cooldown"),
        trace_frames=trace_frames,
        trace_seconds=traced,
        trace_bytes=check_bytes(trace_bytes, "trace_bytes"),
        retention_seconds=parse_seconds(retention_seconds, name="retention_seconds"),
        max_objects=max_objects,
        max_reports=max_reports,
    )
