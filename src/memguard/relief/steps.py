"""
`Relief`: free memory step by step, cheapest first.

    expire → free and cheap callbacks → caches → pools → collect → trim → libraries →
    costly callbacks

Each step is measured twice: by what the containers report freed, and by what the private memory of
the process fell. The second counts for the kernel; the first explains the second.
If all that is wanted is free already and only the C allocator has it, trim comes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from memguard import log
from memguard.bounded import inventory
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.bounded.options import (
    ON_ERROR,
    check_callable,
    check_choice,
    check_instance,
    check_number,
)
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.turn import Turn
from memguard.observe.gcwatch import GcWatch
from memguard.observe.readings import Reading
from memguard.relief.caches import Caps, Shares
from memguard.relief.callbacks import (
    DEADLINE_SECONDS,
    PRESSURE_LEVELS,
    CallbackRegistration,
    Callbacks,
    PressureFunction,
    PressureLevel,
    PressureStage,
)
from memguard.relief.calls import Calls, Wanted
from memguard.relief.collector import Collecting
from memguard.relief.effects import Backoff
from memguard.relief.gauge import Glance
from memguard.relief.libraries import LibraryPool, loaded_pools
from memguard.relief.plan import plan_shrink
from memguard.relief.records import CALLBACK_STEPS, ReliefReport, ReliefStatistics, StepResult
from memguard.relief.resource import MEMORY
from memguard.relief.trim import Trimming
from memguard.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    import asyncio

_WORTH_TRIMMING = 1024 * 1024
_WORTH_WAITING_FOR = 64 * 1024
_NEARLY = 0.8
"""Of the goal: entries do not come in the sizes that are wanted."""


def _backoffs() -> dict[str, Backoff]:
    # Not for what expires and for caches: those are what fills, and to ask them is cheap. Nor for
    # trim: whether that would give anything is known beforehand. Each callback has its own.
    return {name: Backoff() for name in ("pools", "collect")}


@dataclass(slots=True, kw_only=True)
class Means:
    """What the runs share."""

    shares: Shares
    caps: Caps
    callbacks: Callbacks
    calls: Calls
    collecting: Collecting
    trimming: Trimming
    failures: Failures
    pause: float
    """Longest full collection, seconds."""
    last_pause: float
    """Longest full collection as a last resort, seconds."""
    timer: Callable[[], float]
    read: Callable[[], Reading]
    library_pools: Callable[[], list[LibraryPool]] = loaded_pools
    backoff: dict[str, Backoff] = field(default_factory=_backoffs)


class Run:
    """
    One run, step by step.

    Bounded by: a step of each kind, and one for each library.
    Locks: none.
    Keeps alive: the caches it frees from, until it has ended.
    """

    def __init__(
        self, means: Means, goal: int | None, *, level: PressureLevel, reason: str, force: bool
    ) -> None:
        self._means = means
        self._all = goal is None
        self._goal = goal or 0
        self._level = level
        self._reason = reason
        self._force = force
        self.may_pause_long = False
        """Whether a long collection is allowed."""
        self._steps: list[StepResult] = []
        self._reported = 0
        """Bytes that callbacks say they freed, as far as they are believed."""
        self.error: Exception | None = None
        """The first that a callback raised."""

    def call_only(self) -> ReliefReport:
        """Call the callbacks: what is short is nothing that containers hold."""
        began = self._means.timer()
        self._before = self._now = self._means.read().private
        for stage, name in CALLBACK_STEPS.items():
            self._step(name, partial(self._call, stage))
        return self._report(began)

    def go(self) -> ReliefReport:
        """Do every step that is needed, and return what each freed."""
        means = self._means
        began = means.timer()
        if means.calls.is_awaiting:
            means.calls.settle()  # before this run frees anything else
        self._before = self._now = means.read().private
        self._step("expire", self._expire)  # first: asking a cache for its size drops it, too
        caches = means.shares.caches()
        if self._all:
            self._goal = sum(means.shares.weight(*row) for row in caches)
        elif not self._force:
            self._hold(caches)
        if self._is_held_back():
            self._step("trim", self._trim_what_is_free)
        for stage in ("free", "cheap"):
            if means.callbacks.due(self._level, stage):
                self._step(CALLBACK_STEPS[stage], partial(self._call, stage))
        self._step("caches", lambda: self._shrink(caches))
        self._step("pools", self._pools)
        self._step("collect", self._collect)
        if all(step.name != "trim" for step in self._steps):
            self._step("trim", self._trim)
        self._release_pools()
        self._step(CALLBACK_STEPS["costly"], partial(self._call, "costly"))
        return self._report(began)

    def _report(self, began: float) -> ReliefReport:
        return ReliefReport(
            reason=self._reason,
            goal=self._goal,
            before=self._before,
            after=self._now,
            seconds=self._means.timer() - began,
            steps=tuple(self._steps),
        )

    def _hold(self, caches: list[tuple[Any, Footprint]]) -> None:
        """Keep caches from filling up while they are emptied."""
        try:
            self._means.caps.hold(caches, factor=self._means.shares.factor)
        except Exception as error:  # noqa: BLE001 - reason: a resize of the host's own must not end a run
            self._means.failures.add("resize", error)

    def _step(self, name: str, work: Callable[[], StepResult | str]) -> None:
        means = self._means
        began = means.timer()
        backoff = means.backoff.get(name)
        if backoff is not None and not self._force and backoff.should_skip():
            self._steps.append(StepResult(name=name, skipped="freed nothing lately"))
            return
        try:
            done = work()
        except Exception as error:  # noqa: BLE001 - reason: the later steps can still give
            means.failures.add(name, error)
            done = f"failed: {type(error).__name__}"
        if isinstance(done, str):
            done = StepResult(name=name, skipped=done)
        if done.skipped is not None:
            self._steps.append(replace(done, name=name))
            return
        now = means.read().private
        fell = None if self._now is None or now is None else self._now - now
        self._now = now
        if name in ("caches", "pools") and fell is not None and fell > 0:
            means.calls.discount(fell)
        if backoff is not None:
            backoff.remember(useful=bool(done.freed) or (fell or 0) >= _WORTH_WAITING_FOR)
        self._steps.append(replace(done, name=name, rss_freed=fell, seconds=means.timer() - began))

    @property
    def _is_critical(self) -> bool:
        return self._level == "critical"

    @property
    def _given(self) -> int:
        own = sum(step.freed or 0 for step in self._steps if step.name not in _CALLBACK_NAMES)
        return own + self._reported

    @property
    def _fallen(self) -> int:
        return 0 if self._before is None or self._now is None else self._before - self._now

    def _is_met(self) -> bool:
        return not self._all and max(self._given, self._fallen) >= _NEARLY * self._goal

    def _expire(self) -> StepResult | str:
        """Drop expired entries."""
        items = 0
        for container in inventory.containers():
            expire = getattr(container, "expire", None)
            if callable(expire):
                try:
                    expired = expire()
                    items += len(expired)
                    while type(expired) is list and expired:
                        expired.pop()  # one by one: others get the interpreter in between
                except Exception as error:  # noqa: BLE001 - reason: the others may still have something
                    self._means.failures.add("expire", error)
        return StepResult(name="expire", items=items)

    def _shrink(self, caches: list[tuple[Any, Footprint]]) -> StepResult | str:
        if not caches:
            return "there are none"
        if self._must_wait():
            return _WAITS
        wanted = self._goal - self._freed_before_caches()
        if not self._all and wanted <= (1 - _NEARLY) * self._goal:
            return "not needed"
        shares = self._means.shares
        rows = shares.holdings(caches, critical=self._is_critical)
        takes = plan_shrink(rows, wanted)
        given = []
        missing = wanted
        for cache, footprint in caches:
            if missing <= 0 or id(cache) not in takes:
                continue
            shrunk = shares.take(cache, footprint, takes[id(cache)], missing=missing)
            given.append(shrunk)
            missing -= shrunk.corrected
        total = [Reclaimed(items=row.items, bytes=row.claimed) for row in given]
        result = _total("caches", total or [Reclaimed(items=0, bytes=0)])
        return replace(result, containers=tuple(row for row in given if row.items))

    def _freed_before_caches(self) -> int:
        # Of what fell so far, only what was trimmed and what callbacks freed is our doing.
        fell = dict.fromkeys(("trim", *_CALLBACK_NAMES), 0)
        for step in self._steps:
            if step.name in fell:
                fell[step.name] += step.rss_freed or 0
        trimmed = fell.pop("trim")
        return max(0, trimmed) + max(0, sum(fell.values()), self._reported)

    def _must_wait(self) -> bool:
        """
        Return whether to see first what a callback frees that costs less, and is under way.

        Not where memory is critical, nor for longer than that callback may take.
        """
        return not self._force and not self._is_critical and self._means.calls.is_waited_for

    def _pools(self) -> StepResult | str:
        pools = self._means.shares.pools()
        if not pools:
            return "there are none"
        if self._is_met():
            return "not needed"
        if self._must_wait():
            return _WAITS
        share = 1.0 if self._is_critical else 0.5
        return _total("pools", [self._means.shares.reclaim(pool, share) for pool in pools])

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
        # Freed and still resident; only glibc knows what the collector has freed.
        trimming = self._means.trimming
        held = self._given - self._fallen
        if not self._force and held < _WORTH_TRIMMING:
            held = trimming.held_back() or 0 if trimming.is_due(critical=self._is_critical) else 0
            if held < _WORTH_TRIMMING:
                return "there is nothing to release"
        why_not = trimming.run(critical=self._is_critical, force=self._force)
        return StepResult(name="trim") if why_not is None else why_not

    def _release_pools(self) -> None:
        """Have loaded libraries return what they keep: a step for each."""
        for pool in self._means.library_pools():
            self._means.backoff.setdefault(pool.name, Backoff())
            self._step(pool.name, lambda pool=pool: self._release(pool))  # type: ignore[misc]  # reason: mypy cannot infer its type

    def _release(self, pool: LibraryPool) -> StepResult | str:
        if not self._all and self._fallen >= _NEARLY * self._goal:
            return "not needed"
        return StepResult(name=pool.name, items=1, freed=pool.release())

    def _call(self, stage: PressureStage) -> StepResult | str:
        """Call the callbacks of *stage*."""
        means = self._means
        if not means.callbacks.due(self._level, stage):
            return "there are none"
        if stage == "costly" and self._must_wait():
            return _WAITS
        freed = self._fallen if stage == "costly" else self._freed_before_caches()
        wanted = Wanted(
            bytes=max(0, self._goal - max(0, freed)),
            enough=int((1 - _NEARLY) * self._goal),
            before=self._now,
            everything=self._all,
        )
        if self._all:
            wanted.bytes = max(self._goal, self._now or 0)  # whatever there is
        asked = means.calls.ask(stage, wanted, level=self._level, force=self._force)
        self._reported += wanted.reported
        self.error = asked.error if self.error is None else self.error
        return StepResult(
            name=CALLBACK_STEPS[stage],
            items=asked.items,
            freed=asked.freed,
            skipped=asked.skipped,
            running=asked.running,
        )


_CALLBACK_NAMES = frozenset(CALLBACK_STEPS.values())
_WAITS = "a callback that costs less is still running"


def _total(name: str, given: Sequence[Reclaimed]) -> StepResult:
    counted = [each.bytes for each in given if each.bytes is not None]
    items = sum(each.items for each in given)
    return StepResult(name=name, items=items, freed=sum(counted) if counted else None)


OnError = Literal["log", "raise"]


class Relief:
    """
    Free memory with everything in this process that can.

    Bounded by: one run at a time; a second one is refused, not queued. A thread for callbacks,
        from the first call until it is idle or stopped; eight if some do not end.
    Locks: none while containers, finalizers or callbacks run; a run in another thread is not waited
        for.
    Keeps alive: callbacks registered with `on_pressure`; containers only by weak references.

    Args:
        gc_share: Part of the time that full collections may take, above 0 to 1.
        gc_pause: The longest full collection, seconds, that a monitor may cause.
        gc_last_pause: The longest one as a last resort: where memory is critical and relief has
            been futile, and in `relieve`.
        watch: Knows how long the collections of this process take. None learns it from those of
            relief; before the first, a collection is taken to be slow.
        trim_interval: Least seconds between two calls of ``malloc_trim``; a tenth at critical.
        on_error: What a failing callback does: ``"log"``, or ``"raise"`` from `relieve` when all
            the others have been called.
        timer: Monotonic seconds.
        read: Takes a reading; for tests and platforms of your own.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        gc_share: float = 0.05,
        gc_pause: float | str = 0.01,
        gc_last_pause: float | str = 0.5,
        watch: GcWatch | None = None,
        trim_interval: float | str = 1.0,
        on_error: OnError = "log",
        timer: Callable[[], float] = time.monotonic,
        read: Callable[[], Reading] | None = None,
    ) -> None:
        check_number(gc_share, "gc_share", 0.0001, 1)
        check_callable(timer, "timer", optional=False)
        check_callable(read, "read")
        self._on_error = check_choice(on_error, ON_ERROR, "on_error")
        self._glance = Glance(timer=timer)
        failures = Failures("relief.failed")
        taken = read or self._glance
        trimming = Trimming(parse_seconds(trim_interval, name="trim_interval"), timer=timer)

        def in_use() -> int | None:
            private = taken().private
            return None if private is None else private - (trimming.held_back() or 0)

        callbacks = Callbacks(failures)
        self._means = Means(
            shares=Shares(failures, in_use=in_use),
            caps=Caps(),
            callbacks=callbacks,
            calls=Calls(
                callbacks,
                failures,
                timer=timer,
                read=read,
                keeps_errors=self._on_error == "raise",
            ),
            collecting=Collecting(
                share=gc_share,
                timer=timer,
                watch=check_instance(watch, GcWatch, "watch", optional=True),
            ),
            trimming=trimming,
            failures=failures,
            pause=parse_seconds(gc_pause, name="gc_pause"),
            last_pause=parse_seconds(gc_last_pause, name="gc_last_pause"),
            timer=timer,
            read=taken,
        )
        self._totals = {
            "runs": 0,
            "refused": 0,
            "freed": 0,
            "rss_freed": 0,
            "claimed": 0,
            "real": 0,
        }
        self._seconds = self._longest = 0.0
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """No run is under way: runs after fork."""
        self._turn = Turn()
        self._means.calls.reset()

    # -- callbacks and floors ---------------------------------------------------------------------

    def on_pressure(
        self,
        callback: PressureFunction,
        *,
        stage: PressureStage = "costly",
        level: PressureLevel = "elevated",
        priority: int = 0,
        deadline: float | str = DEADLINE_SECONDS,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> CallbackRegistration:
        """
        Call *callback* under memory pressure, before or after caches, until enough is freed.

        It is called as ``callback(goal_bytes, level)`` with the bytes that are still missing, as
        far as it needs arguments: those without a default. It may return the bytes it freed, for
        the report; what memory falls by in the two seconds after its end counts as its effect.

        It runs in a thread of memguard's, under no lock; a coroutine function, and a plain one
        that has a *loop*, on that loop. A monitor waits 50 ms for all callbacks of a stage, 20 ms
        at critical; `relieve` waits for each until its *deadline*. Neither waits in the thread of
        the loop that it would run on. At elevated one that frees nothing is called ever more
        seldom, at critical always.

        Args:
            callback: Takes nothing, the bytes wanted, or these and the level. A failure is counted,
                and logged once for each kind.
            stage: What it costs the program: ``"free"`` and ``"cheap"`` come before any cache loses
                data, ``"costly"`` after caches, pools and the collector.
            level: From which level on it is called.
            priority: Lower ones first; callbacks of one priority in the order of registration.
            deadline: Seconds after which it is slow: that is counted, logged once, and holds up
                nothing else. It is not called again before it has ended.
            loop: Where it runs; by default the loop that runs in this thread, for a coroutine
                function. When that is closed, the registration is dropped, and that is logged.

        Returns:
            A registration; close it to take the callback back.

        Raises:
            TypeError: An argument is of the wrong kind, or *callback* needs more than two.
            ConfigError: *stage*, *level*, *priority* or *deadline* is out of range.
            LifecycleError: It is a coroutine function, and there is no loop.
            CapacityError: There are 1000 callbacks already.
        """
        return self._means.callbacks.add(
            callback, stage=stage, level=level, priority=priority, deadline=deadline, loop=loop
        )

    def protect(self, cache: Any, *, least_bytes: int | str) -> None:
        """
        Leave *cache* at least *least_bytes*, however short memory is; 0 takes that back.

        Raises:
            TypeError: *cache* is not a container that relief can shrink.
            ConfigError: *least_bytes* is not a size.
        """
        if not hasattr(cache, "reclaim") or not hasattr(cache, "footprint"):
            raise TypeError(f"protect needs a container of memguard (got {type(cache).__name__})")
        self._means.shares.protect(cache, parse_bytes(least_bytes, name="least_bytes"))

    # -- a run ------------------------------------------------------------------------------------

    def relieve(
        self,
        target: int | str | None = None,
        *,
        level: PressureLevel = "critical",
        reason: str = "requested",
        force: bool = True,
        last_resort: bool = False,
        resource: str = MEMORY,
    ) -> ReliefReport:
        """
        Free *target* bytes now, and return what each step freed. Never fails for a container.

        Thread-safe; while a run is under way in another thread (or in this one, when a callback
        asks) it does nothing, and the report is ``busy``. Cost: milliseconds for each 100 MiB; the
        callbacks, each up to its deadline, so hold no lock that one of them takes; a
        full collection, if it fits into the pause that is allowed; on glibc a ``malloc_trim``.
        Not for the thread of an event loop: use ``asyncio.to_thread``.

        Args:
            target: Bytes wanted; None frees whatever caches and pools can.
            level: How much is at stake: at ``"elevated"`` caches keep a little, pools half of what
                is idle.
            reason: For the record.
            force: Do steps that lately freed nothing, too, and a long collection.
            last_resort: Do a long collection.
            resource: What is short. For any but ``"memory"`` only callbacks are called.

        Raises:
            TypeError: *target* is of the wrong kind.
            ConfigError: *target* is not a size, or *level* is not a level.
            Exception: What a callback raised, with ``on_error="raise"``.
        """
        check()
        check_choice(level, PRESSURE_LEVELS, "level")
        goal = None if target is None else parse_bytes(target, name="target")
        run = Run(self._means, goal, level=level, reason=reason, force=force)
        run.may_pause_long = force or last_resort
        report = self._turn.run(run.go if resource == MEMORY else run.call_only, busy=None)
        if report is None:
            self._totals["refused"] += 1
            return ReliefReport(reason=reason, goal=goal or 0, busy=True)
        self._count(report)
        log.event(
            log.INFO,
            "relief.done",
            reason=reason,
            goal=report.goal,
            freed=report.freed,
            rss_freed=report.rss_freed,
            seconds=round(report.seconds, 4),
            steps=" ".join(step.name for step in report.steps if step.skipped is None),
        )
        if run.error is not None and self._on_error == "raise":
            raise run.error
        return report

    def hold(self, room: int) -> int:
        """Let caches grow by *room* bytes together and no further; return how many are held."""
        return self._resize(lambda: self._hold_all(room))

    def _hold_all(self, room: int) -> int:
        shares = self._means.shares
        return self._means.caps.hold(shares.caches(), room=room, factor=shares.factor)

    def regrow(self, room: int) -> int:
        """Let caches that were made smaller grow by *room* bytes at most; return how many may."""
        means = self._means
        if not len(means.caps):
            return 0
        return self._resize(lambda: means.caps.regrow(room, means.shares.measure))

    def _resize(self, work: Callable[[], int]) -> int:
        try:
            return self._turn.run(work, busy=0)
        except Exception as error:  # noqa: BLE001 - reason: a cache of the host's own may fail
            self._means.failures.add("resize", error)
            return 0

    @property
    def awaits_callbacks(self) -> bool:
        """True while a callback runs, or may still free something. Thread-safe."""
        return self._means.calls.is_awaiting

    def settle(self) -> int | None:
        """
        See what callbacks freed after the last run, and which are late.

        Returns:
            The private memory of the process; None when it cannot be read, or a run is under way.
        """
        return self._turn.run(self._means.calls.settle, busy=None)

    def stop_callbacks(self, timeout: float) -> bool:
        """
        Drop callbacks that wait to be called, and end their threads, until the next run.

        Args:
            timeout: Seconds to wait for one that runs.

        Returns:
            False when one was still running then.
        """
        check()
        return self._means.calls.stop(timeout)

    def restore(self) -> None:
        """Restore the bound of every cache."""
        self._means.caps.restore()
        self._glance.close()

    def statistics(self) -> ReliefStatistics:
        """Return what was done so far. Thread-safe."""
        return ReliefStatistics(
            **self._totals,
            seconds=self._seconds,
            longest_seconds=self._longest,
            lowered_caches=len(self._means.caps),
            callbacks=len(self._means.callbacks),
            errors=self._means.failures.count,
            errors_by_kind=self._means.failures.kinds,
            callback_calls=self._means.calls.made,
            callback_overruns=self._means.calls.overruns,
            callback_freed=self._means.calls.freed,
        )

    def _count(self, report: ReliefReport) -> None:
        self._totals["runs"] += 1
        self._totals["freed"] += report.freed
        self._totals["rss_freed"] += report.rss_freed or 0
        for row in (row for step in report.steps for row in step.containers):
            self._totals["claimed"] += row.corrected
            self._totals["real"] += row.real or 0
        self._seconds += report.seconds
        self._longest = max(self._longest, report.seconds)
