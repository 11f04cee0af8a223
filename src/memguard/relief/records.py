"""Pressure, alerts and relief runs as data: frozen, strings and numbers only."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memguard.relief.callbacks import PressureStage
from memguard.relief.gauge import Look
from memguard.relief.levels import Judgement, Level
from memguard.relief.room import BoundUse
from memguard.units import format_bytes, format_seconds

CALLBACK_STEPS: dict[PressureStage, str] = {
    "free": "free-callbacks",
    "cheap": "cheap-callbacks",
    "costly": "callbacks",
}
"""The step of a run in which the callbacks of each stage are called."""


def describe_change(fell: int | None) -> str:
    """Return in words how the memory of a process changed during a run."""
    if fell is None:
        return "memory changed by an unknown amount"
    return f"memory {'fell' if fell >= 0 else 'rose'} by {format_bytes(abs(fell))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """What one container gave in a relief run. Bytes."""

    name: str
    items: int
    """Entries dropped."""
    claimed: int
    """What they weighed by the container's count."""
    corrected: int
    """The same, corrected by what was known of the container before each slice."""
    real: int | None
    """By how much the memory in use fell meanwhile, whoever freed it; None if unknown."""
    factor: float
    """How many times what it claims the container weighs, as far as known; 1 and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step of a relief run did. Bytes."""

    name: str
    """
    ``expire``, ``free-callbacks``, ``cheap-callbacks``, ``caches``, ``pools``, ``collect``,
    ``trim``, a library, or ``callbacks``, which are the costly ones.
    """
    items: int = 0
    """Entries, idle objects, garbage objects or callbacks."""
    freed: int | None = None
    """What the containers or callbacks report as freed; None if none of them counts."""
    rss_freed: int | None = None
    """By how much the private memory of the process fell; negative if others grew meanwhile."""
    seconds: float = 0.0
    """How long it took."""
    skipped: str | None = None
    """Why it was not done; None when it was."""
    containers: tuple[Shrunk, ...] = ()
    """Of ``caches``: what each one gave."""
    running: int = 0
    """Callbacks that had not ended yet when the run went on without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliefReport:
    """One relief run. Bytes."""

    reason: str
    """Who requested it."""
    goal: int
    """What was wanted."""
    before: int | None = None
    """Private memory when it began."""
    after: int | None = None
    """And when it had ended."""
    seconds: float = 0.0
    """How long it took."""
    steps: tuple[StepResult, ...] = ()
    """Each step, in order; also those that were skipped, with the reason."""
    busy: bool = False
    """True when another run was under way and this one did nothing."""

    @property
    def freed(self) -> int:
        """Bytes freed as the containers and callbacks report it."""
        return sum(step.freed or 0 for step in self.steps)

    @property
    def rss_freed(self) -> int | None:
        """By how much the private memory of the process fell; None if it cannot be read."""
        return None if self.before is None or self.after is None else self.before - self.after

    @property
    def called_back(self) -> bool:
        """Whether callbacks were called or still ran: what they free may come after the run."""
        return any(
            step.running or (step.items and step.skipped is None)
            for step in self.steps
            if step.name in CALLBACK_STEPS.values()
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        return {**asdict(self), "freed": self.freed, "rss_freed": self.rss_freed}

    def __str__(self) -> str:
        """Return a line for the run and one for each step."""
        if self.busy:
            return "relief: another run was in progress; nothing was done"
        change = describe_change(self.rss_freed)
        head = f"relief ({self.reason}): wanted {format_bytes(self.goal)}, {change}, "
        freed = f"{format_bytes(self.freed)} reported as freed, in {format_seconds(self.seconds)}"
        lines = [head + freed]
        width = max((len(step.name) for step in self.steps), default=0)
        for step in self.steps:
            if step.skipped is not None:
                lines.append(f"  {step.name:{width}} skipped: {step.skipped}")
                continue
            given = "not counted" if step.freed is None else format_bytes(step.freed)
            running = f", {step.running} still running" if step.running else ""
            lines.append(
                f"  {step.name:{width}} {step.items} items, {given}, "
                f"{describe_change(step.rss_freed)}, {format_seconds(step.seconds)}{running}"
            )
            lines += [
                f"    {row.name}: {row.items} items, {format_bytes(row.claimed)} claimed, "
                f"{'unknown' if row.real is None else format_bytes(row.real)} freed, "
                f"weighs {row.factor:.1f} times what it claims"
                for row in step.containers
                if row.factor > 1
            ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliefStatistics:
    """What all relief runs did so far. Bytes and seconds."""

    runs: int
    refused: int
    """Runs requested while another was in progress."""
    freed: int
    """As the containers and callbacks report it, all runs together."""
    rss_freed: int
    """By how much the private memory fell, all runs together."""
    claimed: int
    """What caches claimed, corrected by what was known of each."""
    real: int
    """By how much the memory in use fell meanwhile; what allocators keep free is not in use."""
    seconds: float
    longest_seconds: float
    lowered_caches: int
    """Caches whose bound is lowered now."""
    callbacks: int
    """Callbacks registered now."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]
    callback_calls: int = 0
    """Calls of callbacks."""
    callback_overruns: int = 0
    """Those that took longer than their deadline."""
    callback_freed: int = 0
    """By how much memory fell while callbacks ran and soon after, when no other step freed it."""


