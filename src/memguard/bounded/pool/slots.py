"""
The state of each object of a pool: idle, lent, or being handled by a call. One lock for all.

Only a slot decides who has its object; the list of idle slots is an index, and what it says is
checked against the slot. When a signal handler raises in the midst of a step, the slots are still
right, and `Slots.find_lost` repairs the index.
"""

from __future__ import annotations

import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from sys import getrefcount
from typing import Any

from memguard.bounded.pool.checkout import Record
from memguard.bounded.waiting import Waiter, WaitQueue, Work
from memguard.errors import LifecycleError
from memguard.lifecycle import locks

ROOM: Any = object()
"""What a waiter is given when it may make a new object."""


class _Anchor:
    """What the slot of an object without weak references refers to."""


_ANCHOR = _Anchor()


class Slot(weakref.ref[Any]):
    """
    One object of a pool, and who has it.

    In the hands of a call while `busy` is set; else lent, by `acquire` while `obj` is None or by
    `lease` while that is set; else idle.
    """

    __slots__ = (
        "born",
        "busy",
        "idle_since",
        "key",
        "lease",
        "obj",
        "record",
        "reported",
        "strong",
    )

    # By identity: a weak reference would compare the objects.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    key: int
    """The object's id."""
    obj: Any
    """The object; None while it is lent by `acquire`, so that it is collected when dropped."""
    strong: Any
    """The object once more when it cannot be weakly referenced, and so is always kept."""
    record: Record
    """Who took it last, where and when."""
    lease: LeaseRef | None
    busy: weakref.ref[Work] | None
    born: float
    idle_since: float
    reported: Record | None
    """The checkout that was reported as overdue."""

    def is_of(self, obj: Any) -> bool:
        """Return whether *obj* is the object, and not another one at the address of a dead one."""
        return obj is self.obj or obj is self.strong or obj is self()

    def is_idle(self) -> bool:
        """Return whether it may be taken."""
        return self.busy is None and self.lease is None and self.obj is not None

    def is_lent(self) -> bool:
        """Return whether it is taken."""
        return self.busy is None and (self.obj is None or self.lease is not None)


class LeaseRef(weakref.ref[Any]):
    """A lease whose end without release is noticed."""

    __slots__ = ("key",)

    key: int
    """The id of its object."""


_probe = Slot(_ANCHOR)
_probe.obj = object()
_UNSHARED = getrefcount(_probe.obj)
"""The count of an object that only its slot refers to."""


def is_shared(slot: Slot) -> bool:
    """Return whether anything besides the pool refers to the object of *slot*."""
    return getrefcount(slot.obj) - (slot.strong is not None) > _UNSHARED


@dataclass(slots=True)
class Lost:
    """What was lent or in the hands of a call, and came back by itself."""

    replaced: list[Record | None] = field(default_factory=list)
    """Checkouts whose object is gone."""
    dropped: list[Slot] = field(default_factory=list)
    """Objects of leases that were dropped; they are now in the hands of the caller."""
    unanswered: list[Waiter] = field(default_factory=list)
    """Waiters that have not taken yet what they were given."""
    garbage: list[Slot] = field(default_factory=list)
    """To be dropped outside of the lock: destructors may run."""


