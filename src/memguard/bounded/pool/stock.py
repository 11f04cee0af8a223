"""
The objects of a pool: made, kept idle, handed to who waits, worn out, recovered, let go.

There is no lock. An object is idle when it is in the list `_idle`, lent when its slot holds a
record, and in the hands of the one thread that took it out in between; a place for one more object
is a permit in the list `_permits`. Each step takes from a list or puts into one, and CPython does
that in one piece, with or without the GIL. So a destructor or signal handler that interrupts us may
use the same pool, no fork meets a held lock, and what an interruption drops is collected, which the
slot tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from memguard.bounded.pool.checkout import Record
from memguard.bounded.pool.permits import Permit, Places
from memguard.bounded.pool.slots import AnySlot, Figures, Pair, Slots, make_slot
from memguard.bounded.pool.wait_queue import Waiter, WaitingLine
from memguard.errors import LifecycleError

CLOSED: Any = object()
"""What waiters get when the pool closes."""
UNWATCHED = -1
"""Instead of the janitor's epoch in which it was asked to sweep."""


class Stock:
    """What an `ObjectPool` does with its objects; users call the pool."""

    # With slots, and not for their size: beyond thirty attributes of a dict, CPython's
    # specialised instructions no longer apply, and a checkout costs a quarter more.
    __slots__ = (
        "_by_id",
        "_clocked",
        "_closed",
        "_dispose",
        "_dropped",
        "_ended",
        "_factory",
        "_figures",
        "_idle",
        "_inherited",
        "_leak_after",
        "_line",
        "_max_idle",
        "_max_lifetime",
        "_not_before",
        "_parents",
        "_pause",
        "_permits",
        "_places",
        "_raises",
        "_ready",
        "_reset",
        "_slots",
        "_swift",
        "_timeout",
        "_timer",
        "_trust",
        "_validate",
        "_watched",
        "maxsize",
        "minsize",
        "name",
    )

    name: str
    maxsize: int
    minsize: int

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.name = given["name"]
        self.maxsize = given["maxsize"]
        self.minsize = given["minsize"]
        self._factory: Callable[[], Any] = given["factory"]
        self._reset: Callable[[Any], object] | None = given["reset"]
        self._validate: Callable[[Any], object] | None = given["validate"]
        self._dispose: Callable[[Any], object] | None = given["dispose"]
        self._trust: float = given["validate_after_idle"]
        self._max_lifetime: float | None = given["max_lifetime"]
        self._max_idle: float | None = given["max_idle"]
        self._leak_after: float | None = given["leak_after"]
        self._raises = given["on_error"] == "raise"
        self._timeout: float = given["timeout"]
        self._timer: Callable[[], float] = given["timer"]
        self._clocked = self._validate is not None or self._max_idle is not None
        self._closed = False
        self._inherited: list[Any] = []
        self._parents: dict[int, AnySlot] = {}
        self._start_empty()

    def _start_empty(self) -> None:
        self._idle: list[Pair] = []
        self._places = Places(self.maxsize)
        self._permits = self._places.free
        self._slots = Slots()
        self._by_id = self._slots.by_id
        self._line = WaitingLine()
        self._dropped: deque[tuple[Pair, Record | None]] = deque()
        """Leases that were collected before they were over."""
        self._figures = Figures(self.name)
        self._watched = UNWATCHED
        self._ended = False
        self._pause = self._not_before = 0.0
        # What needs a closer look at each checkout or return finds these two empty, for good.
        checked = self._validate is not None or self._max_lifetime is not None
        self._ready: list[Pair] = [] if checked else self._idle
        careful = self._reset is not None or self._clocked
        self._swift: dict[int, AnySlot] = {} if careful else self._by_id

    def _after_fork_in_child(self) -> None:
        """Start empty; the parent's objects are kept, for a finalizer here could harm it there."""
        self._inherited.extend(self._idle)
        self._parents.update(self._by_id)
        self._start_empty()

    # -- taking -------------------------------------------------------------------------------

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise LifecycleError(f"pool {self.name!r} is closed; make a new one")

    def _take_at_once(self) -> Pair | None:
        """Return an object that is idle or can be made; None when one must wait."""
        self._raise_if_closed()
        while not self._line:
            item = self._free_item()
            if item is None:
                return None
            if type(item) is Permit:
                return self._make(item)
            if self._is_fit(item):
                pair: Pair = item
                return pair
        return None

    def _make(self, permit: Permit) -> Pair:
        """Return a new object, in the place of *permit*."""
        # From here on the permit is in this list, which becomes the slot's: it is given back by who
        # takes it out, and by nobody else.
        place = [permit]
        del permit
        try:
            obj = self._factory()
            slot = self._file(obj, place)
        except BaseException as error:
            with suppress(IndexError):
                self._permits.append(place.pop())
            self._figures.fail("factory_errors", error)
            if self._line:
                self._serve()  # whoever waits may try, and learns of the failure
            raise
        self._figures.count("created")
        self._watch()
        return obj, slot

    if TYPE_CHECKING:  # what the pool brings

        def _watch(self) -> None: ...

    def _size(self) -> int:
        """Return how many objects exist or are being made."""
        return self.maxsize - len(self._permits)

    def _file(self, obj: Any, place: list[Permit]) -> AnySlot:
        if obj is None:
            raise TypeError(
                f"factory of pool {self.name!r} must return an object (got None); "
                f"is there a return statement in it?"
            )
        slot = make_slot(obj, self._slots.on_death, place, self._timer())
        while True:
            known = self._by_id.setdefault(slot.key, slot)
            if known is slot:
                return slot
            if known() is not None:
                raise LifecycleError(
                    f"factory of pool {self.name!r} returned an object that the pool has already "
                    f"(got {type(obj).__name__}); it must make a new one at each call"
                )
            self._bury(known)  # its callback was interrupted

    def _bury(self, slot: AnySlot) -> None:
        """Account for a dead object that is filed still."""
        if self._by_id.get(slot.key) is slot:
            self._by_id.pop(slot.key, None)
        self._slots.dead.append(slot)

    def _is_fit(self, pair: Pair) -> bool:
        """Return whether it may be lent; what may not is let go."""
        obj, slot = pair
        now = self._timer()
        if self._is_worn(slot, now):
            self._figures.count("expired")
            self._raise_if_told_to(self._let_go(obj, slot))
            return False
        if self._validate is None or now - slot.idle_since < self._trust:
            return True
        try:
            fit = bool(self._validate(obj))
        except BaseException as error:  # noqa: BLE001 - reason: raised again below where it is not ours to keep
            self._figures.fail("validation_failures", error)
            self._let_go(obj, slot)
            self._raise_if_told_to(error)
            return False
        if not fit:
            self._figures.count("validation_failures")
            self._raise_if_told_to(self._let_go(obj, slot))
        return fit

    def _is_worn(self, slot: AnySlot, now: float) -> bool:
        return self._max_lifetime is not None and now - slot.born >= self._max_lifetime

    # -- giving back --------------------------------------------------------------------------

    def _claim(self, obj: Any) -> AnySlot:
        """Return the slot of *obj*, which was lent until now."""
        key = id(obj)
        slot = self._by_id.get(key)
        if slot is None:
            slot = self._parents.get(key)
            if slot is None or slot() is not obj:
                raise LifecycleError(
                    f"pool {self.name!r} did not lend this object (got {type(obj).__name__}); "
                    f"give back what acquire returned, to the pool it came from"
                )
        try:
            slot.lent.pop()
        except IndexError:
            raise LifecycleError(
                f"this object was given back to pool {self.name!r} before "
                f"(got {type(obj).__name__}); give back each object once, best with "
                f"'with pool.lease() as obj'"
            ) from None
        return slot

    def _put_back(self, obj: Any, slot: AnySlot) -> BaseException | None:
        """Reset *obj* and keep it ready, or let it go; return what user code raised."""
        if self._is_inherited(obj, slot):
            return None
        if self._closed:
            return self._let_go(obj, slot)
        if self._reset is not None:
            try:
                self._reset(obj)
            except BaseException as error:  # noqa: BLE001 - reason: for the caller to raise
                self._figures.fail("reset_errors", error)
                self._let_go(obj, slot)
                return error
        if self._clocked:
            slot.idle_since = self._timer()
        self._idle.append((obj, slot))
        if self._line:
            self._serve()
        return None

    def _is_inherited(self, obj: Any, slot: AnySlot) -> bool:
        """Keep what was lent before a fork, untouched: it belongs to the parent."""
        if self._parents.get(slot.key) is not slot:
            return False
        self._inherited.append(obj)
        return True

    def _let_go(self, obj: Any, slot: AnySlot) -> Exception | None:
        """Dispose of *obj*; its place is free only then. Return what *dispose* raised."""
        if self._is_inherited(obj, slot):
            return None
        permit = slot.place.pop()
        self._by_id.pop(slot.key, None)
        self._figures.count("disposed")
        try:
            if self._dispose is not None:
                self._dispose(obj)
        except Exception as error:  # noqa: BLE001 - reason: the policy of on_error, up to the caller
            self._figures.fail("dispose_errors", error)
            return error
        finally:
            self._permits.append(permit)
            if self._line and not self._closed:
                self._serve()
        return None

    def _raise_if_told_to(self, error: BaseException | None) -> None:
        if error is not None and (self._raises or not isinstance(error, Exception)):
            raise error

    def _raise_if_fatal(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Exception):
            raise error

    # -- handing over -------------------------------------------------------------------------

    def _serve(self) -> None:
        """Hand what is free to those who wait, the longest waiting first."""
        if self._closed:
            self._drain()
            return
        while self._line:
            gift = self._free_item()
            if gift is None:
                return
            try:
                waiter = self._line[0]
            except IndexError:  # another server took it
                self._put_item(gift)
                continue
            # In line until it is served, lest an interruption here leave it waiting in no line. The
            # gift is then the waiter's, or dropped and found again; put back by a handler here, it
            # could be had by two.
            if not waiter.offer(gift):
                self._put_item(gift)
            self._line.forget(waiter)

    def _free_item(self) -> Any:
        with suppress(IndexError):
            return self._idle.pop()
        return self._places.take()

    def _put_item(self, item: Any) -> None:
        if type(item) is Permit:
            self._permits.append(item)
        elif item is not None and item is not CLOSED:
            self._idle.append(item)

    def _drain(self) -> Exception | None:
        """Let idle objects of a closed pool go, and wake who waits; return the first error."""
        if not self._ended:
            self._ended = True
            # A last waiter that never leaves: it brings each later release here.
            self._line.append(Waiter())
        first = None
        while self._idle:
            try:
                obj, slot = self._idle.pop()
            except IndexError:  # another thread took it
                break
            error = self._let_go(obj, slot)
            first = first or error
        for waiter in self._line.copy():
            waiter.offer(CLOSED)
        return first
