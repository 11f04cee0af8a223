"""What timers on threads and on event loops share: how they start and end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from memguard.bounded import options
from memguard.bounded.lifetime import registrations
from memguard.bounded.lifetime.registrations import Bounds
from memguard.bounded.timers import schedule
from memguard.bounded.timers.schedule import Repeat, Schedule, Timer
from memguard.errors import ConfigError
from memguard.lifecycle import fork


class BaseTimerRegistry(ABC):
    """A schedule, and the ways to add to it."""

    def __init__(
        self,
        maxsize: int,
        on_error: Literal["log", "raise"],
        name: str | None,
        timer: Callable[[], float],
    ) -> None:
        options.check_callable(timer, "timer", optional=False)
        self._raises = options.check_choice(on_error, options.ON_ERROR, "on_error") == "raise"
        advice = "give them owners that end, or the registry a larger maxsize"
        bounds = Bounds(self, name, maxsize, "timers", advice)
        self.name = bounds.name
        """What reports call it."""
        self._schedule = Schedule(bounds, timer)
        self._left: list[Any] = []
        """What a forked child may drop at its next call only: destructors may wait for locks."""

    @abstractmethod
    def _prepare(self, fn: Any) -> None:
        """Refuse what cannot be called here."""

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
            ConfigError: *delay* is negative, or *fn* would keep *owner* alive forever.
            CapacityError: The registry or the scope is full; the message names who filled it.
            LifecycleError: The registry or the scope is closed, or no thread can be started that
                would make the call.
        """
        fork.check()
        self._prepare(fn)
        wait = schedule.seconds(delay, "delay", zero=True)
        return self._schedule.add(fn, wait, args=args, kwargs=kwargs, owner=owner)

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
        raises is counted and logged; the next call is made anyway.

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
        fork.check()
        self._prepare(fn)
        length = schedule.seconds(interval, "interval", zero=False)
        spread = schedule.seconds(jitter, "jitter", zero=True)
        if spread >= length:
            raise ConfigError(
                f"jitter must be less than interval (got {jitter!r} with {interval!r})"
            )
        repeat = Repeat(length, spread)
        return self._schedule.add(fn, length, repeat=repeat, args=args, kwargs=kwargs, owner=owner)

    def cancel_all(self) -> int:
        """End every timer, and return how many there were."""
        fork.check()
        return self._schedule.cancel_all()

    def sites(self) -> dict[str, int]:
        """Return where the waiting timers were started, and how many at each line."""
        return self._schedule.sites()

    def __len__(self) -> int:
        self._schedule.settle()
        return len(self._schedule.rows)

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    footprint = registrations.footprint
    reclaim = registrations.reclaim

    def _count_all(self) -> int:
        return len(self._schedule.rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, timers={self._count_all()})"