AlertKind = Literal["level", "ineffective", "recycle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureState:
    """How near this process is to its limit, as of the last look. Bytes and seconds."""

    level: Level = "insufficient_data"
    """The level; ``"insufficient_data"`` until it is known."""
    reasons: tuple[str, ...] = ()
    """Why it is not ok, for people."""
    used: int | None = None
    """What cannot be reclaimed, in the scope of the bound that is fullest."""
    limit: int | None = None
    """That bound."""
    source: str = "unknown"
    """Where it is written."""
    private: int | None = None
    """What this process holds by itself."""
    bytes_per_minute: float = 0.0
    """Growth over the last seconds; negative when shrinking."""
    stall_some: float | None = None
    """Percent of time that some task waited for memory (Linux PSI)."""
    at: float | None = None
    """When it was seen, on the monitor's timer; None before the first look."""
    held: bool = False
    """True if what was seen last is below the level, which is kept until it has been calm."""
    bounds: tuple[BoundUse, ...] = ()
    """Every bound whose use is known, the fullest first."""

    @property
    def is_blind(self) -> bool:
        """True where it is not known how full memory is."""
        return self.used is None or self.limit is None

    @property
    def used_ratio(self) -> float | None:
        """*used* over *limit*."""
        return None if self.used is None or not self.limit else self.used / self.limit

    @property
    def headroom(self) -> int | None:
        """Bytes left below the limit."""
        if self.used is None or self.limit is None:
            return None
        return max(0, self.limit - self.used)

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        return {**asdict(self), "used_ratio": self.used_ratio, "headroom": self.headroom}

    @classmethod
    def of(cls, look: Look, judgement: Judgement) -> PressureState:
        """Return what *look* and *judgement* say."""
        sample = look.sample
        return cls(
            level=judgement.level,
            reasons=judgement.reasons,
            used=sample.used,
            limit=sample.limit,
            source=sample.source,
            private=look.reading.private,
            bytes_per_minute=judgement.bytes_per_second * 60,
            stall_some=sample.stall_some,
            at=sample.at,
            held=judgement.held,
            bounds=look.bounds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something an operator should know."""

    kind: AlertKind
    """A change of the level, relief without effect, or the request to be recycled."""
    level: Level
    previous: Level
    """The level before; the same if it did not change."""
    reasons: tuple[str, ...]
    used: int | None
    """Bytes that cannot be reclaimed."""
    limit: int | None
    """The bound that is fullest, bytes."""
    source: str
    """Where that bound is written."""
    time: float
    """Seconds since the epoch."""
    relief: ReliefReport | None = None
    """The relief run that freed too little; None for changes of the level."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        return asdict(self)

    @classmethod
    def of(
        cls, kind: AlertKind, look: Look, judgement: Judgement, relief: ReliefReport | None
    ) -> Alert:
        """Return an alert of *kind*, now."""
        reasons = judgement.reasons
        if relief is not None:
            freed = f"relief reports {format_bytes(relief.freed)} as freed"
            reasons = (*reasons, f"{freed}, {describe_change(relief.rss_freed)}")
        return cls(
            kind=kind,
            level=judgement.level,
            previous=judgement.previous if kind == "level" else judgement.level,
            reasons=reasons,
            used=look.sample.used,
            limit=look.sample.limit,
            source=look.sample.source,
            time=time.time(),
            relief=relief,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureStatistics:
    """What a monitor did and what it cost. Seconds and counts."""

    name: str
    running: bool
    level: Level
    ticks: int
    full_looks: int
    """Ticks that looked at every bound; the others only at this process."""
    level_changes: int
    alerts: int
    """Alerts ever raised."""
    alerts_by_kind: tuple[tuple[AlertKind, int], ...]
    """(kind, alerts ever raised), by name."""
    alerts_dropped: int
    """Alerts that left ``alerts`` for its bound."""
    cpu_seconds: float
    """Processor time of all ticks, relief included."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]
