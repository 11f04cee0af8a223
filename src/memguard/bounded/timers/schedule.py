"""
What is to be called when: a heap that threads, destructors and signal handlers may add to.

Only one thread works on the heap, the one that calls `Timetable.step`. Everybody else appends to a
queue and takes rows out of a dict, each in one step that cannot be interrupted, so that no lock is
needed and a destructor can cancel a timer in the middle of anything.

A cancelled row is emptied at once; its shell leaves the heap when it would have been due, or when
shells outnumber the rest.
"""

from __future__ import annotations

import datetime as dt
import heapq
import logging
import threading
import types
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Self, TypeAlias

from memguard import log
from memguard.bounded import callsite
from memguard.bounded.counter import Tally
from memguard.bounded.lifetime import callables as targets
from memguard.bounded.lifetime import owners
from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.units import parse_seconds

# A row is a plain list: 100,000 of them are small, and compare by due time and serial in C.
DUE, SERIAL, FN, ARGS, KWARGS, SITE, ESTATE, CYCLE = range(8)
Row: TypeAlias = list[Any]

_FEW_SHELLS = 64
_MANY = 1000
_MOST_SITES = 1000
_MOST_LOGGED = 100
_WARN_AT = 0.8


class Cycle:
    """The rhythm of a repeated timer."""

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
        """Return when to call next, after *now*, and how many times went by."""
        missed = max(0, int((now - self.base) // self.interval))
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

    __slots__ = ("_table", "serial")

    is_ours = True

    def __init__(self, table: weakref.ref[Timetable], serial: int) -> None:
        self._table = table
        self.serial = serial
        """Its number in the registry; never used again."""

    def close(self) -> None:
        """End the timer and drop its callback and arguments at once; idempotent, from anywhere."""
        table = self._table()
        if table is not None:
            table.cancel(self.serial)

    @property
    def closed(self) -> bool:
        """Whether it will not be called any more."""
        table = self._table()
        return table is None or self.serial not in table.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Timetable:
    """The timers of one registry."""

    def __init__(self, name: str, maxsize: int, clock: Callable[[], float]) -> None:
        self.name = name
        self.maxsize = maxsize
        self.clock = clock
        self.closed = False
        self.me = weakref.ref(self)
        self.rows: dict[int, Row] = {}
        """Every timer that is waiting or, when it repeats, not cancelled."""
        # Only against `_shrink`; re-entrant, for a destructor may add a timer while one is added.
        self._lock = threading.RLock()
        self._most = 0
        self._incoming: deque[Row] = deque()
        self._heap: list[Row] = []
        self._orphans = owners.orphans()
        self._places: dict[tuple[int, int], callsite.Site] = {}
        self.coalesced = self.warnings = 0
        self.fired, self.cancelled, self.errors = Tally(), Tally(), Tally()
        self._warned = False
        self._logged: set[tuple[Any, str]] = set()
        self.on_hurry: Callable[[], object] = lambda: None
        """Called, perhaps in a destructor, when the stepping thread should look again."""
        self.next_due = float("inf")
        """When that thread will look by itself."""

    # -- from any thread ------------------------------------------------------------------------

    def add(
        self,
        fn: Any,
        delay: float,
        *,
        cycle: Cycle | None = None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        owner: Any,
    ) -> Timer:
        """File a timer that is due in *delay* seconds."""
        self.settle()
        if self.closed:
            raise LifecycleError(f"{self.name} is closed and takes no more timers")
        if len(self.rows) >= self.maxsize:
            raise CapacityError(
                f"{self.name} is full: it holds maxsize={self.maxsize} timers, "
                f"started at {self._grouped()}; give them owners that end, or a larger maxsize"
            )
        held = _held(fn, args, kwargs, owner)
        serial = next(owners.serials)
        due = self.clock() + delay
        if cycle is not None:
            cycle.base = due
        row: Row = [due, serial, held, args or None, kwargs or None, self._place(), None, cycle]
        timer = Timer(self.me, serial)
        with self._lock:
            self.rows[serial] = row
        self._incoming.append(row)
        if self.closed and self.cancel(serial):
            raise LifecycleError(f"{self.name} was closed meanwhile and takes no more timers")
        if owner is not None:
            try:
                row[ESTATE] = owners.adopt(owner, timer, serial)
            except BaseException:
                self.cancel(serial)
                raise
            if serial not in self.rows:
                row[ESTATE].release(serial)  # it ended before the owner knew of it
        if due < self.next_due:
            self.on_hurry()
        if len(self.rows) > self.maxsize * _WARN_AT:
            self._warn()
        return timer

    def cancel(self, serial: int) -> bool:
        """Empty the row; True for the one caller who did. Allowed in destructors."""
        row = self.rows.pop(serial, None)
        if row is None:
            return False
        self.cancelled.bump()
        self._empty(row)
        shells = len(self._heap) + len(self._incoming) - len(self.rows)
        if shells > _FEW_SHELLS and shells > len(self.rows):
            self.on_hurry()
        return True

    def cancel_all(self) -> int:
        """Cancel every timer; return how many there were."""
        return sum(map(self.cancel, list(self.rows.copy())))

    def forget(self) -> list[Any]:
        """Start empty, without a word to anybody; return what to drop when it is safe to."""
        left = [self.rows, self._incoming, self._heap]
        self.rows, self._incoming, self._heap = {}, deque(), []
        self.next_due = float("inf")
        self._lock = threading.RLock()
        return left

    def settle(self) -> None:
        """End the timers of owners that have been collected."""
        if self._orphans:
            owners.wind_up()

    def _empty(self, row: Row) -> None:
        estate = row[ESTATE]
        row[FN] = row[ARGS] = row[KWARGS] = row[ESTATE] = row[CYCLE] = None
        if estate is not None:
            estate.release(row[SERIAL])

    # -- from the stepping thread ---------------------------------------------------------------

    def step(self, fire: Callable[[Row], object]) -> float | None:
        """
        Hand every row that is due to *fire*; return the seconds until the next, None without any.

        A repeated timer whose last call has not ended is not handed out again, but counted.
        """
        self.settle()
        heap = self._heap
        while self._incoming:
            heapq.heappush(heap, self._incoming.popleft())
        if len(heap) - len(self.rows) > max(_FEW_SHELLS, len(self.rows)):
            heap[:] = [row for row in heap if row[FN] is not None]
            heapq.heapify(heap)
        self._most = max(self._most, len(heap))
        if self._most > _MANY and not self.rows:
            self._shrink()
        if self._warned and len(self.rows) < self.maxsize * _WARN_AT / 2:
            self._warned = False
        now = self.clock()
        while heap and (heap[0][FN] is None or heap[0][DUE] <= now):
            row = heapq.heappop(heap)
            if row[FN] is not None:
                self._hand_out(row, now, fire)
        self.next_due = heap[0][DUE] if heap else float("inf")
        if self._incoming:
            return 0.0
        return max(0.0, self.next_due - now) if heap else None

    def _shrink(self) -> None:
        """Give back the table of a dict that was large and is empty: it never shrinks by itself."""
        with self._lock:
            self._most = 0
            old, self.rows = self.rows, {}
            if old:  # by a destructor, just now
                self.rows.update(old)

    def _hand_out(self, row: Row, now: float, fire: Callable[[Row], object]) -> None:
        cycle: Cycle | None = row[CYCLE]
        if cycle is not None:
            row[DUE], missed = cycle.next_due(now)
            self.coalesced += missed + cycle.busy
            heapq.heappush(self._heap, row)
            if cycle.busy:
                return
            cycle.busy = True
        fire(row)

    # -- calling --------------------------------------------------------------------------------

    def take(self, row: Row) -> Callable[[], Any] | None:
        """Return the call that *row* asks for, None when it was cancelled; a single one ends."""
        fn, args, kwargs, cycle = row[FN], row[ARGS], row[KWARGS], row[CYCLE]
        if cycle is None:
            if self.rows.pop(row[SERIAL], None) is None:
                return None
            self._empty(row)
        elif row[SERIAL] not in self.rows:
            return None
        if isinstance(fn, targets.WeakTarget):
            fn = fn.resolve()
        if fn is None:  # cancelled since, or its object is dying
            return None
        self.fired.bump()
        return _Call(fn, args or (), kwargs or {})

    def failed(self, row: Row, error: BaseException) -> None:
        """Count what a callback raised, and log the first of each kind and place."""
        self.errors.bump()
        kind = type(error).__name__
        place = callsite.shown(row[SITE])
        if (place, kind) not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add((place, kind))
            log.event(
                logging.WARNING,
                "timers.callback_failed",
                registry=self.name,
                started_at=place,
                error=kind,
            )

    # -- telling --------------------------------------------------------------------------------

    def places(self) -> Counter[str]:
        """Return the places that started the waiting timers, and how many each has."""
        self.settle()
        return callsite.counted(row[SITE] for row in list(self.rows.copy().values()))

    def _grouped(self) -> str:
        return callsite.grouped(row[SITE] for row in list(self.rows.copy().values()))

    def _warn(self) -> None:
        if self._warned:
            return
        self._warned = True
        self.warnings += 1
        log.event(
            logging.WARNING,
            "timers.many",
            registry=self.name,
            timers=len(self.rows),
            maxsize=self.maxsize,
            started_at=self._grouped(),
        )

    def _place(self) -> callsite.Site:
        """Return where the caller is; one object for each place, however many timers it starts."""
        site = callsite.caller(3)
        key = (id(site[0]), site[1])
        known = self._places.get(key)
        if known is None:
            if len(self._places) >= _MOST_SITES:
                self._places.clear()  # waiting rows keep theirs
            known = self._places[key] = site
        return known


class _Call:
    """A call that can be made once; drops the callback when it is dropped."""

    __slots__ = ("args", "fn", "kwargs")

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def __call__(self) -> Any:
        return self.fn(*self.args, **self.kwargs)


def seconds(value: Any, name: str, *, zero: bool) -> float:
    """Return *value*, a number, a string such as ``"10m"`` or a timedelta, as seconds."""
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    result = parse_seconds(value, name=name)
    if result == 0 and not zero:
        raise ConfigError(f"{name} must be > 0 seconds (got {value!r})")
    return result


def _held(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], owner: Any) -> Any:
    """Return *fn* as it is to be kept: weakly where it is a method of its owner."""
    fn = targets.referent(fn)
    if owner is None or issubclass(type(owner), owners.Owner):
        return fn
    if any(value is owner for value in (*args, *kwargs.values())):
        raise ConfigError(
            "the arguments hold the owner, so the owner could never be collected; "
            "give a method of the owner, or a Scope as owner and close it"
        )
    if type(fn) is types.MethodType and fn.__self__ is owner:
        return targets.weak_target(fn)
    owners.refuse_immortal(owner, fn)
    return fn
