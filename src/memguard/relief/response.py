"""What a monitor does about a level: when memory is given back, how much, and was it any use?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from memguard.relief.callbacks import PressureLevel
from memguard.relief.gauge import Look
from memguard.relief.levels import Judgement, LevelRules
from memguard.relief.records import ReliefReport
from memguard.relief.steps import Relief

_REGROW_SECONDS = 1.0
_LEAST_GOAL = 0.02
"""Of the limit: less is not worth a run."""
_STALL_GOAL = 0.05
"""Of its own memory, that a process gives when tasks wait though there is room below the limit."""
_INEFFECTIVE = 3
"""Runs in vain, one after the other, of which an operator should know."""
_DESPERATE = 2
"""And those after which, at critical, a long pause of the collector is better than the kernel."""
_HOPELESS = 6
"""And those after which the process had better be recycled."""

Complaint = Literal["ineffective", "recycle"]


class Response:
    """
    Order relief as the level asks for it.

    Bounded by: one run at a time, and pauses between runs that grow while they are in vain.
    Locks: none; a monitor's tick is the only caller.
    Keeps alive: the relief, the last run's report until it is told.
    """

    def __init__(
        self,
        relief: Relief,
        rules: LevelRules,
        *,
        timer: Callable[[], float],
        look_now: Callable[[], Look],
    ) -> None:
        self._relief = relief
        self._rules = rules
        self._timer = timer
        self._look_now = look_now
        self._regrown_at = float("-inf")
        self._relieved_at = float("-inf")
        self._in_vain = 0
        self._in_vain_report: ReliefReport | None = None

    def act(self, look: Look, judgement: Judgement) -> bool:
        """Give back what the level asks for, or let caches grow again; return True after a run."""
        now = look.sample.at
        level = judgement.level
        if level == "elevated" or level == "critical":  # noqa: PLR1714 - reason: narrows the type
            if now - self._relieved_at < self._pause(level):
                return False
            goal = self._goal(look, judgement)
            if goal > _LEAST_GOAL * (look.sample.limit or 0):
                report = self._relief.relieve(
                    goal,
                    level=level,
                    reason=f"pressure {level}",
                    force=False,
                    last_resort=level == "critical" and self._in_vain >= _DESPERATE,
                )
                self._relieved_at = self._timer()
                self._weigh(report)
                self._relief.hold(self._room(self._look_now()))
                return True
            if judgement.changed:
                self._relief.hold(self._room(look))
        elif level == "ok" and now - self._regrown_at >= _REGROW_SECONDS:
            self._regrown_at = now
            self._relief.regrow(self._room(look, at_least=judgement.highest_used))
        return False

    def complaints(self, judgement: Judgement) -> list[tuple[Complaint, ReliefReport]]:
        """Return what is to be told about runs in vain, each once."""
        report, self._in_vain_report = self._in_vain_report, None
        if report is None:
            return []
        if self._in_vain == _INEFFECTIVE:
            return [("ineffective", report)]
        if self._in_vain == _HOPELESS and judgement.level == "critical":
            return [("recycle", report)]
        return []

    def _pause(self, level: PressureLevel) -> float:
        """Return the least seconds between two runs: longer, the more of them were in vain."""
        first, most = (0.05, 5.0) if level == "critical" else (0.5, 60.0)
        return float(min(most, first * (1 << min(self._in_vain, 10))))

    def _goal(self, look: Look, judgement: Judgement) -> int:
        """Return the bytes this process should give: its share of what is too much."""
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

    def _weigh(self, report: ReliefReport) -> None:
        """Was it any use?"""
        fell = report.rss_freed
        if report.busy or fell is None:
            return
        self._in_vain = 0 if fell >= report.goal / 4 else self._in_vain + 1
        self._in_vain_report = report if self._in_vain else None
