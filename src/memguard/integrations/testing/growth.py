"""Does memory survive each run of a test? Pure: levels in, a verdict out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["clean", "undecided", "leak"]

MORE = 3
"""An undecided series is judged again when it is this many times as long."""
_QUARTILE = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """What the levels after each run say."""

    kind: Kind
    bytes_per_run: int
    """What survives a typical run, bytes: the median where growth is even, else the mean."""


def judge(levels: Sequence[int], allowed: int, *, final: bool = False) -> Growth:
    """
    Return whether more than *allowed* bytes survive each run.

    The levels are memory in use, in bytes: before the first counted run, then after each. A single
    run says nothing: a late import or a cache that fills looks like a leak, once. So a series is
    called a leak when

    - every run grew by more than is allowed: the rule of CPython's own leak hunt, which looks at
      the smallest difference (``libregrtest``, python/cpython#74959); or, in a final series,
    - three quarters of the runs did, since something may be freed by chance in one of them; or
    - each third of the series grew by more than is allowed on average: what is appended to a list
      or a buffer grows by leaps, for these are allocated ahead.

    It is clean when neither the mean nor the median is above what is allowed, and undecided
    otherwise: then it takes more runs, ``MORE`` times as many, and *final*, which leaves nothing
    undecided.

    Args:
        levels: At least three, bytes.
        allowed: Bytes that may survive a run.
        final: The series will not be made longer.
    """
    steps = [later - earlier for earlier, later in pairwise(levels)]
    mean = (levels[-1] - levels[0]) / len(steps)
    median = statistics.median(steps)
    if min(steps) > allowed:
        return Growth("leak", round(median))
    if mean <= allowed and median <= allowed:
        return Growth("clean", max(0, round(median)))
    if not final:
        return Growth("undecided", max(0, round(mean)))
    if sorted(steps)[len(steps) // _QUARTILE] > allowed:
        return Growth("leak", round(median))
    if min(_means_of_thirds(steps)) > allowed:
        return Growth("leak", round(mean))
    return Growth("clean", max(0, min(round(median), round(mean))))


def _means_of_thirds(steps: Sequence[int]) -> list[float]:
    bounds = (0, *thirds(len(steps)))
    parts = [steps[start:end] for start, end in pairwise(bounds)]
    return [sum(part) / len(part) for part in parts]


def thirds(runs: int) -> list[int]:
    """Return after how many of *runs* each third of them ends, the last one included."""
    return sorted({max(1, round(part * runs / MORE)) for part in range(1, MORE + 1)})
