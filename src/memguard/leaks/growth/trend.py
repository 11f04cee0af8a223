"""
Describe what a series of levels is doing. Pure: no clock, no I/O, no memory of earlier calls.

Robust statistics only, since two noisy readings prove nothing: levels are troughs (minima of
stretches of time), the slope is Theil and Sen's median of pairwise slopes, its certainty the
Mann-Kendall test for a monotonic trend.

Sources: Sen (1968), doi 10.1080/01621459.1968.10480934; Mann (1945), doi 10.2307/1907187;
Kendall (1975), Rank Correlation Methods.
"""

from __future__ import annotations

import enum
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from memguard.errors import ConfigError
from memguard.leaks.growth.series import Point

SEGMENTS = 6
"""Periods of equal length whose troughs must keep rising before growth is called a leak."""

_PACE_POINTS = 60
_LEAST_PACE_POINTS = 6
_LEAST_PACE_SECONDS = 5.0

LEAST_STEP = 0.1
"""Of the mean step between troughs: what a step must be to count as one upwards."""
NEAR = 0.1
"""Of the growth: what is above the baseline by less is still at it."""
STILL = 0.25
"""Of the whole slope: what the end of a series must show for its growth to be going on."""


class TrendKind(enum.Enum):
    """What a series of memory levels is doing."""

    HEALTHY = "healthy"
    """Flat within its noise, or too few readings."""
    WARMING_UP = "warming_up"
    """It grew and is slowing down or has stopped: a cache that fills to its bound."""
    SAWTOOTH = "sawtooth"
    """Up and down while the troughs stay where they are."""
    SPIKE = "spike"
    """It rose once and came back."""
    BLOAT = "bloat"
    """Most of the growth came in one step and nothing followed."""
    LEAK = "leak"
    """The troughs keep rising, period after period."""
    DECLINING = "declining"
    """It shrinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendOptions:
    """When growth counts."""

    growth_threshold: float = 1.3
    """Level over baseline, as a ratio, at which growth counts as soon as it is certain."""
    min_growth_bytes: int = 16 * 1024 * 1024
    """Growth below this many bytes never counts."""
    min_samples: int = 10
    """Points needed for any kind but `HEALTHY`."""
    confidence: float = 0.99
    """How certain the trend must be, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """What a series is doing, how fast, and how sure that is."""

    kind: TrendKind
    bytes_per_hour: float
    """Theil-Sen slope, bytes per hour; negative when shrinking."""
    confidence: float
    """One minus the two-sided p-value of the Mann-Kendall test, 0 to 1."""
    baseline_bytes: int
    """Lower quartile of the first quarter of the series."""
    current_bytes: int
    """Trough of the latest eighth of the series (three points at least)."""
    samples: int
    span_seconds: float
    rising_seconds: float = 0.0
    """Since the level was last near its baseline: how long the growth has gone on."""

    @property
    def growth_bytes(self) -> int:
        """Current trough over the baseline, bytes."""
        return self.current_bytes - self.baseline_bytes


