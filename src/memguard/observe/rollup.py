"""Readings rolled up to minutes and hours, and what an hour was like. Pure: no clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from memguard.bounded.options import check_number
from memguard.errors import ConfigError

MINUTE = 60
HOUR = 3600

HourKind = Literal["high_growth", "moderate", "declining", "stable", "unknown"]
"""What an hour was like; ``unknown`` if fewer than two minutes of it were seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Private memory over one minute or one hour of one run of the program. Bytes."""

    run: str
    """The run it belongs to; growth across a restart means nothing."""
    start: int
    """When it begins, seconds since the epoch, a whole minute or hour."""
    seconds: int
    """60 or 3600."""
    count: int
    """Readings in it."""
    total: int
    """Sum of the readings."""
    lowest: int
    """Smallest reading."""
    peak: int
    """Largest reading."""
    first_minute: int
    """When its first minute begins, seconds since the epoch."""
    first: int
    """Mean of its first minute: one noisy reading does not make growth."""
    last_minute: int
    """When its last minute begins, seconds since the epoch."""
    last: int
    """Mean of its last minute."""

    @property
    def average(self) -> int:
        """Mean of the readings."""
        return self.total // self.count


def minute_of(run: str, wall: float, readings: Sequence[int]) -> Bucket:
    """Return the bucket of the minute around *wall* (seconds since the epoch)."""
    start = int(wall // MINUTE) * MINUTE
    total = sum(readings)
    mean = total // len(readings)
    return Bucket(
        run=run,
        start=start,
        seconds=MINUTE,
        count=len(readings),
        total=total,
        lowest=min(readings),
        peak=max(readings),
        first_minute=start,
        first=mean,
        last_minute=start,
        last=mean,
    )


def roll_up(buckets: Iterable[Bucket], *, seconds: int) -> tuple[Bucket, ...]:
    """
    Return *buckets* merged into buckets of *seconds*, one per run and start, oldest first.

    Merging is exact for counts, sums and extremes, in any order and in any grouping; a minute that
    comes twice (a clock set back) counts once in *first* and *last*.
    """
    merged: dict[tuple[int, str], Bucket] = {}
    for bucket in buckets:
        start = bucket.start // seconds * seconds
        key = (start, bucket.run)
        known = merged.get(key)
        merged[key] = _merge(known, bucket, start, seconds)
    return tuple(merged[key] for key in sorted(merged))


def _merge(known: Bucket | None, new: Bucket, start: int, seconds: int) -> Bucket:
    first = new if known is None or new.first_minute < known.first_minute else known
    last = new if known is None or new.last_minute > known.last_minute else known
    return Bucket(
        run=new.run,
        start=start,
        seconds=seconds,
        count=new.count + (known.count if known else 0),
        total=new.total + (known.total if known else 0),
        lowest=min(new.lowest, known.lowest) if known else new.lowest,
        peak=max(new.peak, known.peak) if known else new.peak,
        first_minute=first.first_minute,
        first=first.first,
        last_minute=last.last_minute,
        last=last.last,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HourThresholds:
    """
    Growth in an hour, percent, from which on it is called what.

    Raises:
        TypeError: A threshold is not a number.
        ConfigError: They are not finite, or not *declining* < *moderate* < *high*.
    """

    high: float = 20.0
    """Above: ``high_growth``."""
    moderate: float = 10.0
    """Above: ``moderate``."""
    declining: float = -10.0
    """Below: ``declining``. What is left is ``stable``."""

    def __post_init__(self) -> None:
        """Refuse thresholds that cannot all be reached."""
        for name in ("high", "moderate", "declining"):
            check_number(getattr(self, name), name, -1e9, 1e9, " percent")
        if not self.declining < self.moderate < self.high:
            raise ConfigError(
                "thresholds must be declining < moderate < high "
                f"(got {self.declining}, {self.moderate}, {self.high})"
            )

    def classify(self, percent: float | None) -> HourKind:
        """Return what an hour with *percent* growth is called."""
        if percent is None:
            return "unknown"
        if percent > self.high:
            return "high_growth"
        if percent > self.moderate:
            return "moderate"
        return "declining" if percent < self.declining else "stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What one hour of one run was like. Bytes of private memory."""

    run: str
    """The run it belongs to."""
    start: int
    """When it begins, seconds since the epoch."""
    count: int
    """Readings in it."""
    average: int
    """Mean of the readings."""
    lowest: int
    """Smallest reading."""
    peak: int
    """Largest reading."""
    growth_percent: float | None
    """From the mean of its first minute to that of its last; None if it has only one."""
    kind: HourKind
    """What that growth is called."""


def describe(hour: Bucket, thresholds: HourThresholds) -> Hour:
    """Return what *hour*, a bucket of any length, was like."""
    percent = None
    if hour.last_minute > hour.first_minute and hour.first > 0:
        percent = (hour.last - hour.first) * 100 / hour.first
    return Hour(
        run=hour.run,
        start=hour.start,
        count=hour.count,
        average=hour.average,
        lowest=hour.lowest,
        peak=hour.peak,
        growth_percent=percent,
        kind=thresholds.classify(percent),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """
    Return the *percent* percentile of sorted *values*, linear between neighbours.

    Raises:
        ConfigError: No values, or *percent* is not 0 to 100.

    Source: Hyndman and Fan (1996), definition 7, doi 10.1080/00031305.1996.10473566.
    """
    if not values:
        raise ConfigError("a percentile needs at least one value (got none); add readings first")
    if not 0 <= percent <= 100:
        raise ConfigError(f"percentiles are 0 to 100 (got {percent})")
    place = (len(values) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)
