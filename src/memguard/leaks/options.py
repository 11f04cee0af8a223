"""The options of a detector: refused at construction, or filled in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from memguard.errors import ConfigError
from memguard.leaks.growth.trend import TrendOptions
from memguard.units import parse_bytes, parse_seconds

OnError = Literal["log", "raise"]
MOST_INTERVAL = 7 * 86_400.0
"""Seconds; no system call waits for any time that a float can say."""


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
    _number(growth_threshold, "growth_threshold")
    if not 1.0 < growth_threshold <= 100.0:
        raise ConfigError(
            "growth_threshold must be a ratio above 1 and at most 100, such as 1.3 for 30 % "
            f"(got {growth_threshold!r})"
        )
    _whole(min_samples, "min_samples", 6, 10_000)
    _whole(max_samples, "max_samples", 12, 10_000)
    if max_samples < min_samples:
        raise ConfigError(
            f"max_samples must be >= min_samples (got {max_samples} < {min_samples}); "
            "the window holds max_samples readings"
        )
    _whole(trace_frames, "trace_frames", 1, 64)
    _whole(max_objects, "max_objects", 10_000, 10**9)
    _whole(max_reports, "max_reports", 1, 10_000)
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
            growth_threshold=float(growth_threshold),
            min_growth_bytes=_positive_bytes(min_growth_bytes, "min_growth_bytes"),
            min_samples=min_samples,
        ),
        max_samples=max_samples,
        warmup=min_samples * seconds if warmup is None else parse_seconds(warmup, name="warmup"),
        cooldown=20 * seconds if cooldown is None else parse_seconds(cooldown, name="cooldown"),
        trace_frames=trace_frames,
        trace_seconds=traced,
        trace_bytes=_positive_bytes(trace_bytes, "trace_bytes"),
        retention_seconds=parse_seconds(retention_seconds, name="retention_seconds"),
        max_objects=max_objects,
        max_reports=max_reports,
    )


def chosen_name(name: str | None) -> str:
    """
    Return *name*, or the one that a detector has when it is given none.

    Raises:
        TypeError: *name* is no string.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string (got {type(name).__name__})")
    return "memguard" if name is None else name


def _number(value: float, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number (got {type(value).__name__})")
    if not math.isfinite(value):
        raise ConfigError(f"{name} must be finite (got {value!r})")


def _whole(value: int, name: str, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number (got {type(value).__name__})")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be from {low} to {high} (got {value})")


def _positive_bytes(value: int | str, name: str) -> int:
    size = parse_bytes(value, name=name)
    if size == 0:
        raise ConfigError(f"{name} must be > 0 bytes (got {value!r})")
    return size
