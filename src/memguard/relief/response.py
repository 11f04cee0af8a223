"""The response to a level: when to start relief, how much, and whether it helped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from memguard.relief.callbacks import PressureLevel
from memguard.relief.calls import EFFECT_SECONDS
from memguard.relief.gauge import Look
from memguard.relief.levels import Judgement, LevelRules
from memguard.relief.records import ReliefReport
from memguard.relief.resource import MEMORY
from memguard.relief.steps import Relief

_REGROW_SECONDS = 1.0
_LEAST_GOAL = 0.02
"""Of the limit: less is not worth a run."""
_STALL_GOAL = 0.05
"""Share of its own memory that a process frees when tasks wait although there is room below the
limit."""
_INEFFECTIVE = 3
"""Futile runs in a row after which the operator is alerted."""
_DESPERATE = 2
"""And those after which, at critical, a long pause of the collector is allowed."""
_HOPELESS = 6
"""And those after which recycling the process is requested."""

FutileKind = Literal["ineffective", "recycle"]


@dataclass(slots=True)
class _Awaited:
    """A run that freed too little so far, whose callbacks may still free more."""

    report: ReliefReport
    until: float
    """When it is judged."""


class Response:
    """
    Order relief as the level asks for it.

    Bounded by: one run at a time, and pauses between runs that grow while they are futile.
    Locks: none; a monitor's tick is the only caller.
    Keeps alive: the relief; the last futile run's report until its alert.
    """

    def __init__(
        self,
        relief: Relief,
        rules: LevelRules,
        *,
        resource: str,
        timer: Callable[[], float],
        look_now: Callable[[], Look],
    ) -> None:
        self._relief = relief
        self._rules = rules
        self._resource = resource
        self._timer = timer
        self._look_now = look_now
        self._regrown_at = float("-inf")
        self._relieved_at = float("-inf")
        self._futile_runs = 0
        self._futile_report: ReliefReport | None = None
        self._awaited: _Awaited | None = None

    def act(self, look: Look, judgement: Judgement) -> bool:
        """Order what the level asks for, or let caches grow again; return True after a run."""
        now = look.sample.at
        level = judgement.level
        self._settle(now)
        if level == "elevated" or level == "critical":  # noqa: PLR1714 - reason: narrows the type
            if now - self._relieved_at < self._pause(level):
                return False
            goal = self._goal(look, judgement)
            if goal > _LEAST_GOAL * (look.sample.limit or 0):
                report = self._relief.relieve(
                    goal,
                    level=level,
                    reason=f"pressure {level}",
                    resource=self._resource,
                    force=False,
                    last_resort=level == "critical" and self._futile_runs >= _DESPERATE,
                )
                self._relieved_at = self._timer()
                self._note(report, level)
                self._hold(self._look_now())
                return True
            if judgement.changed:
                self._hold(look)
        elif level == "ok":
            self._regrow(look, judgement)
        return False

    def _hold(self, look: Look) -> None:
        """Let caches grow no further than there is room, if they hold what is short."""
        if self._resource == MEMORY:
            self._relief.hold(self._room(look))

    def _regrow(self, look: Look, judgement: Judgement) -> None:
        """Let caches grow again, once a second."""
        now = look.sample.at
        if self._resource == MEMORY and now - self._regrown_at >= _REGROW_SECONDS:
            self._regrown_at = now
            self._relief.regrow(self._room(look, at_least=judgement.highest_used))

    def alerts_due(self, judgement: Judgement) -> list[tuple[FutileKind, ReliefReport]]:
        """Return the alerts about futile runs, each once."""
        report, self._futile_report = self._futile_report, None
        if report is None:
            return []
        if self._futile_runs == _INEFFECTIVE:
            return [("ineffective", report)]
        if self._futile_runs == _HOPELESS and judgement.level == "critical":
            return [("recycle", report)]
        return []

    def _pause(self, level: PressureLevel) -> float:
        """Return the least seconds between two runs: longer, the more of them were futile."""
        first, most = (0.05, 5.0) if level == "critical" else (0.5, 60.0)
        return float(min(most, first * (1 << min(self._futile_runs, 10))))

    def _goal(self, look: Look, judgement: Judgement) -> int:
        """Return the bytes this process should free: its share of the excess."""
        sample = look.sample
        if sample.used is None or sample.limit is None:
            return 0
        excess = sample.used - self._rules.target * sample.limit
        if excess <= 0 and any("wait for memory" in reason for reason in judgement.reasons):
            excess = _STALL_GOAL * (look.reading.private or 0)
        return max(0, int(excess * look.own_share))

    def _room(self, look: Look, *, at_least: int | None = None) -> int:
        """
        Return the bytes that may still be used before relief would be called for again.

        Args:
            look: What is used now.
            at_least: What was used a moment ago, and what the allocator may come back to.
        """
        sample = look.sample
        if sample.used is None or sample.limit is None:
            return 0
        used = max(sample.used, at_least or 0)
        return max(0, int((self._rules.target * sample.limit - used) * look.own_share))

    def _note(self, report: ReliefReport, level: PressureLevel) -> None:
        """Count the runs in a row that freed little."""
        fell = report.rss_freed
        if report.busy or fell is None:
            return
        if fell >= report.goal / 4:
            self._futile_runs = 0
            self._futile_report = self._awaited = None
        elif not report.called_back:
            self._judge_futile(report)
        elif self._awaited is None:  # otherwise the older one is judged for both
            self._awaited = _Awaited(report, self._timer() + EFFECT_SECONDS[level])

    def _settle(self, now: float) -> None:
        """See what callbacks have freed meanwhile; judge the run that waits for it."""
        awaited = self._awaited
        if awaited is None and not self._relief.awaits_callbacks:
            return
        private = self._relief.settle()
        if awaited is None:
            return
        before = awaited.report.before or 0
        if private is not None and before - private >= awaited.report.goal / 4:
            self._futile_runs = 0
            self._awaited = None
        elif now >= awaited.until:
            self._awaited = None
            self._judge_futile(awaited.report)

    def _judge_futile(self, report: ReliefReport) -> None:
        self._futile_runs += 1
        self._futile_report = report
