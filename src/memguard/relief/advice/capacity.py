"""How much load fits? From (load, memory) pairs to bytes per unit of load. Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from memguard.errors import ConfigError

_MOST_POINTS = 400
"""Pairs of points grow with the square; more points are thinned out evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityFit:
    """Memory as a base and so much for each unit of load. Bytes."""

    base_bytes: float
    """Memory without load."""
    bytes_per_unit: float
    """Memory for each unit."""
    spread_bytes: float
    """Median distance of a point from the line: what a prediction may be wrong by."""
    correlation: float
    """Kendall's tau of load and memory, -1 to 1: near 0 means that load explains nothing."""
    points: int
    """Points that were used."""
    highest_load: float
    """The highest load that was seen: what is far above it is a guess."""

    def predict(self, load: float) -> float:
        """Return the memory expected at *load*, bytes."""
        return self.base_bytes + self.bytes_per_unit * load

    def fits(self, limit_bytes: float) -> float:
        """Return the load at which *limit_bytes* are full; infinity if load costs nothing."""
        left = limit_bytes - self.base_bytes
        if left <= 0:
            return 0.0
        return left / self.bytes_per_unit if self.bytes_per_unit > 0 else math.inf


def fit_capacity(points: Sequence[tuple[float, float]]) -> CapacityFit:
    """
    Return the line through *points*, pairs of load and bytes, that outliers do not bend.

    Cost: O(points squared), for at most 400 points; more are thinned out.

    Raises:
        ConfigError: Fewer than three points, or all at the same load, or one is not finite.

    Source: Theil-Sen slope (Sen 1968, doi 10.1080/01621459.1968.10480934); Kendall (1938), doi
        10.1093/biomet/30.1-2.81.
    """
    if any(not math.isfinite(number) for point in points for number in point):
        raise ConfigError("points must be pairs of finite numbers, (load, bytes)")
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    used = list(points[::step])
    pairs = [(a, b) for a, b in itertools.combinations(used, 2) if a[0] != b[0]]
    if len(used) < 3 or not pairs:
        raise ConfigError(
            f"points must be three or more, at two loads or more (got {len(points)}); "
            "collect some while the load changes"
        )
    slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)
    base = statistics.median(size - slope * load for load, size in used)
    agreeing = sum(
        _sign(b[1] - a[1]) * _sign(b[0] - a[0]) for a, b in itertools.combinations(used, 2)
    )
    return CapacityFit(
        base_bytes=base,
        bytes_per_unit=slope,
        spread_bytes=statistics.median(abs(size - base - slope * load) for load, size in used),
        correlation=agreeing / math.comb(len(used), 2),
        points=len(used),
        highest_load=max(load for load, _ in used),
    )


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