class Slots:
    """
    The slots of a pool, and those who wait for one.

    Methods are called with `lock` held. It is re-entrant: a destructor or a signal handler that
    interrupts a step may use the pool, so no step relies on what it looked at before.
    """

    def __init__(self, pool: str, maxsize: int, *, checks_out: bool, checks_in: bool) -> None:
        self.pool = pool
        self.maxsize = maxsize
        self.closed = False
        self.lends_at_once = not checks_out
        """Whether an idle object needs no closer look before it is lent."""
        self.takes_back_at_once = not checks_in
        """Whether an object that comes back needs none before it is idle."""
        self.inherited: list[Any] = []
        """What belongs to the parent process: a finalizer here could harm it there."""
        self.parents: dict[int, Slot] = {}
        self.restart()

    def restart(self) -> None:
        """Start empty: in a forked child, where another thread may have held the lock."""
        self.lock = locks.RLock()
        self.by_id: dict[int, Slot] = {}
        self.idle: list[Slot] = []
        """The object that came back last is the last one."""
        self.making: dict[int, weakref.ref[Work]] = {}
        """Who has reserved room for a new object."""
        self.waiting: WaitQueue = OrderedDict()
        self.lost: deque[Slot | LeaseRef] = deque()
        """Dead objects and leases; weak reference callbacks only append here."""

    def restart_in_child(self) -> None:
        """Start empty and keep what belongs to the parent, untouched."""
        self.inherited.append((self.idle, self.waiting))
        self.parents.update(self.by_id)
        self.restart()

    def close(self) -> None:
        """Send each later call the long way, where it finds the pool closed."""
        self.closed = True
        self.lends_at_once = self.takes_back_at_once = False

    def size(self) -> int:
        """Return how many objects exist or are being made."""
        return len(self.by_id) + len(self.making)

    def reserve(self, work: Work) -> bool:
        """Return whether *work* may make an object; it has the room until `file` or its end."""
        self.making[id(work)] = weakref.ref(work)
        if self.size() <= self.maxsize:
            return True
        self.making.pop(id(work), None)
        return False

    def file(self, obj: Any, work: Work, now: float) -> Slot:
        """Return the slot of a new object, in the hands of *work*, which had reserved the room."""
        if obj is None:
            raise TypeError(
                f"factory of pool {self.pool!r} must return an object (got None); "
                f"is there a return statement in it?"
            )
        known = self.by_id.get(id(obj))
        if known is not None and known.is_of(obj):
            raise LifecycleError(
                f"factory of pool {self.pool!r} returned an object that the pool has already "
                f"(got {type(obj).__name__}); it must make a new one at each call"
            )
        try:
            slot, strong = Slot(obj, self.lost.append), None
        except TypeError:
            slot, strong = Slot(_ANCHOR), obj
        slot.key = id(obj)
        slot.obj = obj
        slot.strong = strong
        slot.reported = slot.lease = None
        slot.born = slot.idle_since = now
        slot.busy = weakref.ref(work)
        self.by_id[slot.key] = slot
        if isinstance(work, Waiter):
            work.given = slot
        self.making.pop(id(work), None)
        return slot

    def remove(self, slot: Slot) -> None:
        """Forget *slot*: there is room for another object."""
        if self.by_id.get(slot.key) is slot:
            del self.by_id[slot.key]

    def lend(self, slot: Slot, record: Record, lease: Any = None) -> Any:
        """Return the object of *slot*, lent from now on; to *lease*, when there is one."""
        obj = slot.obj
        slot.record = record
        slot.busy = None
        if lease is None:
            slot.obj = None
        else:
            reference = LeaseRef(lease, self.lost.append)
            reference.key = slot.key
            slot.lease = reference
        return obj

    def take_last(self, work: Work) -> Slot | None:
        """Return the object that came back last, in the hands of *work*; None when none is idle."""
        while True:
            try:
                slot = self.idle.pop()
            except IndexError:
                return None
            if slot.is_idle():
                slot.busy = weakref.ref(work)
                return slot

    def put_idle(self, slot: Slot, *, last: bool = False) -> list[Waiter]:
        """Make *slot* idle, to be lent next or *last*; return whom to wake."""
        slot.lease = slot.busy = None
        self.idle.insert(0 if last else len(self.idle), slot)
        return self.serve() if self.waiting else []

    def hold(self, slot: Slot, work: Work) -> None:
        """Take an object that is lent into the hands of *work*."""
        slot.busy = weakref.ref(work)
        slot.lease = None

    def take_idle(self, wanted: Iterable[Slot], work: Work) -> list[Slot]:
        """Take those of *wanted* that are idle into the hands of *work*."""
        taken = []
        for slot in wanted:
            try:
                self.idle.remove(slot)
            except ValueError:  # lent meanwhile
                continue
            if slot.is_idle():
                slot.busy = weakref.ref(work)
                taken.append(slot)
        return taken

    def claim(self, obj: Any, work: Work) -> Slot | None:
        """
        Take *obj*, which its holder releases, into the hands of *work*.

        Returns:
            Its slot; None for an object of the parent process, which is kept.

        Raises:
            LifecycleError: The pool has not lent it, or has lent it to another holder.
        """
        slot = self.by_id.get(id(obj))
        if slot is None:
            theirs = self.parents.get(id(obj))
            if theirs is not None and theirs.is_of(obj):
                self.inherited.append(obj)
                return None
        kind = type(obj).__name__
        if slot is None or not slot.is_of(obj):
            raise LifecycleError(
                f"pool {self.pool!r} did not lend this object (got {kind}); "
                f"release what acquire returned, to the pool it came from"
            )
        if slot.lease is not None:
            raise LifecycleError(
                f"this object of pool {self.pool!r} is lent by a lease (got {kind}); release the "
                f"lease, or, if you had it from acquire, you released it before"
            )
        if slot.obj is not None:
            raise LifecycleError(
                f"this object was released to pool {self.pool!r} before (got {kind}); "
                f"release each object once, best with 'with pool.lease() as obj'"
            )
        self.hold(slot, work)
        slot.obj = obj
        return slot

    # -- waiting ------------------------------------------------------------------------------

    def serve(self) -> list[Waiter]:
        """Give what is free to those who wait, the first first; return whom to wake."""
        served: list[Waiter] = []
        while self.waiting and not self.closed:
            try:
                waiter = next(iter(self.waiting))
            except (StopIteration, RuntimeError):  # a destructor used the pool in between
                continue
            if waiter.given is None and not self._give(waiter):
                break
            served.append(waiter)
            self.waiting.pop(waiter, None)
        return served

    def _give(self, waiter: Waiter) -> bool:
        waiter.given = self.take_last(waiter) or (ROOM if self.reserve(waiter) else None)
        return waiter.given is not None

    def take_back(self, waiter: Waiter) -> list[Waiter]:
        """Take *waiter* out of the line, and back what it was given; return whom to wake."""
        self.waiting.pop(waiter, None)
        self.making.pop(id(waiter), None)
        slot, waiter.given = waiter.given, None
        is_ours = isinstance(slot, Slot) and self.by_id.get(slot.key) is slot
        if is_ours and slot.busy is not None and slot.busy() is waiter:
            return self.put_idle(slot)
        return self.serve()

    # -- what was dropped ---------------------------------------------------------------------

    def find_lost(self, work: Work, *, thoroughly: bool) -> Lost:
        """
        Return what came back by itself; dropped leases' objects are in the hands of *work* now.

        *thoroughly* looks at every slot, for what an exception in the midst of a step has left: at
        a cost of O(maxsize).
        """
        found = Lost()
        while self.lost:
            hint = self.lost[0]
            self._account(hint, work, found)
            if self.lost and self.lost[0] is hint:
                self.lost.popleft()
        if thoroughly:
            idle = set(map(id, self.idle))
            self._forget_twins(idle)
            for slot in list(self.by_id.values()):
                self._check(slot, id(slot) in idle, work, found)
            for key, reference in list(self.making.items()):
                maker = reference()
                if maker is None:
                    self.making.pop(key, None)
                elif isinstance(maker, Waiter):
                    if maker.given is ROOM:
                        found.unanswered.append(maker)
                    else:  # an exception came before it was given the room
                        self.making.pop(key, None)
        return found

    def _forget_twins(self, idle: set[int]) -> None:
        """Take out of the index what is in it twice: a destructor released it during a search."""
        if len(idle) < len(self.idle):
            counts = Counter(map(id, self.idle))
            for slot in self.idle.copy():
                if counts[id(slot)] > 1:
                    counts[id(slot)] -= 1
                    self.idle.remove(slot)

    def _account(self, hint: Slot | LeaseRef, work: Work, found: Lost) -> None:
        slot = self.by_id.get(hint.key)
        if slot is hint:
            found.replaced.append(slot.record)
            self.remove(slot)
        elif slot is not None and slot.lease is hint:
            self.hold(slot, work)
            found.dropped.append(slot)

    def _check(self, slot: Slot, is_idle: bool, work: Work, found: Lost) -> None:  # noqa: FBT001 - reason: private, and called once
        if slot.busy is not None:
            owner = slot.busy()
            if owner is None:
                found.replaced.append(None)
                found.garbage.append(slot)
                self.remove(slot)
            elif isinstance(owner, Waiter):
                if owner.given is slot:
                    found.unanswered.append(owner)
                else:  # an exception came before it was given the object
                    slot.busy = None
                    self.idle.append(slot)
        elif slot() is None:
            self._account(slot, work, found)
        elif slot.lease is not None:
            if slot.lease() is None:
                self._account(slot.lease, work, found)
        elif slot.obj is not None and not is_idle:
            self.idle.append(slot)
