"""
The schedule of timers: a heap that threads, destructors and signal handlers may add to.

Only one thread works on the heap, the one that calls `Schedule.step`. All others append to a
queue, or takes a row out of a dict and empties it. An emptied row leaves the heap when it would
have been due, or when emptied rows outnumber the rest.
"""

from __future__ import annotations

import datetime as dt
import functools
import heapq
import types
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from memguard import log
from memguard.bounded import callsite
from memguard.bounded.counter import Tally
from memguard.bounded.lifetime import callables, owners
from memguard.bounded.lifetime.registrations import Bounds
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.failures import Failures
from memguard.units import parse_seconds

# A row is a plain list: 100,000 of them are small, and compare by due time and serial in C.
DUE, SERIAL, FN, ARGS, KWARGS, SITE, OWNED, REPEAT = range(8)
Row: TypeAlias = list[Any]

RETRY_SECONDS = 1.0
"""Seconds until a clock that raised is called again."""
_SHORTEST_INTERVAL = 0.001
_FEW_EMPTY = 64
_MANY = 1000
_MAX_SITES = 1000


@dataclass(frozen=True, slots=True)
class TimerRegistryStatistics:
    """What a registry of timers holds and has done."""

    name: str
    closed: bool
    timers: int
    """Waiting to be called, or being called."""
    maxsize: int
    fired: int
    """Calls made."""
    coalesced: int
    """Calls left out: the last one had not ended, or the process was stopped."""
    cancelled: int
    """Timers ended before their time: closed, or their owner is gone."""
    errors: int
    """Calls that raised."""
    warnings: int
    """Times that the registry was more than four fifths full."""
    threads: int
    """Threads that it has now, the one that looks at the clock included; 0 on an event loop."""
    waiting: int
    """Calls that are due and wait for a thread, or are being made."""


