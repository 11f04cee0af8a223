"""
How high does memory rise in a test, and which lines hold it there?

The height is tracemalloc's own peak. It remembers no lines, so a test that is over its limit runs
once more, under a profile function that takes a snapshot where memory stands highest.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Self

from memguard.integrations.testing import report
from memguard.integrations.testing.sites import Runner, by_line, heaviest_first
from memguard.leaks.evidence import tracing
from memguard.leaks.profile import MemoryProfile, ProfiledBlock

NEAR = 0.5
"""Of a peak that is known: from there on it is worth a snapshot."""
_HIGHER = 1.15
"""Times the level of the last snapshot: then another one is."""
_MOST_SNAPSHOTS = 8


class Peak:
    """
    A block whose peak is taken: ``with Peak() as peak: ...``, then ``peak.bytes``.

    Bounded by: three numbers.
    Locks: that of ``ProfiledBlock``.
    Keeps alive: nothing.
    """

    def __init__(self) -> None:
        self._block = ProfiledBlock("test", 0, self._take)
        self.bytes = 0
        """The peak above the level at the beginning."""
        self.is_exact = False
        """False in a tracing session of other code, where an earlier peak was higher."""

    def _take(self, profile: MemoryProfile) -> None:
        began = profile.current_bytes - profile.growth_bytes
        self.bytes = max(0, profile.peak_bytes - began)
        self.is_exact = profile.peak_is_exact

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._block.__exit__(None, None, None)


class PeakLines:
    """
    A block in which the lines that hold most at the peak are noted.

    Bounded by: one snapshot at a time, `_MOST_SNAPSHOTS` in all.
    Locks: none; the thread that enters it.
    Keeps alive: the last snapshot, until `lines`.

    If the program profiles itself, or the peak passes between two calls, there are no lines.

    Args:
        at_least: Bytes above the beginning from which on it is worth a snapshot.
    """

    def __init__(self, *, at_least: float) -> None:
        self._began = 0
        self._next = at_least
        self._left = _MOST_SNAPSHOTS
        self._snapshot: tracing.Snapshot | None = None
        self._before: tracing.Snapshot | None = None
        self._function = self._look

    def __enter__(self) -> Self:
        self._before = tracing.snapshot()
        self._began = tracing.traced_memory()[0]
        if sys.getprofile() is None:
            sys.setprofile(self._function)
        return self

    def __exit__(self, *_: object) -> None:
        if sys.getprofile() is self._function:
            sys.setprofile(None)

    def _look(self, _frame: FrameType, _event: str, _arg: Any) -> None:
        now = tracing.traced_memory()[0] - self._began
        if now > self._next and self._left:
            self._left -= 1
            self._next = now * _HIGHER
            self._snapshot = None
            try:
                self._snapshot = tracing.snapshot()
            except MemoryError:  # which must not reach the program from here
                self._left = 0

    def lines(self, runner: Runner) -> list[str]:
        """Return the lines as text; the snapshots are dropped."""
        taken, before = self._snapshot, self._before
        self._snapshot = self._before = None
        if taken is None or before is None:
            return ["  the lines that hold it are unknown: the peak passed between two calls"]
        lines = by_line(tracing.stacks(taken, before), runner)
        del taken, before
        sites = heaviest_first(lines.values())
        return ["held near the peak:", *report.lines_of(sites, {})]
