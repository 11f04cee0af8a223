"""What a relief run did: frozen, strings and numbers only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from memguard.units import format_bytes, format_seconds

StepName = Literal["expire", "caches", "pools", "collect", "trim", "callbacks"]


def change(fell: int | None) -> str:
    """Return by how much the memory of a process fell, or rose although some was given back."""
    if fell is None:
        return "memory changed by an unknown amount"
    return f"memory {'fell' if fell >= 0 else 'rose'} by {format_bytes(abs(fell))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step of a relief run did. Bytes."""

    name: str
    """``expire``, ``caches``, ``pools``, ``collect``, ``trim`` or ``callbacks``."""
    items: int = 0
    """Entries, idle objects, garbage objects or callbacks."""
    freed: int | None = None
    """What the containers or callbacks say they gave; None where nobody counts."""
    rss_freed: int | None = None
    """By how much the private memory of the process fell; negative where others grew meanwhile."""
    seconds: float = 0.0
    """How long it took."""
    skipped: str | None = None
    """Why it was not done; None when it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliefReport:
    """One relief run. Bytes."""

    reason: str
    """Who asked for it."""
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
        """Bytes given back by the containers' and callbacks' own account."""
        return sum(step.freed or 0 for step in self.steps)

    @property
    def rss_freed(self) -> int | None:
        """By how much the private memory of the process fell; None where it cannot be read."""
        return None if self.before is None or self.after is None else self.before - self.after

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        return {**asdict(self), "freed": self.freed, "rss_freed": self.rss_freed}

    def __str__(self) -> str:
        """Return a line for the run and one for each step."""
        if self.busy:
            return "relief: another run was under way; nothing was done"
        head = (
            f"relief ({self.reason}): wanted {format_bytes(self.goal)}, {change(self.rss_freed)}, "
        )
        account = f"{format_bytes(self.freed)} by own account, in {format_seconds(self.seconds)}"
        lines = [head + account]
        for step in self.steps:
            if step.skipped is not None:
                lines.append(f"  {step.name:9} skipped: {step.skipped}")
                continue
            given = "not counted" if step.freed is None else format_bytes(step.freed)
            lines.append(
                f"  {step.name:9} {step.items} items, {given}, {change(step.rss_freed)}, "
                f"{format_seconds(step.seconds)}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliefStatistics:
    """What all relief runs did so far. Bytes and seconds."""

    runs: int
    refused: int
    """Runs asked for while another was under way."""
    freed: int
    """By own account, all runs together."""
    rss_freed: int
    """By what the private memory fell, all runs together."""
    seconds: float
    longest_seconds: float
    lowered_caches: int
    """Caches whose bound is lowered now."""
    callbacks: int
    """Callbacks registered now."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]