class Repeat:
    """When a repeated timer is due."""

    __slots__ = ("base", "busy", "interval", "jitter", "random")

    def __init__(self, interval: float, jitter: float) -> None:
        self.interval = interval
        self.jitter = jitter
        self.base = 0.0
        """When it was due last, without jitter."""
        self.busy = False
        """Whether its last call is waiting or running."""
        self.random: Callable[[], float] | None = None
        if jitter:
            import random  # noqa: PLC0415 - reason: half a megabyte that few timers need

            self.random = random.random

    def next_due(self, now: float) -> tuple[float, int]:
        """
        Return when to call next, after *now*, and how many calls are left out.

        An interval below a millisecond is one call a millisecond: no thread keeps a shorter one.
        """
        soonest = now + _SHORTEST_INTERVAL if self.interval < _SHORTEST_INTERVAL else now
        missed = max(0, int((soonest - self.base) // self.interval))
        self.base += (missed + 1) * self.interval
        offset = 0.0 if self.random is None else self.random() * self.jitter
        return self.base + offset, missed


class Timer:
    """
    A handle on one timer: close it, or use it in a ``with``, to end it.

    Bounded by: one timer.
    Locks: none.
    Keeps alive: neither the registry nor the callback, its arguments or its owner.
    """

    __slots__ = ("_schedule", "serial")

    is_ours = True

    def __init__(self, schedule: weakref.ref[Schedule], serial: int) -> None:
        self._schedule = schedule
        self.serial = serial
        """Its number in the registry; never used again."""

    def close(self) -> None:
        """End the timer and drop its callback and arguments at once; idempotent, from anywhere."""
        schedule = self._schedule()
        if schedule is not None:
            schedule.cancel(self.serial)

    @property
    def closed(self) -> bool:
        """Whether it will not be called any more."""
        schedule = self._schedule()
        return schedule is None or self.serial not in schedule.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Schedule:
    """
    The timers of one registry.

    Bounded by: the registry's *maxsize*.
    Locks: one re-entrant mutex around an entry of a dict.
    Keeps alive: callbacks and arguments until the call or the cancellation.
    """

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self.bounds = bounds
        self.clock = clock
        self.me = weakref.ref(self)
        self.rows: dict[int, Row] = {}
        """Every timer that is waiting or, when it repeats, not cancelled."""
        self.next_due = float("inf")
        """When the stepping thread will look by itself."""
        self.wake: Callable[[], object] = lambda: None
        """Called, perhaps in a destructor, when the stepping thread should look again."""
        self._lock = locks.RLock()
        self._most = 0
        self._incoming: deque[Row] = deque()
        self._heap: list[Row] = []
        self._sites: dict[tuple[int, int], callsite.Site] = {}
        self._coalesced = 0
        self._fired, self._cancelled, self._errors = Tally(), Tally(), Tally()
        self._failures = Failures("timers.clock_failed", registry=bounds.name)

    # -- from any thread ------------------------------------------------------------------------

    def add(
        self,
        fn: Any,
        delay: float,
        *,
        repeat: Repeat | None = None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        owner: Any,
    ) -> Timer:
        """Add a timer that is due in *delay* seconds."""
        self.settle()
        self.bounds.admit(len(self.rows), self._all_sites)
        held = _held(fn, args, kwargs, owner)
        serial = next(owners.serials)
        due = self.clock() + delay
        if repeat is not None:
            repeat.base = due
        row: Row = [due, serial, held, args or None, kwargs or None, self._site(), None, repeat]
        timer = Timer(self.me, serial)
        with self._lock:
            self.rows[serial] = row
            self._incoming.append(row)
        if self.bounds.closed and self.cancel(serial):
            raise LifecycleError(
                f"{self.bounds.name} was closed meanwhile and takes no more timers"
            )
        if owner is not None:
            self._bind(row, owner, timer)
        if due < self.next_due and self.wake() is False and self.cancel(serial):
            raise LifecycleError(
                f"{self.bounds.name} has no thread to run timers, and none can be started; "
                "this timer was not kept"
            )
        if self.bounds.is_crowded(len(self.rows)):
            self._warn()
        return timer

    def _bind(self, row: Row, owner: Any, timer: Timer) -> None:
        try:
            row[OWNED] = owners.adopt(owner, timer, timer.serial)
        except BaseException:
            self.cancel(timer.serial)
            raise
        if timer.serial not in self.rows:
            row[OWNED].release(timer.serial)  # it ended before the owner knew of it

    def cancel(self, serial: int) -> bool:
        """Empty the row; True for the one caller who did. Allowed in destructors."""
        with self._lock:
            row = self.rows.pop(serial, None)
        if row is None:
            return False
        self._cancelled.bump()
        _empty(row)
        empty = len(self._heap) + len(self._incoming) - len(self.rows)
        if empty > max(_FEW_EMPTY, len(self.rows)):
            self.wake()
        return True

    def cancel_all(self) -> int:
        """Cancel every timer; return how many there were."""
        return sum(map(self.cancel, list(self.rows.copy())))

    def close(self) -> int:
        """Cancel every timer, and take no more; return how many there were."""
        self.bounds.closed = True
        return self.cancel_all()

    def start_empty(self) -> list[Any]:
        """In a forked child: forget every timer; return what to drop when it is safe to."""
        left = [self.rows, self._incoming, self._heap]
        self.rows, self._incoming, self._heap = {}, deque(), []
        self.next_due = float("inf")
        self._lock = locks.RLock()
        return left

    def settle(self) -> None:
        """End the timers of owners that have been collected."""
        if owners.collected:
            owners.end_collected()

    # -- from the stepping thread ---------------------------------------------------------------

    def step(self, fire: Callable[[Row], object]) -> float | None:
        """
        Hand every row that is due to *fire*; return the seconds until the next, None without any.

        A repeated timer whose last call has not ended is not handed out again, but counted.
        """
        self.settle()
        self._tidy()
        try:
            now = self.clock()
        except Exception as error:  # noqa: BLE001 - reason: a clock of the host's, which may work again
            self._failures.add("clock", error)
            return RETRY_SECONDS
        heap = self._heap
        due: list[Row] = []
        while heap and (heap[0][FN] is None or heap[0][DUE] <= now):
            due.append(heapq.heappop(heap))
        for row in due:
            self._hand_out(row, now, fire)
        self.next_due = heap[0][DUE] if heap else float("inf")
        if self._incoming:
            return 0.0
        return max(0.0, self.next_due - now) if heap else None

    def _tidy(self) -> None:
        """Take in what was added, and drop emptied rows when they outnumber the rest."""
        heap = self._heap
        while self._incoming:
            heapq.heappush(heap, self._incoming.popleft())
        if len(heap) - len(self.rows) > max(_FEW_EMPTY, len(self.rows)):
            heap[:] = [row for row in heap if row[FN] is not None]
            heapq.heapify(heap)
        self._most = max(self._most, len(heap))
        if self._most > _MANY and not self.rows:
            with self._lock:  # a dict that was large never shrinks by itself
                self._most = 0
                old, self.rows = self.rows, {}
                self.rows.update(old)  # what a destructor added just now

    def _hand_out(self, row: Row, now: float, fire: Callable[[Row], object]) -> None:
        repeat: Repeat | None = row[REPEAT]
        if repeat is not None:
            row[DUE], missed = repeat.next_due(now)
            self._coalesced += missed + repeat.busy
            heapq.heappush(self._heap, row)
            if repeat.busy:
                return
            repeat.busy = True
        if row[FN] is not None:
            fire(row)

    # -- calling --------------------------------------------------------------------------------

    def take(self, row: Row) -> Callable[[], Any] | None:
        """Return the call that *row* asks for, None when it was cancelled; a single one ends."""
        fn, args, kwargs = row[FN], row[ARGS], row[KWARGS]
        if row[REPEAT] is None:
            with self._lock:
                if self.rows.pop(row[SERIAL], None) is None:
                    return None
            _empty(row)
        elif row[SERIAL] not in self.rows:
            return None
        if isinstance(fn, callables.WeakTarget):
            fn = fn.resolve()
        if fn is None:  # cancelled since, or its object is dying
            return None
        self._fired.bump()
        return functools.partial(fn, *(args or ()), **(kwargs or {}))

    def failed(self, row: Row, error: BaseException) -> None:
        """Count what a callback raised, and log the first of each kind and site."""
        self._errors.bump()
        site, kind = callsite.shown(row[SITE]), type(error).__name__
        self.bounds.warn_once("timers.callback_failed", (site, kind), started_at=site, error=kind)

    # -- reporting ------------------------------------------------------------------------------

    def sites(self) -> dict[str, int]:
        """Return where the waiting timers were started, and how many at each line."""
        self.settle()
        return dict(callsite.counted(self._all_sites()).most_common())

    def statistics(self, threads: int, waiting: int) -> TimerRegistryStatistics:
        """Return what the schedule holds and has done."""
        self.settle()
        with self._lock:
            return TimerRegistryStatistics(
                name=self.bounds.name,
                closed=self.bounds.closed,
                timers=len(self.rows),
                maxsize=self.bounds.maxsize,
                fired=self._fired.read(),
                coalesced=self._coalesced,
                cancelled=self._cancelled.read(),
                errors=self._errors.read(),
                warnings=self.bounds.warnings,
                threads=threads,
                waiting=waiting,
            )

    def _all_sites(self) -> list[callsite.Site]:
        return [row[SITE] for row in list(self.rows.copy().values())]

    def _warn(self) -> None:
        log.event(
            log.WARNING,
            "timers.many",
            registry=self.bounds.name,
            timers=len(self.rows),
            maxsize=self.bounds.maxsize,
            started_at=callsite.grouped(self._all_sites()),
        )

    def _site(self) -> callsite.Site:
        """Return where the caller is; one object for each site, however many timers it starts."""
        site = callsite.caller(3)
        key = (id(site[0]), site[1])
        known = self._sites.get(key)
        if known is None:
            if len(self._sites) >= _MAX_SITES:
                self._sites.clear()  # waiting rows keep theirs
            known = self._sites[key] = site
        return known


def _empty(row: Row) -> None:
    owned = row[OWNED]
    row[FN] = row[ARGS] = row[KWARGS] = row[OWNED] = row[REPEAT] = None
    if owned is not None:
        owned.release(row[SERIAL])


def seconds(value: Any, name: str, *, zero: bool) -> float:
    """Return *value*, a number, a string such as ``"10m"`` or a timedelta, as seconds."""
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    result = parse_seconds(value, name=name)
    if result == 0 and not zero:
        raise ConfigError(f"{name} must be > 0 seconds (got {value!r})")
    return result


def _held(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], owner: Any) -> Any:
    """Return *fn* as it is to be kept: weakly if it is a method of its owner."""
    fn = callables.referent(fn)
    if owner is None or issubclass(type(owner), owners.Owner):
        return fn
    if any(value is owner for value in (*args, *kwargs.values())):
        raise ConfigError(
            "the arguments hold the owner, so the owner could never be collected; "
            "give a method of the owner, or a Scope as owner and close it"
        )
    if type(fn) is types.MethodType and fn.__self__ is owner:
        return callables.weak_target(fn)
    owners.refuse_cycle(owner, fn)
    return fn