def levels(points: Sequence[Point]) -> tuple[int, int]:
    """
    Return (baseline, current) of *points*: the cheap question asked on every tick.

    Cost: O(n log n) for the n of a bounded series.
    """
    count = len(points)
    first = sorted(point.value for point in points[: max(3, count // 4)])
    latest = min(point.value for point in points[-max(3, count // 8) :])
    return first[(len(first) - 1) // 4], latest


def classify(points: Sequence[Point], options: TrendOptions) -> Trend:
    """
    Return the trend of *points*, oldest first.

    ``LEAK`` needs all of: growth of ``min_growth_bytes`` or more; a rising trend at least as
    certain as ``confidence``; growth in most of six stretches and in the latest ones, not in one
    step; no slowing down to less than a third of the early pace; growth at the very end.

    Raises:
        ConfigError: Fewer than two points.

    Cost: O(n²) for the n of a bounded series; 60 points take about a millisecond.
    """
    if len(points) < 2:
        raise ConfigError(f"a trend needs at least 2 points (got {len(points)})")
    baseline, current = levels(points)
    slope, confidence = _slope_and_confidence(points)
    enough = len(points) >= options.min_samples
    kind = _kind(points, options, current - baseline, slope, confidence) if enough else None
    return Trend(
        kind=kind or TrendKind.HEALTHY,
        bytes_per_hour=slope * 3600,
        confidence=confidence,
        baseline_bytes=baseline,
        current_bytes=current,
        samples=len(points),
        span_seconds=points[-1].at - points[0].at,
        rising_seconds=_rising_seconds(points, baseline, current),
    )


def level(value: int, *, samples: int = 1) -> Trend:
    """Return the trend of what was read once, or not yet: it stays at *value*."""
    return Trend(
        kind=TrendKind.HEALTHY,
        bytes_per_hour=0.0,
        confidence=0.0,
        baseline_bytes=value,
        current_bytes=value,
        samples=samples,
        span_seconds=0.0,
        rising_seconds=0.0,
    )


def _kind(
    points: Sequence[Point], options: TrendOptions, growth: int, slope: float, confidence: float
) -> TrendKind:
    certain = confidence >= options.confidence
    if growth < options.min_growth_bytes:
        return _kind_without_growth(points, options, growth, certain=certain and slope < 0)
    troughs = segment_troughs(points)
    steps = [after - before for before, after in itertools.pairwise(troughs)]
    total = troughs[-1] - troughs[0]
    if total <= 0 or not certain or slope <= 0:
        return TrendKind.SAWTOOTH
    if growth > 2 * total:
        # Most of it came within the last stretch, whose trough lies before it: one late step.
        return TrendKind.HEALTHY
    third = max(1, len(steps) // 3)
    early, late = sum(steps[:third]), sum(steps[-third:])
    if max(steps) > 0.6 * total:
        # One step may be the first period of a leak; it is one only if the growth continues.
        return TrendKind.BLOAT if steps.index(max(steps)) < len(steps) - 1 else TrendKind.HEALTHY
    slows_down = late < total * third / len(steps) / 3 or (early > 0 and late < early / 3)
    if slows_down or not _goes_on(points, slope):
        return TrendKind.WARMING_UP
    rising = sum(step > LEAST_STEP * total / len(steps) for step in steps)
    return TrendKind.LEAK if rising >= len(steps) - 1 else TrendKind.SAWTOOTH


def _rising_seconds(points: Sequence[Point], baseline: int, current: int) -> float:
    """Return the seconds since a point was last near *baseline*; 0 without growth."""
    if current <= baseline:
        return 0.0
    near = baseline + NEAR * (current - baseline)
    began = next((point.at for point in reversed(points) if point.value <= near), points[0].at)
    return points[-1].at - began


def _goes_on(points: Sequence[Point], slope: float) -> bool:
    """
    Return whether the latest eighth of *points* lies above the one before it as *slope* has it.

    Stretches are too long to see that stairs have ended: their troughs lag behind.
    """
    length = min(max(3, len(points) // 8), len(points) // 2)
    at, level = _middle(points[-length:])
    earlier, before = _middle(points[-2 * length : -length])
    return level - before > STILL * slope * (at - earlier)


def _middle(points: Sequence[Point]) -> tuple[float, float]:
    """Return the median of the times of *points*, and that of their levels."""
    return (
        statistics.median(point.at for point in points),
        statistics.median(point.value for point in points),
    )


def _kind_without_growth(
    points: Sequence[Point], options: TrendOptions, growth: int, *, certain: bool
) -> TrendKind:
    if certain and -growth >= options.min_growth_bytes:
        return TrendKind.DECLINING
    values = [point.value for point in points]
    highest = max(values)
    if highest - statistics.median(values) < options.min_growth_bytes:
        return TrendKind.HEALTHY
    above = (highest + min(values)) / 2
    rises = sum(a <= above < b for a, b in itertools.pairwise(values))
    return TrendKind.SPIKE if rises <= 1 else TrendKind.SAWTOOTH


def segment_troughs(points: Sequence[Point], segments: int = SEGMENTS) -> list[int]:
    """Return the lowest value of each of up to *segments* stretches of equal count."""
    count = max(2, min(segments, len(points) // 2))
    edges = [round(i * len(points) / count) for i in range(count + 1)]
    return [
        min(point.value for point in points[start:end]) for start, end in itertools.pairwise(edges)
    ]


def _slope_and_confidence(points: Sequence[Point]) -> tuple[float, float]:
    """Theil-Sen slope in bytes per second, and one minus Mann-Kendall's two-sided p-value."""
    slopes: list[float] = []
    score = 0
    for index, (at, value) in enumerate(points):
        for later_at, later in points[index + 1 :]:
            score += (later > value) - (later < value)
            if later_at > at:
                slopes.append((later - value) / (later_at - at))
    count = len(points)
    values = [point.value for point in points]
    ties = sum(
        size * (size - 1) * (2 * size + 5)
        for size in (values.count(value) for value in set(values))
    )
    variance = (count * (count - 1) * (2 * count + 5) - ties) / 18
    if variance <= 0 or not slopes:
        return 0.0, 0.0
    # The continuity correction: a score of plus or minus one is no trend.
    z = max(0, abs(score) - 1) / math.sqrt(variance)
    return statistics.median(slopes), math.erf(z / math.sqrt(2))


def pace(points: Sequence[Point]) -> tuple[float, float] | None:
    """
    Return (bytes a minute, seconds they are seen over) of a curve, or None if that is too short.

    The slope is that of at most 60 of the points.
    """
    thin = points[:: -(-len(points) // _PACE_POINTS) or 1]
    if len(thin) < _LEAST_PACE_POINTS or thin[-1].at - thin[0].at < _LEAST_PACE_SECONDS:
        return None
    trend = classify(thin, TrendOptions())
    return trend.bytes_per_hour / 60, trend.span_seconds
