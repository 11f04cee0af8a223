"""Contestants that take turns: other work on the machine then slows all of them alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

Slice: TypeAlias = Callable[[int], object]
"""Does the same so many times."""
NANOSECONDS = 2_000_000
"""That a slice takes."""


def in_turns(slices: dict[str, Slice], rounds: int) -> dict[str, float]:
    """Return nanoseconds of each: the fastest of *rounds* slices that take turns."""
    times = {}
    for name, run in slices.items():
        began = time.perf_counter_ns()
        run(200)
        each = (time.perf_counter_ns() - began) / 200
        times[name] = max(20, int(NANOSECONDS / each))
    best = dict.fromkeys(slices, float("inf"))
    for _ in range(rounds):
        for name, run in slices.items():
            began = time.perf_counter_ns()
            run(times[name])
            best[name] = min(best[name], (time.perf_counter_ns() - began) / times[name])
    return best


def if_installed(peer: Callable[[], dict[str, Slice]]) -> dict[str, Slice]:
    """Return what *peer* gives, nothing when it is not installed."""
    try:
        return peer()
    except ImportError as error:
        print(f"{error.name} is not installed; see the group bench", file=sys.stderr)
        return {}
