"""Calls of the host's relief callbacks: where they run, and how long they are waited for."""

from __future__ import annotations

import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from memguard import log
from memguard.bounded.lifetime import callables
from memguard.lifecycle import fork
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.loops import running_loop
from memguard.lifecycle.wake import Wake
from memguard.observe.readings import Reading
from memguard.relief.callbacks import (
    DEADLINE_SECONDS,
    Callbacks,
    PressureCallback,
    PressureLevel,
    PressureStage,
)
from memguard.relief.gauge import Glance
from memguard.relief.lane import Job, Lane

if TYPE_CHECKING:
    import asyncio

THREAD_NAME = "memguard-callbacks"
EFFECT_SECONDS: dict[PressureLevel, float] = {"elevated": 2.0, "critical": 0.5}
"""How long after the end of a callback what it frees may show."""
PATIENCE: dict[PressureLevel, float] = {"elevated": 0.05, "critical": 0.02}
"""Seconds that a monitor waits for the callbacks of one stage, all together."""
_GRACE = 0.01
"""Seconds to wait past a deadline: a call begins a moment after it was ordered."""
_MOST_NAMES = 100
"""Callbacks whose slowness is logged, each once."""


@dataclass(slots=True, kw_only=True)
class Wanted:
    """What one stage of one run is to free. Bytes."""

    bytes: int
    enough: int = 0
    """The stage may end when no more than this is missing."""
    before: int | None
    """Private memory when it began."""
    everything: bool = False
    """There is no such thing as enough."""
    reported: int = 0
    """What callbacks have said they freed, as far as they are believed."""

    def left(self, private: int | None) -> int:
        """Return what is still missing while the process holds *private* bytes."""
        if self.everything:
            return self.bytes
        fell = 0 if self.before is None or private is None else self.before - private
        return max(0, self.bytes - max(fell, self.reported))

    def is_met(self, private: int | None) -> bool:
        """Return whether no further callback is needed."""
        return not self.everything and self.left(private) <= self.enough


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """One call of a callback, from its order to its end."""

    callback: PressureCallback
    wanted: Wanted
    level: PressureLevel
    is_first: bool
    """Of its stage: it is made even if what is wanted was freed while it waited."""
    ended: Wake
    job: Job | None = None
    """What the lane does."""
    since: float | None = None
    """When it began, or was handed to a loop; None while it waits."""
    before: int | None = None
    """Private memory when it began."""
    task: asyncio.Task[Any] | None = None
    """Kept here: a loop keeps its tasks weakly."""
    freed: int | None = None
    """What it reports."""
    error: BaseException | None = None
    was_made: bool = False
    is_over: bool = False
    is_late: bool = False


@dataclass(slots=True, kw_only=True)
class Asked:
    """What came of one stage."""

    items: int = 0
    """Callbacks called."""
    running: int = 0
    """Callbacks that had not ended when they were no longer waited for."""
    freed: int | None = None
    """What they report, bytes; None when none does."""
    skipped: str | None = None
    """Why none was called."""
    error: Exception | None = None
    """The first that one of them raised."""


