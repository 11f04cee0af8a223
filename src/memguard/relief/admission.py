"""
Admission control: work that needs memory waits or is rejected while memory is short.

What there is room for is computed in `room`, what running work may still take in `reserves`; this
module has the locks, the waiting threads and tasks, and asks relief for room by `room_maker`.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, get_args

from memguard.bounded.options import check_callable, check_choice
from memguard.bounded.waiting import Waiter
from memguard.errors import AdmissionError, LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.loops import running_loop
from memguard.observe.readings import Reading
from memguard.relief.records import PressureState, ReliefReport
from memguard.relief.reserves import Reserve, Reserves
from memguard.relief.room import BoundUse, Rooms
from memguard.relief.room_maker import Request, RoomMaker
from memguard.relief.waiting_line import WaitingLine
from memguard.units import MiB, format_bytes, format_seconds, parse_bytes, parse_seconds

if TYPE_CHECKING:
    from memguard.relief.steps import Relief

_POLL_SECONDS = 0.05
_BEHIND_SECONDS = 2.0
"""Nap of those who are not first in line: they are woken, and look by themselves to be safe."""
_BUSY_SECONDS = 0.01
_GRACE_SECONDS = 1.0
"""How long who will not wait stays while room is being made."""
_SAMPLE_SECONDS = 0.02
_MOVED = MiB
_STALE_SECONDS = 1.0
"""Room that relief made longer ago than this may be made once more before work is refused."""

WhenBlind: TypeAlias = Literal["admit", "refuse"]
"""What happens to work while it cannot be read how full memory is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionStatistics:
    """What was admitted and refused. Bytes and seconds."""

    admitted: int
    refused: int
    waited: int
    """Of the admitted, those that had to wait."""
    waited_seconds: float
    """By all, the refused too."""
    running: int
    """Admitted and not yet ended."""
    promised: int
    """Bytes that running work has requested."""
    blind: int = 0
    """Admitted or refused while it was not known how full memory is; see *when_blind*."""
    waiting: int = 0
    """Calls that wait now."""
    dropped: int = 0
    """Places that were collected before their work had ended by `Admitted.close`."""
    reserved: int = 0
    """Of *promised*, what running work has not taken yet."""
    relief_runs: int = 0
    """Runs of relief that made room, or tried to."""
    room_made: int = 0
    """By how much the private memory of the process fell in them."""


@dataclass(frozen=True, slots=True)
class _Shortage:
    """Why work was not admitted at one attempt."""

    why: str = ""
    is_for_ever: bool = False
    """Whether waiting is futile."""
    missing: int = 0
    """Bytes that relief should free; 0 where that is no help."""
    is_behind: bool = False
    """Others wait before it."""


_BEHIND = _Shortage(is_behind=True)


class _Call:
    """
    One call of `Admission.admit`.

    Bounded by: itself.
    Locks: none.
    Keeps alive: its waiter.
    """

    __slots__ = (
        *("asked_at", "asks", "began", "cost", "is_last", "may_stay", "new_waiter"),
        *("patience", "place", "request", "waiter"),
    )

    def __init__(
        self, place: Admitted, cost: int, patience: float, new_waiter: Callable[[], Waiter]
    ) -> None:
        self.place = place
        self.cost = cost
        self.patience = patience
        self.new_waiter = new_waiter
        self.may_stay = True
        """Whether it may stay longer than that while room is being made."""
        self.is_last = patience <= 0
        """Whether it is tried out of line, because it would be refused otherwise."""
        self.began = 0.0
        self.waiter: Waiter | None = None
        self.request: Request | None = None
        self.asked_at = float("-inf")
        self.asks = 0


