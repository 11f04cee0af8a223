"""`Lender`: how an object of a pool is made, lent, released, recovered and disposed of."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import Any, TypeAlias

from memguard.bounded.pool.checkout import Holder, Record, describe_holders, holders_of
from memguard.bounded.pool.slots import ROOM, Slot, Slots, is_shared
from memguard.bounded.pool.stats import Counts
from memguard.bounded.pool.watch import SHORT_NAP, Watch
from memguard.bounded.waiting import Waiter, Work
from memguard.errors import LifecycleError, PoolExhaustedError
from memguard.lifecycle import fork
from memguard.units import format_seconds, parse_seconds

Site: TypeAlias = tuple[Any, ...]
"""Code, instruction, and the task's name if there is a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """The options of an `ObjectPool`, checked; its docstring explains them."""

    name: str
    maxsize: int
    minsize: int
    timeout: float
    factory: Callable[[], Any]
    reset: Callable[[Any], object] | None
    validate: Callable[[Any], object] | None
    validate_after_idle: float
    max_lifetime: Any
    max_idle: Any
    leak_after: Any
    dispose: Callable[[Any], object] | None
    on_error: str
    timer: Callable[[], float]


class Lender:
    """
    Lends the objects of one pool.

    *factory*, *reset*, *validate*, *dispose* and *timer*, which are the user's, run outside of the
    lock of the slots. What a call has in its hands meanwhile is marked with its `Work`.
    """

    def __init__(self, options: PoolOptions, watch: Watch) -> None:
        self.options = options
        self.watch = watch
        self.counts = Counts(options.name)
        self._timer = options.timer
        self._keeps_time = options.validate is not None or options.max_idle is not None
        self.slots = Slots(
            options.name,
            options.maxsize,
            checks_out=options.validate is not None or options.max_lifetime is not None,
            checks_in=options.reset is not None or self._keeps_time,
        )

    def restart_in_child(self) -> None:
        """Start empty, in a forked child."""
        self.slots.restart_in_child()
        self.counts = Counts(self.options.name)
        self.watch.suspend()

    # -- lending ------------------------------------------------------------------------------

    def take(self, timeout: Any, site: Site, lease: Any = None) -> tuple[Slot, Any]:
        """Return an object and its slot, lent to who called at *site*, or to *lease*."""
        fork.check()
        taken = self._take_at_once(site, lease)
        if taken is not None:
            return taken
        seconds, deadline = self._deadline(timeout)
        while taken is None:
            waiter = Waiter()
            try:
                self._join(waiter)
                while (pause := self._pause(waiter, deadline)) > 0:
                    waiter.sleep(pause)
                taken = self._collect(waiter, seconds, site, lease)
            except BaseException:
                self._leave(waiter)
                raise
        return taken

    async def take_async(self, timeout: Any, site: Site, lease: Any) -> tuple[Slot, Any]:
        """As `take`, without blocking the event loop."""
        fork.check()
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        taken = self._take_at_once(site, lease)
        if taken is not None:
            return taken
        seconds, deadline = self._deadline(timeout)
        while taken is None:
            waiter = Waiter(asyncio.get_running_loop())
            try:
                self._join(waiter)
                while (pause := self._pause(waiter, deadline)) > 0:
                    await waiter.sleep_async(pause)
                taken = self._collect(waiter, seconds, site, lease)
            except BaseException:
                self._leave(waiter)
                raise
        return taken

    def _take_at_once(self, site: Site, lease: Any) -> tuple[Slot, Any] | None:
        """Return an object that is idle or can be made; None when one must wait."""
        slots = self.slots
        if slots.closed or slots.lost:
            self._raise_if_closed()
            self.settle()
        while True:
            record = (self._timer(), get_ident(), *site)
            work = Work()
            with slots.lock:
                slot = slots.take_last(work)
                if slot is None and not slots.reserve(work):
                    return None
                if slot is not None and slots.lends_at_once:
                    return slot, slots.lend(slot, record, lease)
            if slot is None:
                return self._lend(self.make(work), site, lease)
            if self._is_fit(slot):
                return self._lend(slot, site, lease)

    def _lend(self, slot: Slot, site: Site, lease: Any) -> tuple[Slot, Any]:
        record = (self._timer(), get_ident(), *site)
        with self.slots.lock:
            return slot, self.slots.lend(slot, record, lease)

    def _deadline(self, timeout: Any) -> tuple[float, float]:
        seconds = (
            self.options.timeout if timeout is None else parse_seconds(timeout, name="timeout")
        )
        return seconds, time.monotonic() + seconds

    def _join(self, waiter: Waiter) -> None:
        """Put *waiter* at the end of the line; it is served at once when something is free."""
        slots = self.slots
        with slots.lock:
            slots.waiting[waiter] = None
            served = slots.serve()
        self.wake(served)
        if waiter.given is None:
            self.counts.add("waits")

    def _pause(self, waiter: Waiter, deadline: float) -> float:
        """Return for how many seconds *waiter* is to sleep, 0 when its wait is over."""
        if waiter.given is not None or self.slots.closed or self._is_nested():
            return 0.0
        pause = deadline - time.monotonic()
        if pause > 0 and not self.watch.hurry():  # nothing sweeps, so the waiter has to look
            pause = min(pause, SHORT_NAP)
            self.settle(thoroughly=True)
        return pause

    def _is_nested(self) -> bool:
        """Return whether a destructor or signal handler has interrupted this pool and calls it."""
        return bool(self.slots.lock._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001 - reason: as threading.Condition asks

    def _collect(
        self, waiter: Waiter, seconds: float, site: Site, lease: Any
    ) -> tuple[Slot, Any] | None:
        """Return what *waiter* was given, None if that is not fit to be lent."""
        if waiter.given is None:
            self.settle(thoroughly=True)
        with self.slots.lock:
            self.slots.waiting.pop(waiter, None)
        given = waiter.given
        if given is None:
            self._raise_if_closed()
            self._refuse(seconds)
        if given is ROOM:
            return self._lend(self.make(waiter), site, lease)
        if self._is_fit(given):
            return self._lend(given, site, lease)
        waiter.given = None
        return None

    def _leave(self, waiter: Waiter) -> None:
        """Undo a wait that was interrupted: what *waiter* was given goes to the next."""
        with self.slots.lock:
            served = self.slots.take_back(waiter)
        self.wake(served)

    def wake(self, waiters: list[Waiter]) -> None:
        """Wake *waiters*; what was given to one whose event loop is closed goes to the next."""
        if not waiters:
            return
        line = deque(waiters)
        while line:
            waiter = line.popleft()
            if not waiter.wake():
                with self.slots.lock:
                    line.extend(self.slots.take_back(waiter))

    def _refuse(self, seconds: float) -> None:
        self.counts.add("timeouts")
        holders = self.holders()
        raise PoolExhaustedError(
            f"pool {self.options.name!r}: all {self.options.maxsize} objects are lent and none "
            f"came back within {format_seconds(seconds)}; {describe_holders(holders)}; "
            f"release them sooner (with pool.lease() as obj), or raise maxsize",
            tuple(map(str, holders)),
        )

    def _raise_if_closed(self) -> None:
        if self.slots.closed:
            raise LifecycleError(f"pool {self.options.name!r} is closed; make a new one")

    def make(self, work: Work) -> Slot:
        """Return a new object, in the hands of *work*, which has reserved the room for it."""
        slots = self.slots
        try:
            obj = self.options.factory()
            now = self._timer()
            if slots.lost:  # an object that died may still be filed under the id of this one
                self.settle()
            with slots.lock:
                slot = slots.file(obj, work, now)
        except BaseException as error:
            self.counts.fail("factory", "factory_errors", error)
            with slots.lock:
                slots.making.pop(id(work), None)
                served = slots.serve()
            self.wake(served)  # a waiter may try again, and sees the failure
            raise
        self.counts.add("created")
        self.watch.ensure()
        return slot

    def _is_fit(self, slot: Slot) -> bool:
        """Return whether an idle object may be lent; one that may not is disposed of."""
        options = self.options
        now = self._timer()
        error: BaseException | None = None
        if self.is_worn(slot, now):
            self.counts.add("expired")
        else:
            if options.validate is None or now - slot.idle_since < options.validate_after_idle:
                return True
            try:
                if options.validate(slot.obj):
                    return True
                self.counts.add("validation_failures")
            except BaseException as raised:  # noqa: BLE001 - reason: raised again below unless it is to be logged
                error = raised
                self.counts.fail("validate", "validation_failures", raised)
        try:
            self.raise_by_policy(error, self.dispose(slot))
        finally:
            del error  # see raise_by_policy
        return False

    def is_worn(self, slot: Slot, now: float) -> bool:
        """Return whether an object is too old to be lent."""
        lifetime = self.options.max_lifetime
        return lifetime is not None and now - slot.born >= lifetime

    # -- releasing ----------------------------------------------------------------------------

    def release(self, obj: Any, *, broken: bool = False) -> None:
        """Take back what `ObjectPool.acquire` has lent; dispose of it when it is *broken*."""
        fork.check()
        if self.slots.lost:
            self.settle()
        work = Work()
        with self.slots.lock:
            slot = self.slots.claim(obj, work)
        if slot is not None:
            self._finish(slot, broken)

    def end(self, lease: Any, slot: Slot, *, broken: bool = False) -> None:
        """Take back what *lease* has; dispose of it when it is *broken*."""
        slots = self.slots
        work = Work()
        served: list[Waiter] | None = None
        with slots.lock:
            if slot.lease is None or slot.lease() is not lease:
                raise LifecycleError("this lease is already over; release it once")
            if slots.by_id.get(slot.key) is not slot:  # it is the parent process's
                slots.inherited.append(slot)
                return
            if slots.takes_back_at_once and not broken:
                served = slots.put_idle(slot)
            else:
                slots.hold(slot, work)
        if served is None:
            self._finish(slot, broken)
        elif served:
            self.wake(served)

    def _finish(self, slot: Slot, broken: bool) -> None:  # noqa: FBT001 - reason: private
        error = self.dispose(slot) if broken else self.put_back(slot)
        try:
            self.raise_by_policy(error)
        finally:
            del error  # see there

    def put_back(self, slot: Slot) -> BaseException | None:
        """Reset an object and make it idle, or dispose of it; return what user code raised."""
        options, slots = self.options, self.slots
        if slots.closed:
            return self.dispose(slot)
        if options.reset is not None:
            try:
                options.reset(slot.obj)
            except BaseException as error:  # noqa: BLE001 - reason: for the caller to raise
                self.counts.fail("reset", "reset_errors", error)
                self.dispose(slot)
                return error
        if self._keeps_time:
            slot.idle_since = self._timer()
        with slots.lock:
            closed = slots.closed
            served = [] if closed else slots.put_idle(slot)
        self.wake(served)
        return self.dispose(slot) if closed else None

    def dispose(self, slot: Slot) -> Exception | None:
        """Dispose of an object, then have room for another; return what *dispose* raised."""
        self.counts.add("disposed")
        try:
            if self.options.dispose is not None:
                self.options.dispose(slot.obj)
        except Exception as error:  # noqa: BLE001 - reason: the policy of on_error, up to the caller
            self.counts.fail("dispose", "dispose_errors", error)
            return error
        finally:
            with self.slots.lock:
                self.slots.remove(slot)
                served = self.slots.serve()
            self.wake(served)
        return None

    def raise_by_policy(self, *errors: BaseException | None) -> None:
        """
        Raise the first error of user code: an Exception by *on_error*, any other always.

        An error refers, through its traceback, to our frames and so to what they have lent:
        if one of them refers to it, that is a cycle, and an object that was dropped would not
        be missed before the next collection.
        """
        error = None
        try:
            for error in errors:
                if error is not None:
                    if self.options.on_error == "raise" or not isinstance(error, Exception):
                        raise error
                    error.__traceback__ = None
        finally:
            del error, errors

    # -- what was dropped ---------------------------------------------------------------------

    def settle(self, *, thoroughly: bool = False) -> None:
        """
        Account for checkouts that were dropped, and lend what they had to others.

        Not in a call that interrupts the pool itself: a step of its thread is half done.
        """
        if self._is_nested():
            return
        slots = self.slots
        work = Work()
        with slots.lock:
            found = slots.find_lost(work, thoroughly=thoroughly)
            served = slots.serve()
        self.wake([*served, *found.unanswered])
        for record in found.replaced:
            self.counts.lose(record, "replaced")
        for slot in found.dropped:
            self._recover(slot)

    def _recover(self, slot: Slot) -> None:
        """Put back the object of a dropped lease, unless it is still in use."""
        if is_shared(slot):  # two holders of one object would be worse than a loss
            with self.slots.lock:
                self.slots.remove(slot)
                served = self.slots.serve()
            self.wake(served)
            self.counts.lose(slot.record, "replaced")
            return
        self.counts.lose(slot.record, "recovered")
        error = self.put_back(slot)
        try:
            if error is not None:
                if not isinstance(error, Exception):
                    raise error
                error.__traceback__ = None
        finally:
            del error  # see raise_by_policy

    def close(self) -> Exception | None:
        """Dispose of idle objects and wake those who wait; return the first error of *dispose*."""
        fork.check()
        slots = self.slots
        first: Exception | None = None
        with slots.lock:
            slots.close()
            waiters = list(slots.waiting)
        self.wake(waiters)
        while slots.idle:
            work = Work()
            with slots.lock:
                idle = slots.take_idle(slots.idle[-1:], work)
            for slot in idle:
                first = self.dispose(slot) or first
        return first

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds objects now, the oldest first, at most a hundred. Cost: O(maxsize)."""
        with self.slots.lock:
            records = self._records()
        return holders_of(records, self._timer())

    def _records(self) -> list[Record]:
        return [slot.record for slot in list(self.slots.by_id.values()) if slot.is_lent()]
