"""`TimerRegistry`: calls after a delay or at intervals, which end with whoever asked for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from memguard.bounded import callsite, inventory, options
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.bounded.lifetime import callables as targets
from memguard.bounded.timers import schedule as timetable
from memguard.bounded.timers.schedule import Cycle, Timer, Timetable
from memguard.bounded.timers.workers import Crew, on_failure
from memguard.errors import ConfigError

__all__ = ["Timer", "TimerRegistry", "TimerRegistryStatistics"]


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
    """Ticks that were left out: the last call had not ended, or the process was stopped."""
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


class TimerBook:
    """What the registries of threads and of event loops have in common."""

    name: str
    _table: Timetable
    _prepare: Callable[[Any], None]

    def after(
        self,
        delay: Any,
        fn: Callable[..., Any],
        /,
        *args: Any,
        owner: Any = None,
        **kwargs: Any,
    ) -> Timer:
        """
        Call ``fn(*args, **kwargs)`` once, *delay* from now.

        Args:
            delay: Seconds, a string such as ``"250ms"`` or ``"10m"``, or a timedelta.
            fn: What to call. A bound method of *owner* is held weakly, everything else strongly.
            args: Its arguments, kept until the call.
            owner: An object, or a `Scope`, whose end cancels the timer. It is not kept alive.
            kwargs: Its keyword arguments.

        Returns:
            A handle: ``.close()`` cancels, and drops callback and arguments at once.

        Raises:
            TypeError: *fn* is not callable, *delay* no duration, *owner* not weakly referenceable.
            ConfigError: *delay* is negative, or *fn* would keep *owner* alive for ever.
            CapacityError: The registry or the scope is full; the message names who filled it.
            LifecycleError: The registry or the scope is closed.
        """
        self._prepare(fn)
        wait = timetable.seconds(delay, "delay", zero=True)
        return self._table.add(fn, wait, args=args, kwargs=kwargs, owner=owner)

    def every(
        self,
        interval: Any,
        fn: Callable[..., Any],
        /,
        *args: Any,
        owner: Any = None,
        jitter: Any = 0,
        **kwargs: Any,
    ) -> Timer:
        """
        Call ``fn(*args, **kwargs)`` again and again, the first time one *interval* from now.

        Calls of one timer never overlap. A tick that comes while the last call still runs is left
        out and counted, and so are ticks that went by while the process was stopped. What a call
        raises is counted and logged; the next one is made all the same.

        Args:
            interval: Seconds, a string such as ``"10m"``, or a timedelta.
            fn: What to call, as in `after`.
            args: Its arguments, kept until the timer ends.
            owner: As in `after`.
            jitter: Each call is up to this much later, by chance, less than *interval*: so that
                many processes do not do the same thing at the same time.
            kwargs: Its keyword arguments.

        Returns:
            A handle: ``.close()`` ends it.

        Raises:
            TypeError: As in `after`.
            ConfigError: *interval* is not > 0, or *jitter* not from 0 to less than *interval*.
            CapacityError: As in `after`.
            LifecycleError: As in `after`.
        """
        self._prepare(fn)
        length = timetable.seconds(interval, "interval", zero=False)
        spread = timetable.seconds(jitter, "jitter", zero=True)
        if spread >= length:
            raise ConfigError(
                f"jitter must be less than interval (got {jitter!r} with {interval!r})"
            )
        cycle = Cycle(length, spread)
        return self._table.add(fn, length, cycle=cycle, args=args, kwargs=kwargs, owner=owner)

    def cancel_all(self) -> int:
        """End every timer, and return how many there were."""
        return self._table.cancel_all()

    def sites(self) -> dict[str, int]:
        """Return the places that started the timers, and how many each has waiting."""
        return dict(self._table.places().most_common())

    def __len__(self) -> int:
        self._table.settle()
        return len(self._table.rows)

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    def footprint(self) -> Footprint:
        """Return how many timers wait; they weigh no bytes. Never raises."""
        return Footprint(items=len(self), bytes=None)

    def reclaim(
        self,
        *,
        fraction: float | None = None,  # noqa: ARG002 - reason: the protocol's
        to_bytes: int | None = None,  # noqa: ARG002 - reason: the protocol's
    ) -> Reclaimed:
        """End what belonged to the dead. A timer that is wanted is not taken for want of memory."""
        before = len(self._table.rows)
        return Reclaimed(items=max(0, before - len(self)), bytes=None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, timers={len(self._table.rows)})"


class TimerRegistry(TimerBook):
    """
    Call functions after a delay or at intervals, on threads of its own.

    One thread looks at the clock; up to *workers* others make the calls, so that a slow callback
    does not delay another timer as long as fewer than *workers* are slow. Threads start with the
    first timer and end when there has been nothing to do for some seconds. A registry that is
    dropped ends its timers: keep it as long as they are wanted. At exit of the interpreter, calls
    under way get two seconds. A forked child starts with no timers. See ``docs/timers.md``.

    Thread-safe: yes, also from destructors and signal handlers.

    Bounded by: *maxsize* timers; a warning with the places that started them at four fifths of it.
    Locks: none around timers; one around the threads' numbers. Callbacks run under none.
    Keeps alive: callbacks and arguments until the call or the cancellation; not owners.

    Args:
        maxsize: Most timers at the same time.
        workers: Most callbacks at the same time, each on a thread.
        on_error: ``"log"`` counts and logs what callbacks raise; ``"raise"`` also hands it to
            ``threading.excepthook``, as an exception that ends a thread.
        name: What reports call it; the line that made it by default.
        timer: The clock, in seconds; it must not go backwards.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        *,
        maxsize: int = 100_000,
        workers: int = 8,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        options.check_positive_int(maxsize, "maxsize")
        self._workers = options.check_positive_int(workers, "workers")
        self._on_failure = on_failure(options.check_choice(on_error, options.ON_ERROR, "on_error"))
        options.check_callable(timer, "timer", optional=False)
        self.name = callsite.name_for(type(self).__name__, name)
        """What reports call it."""
        self._table = Timetable(self.name, maxsize, timer)
        self._lock = threading.RLock()
        self._left: list[Any] = []
        self._form_crew()
        inventory.register(self, name=self.name, kind=type(self).__name__)

    def _form_crew(self) -> None:
        self._crew = Crew(self._table, self._workers, self._on_failure)
        self._crew.leave_with(self)

    def _prepare(self, fn: Any) -> None:
        if self._left:
            self._left = []
        if targets.is_coroutine_function(fn):
            raise TypeError(
                f"fn must be a plain function (got the coroutine function "
                f"{targets.described(fn)}); use AsyncTimerRegistry"
            )

    def statistics(self) -> TimerRegistryStatistics:
        """Return what it holds and has done. Thread-safe, O(1)."""
        table, crew = self._table, self._crew
        table.settle()
        with self._lock:
            return TimerRegistryStatistics(
                name=self.name,
                closed=table.closed,
                timers=len(table.rows),
                maxsize=table.maxsize,
                fired=table.fired.read(),
                coalesced=table.coalesced,
                cancelled=table.cancelled.read(),
                errors=table.errors.read(),
                warnings=table.warnings,
                threads=len(crew.threads),
                waiting=crew.outstanding,
            )

    def close(self, timeout: float = 2.0) -> bool:
        """
        End every timer and the threads, and take no more timers. Idempotent.

        Returns True when no thread is left, False when a callback is still running after *timeout*
        seconds; its thread ends with it.
        """
        self._table.closed = True
        self._table.cancel_all()
        return self._crew.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        # The threads are gone, and what they were to call is the parent's business. Nothing is
        # dropped here, where a destructor may wait for a lock that nobody will release.
        self._left = [self._table.forget(), self._crew]
        self._lock = threading.RLock()
        self._form_crew()