class Calls:
    """
    Call what is due, without ever being held up by it.

    Callbacks run one after another in a thread of ours, those of an event loop on that. One that
    is slower than its deadline is counted, logged once, and not called again before it has ended;
    the others go on in another thread.

    Bounded by: one call for each callback; the threads of a `Lane`.
    Locks: none of its own; a lost count under a race is harmless. `ask`, `settle` and `discount`
        are for one thread at a time.
    Keeps alive: callbacks and their loops while they run.

    Args:
        callbacks: What is registered.
        failures: Counts what callbacks raise.
        timer: Monotonic seconds.
        read: Takes a reading, in several threads at once; None opens a file each time.
        keeps_errors: Whether `Asked` has what a callback raised.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        failures: Failures,
        *,
        timer: Callable[[], float],
        read: Callable[[], Reading] | None = None,
        keeps_errors: bool = False,
    ) -> None:
        self._keeps_errors = keeps_errors
        self._callbacks = callbacks
        self._failures = failures
        self._timer = timer
        self._read = read or partial(_read_once, timer)
        self._lane = Lane(THREAD_NAME, failures)
        self._said_slow: set[str] = set()
        self.made = 0
        """Calls made."""
        self.overruns = 0
        """Calls that took longer than their deadline."""
        self.freed = 0
        """Bytes by which memory fell during calls, and soon after them."""
        self.reset()

    def reset(self) -> None:
        """Have called nothing, as in a forked child. Only sets fields."""
        self._lane.reset()
        self._callbacks.reset()
        self._under_way: dict[Call, None] = {}  # also of registrations that were closed meanwhile

    def stop(self, timeout: float) -> bool:
        """
        Drop calls that wait, and end the threads, until the next call.

        Returns:
            False when a callback was still running in a thread after *timeout* seconds.
        """
        self._lane.drop_waiting()
        for call in self._under_way.copy():  # after that: what is put from now on is done
            if call.since is None:
                self._finish(call)
        return self._lane.join(timeout)

    # -- asking -----------------------------------------------------------------------------------

    def ask(
        self, stage: PressureStage, wanted: Wanted, *, level: PressureLevel, force: bool
    ) -> Asked:
        """
        Call the callbacks of *stage* that are due, until what is *wanted* is freed.

        Args:
            stage: Which ones.
            wanted: How much.
            level: At critical none is left out for having freed nothing.
            force: Nor at any level, and each is waited for until its deadline; otherwise the wait
                is a few hundredths of a second for all of them, and the rest goes on without.
        """
        due = self._callbacks.due(level, stage)
        if not due:
            return Asked(skipped="there are none")
        self._look_after()
        if wanted.is_met(wanted.before):
            return Asked(skipped="not needed")
        calls: list[Call] = []
        busy = 0
        waits_until = time.monotonic() + PATIENCE[level]
        for callback in due:
            if calls and wanted.is_met(self._private()):
                break
            if callback.under_way:
                busy += 1
                continue
            if not (force or level == "critical") and not _may_be_asked(callback):
                continue
            call = Call(
                callback=callback, wanted=wanted, level=level, is_first=not calls, ended=Wake()
            )
            calls.append(call)
            try:
                self._order(call)
            except BaseException:  # no memory, or a signal handler
                if not call.was_made:
                    self._finish(call)
                raise
            left = waits_until - time.monotonic()
            self._wait(call, callback.deadline + _GRACE if force else left)
            if not call.is_over:
                self._look_after()  # lest the next one wait for its thread
        self._look_after()
        return _summed(calls, busy)

    def _order(self, call: Call) -> None:
        """Have *call* made: on its loop, in the lane, or here where no thread is to be had."""
        callback = call.callback
        callback.under_way.append(call)
        self._under_way[call] = None
        if callback.loop is not None:
            self._hand_over(call, callback.loop)
            return
        call.job = partial(self._make, call)
        if self._lane.is_mine:  # a callback that was late asks for relief itself
            call.job()
        elif not self._lane.put(call.job):
            if any(each.is_late for each in self._under_way.copy()):
                # This one may hang here, as those do that have all the threads.
                self._failures.add("callback thread", RuntimeError())
                self._finish(call)
            else:
                call.job()

    @staticmethod
    def _wait(call: Call, seconds: float) -> None:
        loop = call.callback.loop
        if loop is None or loop is not running_loop():  # there it runs when this thread is back
            call.ended.wait(seconds)

    @property
    def is_waited_for(self) -> bool:
        """True while a callback that costs less than a cache runs, for a second at most."""
        now = self._timer()
        return any(
            call.callback.stage != "costly"
            and call.since is not None
            and now - call.since < min(call.callback.deadline, DEADLINE_SECONDS)
            for call in self._under_way.copy()
        )

    def _look_after(self) -> None:
        """Notice calls that take longer than they may, and let the others go on."""
        for call in self._under_way.copy():
            loop = call.callback.loop
            if loop is not None and loop.is_closed():
                self._drop(call, "its event loop is closed")
            else:
                self._check_deadline(call)

    def _check_deadline(self, call: Call, *, has_ended: bool = False) -> None:
        callback, since = call.callback, call.since
        if call.is_late or since is None or self._timer() - since < callback.deadline:
            return
        call.is_late = True
        self.overruns += 1
        if call.job is not None and not has_ended:
            self._lane.replace(call.job)
        name = callables.described(callback.call)
        if name not in self._said_slow and len(self._said_slow) < _MOST_NAMES:
            self._said_slow.add(name)
            log.event(
                log.WARNING, "relief.callback_slow", callback=name, deadline=callback.deadline
            )

    # -- making a call: in the lane, or on a loop -------------------------------------------------

    def _make(self, call: Call) -> None:
        """Call it in this thread."""
        try:
            if not self._begins(call):
                return
            result = call.callback.call(*_arguments(call))
            _check_plain(result)
        except BaseException as error:  # noqa: BLE001 - reason: the host's code; counted, and the thread lives on
            self._end(call, None, error)
        else:
            self._end(call, result, None)

    def _hand_over(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        if call.callback.process is not fork.process():
            # What is left of the parent's loop here shares its descriptors.
            self._drop(call, "its event loop is that of the parent process; register it again")
            return
        call.since = self._timer()
        try:
            loop.call_soon_threadsafe(self._make_on, loop, call)
        except Exception as error:  # noqa: BLE001 - reason: a loop may be anybody's
            if loop.is_closed():
                self._drop(call, "its event loop is closed")
            else:
                self._end(call, None, error)

    def _make_on(self, loop: asyncio.AbstractEventLoop, call: Call) -> None:
        """Call it in the thread of *loop*, and have what it returns awaited there."""
        if not self._begins(call):
            return
        result: Any = None
        try:
            result = call.callback.call(*_arguments(call))
            if type(result) is not types.CoroutineType:
                self._end(call, result, None)
                return
            call.task = task = loop.create_task(result)
        except BaseException as error:
            if type(result) is types.CoroutineType:
                result.close()  # no task could be made of it
            self._end(call, None, error)
            if not isinstance(error, Exception):
                raise  # what ends a loop shall end it
        else:
            task.add_done_callback(partial(self._end_task, call))

    def _end_task(self, call: Call, task: asyncio.Task[Any]) -> None:
        call.task = None
        error = None if task.cancelled() else task.exception()
        self._end(call, None if error or task.cancelled() else task.result(), error)

    def _begins(self, call: Call) -> bool:
        """Note that *call* is made now; False when it is not wanted any more."""
        if call.is_over:
            return False
        call.before = self._private()
        is_enough = not call.is_first and call.wanted.is_met(call.before)
        if is_enough or not self._callbacks.is_registered(call.callback):
            self._finish(call)
            return False
        call.was_made = True
        call.since = self._timer()
        self.made += 1
        return True

    def _end(self, call: Call, result: Any, error: BaseException | None) -> None:
        """Note what came of *call*, in whatever thread it ended."""
        try:
            self._note(call, result, error)
        finally:  # memory may be short, and a call that never ends is never made again
            self._finish(call)

    def _note(self, call: Call, result: Any, error: BaseException | None) -> None:
        call.freed = _bytes_of(result)
        call.error = error if self._keeps_errors else None  # its frames hold what the host held
        record = call.callback.record
        if call.freed is not None and record.believed:
            call.wanted.reported += call.freed
        if error is not None:
            self._failures.add("callback", error)
        now, private = self._timer(), self._private()
        if private is None or call.before is None:
            record.backoff.remember(useful=bool(call.freed))
        else:
            until = now + EFFECT_SECONDS[call.level]
            record.called(before=call.before, reported=call.freed or 0, until=until)
            own = record.see(private)
            self.freed += max(own, self._see(private))
        self._check_deadline(call, has_ended=True)

    def _finish(self, call: Call) -> None:
        call.is_over = True
        self._under_way.pop(call, None)
        call.callback.under_way[:] = [each for each in call.callback.under_way if each is not call]
        call.ended.set()

    def _drop(self, call: Call, why: str) -> None:
        """Close the registration of a callback that can never be called again, and say so."""
        self._finish(call)
        if self._callbacks.drop(call.callback):
            name = callables.described(call.callback.call)
            log.event(log.WARNING, "relief.callback_dropped", callback=name, why=why)

    # -- what they freed --------------------------------------------------------------------------

    def settle(self) -> int | None:
        """
        See what callbacks freed since they ended; return the private memory that was read.

        Cost: 20 µs.
        """
        self._look_after()
        private = self._private()
        if private is None:
            return None
        self.freed += self._see(private)
        now = self._timer()
        for callback in self._callbacks.all():
            callback.record.judge(now)
        return private

    def _see(self, private: int) -> int:
        """Return by how much memory fell: once, though it speaks for each it may come from."""
        return max((each.record.see(private) for each in self._callbacks.all()), default=0)

    def discount(self, fell: int) -> None:
        """Know that other steps freed *fell* bytes, which are no callback's."""
        for callback in self._callbacks.all():
            if callback.record.effect is not None:
                callback.record.effect.mark -= fell
        for call in self._under_way.copy():
            if call.before is not None:
                call.before -= fell

    @property
    def is_awaiting(self) -> bool:
        """True while a callback runs, or may still free something."""
        return bool(self._under_way) or any(
            callback.record.effect is not None for callback in self._callbacks.all()
        )

    def _private(self) -> int | None:
        """Return the private memory of this process now; None where it cannot be read."""
        try:
            return self._read().private
        except Exception as error:  # noqa: BLE001 - reason: a reading of the host's own must not end a callback
            self._failures.add("read", error)
            return None


