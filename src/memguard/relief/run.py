"""
One relief run: steps in the order of what they cost, and what each of them gave.

    expire → caches → pools → collect → trim → callbacks

Each step is measured twice: by what the containers say they gave, and by what the private memory of
the process fell. The second is what counts for the kernel, the first tells why the second did not.
Where all that is wanted is free already and only the C allocator has it, trim comes before caches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from memguard.bounded import inventory
from memguard.bounded.inventory import Footprint
from memguard.lifecycle.failures import Failures
from memguard.observe.readings import Reading
from memguard.relief.caches import Caps, Shares
from memguard.relief.callbacks import Callbacks
from memguard.relief.collector import Collecting
from memguard.relief.levels import Level
from memguard.relief.plan import plan_shrink
from memguard.relief.records import ReliefReport, StepResult
from memguard.relief.trim import Trimming

_WORTH_TRIMMING = 1024 * 1024
_WORTH_WAITING_FOR = 64 * 1024
_MOST_SKIPS = 15
_NEARLY = 0.8
"""Of the goal: entries do not come in the sizes that are wanted."""


@dataclass(slots=True)
class Patience:
    """Leave a step out ever longer while it gives nothing: once, three times, up to 15 times."""

    useless: int = 0
    skips: int = 0

    def has_to_wait(self) -> bool:
        """Return whether to leave it out this time; counts the times."""
        if self.skips <= 0:
            return False
        self.skips -= 1
        return True

    def remember(self, *, useful: bool) -> None:
        """Note whether it gave anything."""
        self.useless = 0 if useful else min(self.useless + 1, 10)
        self.skips = min((1 << self.useless) - 1, _MOST_SKIPS)


def _patience() -> dict[str, Patience]:
    # Not for what expires and for caches: those are what fills, and to ask them is cheap. Nor for
    # trim: whether that would give anything is known beforehand.
    return {name: Patience() for name in ("pools", "collect", "callbacks")}


@dataclass(slots=True, kw_only=True)
class Means:
    """What a run works with; it outlives the run."""

    shares: Shares
    caps: Caps
    callbacks: Callbacks
    collecting: Collecting
    trimming: Trimming
    failures: Failures
    pause: float
    """Longest full collection, seconds."""
    last_pause: float
    """Longest full collection as a last resort, seconds."""
    timer: Callable[[], float]
    read: Callable[[], Reading]
    patience: dict[str, Patience] = field(default_factory=_patience)


class Run:
    """
    One run, step by step.

    Bounded by: six steps.
    Locks: none.
    Keeps alive: the caches that are asked, until it has ended.
    """

    def __init__(
        self, means: Means, goal: int | None, *, level: Level, reason: str, force: bool
    ) -> None:
        self._means = means
        self._all = goal is None
        self._goal = goal or 0
        self._level = level
        self._reason = reason
        self._force = force
        self.may_pause_long = False
        """Whether a long collection is better than what comes without it."""
        self._steps: list[StepResult] = []
        self.error: Exception | None = None

    def go(self) -> ReliefReport:
        """Do every step that is needed, and return what each gave."""
        means = self._means
        began = means.timer()
        self._before = self._now = means.read().private
        self._step("expire", self._expire)  # first: asking a cache for its size drops it, too
        caches = means.shares.caches()
        if self._all:
            self._goal = sum(footprint.bytes or 0 for _, footprint in caches)
        elif not self._force:
            self._hold(caches)
        if self._is_held_back():
            self._step("trim", self._trim_what_is_free)
        self._step("caches", lambda: self._shrink(caches))
        self._step("pools", self._pools)
        self._step("collect", self._collect)
        if all(step.name != "trim" for step in self._steps):
            self._step("trim", self._trim)
        self._step("callbacks", self._call)
        return ReliefReport(
            reason=self._reason,
            goal=self._goal,
            before=self._before,
            after=self._now,
            seconds=means.timer() - began,
            steps=tuple(self._steps),
        )

    def _hold(self, caches: list[tuple[Any, Footprint]]) -> None:
        """Let nobody fill up what is being emptied."""
        try:
            self._means.caps.hold(caches)
        except Exception as error:  # noqa: BLE001 - reason: a resize of the host's own must not end a run
            self._means.failures.add("resize", error)

    def _step(self, name: str, work: Callable[[], StepResult | str]) -> None:
        means = self._means
        began = means.timer()
        patience = means.patience.get(name)
        if patience is not None and not self._force and patience.has_to_wait():
            self._steps.append(StepResult(name=name, skipped="freed nothing lately"))
            return
        try:
            done = work()
        except Exception as error:  # noqa: BLE001 - reason: the later steps can still give
            means.failures.add(name, error)
            done = f"failed: {type(error).__name__}"
        if isinstance(done, str):
            self._steps.append(StepResult(name=name, skipped=done))
            return
        now = means.read().private
        fell = None if self._now is None or now is None else self._now - now
        self._now = now
        if patience is not None:
            patience.remember(useful=bool(done.freed) or (fell or 0) >= _WORTH_WAITING_FOR)
        self._steps.append(replace(done, name=name, rss_freed=fell, seconds=means.timer() - began))

    @property
    def _is_critical(self) -> bool:
        return self._level == "critical"

    @property
    def _given(self) -> int:
        return sum(step.freed or 0 for step in self._steps)

    @property
    def _fallen(self) -> int:
        return 0 if self._before is None or self._now is None else self._before - self._now

    def _is_met(self) -> bool:
        return not self._all and max(self._given, self._fallen) >= _NEARLY * self._goal

    def _expire(self) -> StepResult | str:
        """Drop what has expired: nobody would have been given it."""
        items = 0
        for container in inventory.containers():
            expire = getattr(container, "expire", None)
            if callable(expire):
                try:
                    items += len(expire())
                except Exception as error:  # noqa: BLE001 - reason: the others may still have something
                    self._means.failures.add("expire", error)
        return StepResult(name="expire", items=items)

    def _shrink(self, caches: list[tuple[Any, Footprint]]) -> StepResult | str:
        if not caches:
            return "there are none"
        # Of what fell so far, only what was trimmed is our doing.
        trimmed = sum(step.rss_freed or 0 for step in self._steps if step.name == "trim")
        wanted = self._goal - max(0, trimmed)
        if not self._all and wanted <= (1 - _NEARLY) * self._goal:
            return "not needed"
        shares = self._means.shares
        rows = shares.holdings(caches, critical=self._is_critical)
        takes = plan_shrink(rows, wanted)
        items = freed = 0
        for cache, footprint in caches:
            part = takes.get(id(cache), 0)
            if part > 0:
                given = shares.take(cache, footprint, part)
                items += given.items
                freed += given.bytes or 0
        return StepResult(name="caches", items=items, freed=freed)

    def _pools(self) -> StepResult | str:
        pools = self._means.shares.pools()
        if not pools:
            return "there are none"
        if self._is_met():
            return "not needed"
        share = 1.0 if self._is_critical else 0.5
        items = freed = 0
        counted = False
        for pool in pools:
            given = self._means.shares.reclaim(pool, share)
            items += given.items
            freed += given.bytes or 0
            counted = counted or given.bytes is not None
        return StepResult(name="pools", items=items, freed=freed if counted else None)

    def _collect(self) -> StepResult | str:
        if self._is_met():
            return "not needed"
        means = self._means
        most = means.last_pause if self.may_pause_long else means.pause
        found, why_not = means.collecting.run(most, force=self._force)
        return StepResult(name="collect", items=found) if why_not is None else why_not

    def _is_held_back(self) -> bool:
        """
        Return whether what is wanted is free already, and only the C allocator has it.

        Then entries need not be dropped for it.
        """
        trimming = self._means.trimming
        if self._all or self._force or not trimming.is_due(critical=self._is_critical):
            return False
        return (trimming.held_back() or 0) >= self._goal

    def _trim_what_is_free(self) -> StepResult | str:
        why_not = self._means.trimming.run(critical=self._is_critical)
        return StepResult(name="trim") if why_not is None else why_not

    def _trim(self) -> StepResult | str:
        if not self._all and self._fallen >= _NEARLY * self._goal:
            return "not needed"
        # What was given and has not left; what the collector has freed is known to glibc alone.
        trimming = self._means.trimming
        held = self._given - self._fallen
        if not self._force and held < _WORTH_TRIMMING:
            held = trimming.held_back() or 0 if trimming.is_due(critical=self._is_critical) else 0
            if held < _WORTH_TRIMMING:
                return "there is nothing to give back"
        why_not = trimming.run(critical=self._is_critical, force=self._force)
        return StepResult(name="trim") if why_not is None else why_not

    def _call(self) -> StepResult | str:
        callbacks = self._means.callbacks
        due = callbacks.due(self._level)
        if not due:
            return "there are none"
        items = freed = 0
        counted = False
        for entry in due:
            if not self._all and self._fallen + freed >= _NEARLY * self._goal:
                break
            given, error = callbacks.call(entry)
            items += 1
            freed += given or 0
            counted = counted or given is not None
            self.error = self.error or error
        if not items:
            return "not needed"
        return StepResult(name="callbacks", items=items, freed=freed if counted else None)
