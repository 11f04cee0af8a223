"""
Advice for operators: scale, recycle or drain. Pure: signals in, advice out.

Nothing is carried out here. Advice is given once, then not again for a cooldown, and only when its
reason has lasted; the opposite advice waits longer, so that it does not oscillate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from memguard.bounded.options import check_seconds
from memguard.errors import ConfigError
from memguard.relief.levels import Level
from memguard.units import format_seconds

AdviceKind = Literal["drain", "recycle", "scale_up", "scale_down"]

KINDS: tuple[AdviceKind, ...] = ("drain", "recycle", "scale_up", "scale_down")
"""The most urgent first: only one is given at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is known at one moment."""

    at: float
    """Seconds on a monotonic timer."""
    level: Level = "insufficient_data"
    memory_ratio: float | None = None
    """Used share of the limit."""
    seconds_to_limit: float | None = None
    """At the present growth; None when it is not growing."""
    is_ineffective: bool = False
    """Relief was tried and freed nothing."""
    leak_found: bool = False
    """A leak was reported in this process."""
    uptime_seconds: float = math.inf
    """Of this process: one that has just begun is not recycled."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Signals of your own, by name: connections, response time, queue length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule:
    """When a signal of your own asks for more, and when for less."""

    name: str
    high: float
    """At or above it, more is needed."""
    low: float | None = None
    """At or below it, less would do; None when it says nothing about that."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.low is not None and not self.low < self.high:
            raise ConfigError(
                f"rule {self.name!r}: low must be below high (got {self.low} and {self.high})"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorOptions:
    """When what is advised."""

    scale_up_ratio: float = 0.80
    """Memory ratio from which more is needed."""
    scale_down_ratio: float = 0.30
    """Memory ratio below which less would do, if every other signal agrees."""
    recycle_seconds: float = 600.0
    """A limit nearer than this, by a leak or in spite of relief, is a reason to start over."""
    drain_seconds: float = 60.0
    """A limit nearer than this is a reason to take no more work."""
    sustain: float = 30.0
    """Seconds that a reason must have lasted; draining does not wait."""
    cooldown: float = 300.0
    """Seconds before the same is advised again."""
    reversal: float = 900.0
    """Seconds after scaling one way before the other way is advised."""
    least_uptime: float = 300.0
    """Seconds that a process must have run before recycling it is advised."""
    rules: tuple[SignalRule, ...] = ()
    """Signals of your own."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 <= self.scale_down_ratio < self.scale_up_ratio <= 1:
            raise ConfigError(
                "ratios must be 0 <= scale_down_ratio < scale_up_ratio <= 1 "
                f"(got {self.scale_down_ratio} and {self.scale_up_ratio})"
            )
        for name in ("recycle_seconds", "drain_seconds", "sustain", "cooldown", "reversal"):
            check_seconds(getattr(self, name), name, 0, 7 * 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to do, and why."""

    kind: AdviceKind
    reasons: tuple[str, ...]
    at: float
    """When it was given, on the timer of the signals."""


@dataclass(frozen=True, slots=True)
class AdvisorState:
    """State between calls of `advise`: since when reasons last, and when advice was given."""

    since: tuple[tuple[AdviceKind, float], ...] = ()
    given: tuple[tuple[AdviceKind, float], ...] = ()


def advise(
    signals: Signals,
    state: AdvisorState | None = None,
    options: AdvisorOptions | None = None,
) -> tuple[Advice | None, AdvisorState]:
    """
    Return advice, or None, and the state for the next call. Pure.

    Args:
        signals: What is known now; not older than in the call before.
        state: What the call before returned.
        options: When what is advised.
    """
    chosen = options or AdvisorOptions()
    before = state or AdvisorState()
    reasons = {kind: tuple(_reasons(kind, signals, chosen)) for kind in KINDS}
    began = dict(before.since)
    since = {kind: began.get(kind, signals.at) for kind in KINDS if reasons[kind]}
    given = dict(before.given)
    after = replace(before, since=tuple(since.items()))
    for kind in KINDS:
        if kind not in since or not _is_due(kind, signals.at, since[kind], given, chosen):
            continue
        given[kind] = signals.at
        advice = Advice(kind=kind, reasons=reasons[kind], at=signals.at)
        return advice, replace(after, given=tuple(given.items()))
    return None, after


def _is_due(
    kind: AdviceKind,
    now: float,
    since: float,
    given: Mapping[AdviceKind, float],
    options: AdvisorOptions,
) -> bool:
    if kind != "drain" and now - since < options.sustain:
        return False
    if now - given.get(kind, -math.inf) < options.cooldown:
        return False
    opposite: dict[AdviceKind, AdviceKind] = {"scale_up": "scale_down", "scale_down": "scale_up"}
    other = opposite.get(kind)
    return other is None or now - given.get(other, -math.inf) >= options.reversal


def _reasons(kind: AdviceKind, signals: Signals, options: AdvisorOptions) -> Sequence[str]:
    if kind == "scale_up":
        return _more(signals, options)
    if kind == "scale_down":
        return _less(signals, options)
    left = signals.seconds_to_limit
    found = []
    if kind == "drain":
        if left is not None and left < options.drain_seconds:
            found.append(f"the limit is {format_seconds(left)} away")
        if signals.level == "critical" and signals.is_ineffective:
            found.append("memory is critical and relief frees nothing")
        return found
    if signals.uptime_seconds < options.least_uptime:
        return found
    if signals.is_ineffective and signals.level in ("elevated", "critical"):
        found.append("relief no longer frees anything")
    if signals.leak_found and left is not None and left < options.recycle_seconds:
        found.append(f"it leaks, and the limit is {format_seconds(left)} away")
    return found


def _more(signals: Signals, options: AdvisorOptions) -> list[str]:
    found = []
    ratio = signals.memory_ratio
    # More processes share load, not a leak.
    if ratio is not None and ratio >= options.scale_up_ratio and not signals.leak_found:
        found.append(f"{ratio:.0%} of the memory limit is in use")
    for rule in options.rules:
        value = signals.values.get(rule.name)
        if value is not None and value >= rule.high:
            found.append(f"{rule.name} is {value:g}, {rule.high:g} or more")
    return found


def _less(signals: Signals, options: AdvisorOptions) -> list[str]:
    ratio = signals.memory_ratio
    if ratio is None or ratio > options.scale_down_ratio or signals.level != "ok":
        return []
    found = [f"{ratio:.0%} of the memory limit is in use"]
    for rule in options.rules:
        if rule.low is None:
            continue
        value = signals.values.get(rule.name)
        if value is None or value > rule.low:
            return []  # one that does not agree, or cannot be asked, is enough
        found.append(f"{rule.name} is {value:g}, {rule.low:g} or less")
    return found