def _may_be_asked(callback: PressureCallback) -> bool:
    """Return whether to call it, when not all depends on it."""
    # What it was asked a moment ago it may be about to do.
    return not callback.record.is_awaited and not callback.record.backoff.should_skip()


def _arguments(call: Call) -> tuple[Any, ...]:
    return (call.wanted.left(call.before), call.level)[: call.callback.takes]


def _check_plain(result: Any) -> None:
    """Refuse what a function returned that should have been registered with its loop."""
    if type(result) is types.CoroutineType:
        result.close()
        raise TypeError(
            "a callback returned a coroutine: register the coroutine function itself, or pass loop="
        )


def _bytes_of(result: Any) -> int | None:
    """Return the bytes that a callback reports; None if it reports none."""
    kind = type(result)
    if not issubclass(kind, int) or kind is bool:
        return None
    size = int.__index__(result)
    return size if size >= 0 else None


def _summed(calls: list[Call], busy: int) -> Asked:
    made = [call for call in calls if call.was_made]
    counted = [call.freed for call in made if call.freed is not None]
    errors = [call.error for call in made if isinstance(call.error, Exception)]
    running = sum(not call.is_over for call in calls)
    skipped = None
    if not made and not running:
        skipped = "freed nothing lately"
        if busy or calls:
            skipped = "still running" if busy else "not needed"
    return Asked(
        items=len(made),
        running=running + busy,
        freed=sum(counted) if counted else None,
        skipped=skipped,
        error=errors[0] if errors else None,
    )


def _read_once(timer: Callable[[], float]) -> Reading:
    """Read the memory of this process; unlike a `Glance` that is kept, in any thread."""
    glance = Glance(timer=timer)
    try:
        return glance()
    finally:
        glance.close()
