"""
What a pool knows of each of its objects, and of the losses and failures among them.

A slot is the weak reference to an object that is lent, so that knowing it does not keep it alive.
Its list `lent` holds the record of the checkout while there is one: taking the record out is the
one atomic step that decides who gives an object back.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from memguard import log
from memguard.bounded.pool.checkout import Losses, Record
from memguard.bounded.pool.permits import Permit

_MOST_KINDS = 100

COUNTED = (
    "created", "disposed", "recovered", "replaced", "overdue", "waits", "timeouts",
    "expired", "factory_errors", "reset_errors", "validation_failures", "dispose_errors",
)  # fmt: skip


class Slot(weakref.ref[Any]):
    """One object of a pool, not kept alive by it. Its equality is not used: it is the object's."""

    __slots__ = ("born", "idle_since", "key", "lent", "place", "told")

    born: float
    idle_since: float
    key: int
    """The object's id, valid as long as the slot is filed."""
    lent: list[Record]
    """One record while the object is lent, empty otherwise."""
    place: list[Permit]
    """The permit of the object, until the pool lets go of it; who takes it out accounts for it."""
    told: Record | None
    """The checkout that was reported as overdue."""


class FirmSlot:
    """The same for an object that cannot be weakly referenced, and so is kept alive."""

    __slots__ = ("_obj", "born", "idle_since", "key", "lent", "place", "told")

    def __init__(self, obj: Any) -> None:
        self._obj = obj
        self.born = self.idle_since = 0.0
        self.key = id(obj)
        self.lent: list[Record] = []
        self.place: list[Permit] = []
        self.told: Record | None = None

    def __call__(self) -> Any:
        """Return the object."""
        return self._obj


AnySlot: TypeAlias = "Slot | FirmSlot"
Pair: TypeAlias = "tuple[Any, AnySlot]"
"""An object that is held, and its slot."""


def make_slot(
    obj: Any, on_death: Callable[[Slot], object], place: list[Permit], now: float
) -> AnySlot:
    """Return a new slot for *obj*; *on_death* runs inside the collector."""
    slot: AnySlot
    try:
        slot = Slot(obj, on_death)
    except TypeError:
        slot = FirmSlot(obj)
    slot.born = slot.idle_since = now
    slot.key = id(obj)
    slot.lent = []
    slot.place = place
    slot.told = None
    return slot


class Slots:
    """The slots of living objects by id, and a queue of those that died while lent."""

    __slots__ = ("by_id", "dead", "on_death")

    def __init__(self) -> None:
        by_id: dict[int, AnySlot] = {}
        dead: deque[AnySlot] = deque()

        def on_death(slot: Slot) -> None:
            # The id may be given to another object as soon as this returns. A dict of ints runs
            # nobody's code, and no lock is taken.
            by_id.pop(slot.key, None)
            dead.append(slot)

        self.by_id = by_id
        self.dead = dead
        self.on_death = on_death


class Figures:
    """Counts of what happened to the objects of one pool. Thread-safe."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._lock = threading.RLock()  # re-entrant: a destructor may interrupt and count as well
        self._counts = dict.fromkeys(COUNTED, 0)
        self.losses = Losses(pool)
        self._logged: set[tuple[str, str]] = set()

    def count(self, what: str) -> None:
        """Count one *what*."""
        with self._lock:
            self._counts[what] += 1

    def counts(self) -> dict[str, int]:
        """Return all counts, by name."""
        with self._lock:
            return self._counts.copy()

    def lose(self, record: Record | None, outcome: str) -> None:
        """Count a checkout that was never given back, ``"recovered"`` or ``"replaced"``."""
        self.count(outcome)
        self.losses.lose(record, outcome)

    def fail(self, what: str, error: BaseException) -> None:
        """Count an exception of user code; each kind is logged once."""
        kind = type(error).__name__
        with self._lock:
            self._counts[what] += 1
            fresh = (what, kind) not in self._logged and len(self._logged) < _MOST_KINDS
            if fresh:
                self._logged.add((what, kind))
        if fresh:
            log.event(logging.WARNING, f"pool.{what}", pool=self._pool, error=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPoolStatistics:
    """What an `ObjectPool` holds, and what has happened since it was made. Counts."""

    name: str
    implementation: str
    """Which code runs: ``"python"``."""
    maxsize: int
    minsize: int
    size: int
    """Objects that exist or are being made: idle, lent, and in the hands of the pool."""
    idle: int
    leased: int
    waiting: int
    """Threads and tasks that wait for an object now."""
    created: int
    disposed: int
    """Objects let go by the pool itself: worn out, broken, reclaimed, or closed."""
    lost: int
    """Checkouts that were dropped without release."""
    recovered: int
    """Lost ones whose object was reset and lent again."""
    replaced: int
    """Lost ones whose object had died, or was still in use by somebody, so that its place was
    given to a new one."""
    lost_sites: tuple[tuple[str, int], ...]
    """Places that lost checkouts, ``(site, losses)``, the most first; at most a hundred."""
    overdue: int
    """Checkouts that lasted longer than *leak_after*."""
    waits: int
    """Times somebody had to wait."""
    timeouts: int
    """Waits that ended with PoolExhaustedError."""
    expired: int
    """Objects disposed for *max_lifetime* or *max_idle*."""
    factory_errors: int
    reset_errors: int
    validation_failures: int
    """Validations that raised or did not return a true value."""
    dispose_errors: int
