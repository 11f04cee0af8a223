"""What the host can give back, registered by level and priority."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from memguard.errors import CapacityError, ConfigError
from memguard.lifecycle.failures import Failures
from memguard.relief.levels import SEVERITY, Level

if TYPE_CHECKING:
    from typing_extensions import Self

PressureLevel = Literal["elevated", "critical"]
MOST_CALLBACKS = 1000


class Registration:
    """
    A callback that is registered, until `close`.

    Bounded by: one callback.
    Locks: none.
    Keeps alive: the callback.
    """

    __slots__ = ("_registry", "callback", "level", "priority", "turn")

    def __init__(
        self,
        registry: Callbacks,
        callback: Callable[[], Any],
        level: PressureLevel,
        priority: int,
        turn: int,
    ) -> None:
        self._registry: Callbacks | None = registry
        self.callback = callback
        self.level = level
        self.priority = priority
        self.turn = turn

    def close(self) -> None:
        """Take the callback back; idempotent."""
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.forget(self)

    def __enter__(self) -> Self:
        """Return the registration."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the callback back."""
        self.close()


class Callbacks:
    """
    Keep callbacks, and call those of a level in the order of their priority.

    Bounded by: 1000 callbacks; more are refused, but for those that come at the same instant.
    Locks: none: each change is one operation of a dict, in destructors and signal handlers too.
    Keeps alive: callbacks, until their registration is closed.
    """

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._entries: dict[int, Registration] = {}  # by turn
        self._turns = itertools.count()

    def __len__(self) -> int:
        """Return the callbacks registered."""
        return len(self._entries)

    def add(
        self, callback: Callable[[], Any], *, level: PressureLevel, priority: int
    ) -> Registration:
        """
        Register *callback*.

        Raises:
            TypeError: An argument is of the wrong kind.
            ConfigError: *level* is none.
            CapacityError: There are 1000 already.
        """
        if not callable(callback):
            raise TypeError(f"on_pressure needs a callable (got {type(callback).__name__})")
        if level not in ("elevated", "critical"):
            raise ConfigError(f"level must be 'elevated' or 'critical' (got {level!r})")
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise TypeError(f"priority must be an int (got {type(priority).__name__})")
        if len(self._entries) >= MOST_CALLBACKS:
            raise CapacityError(
                f"{MOST_CALLBACKS} pressure callbacks are registered; close the registrations "
                "that are not needed any more, or register one callback for all"
            )
        entry = Registration(self, callback, level, priority, next(self._turns))
        self._entries[entry.turn] = entry
        return entry

    def forget(self, entry: Registration) -> None:
        """Take *entry* out; no error when it is not there."""
        self._entries.pop(entry.turn, None)

    def due(self, level: Level) -> tuple[Registration, ...]:
        """Return what is to be called at *level*, in order."""
        severity = SEVERITY[level]
        entries = [
            each for each in self._entries.copy().values() if SEVERITY[each.level] <= severity
        ]
        return tuple(sorted(entries, key=lambda each: (each.priority, each.turn)))

    def call(self, entry: Registration) -> tuple[int | None, Exception | None]:
        """Call one; return the bytes it says it gave, and its error, which is counted."""
        try:
            given = entry.callback()
        except Exception as error:  # noqa: BLE001 - reason: the host's code; counted, and the loop finishes
            self._failures.add("callback", error)
            return None, error
        with contextlib.suppress(Exception):
            if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
                return given, None
        return None, None
