"""
The pressure level: from samples to a level, with hysteresis. Pure: no clock, no I/O, no thread.

A level rises at once and falls slowly: only when every sample of *hold_off* seconds stayed clear of
the threshold by the hysteresis. A signal that comes and goes makes the hold-off longer, so that
levels change at most a few times a minute whatever the noise.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from memguard.bounded.options import check_number
from memguard.errors import ConfigError
from memguard.units import format_bytes, format_seconds

Level = Literal["insufficient_data", "ok", "elevated", "critical"]

SEVERITY: dict[Level, int] = {"insufficient_data": 0, "ok": 1, "elevated": 2, "critical": 3}

_WINDOW_SECONDS = 5.0
_MOST_SAMPLES = 256
_RAPID = ((3, 0.20), (5, 0.05))
"""Samples that must rise, one after the other, and the part of the limit they must rise by."""
_RAPID_FROM = 0.65
"""Filling the first two thirds of the limit quickly is how programs start, and load a model."""
_STALLED_FROM = 0.5
"""Of the limit: below that, waiting elsewhere on the machine says nothing about this process."""
_FLAP_SECONDS = 300.0
_LONGEST_HOLD = 8
"""Times *hold_off*, for a signal that keeps coming back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRules:
    """When a level is reached, and when it is left."""

    elevated: float = 0.75
    """Used share of the limit above which memory is freed, 0 to 1."""
    critical: float = 0.90
    """Used share above which everything that can be freed is freed, 0 to 1."""
    hysteresis: float = 0.05
    """Relief aims this much below *elevated*; a level is left half of it below its threshold."""
    hold_off: float = 10.0
    """Seconds that the signal must stay below before a level is left."""
    rapid_seconds: float = 5.0
    """At a growth that reaches *critical* within this time, the level is elevated already."""
    stall_some: float = 20.0
    """Percent of time that some task waited for memory (PSI) from which the level is elevated."""
    stall_full: float = 10.0
    """Percent that all tasks of this group waited from which it is critical."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name, low, high in (
            ("elevated", -math.inf, math.inf),
            ("critical", -math.inf, math.inf),
            ("hysteresis", -math.inf, math.inf),
            ("hold_off", 0.1, 3600.0),
            ("rapid_seconds", 0.0, 3600.0),
            ("stall_some", 1.0, 100.0),
            ("stall_full", 1.0, 100.0),
        ):
            check_number(getattr(self, name), name, low, high)
        if not 0.1 <= self.elevated < self.critical <= 1.0:
            raise ConfigError(
                "elevated and critical must be shares of the limit with "
                f"0.1 <= elevated < critical <= 1 (got {self.elevated} and {self.critical})"
            )
        if not 0.0 < self.hysteresis < self.elevated:
            raise ConfigError(
                f"hysteresis must be above 0 and below elevated, {self.elevated} "
                f"(got {self.hysteresis}); without it levels would flap"
            )

    @property
    def target(self) -> float:
        """The used share that relief aims at: as far below *elevated* as the hysteresis."""
        return self.elevated - self.hysteresis


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is known at one moment about the bound that is fullest. Bytes."""

    at: float
    """Seconds on a monotonic timer."""
    used: int | None = None
    """What cannot be reclaimed, in the scope of the bound; None if nothing is known."""
    limit: int | None = None
    """What is allowed; None if nothing is known."""
    source: str = "unknown"
    """Where that bound is written."""
    stall_some: float | None = None
    """Percent of time that some task waited for memory; None if the kernel does not count it."""
    stall_full: float | None = None
    """Percent that all tasks waited."""
    stall_is_own: bool = False
    """True when these are of our own control group, False when of the whole machine."""
    collisions: int | None = None
    """Times that the group hit ``memory.high`` or its limit, since it was made."""

    @property
    def ratio(self) -> float | None:
        """*used* over *limit*."""
        return None if self.used is None or not self.limit else self.used / self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The level after a sample, and why."""

    level: Level
    previous: Level
    reasons: tuple[str, ...]
    """Why it is not ok, for people; empty when it is."""
    bytes_per_second: float
    """Growth over the last seconds; negative when shrinking, 0 while unknown."""

    highest_used: int | None = None
    """The most that was used in these seconds: what it may come back to at any time."""
    held: bool = False
    """True if the sample is below the level, which is kept until it has been calm."""

    @property
    def changed(self) -> bool:
        """True when this sample changed the level."""
        return self.level != self.previous


class Levels:
    """
    Fold samples into a level.

    Bounded by: 256 samples of the last five seconds, eight rises.
    Locks: none; for one thread.
    Keeps alive: numbers.
    """

    def __init__(self, rules: LevelRules) -> None:
        self.rules = rules
        self.level: Level = "insufficient_data"
        self._recent: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self._calm_since: float | None = None
        self._rises: deque[float] = deque(maxlen=8)
        self._collisions: int | None = None

    def judge(self, sample: Sample) -> Judgement:
        """Return the level with *sample*, which must not be older than the one before."""
        self._remember(sample)
        wanted, reasons = self._wanted(sample)
        previous = self.level
        if SEVERITY[wanted] > SEVERITY[previous]:
            self._rise(wanted, sample.at)
        elif SEVERITY[wanted] == SEVERITY[previous]:
            self._calm_since = None
        elif self._is_clear_of(previous, sample):
            if self._calm_since is None:
                self._calm_since = sample.at
            if sample.at - self._calm_since >= self.hold_seconds(sample.at):
                self.level = wanted
                self._calm_since = None
        else:
            self._calm_since = None
        if not reasons and SEVERITY[self.level] > 1:
            reasons = ("held until it has been calm for long enough",)
        return Judgement(
            level=self.level,
            previous=previous,
            reasons=reasons,
            bytes_per_second=self._rate(),
            highest_used=max((each.used or 0 for each in self._recent), default=None),
            held=SEVERITY[wanted] < SEVERITY[self.level],
        )

    def hold_seconds(self, now: float) -> float:
        """Return how long it must be calm: longer, the more often the level has risen lately."""
        lately = sum(1 for at in self._rises if now - at < _FLAP_SECONDS)
        factor = 1 << max(0, lately - 2)
        return self.rules.hold_off * min(factor, _LONGEST_HOLD)

    def _rise(self, wanted: Level, now: float) -> None:
        # A change from insufficient data to ok raises no alarm.
        if SEVERITY[wanted] > 1:
            self._rises.append(now)
        self.level = wanted
        self._calm_since = None

    def _remember(self, sample: Sample) -> None:
        recent = self._recent
        if sample.ratio is None or (recent and recent[-1].source != sample.source):
            recent.clear()  # amounts under another bound cannot be compared
        if sample.ratio is not None:
            recent.append(sample)
        while recent and sample.at - recent[0].at > _WINDOW_SECONDS:
            recent.popleft()

    def _wanted(self, sample: Sample) -> tuple[Level, tuple[str, ...]]:
        rules = self.rules
        ratio = sample.ratio
        if ratio is None:
            return "insufficient_data", ()
        critical: list[str] = []
        elevated: list[str] = []
        share = f"{ratio:.0%} of {format_bytes(sample.limit or 0)} in use ({sample.source})"
        if ratio >= rules.critical:
            critical.append(share)
        elif ratio >= rules.elevated:
            elevated.append(share)
        if self._has_collided(sample) and ratio >= rules.elevated:
            # Below that, it was the page cache that was at the bound, and the kernel dropped it.
            critical.append("the kernel throttled or refused memory at the limit")
        self._judge_stall(sample, ratio, critical, elevated)
        seconds = self._seconds_to_critical(sample)
        if seconds is not None and seconds < rules.rapid_seconds:
            elevated.append(f"rapid growth: critical in {format_seconds(seconds)}")
        if critical:
            return "critical", (*critical, *elevated)
        if elevated:
            return "elevated", tuple(elevated)
        # One look may be a lucky one; two are an answer.
        enough = len(self._recent) >= 2 or self.level != "insufficient_data"
        return ("ok" if enough else "insufficient_data"), ()

    def _judge_stall(
        self, sample: Sample, ratio: float, critical: list[str], elevated: list[str]
    ) -> None:
        full, some = sample.stall_full or 0.0, sample.stall_some or 0.0
        if sample.stall_is_own and full >= self.rules.stall_full:
            critical.append(f"all tasks wait for memory {full:.0f} % of the time")
        elif some >= self.rules.stall_some and (sample.stall_is_own or ratio >= _STALLED_FROM):
            elevated.append(f"tasks wait for memory {some:.0f} % of the time")

    def _has_collided(self, sample: Sample) -> bool:
        before, now = self._collisions, sample.collisions
        if now is not None:
            self._collisions = now
        return before is not None and now is not None and now > before

    def _is_clear_of(self, level: Level, sample: Sample) -> bool:
        ratio = sample.ratio
        if ratio is None:
            return True
        threshold = self.rules.critical if level == "critical" else self.rules.elevated
        # Half way to where relief aims: what stays exactly at its aim must be clear.
        return ratio < threshold - self.rules.hysteresis / 2

    def _rate(self) -> float:
        if len(self._recent) < 2:
            return 0.0
        first, last = self._recent[0], self._recent[-1]
        seconds = last.at - first.at
        return ((last.used or 0) - (first.used or 0)) / seconds if seconds > 0 else 0.0

    def _seconds_to_critical(self, sample: Sample) -> float | None:
        """Return the time to *critical* at a growth that is not noise; None if there is none."""
        limit = sample.limit or 0
        if (sample.used or 0) < _RAPID_FROM * limit:
            return None
        for count, share in _RAPID:
            if len(self._recent) < count:
                return None
            last = [self._recent[-number] for number in range(count, 0, -1)]
            sizes = [each.used or 0 for each in last]
            growth, seconds = sizes[-1] - sizes[0], last[-1].at - last[0].at
            least = growth / (4 * (count - 1))  # at each step: one jump is not growth
            steady = all(b - a >= least for a, b in itertools.pairwise(sizes))
            if steady and growth >= share * limit and seconds > 0:
                return max(0.0, self.rules.critical * limit - sizes[-1]) / (growth / seconds)
        return None