class Admission:
    """
    Admit work by the memory it needs.

    Work is admitted when it fits under every bound: the request, what is used, and what running
    work may still take have to stay below the critical share of each. If it does not fit, relief
    is asked for what is missing before work is refused. While the level is critical no work is
    admitted; while it is only held, work that says what it needs is judged by that.

    Threads and tasks wait in one line, and who waits longest is admitted first. Nobody is refused
    for the others in line: who will wait no longer is tried out of turn.

    Bounded by: one record for each piece of work that runs or waits.
    Locks: one mutex around the counts; nothing of the host's runs under it. In a signal handler or
        destructor that interrupts it in the same thread no work is admitted; a place that ends
        there is taken back at the next call.
    Keeps alive: nothing.

    Args:
        state: Returns the pressure, as of the last look.
        critical: The used share of a limit that is never passed on purpose.
        when_blind: What happens while it cannot be read how full memory is: ``"admit"`` or
            ``"refuse"``.
        look: Asks the monitor to look again soon; called while work waits.
        relief: What makes room; None makes none.
        run_soon: Has relief run on another thread, and returns False if there is none; without
            it relief runs in the thread that wants to be admitted, but never in that of an event
            loop.
        read: Reads what this process has now; None for what the last look saw.
        contained: Gives the bytes that containers hold, whose growth is not the work's own.
        timer: Monotonic seconds.
        sleep: Waits, in a thread; None sleeps until it is woken.
    """

    def __init__(
        self,
        state: Callable[[], PressureState],
        *,
        critical: float = 0.90,
        when_blind: WhenBlind = "admit",
        look: Callable[[], object] | None = None,
        relief: Relief | None = None,
        run_soon: Callable[[Callable[[], object]], bool] | None = None,
        read: Callable[[], Reading | None] | None = None,
        contained: Callable[[], int] | None = None,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._state = state
        self._critical = critical
        self.when_blind: WhenBlind = check_choice(when_blind, get_args(WhenBlind), "when_blind")
        self._look = check_callable(look, "look")
        self._relief = relief
        self._read = check_callable(read, "read")
        self._contained = check_callable(contained, "contained")
        self._timer = timer
        self._sleep = check_callable(sleep, "sleep")
        self._maker = RoomMaker(self._relieve, check_callable(run_soon, "run_soon"), timer)
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Start over, with no work running: also in a forked child."""
        self._lock = locks.RLock()
        self._reserves = Reserves()
        self._line = WaitingLine()
        # Destructors and signal handlers only append; what they ended is taken out by other calls.
        self._left: deque[tuple[Reserve, bool]] = deque()
        self._sampled_at = float("-inf")
        self._sampled: Reading | None = None
        self._admitted = self._refused = self._waited = self._blind = self._dropped = 0
        self._waited_seconds = 0.0
        self._maker.reset()

    # -- threads and tasks ------------------------------------------------------------------------

    def admit(self, cost_bytes: int | str = 0, *, wait: float | str = 0.0) -> Admitted:
        """
        Admit work of *cost_bytes*; return a context manager that ends it.

        Thread-safe. Blocks for at most *wait*, and for up to a second longer while room is being
        made; in a coroutine use `aadmit`.

        Args:
            cost_bytes: The most that it will need at once, as far as you know. 0 asks only whether
                memory is critical.
            wait: Seconds to wait for room.

        Raises:
            AdmissionError: There is no room; a `MemoryError`, too. Nothing was begun.
            TypeError: An argument is of the wrong kind.
            ConfigError: It is out of range.
        """
        cost, patience = _checked(cost_bytes, wait)
        call = self._begin(cost, patience, Waiter)
        call.may_stay = running_loop() is None
        with contextlib.closing(self._naps(call)) as naps:
            for nap in naps:
                self._nap(call, nap)
        return call.place

    def aadmit(self, cost_bytes: int | str = 0, *, wait: float | str = 0.0) -> AsyncAdmitted:
        """
        Return ``async with admission.aadmit("200MiB", wait=30):``; waiting blocks no event loop.

        A task that is cancelled while it waits leaves the line. Loops of several threads may wait.

        Args:
            cost_bytes: As for `admit`.
            wait: Seconds to wait for room.

        Raises:
            AdmissionError: On entering: there is no room; nothing was begun.
            TypeError: An argument is of the wrong kind.
            ConfigError: It is out of range.
        """
        return AsyncAdmitted(self, *_checked(cost_bytes, wait))

    async def _admit_task(self, cost: int, patience: float) -> Admitted:
        call = self._begin(cost, patience, _waiter_of_task)
        with contextlib.closing(self._naps(call)) as naps:
            for nap in naps:
                assert call.waiter is not None  # noqa: S101 - reason: made before the first nap
                await call.waiter.sleep_async(nap)
        return call.place

    def _nap(self, call: _Call, seconds: float) -> None:
        if self._sleep is not None:
            self._sleep(seconds)
        elif call.waiter is not None:
            call.waiter.sleep(seconds)

    # -- one call ---------------------------------------------------------------------------------

    def _begin(self, cost: int, patience: float, new_waiter: Callable[[], Waiter]) -> _Call:
        check()
        call = _Call(Admitted(self, cost), cost, patience, new_waiter)
        call.began = self._timer()
        return call

    def _naps(self, call: _Call) -> Generator[float]:
        """Yield the naps to take until *call* is admitted; end then, or raise what is refused."""
        try:
            while (shortage := self._attempt(call)) is not None:
                nap = None if shortage.is_for_ever else self._next_nap(call, shortage)
                if nap is None:
                    raise self._refusal(call, shortage)  # noqa: TRY301 - reason: whoever ends in vain leaves the line
                if nap > 0:
                    yield nap
        except BaseException:  # also where the caller was interrupted, or cancelled, in its nap
            self._leave(call)
            raise

    def _attempt(self, call: _Call) -> _Shortage | None:
        """Admit *call*, or return why not."""
        check()
        self._settle()
        if self._is_interrupted():
            raise AdmissionError(
                "not admitted: a signal handler or destructor asks in the middle of another "
                "decision of the same thread; ask after that"
            )
        with self._lock:
            is_behind = self._is_behind(call)
        if is_behind:
            return _BEHIND
        shortage = self._decided(call, thoroughly=False)
        if shortage is not None and shortage.missing:
            # Running work may have taken some of what is reserved for it since that was seen.
            shortage = self._decided(call, thoroughly=True)
        return shortage

    def _decided(self, call: _Call, *, thoroughly: bool) -> _Shortage | None:
        state = self._state()
        reading = self._renew(state, thoroughly=thoroughly)
        now = self._timer()
        with self._lock:
            shortage, woken = self._decide(call, state, reading, now)
        _wake(woken)
        return shortage

    def _next_nap(self, call: _Call, shortage: _Shortage) -> float | None:
        """Return the seconds to nap before the next attempt; None to refuse."""
        now = self._timer()
        left = call.patience - (now - call.began)
        if left <= 0 and not call.is_last:
            call.is_last = True
            return 0.0
        if call.waiter is None:
            call.waiter = call.new_waiter()
        if call.cost and not call.is_last:
            with self._lock:
                self._line.stand(call.waiter)
        if shortage.missing and (nap := self._ask(call, now, left)) is not None:
            # Until room is made, also who will not wait.
            stays = left if left > 0 else left + _GRACE_SECONDS if call.may_stay else 0.0
            return min(nap, stays) if stays > 0 or nap == 0 else None
        if left <= 0:
            return None
        if shortage.is_behind:
            return min(_BEHIND_SECONDS, left)
        if self._look is not None:
            self._look()
        return min(_POLL_SECONDS, left)

    def _ask(self, call: _Call, now: float, left: float) -> float | None:
        """Ask relief for room, once; return how long to nap for it, None if it was of no use."""
        if self._relief is None:
            return None
        request = call.request
        if request is None:
            # Once, and once more before it is refused, if that is long ago.
            if call.asks and (left > 0 or call.asks > 1 or now - call.asked_at < _STALE_SECONDS):
                return None
            cost = call.cost  # the call itself would live as long as what is asked for
            request = self._maker.ask(cost, lambda: self._missing(cost))
            if request is None:
                return None
            call.request = request
            if call.waiter is not None:
                request.wake_when_done(call.waiter)
        if not request.done:
            return _POLL_SECONDS
        call.request = None
        if not request.has_run:  # another run was under way
            return _BUSY_SECONDS
        if request.cost >= call.cost:
            call.asks += 1
            call.asked_at = self._timer()
        return 0.0

    def _refusal(self, call: _Call, shortage: _Shortage) -> AdmissionError:
        waited = self._timer() - call.began
        state = self._state()
        with self._lock:
            self._refused += 1
            self._waited_seconds += waited
            self._blind += state.used is None or state.limit is None
        after = f" after {format_seconds(waited)}" if waited > 0.001 else ""
        made = "; relief made what room it could" if call.asks else ""
        return AdmissionError(f"not admitted{after}: {shortage.why}{made}")

    def _leave(self, call: _Call) -> None:
        """Let a call go that was not admitted."""
        call.place._admission = None  # noqa: SLF001 - reason: the two are one mechanism
        self._left.append((call.place._reserve, False))  # noqa: SLF001 - reason: a signal handler may have broken off what was admitted
        self._settle()
        if call.waiter is None or self._is_interrupted():
            return  # a task that ends in a destructor: its waiter dies, and is passed over
        with self._lock:
            self._line.leave(call.waiter)
            first = self._line.first()
        _wake(first)

    # -- under the lock ---------------------------------------------------------------------------

    def _is_behind(self, call: _Call) -> bool:
        if call.is_last or not call.cost:
            return False
        first = self._line.first()
        return first is not None and first is not call.waiter

    def _decide(
        self, call: _Call, state: PressureState, reading: Reading | None, now: float
    ) -> tuple[_Shortage | None, Waiter | None]:
        """Admit *call*, and return who is to be woken; or return why not."""
        cost = call.cost
        bounds = _bounds(state)
        rooms = self._rooms(bounds, reading)
        if bounds and (small := rooms.too_small(cost)) is not None:
            most = (
                f"{format_bytes(small.mark)} below critical, of {format_bytes(small.bound.limit)}"
            )
            allows = f"{small.bound.name} allows at all ({most})"
            why = f"needs {format_bytes(cost)}, more than {allows}; make it smaller"
            return _Shortage(why, is_for_ever=True), None
        missing = rooms.lacks(cost) if cost else 0
        is_critical = state.level == "critical" and not (cost and getattr(state, "held", False))
        if missing or is_critical:
            tightest = rooms.tightest()
            reasons = ["memory is critical"] if is_critical else []
            if tightest is not None:
                needs = f"needs {format_bytes(cost)}; " if cost else ""
                reasons.append(f"{needs}{tightest}")
            why = f"{'; '.join(reasons)}; try again later, or give wait="
            private = self._own_of(state, reading)
            wanted = rooms.worth_freeing(cost, private) if missing else 0
            return _Shortage(why, missing=wanted), None
        if not bounds:
            if self.when_blind == "refuse":
                why = "it cannot be read how full memory is, and when_blind is 'refuse'"
                return _Shortage(f"{why}; see status().degraded"), None
            self._blind += 1
        self._reserves.add(call.place._reserve)  # noqa: SLF001 - reason: the two are one mechanism
        self._admitted += 1
        waited = now - call.began
        if waited > 0.001:
            self._waited += 1
            self._waited_seconds += waited
        self._line.leave(call.waiter)
        return None, self._line.first()

    def _rooms(self, bounds: tuple[BoundUse, ...], reading: Reading | None) -> Rooms:
        return Rooms.of(
            bounds, critical=self._critical, reserved=self._reserves.left, reading=reading
        )

    # -- what is seen -----------------------------------------------------------------------------

    def _renew(self, state: PressureState, *, thoroughly: bool) -> Reading | None:
        """Take note of what the process has taken since; return what it has now, if known."""
        now = self._timer()
        reading = None
        if self._read is not None:
            with contextlib.suppress(Exception):  # the state of the last look is good enough
                reading = self._read()
            reading = self._sampled if reading is None else reading
            if reading is None:
                return None
            before = self._sampled
            moved = before is None or abs((reading.private or 0) - (before.private or 0)) > _MOVED
            thoroughly = thoroughly or moved
        if thoroughly or self._read is None or now - self._sampled_at >= _SAMPLE_SECONDS:
            contained = 0
            if self._contained is not None:
                with contextlib.suppress(Exception):
                    contained = self._contained()
            own = self._own_of(state, reading)
            with self._lock:
                self._note(None if own is None else own - contained, reading, now)
        return reading if reading is None or reading.at >= (state.at or 0.0) else None

    def _note(self, own: int | None, reading: Reading | None, now: float) -> None:
        if now < self._sampled_at:  # another thread was faster
            return
        self._sampled_at = now
        self._sampled = reading
        self._reserves.renew(own, now)

    @staticmethod
    def _own_of(state: PressureState, reading: Reading | None) -> int | None:
        """Return the private memory of this process; of a state without it, what is used."""
        if reading is not None:
            return reading.private
        private: int | None = getattr(state, "private", None)
        return state.used if private is None else private

    def _missing(self, cost: int) -> int:
        """Return the bytes that relief has to free for work of *cost*."""
        state = self._state()
        reading = self._renew(state, thoroughly=True)
        with self._lock:
            rooms = self._rooms(_bounds(state), reading)
        return rooms.worth_freeing(cost, self._own_of(state, reading))

    def _relieve(self, goal: int, thorough: bool) -> ReliefReport:  # noqa: FBT001 - reason: called by position
        relief = self._relief
        if relief is None:
            return ReliefReport(reason="admission", goal=goal, busy=True)
        level = self._state().level
        report = relief.relieve(
            goal,
            level="critical" if level == "critical" else "elevated",
            reason="admission",
            force=thorough,
        )
        # What was freed is for the work that waits; the monitor lets caches grow again.
        if not report.busy:
            relief.hold(0)
        return report

    # -- ends -------------------------------------------------------------------------------------

    def _is_interrupted(self) -> bool:
        """Return whether this very thread is in the middle of a change, which it interrupts."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - reason: what threading.Condition asks
        return owned

    def _end(self, reserve: Reserve) -> None:
        """Take back the place of work that has ended."""
        check()
        self._left.append((reserve, False))
        self._settle()

    def _drop(self, reserve: Reserve) -> None:
        """Take back a place that was collected: soon, for a destructor must take no lock."""
        self._left.append((reserve, True))

    def _settle(self) -> None:
        """Take back the places of what has ended, and wake who is first in line."""
        if not self._left or self._is_interrupted():
            return
        now = self._timer()
        with self._lock:
            self._take_back(now)
            first = self._line.first()
        _wake(first)

    def _take_back(self, now: float) -> None:
        while self._left:
            reserve, was_dropped = self._left[0]
            if self._reserves.remove(reserve, now) and was_dropped:
                self._dropped += 1
            self._left.popleft()  # last: a signal handler may break off

    # -- looking ----------------------------------------------------------------------------------

    def reserved(self) -> int:
        """Return what running work may still take of what it was promised. Thread-safe."""
        check()
        self._settle()
        with self._lock:
            return self._reserves.left

    def statistics(self) -> AdmissionStatistics:
        """Return the counts. Thread-safe; cost: O(calls that wait)."""
        check()
        self._settle()
        with self._lock:
            return AdmissionStatistics(
                admitted=self._admitted,
                refused=self._refused,
                waited=self._waited,
                waited_seconds=self._waited_seconds,
                running=len(self._reserves),
                promised=self._reserves.promised,
                blind=self._blind,
                waiting=len(self._line),
                dropped=self._dropped,
                reserved=self._reserves.left,
                relief_runs=self._maker.runs,
                room_made=self._maker.fell,
            )


class Admitted:
    """
    Admitted work, until `close` or the end of the ``with``.

    If it is collected before that, the place is taken back and counted as dropped.

    Bounded by: itself.
    Locks: that of its `Admission`, for an instant.
    Keeps alive: its `Admission`.
    """

    __slots__ = ("__weakref__", "_admission", "_reserve")

    def __init__(self, admission: Admission, cost: int) -> None:
        self._reserve = Reserve(cost)
        self._admission: Admission | None = admission

    def close(self) -> None:
        """End the work; idempotent."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._end(self._reserve)  # noqa: SLF001 - reason: the two are one mechanism

    def __enter__(self) -> Self:
        """Return the admitted work."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the work."""
        self.close()

    def __del__(self) -> None:
        """Have the place taken back, if nobody did."""
        admission = getattr(self, "_admission", None)
        if admission is not None:
            admission._drop(self._reserve)  # noqa: SLF001 - reason: the two are one mechanism


class AsyncAdmitted:
    """
    What ``async with`` enters to admit work; made by `Admission.aadmit`.

    ``await`` it instead for an `Admitted` that you close yourself.

    Bounded by: one piece of work.
    Locks: that of its `Admission`, for an instant.
    Keeps alive: its `Admission`.

    For one task; enter or await it once.
    """

    __slots__ = ("_admission", "_cost", "_entered", "_patience", "_place")

    def __init__(self, admission: Admission, cost: int, patience: float) -> None:
        self._admission = admission
        self._cost = cost
        self._patience = patience
        self._place: Admitted | None = None
        self._entered = False

    async def _admit(self) -> Admitted:
        if self._entered:
            raise LifecycleError("this was entered before; call aadmit() for each piece of work")
        self._entered = True
        return await self._admission._admit_task(self._cost, self._patience)  # noqa: SLF001 - reason: the two are one mechanism

    def __await__(self) -> Generator[object, None, Admitted]:
        """Wait until the work is admitted, and return it."""
        return self._admit().__await__()

    async def __aenter__(self) -> Admitted:
        """Wait until the work is admitted."""
        self._place = await self._admit()
        return self._place

    async def __aexit__(self, *_: object) -> None:
        """End the work."""
        place, self._place = self._place, None
        if place is not None:
            place.close()


def _checked(cost_bytes: int | str, wait: float | str) -> tuple[int, float]:
    return parse_bytes(cost_bytes, name="cost_bytes"), parse_seconds(wait, name="wait")


def _waiter_of_task() -> Waiter:
    import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

    return Waiter(asyncio.get_running_loop())


def _wake(waiter: Waiter | None) -> None:
    if waiter is not None:
        waiter.wake()


def _bounds(state: PressureState) -> tuple[BoundUse, ...]:
    """Return every bound of *state*; one of another making may know only the fullest."""
    if state.used is None or state.limit is None:
        return ()
    found: tuple[BoundUse, ...] = getattr(state, "bounds", ())
    if found:
        return found
    return (BoundUse(name=state.source, source=state.source, limit=state.limit, used=state.used),)
