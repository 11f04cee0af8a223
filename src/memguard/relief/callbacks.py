"""The host's own relief callbacks, registered by level and priority."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from memguard.bounded.options import check_callable, check_choice, check_int
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.registry import Registration, Registry
from memguard.relief.levels import SEVERITY, Level

PressureLevel = Literal["elevated", "critical"]
PRESSURE_LEVELS: tuple[PressureLevel, ...] = ("elevated", "critical")
MOST_CALLBACKS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PressureCallback:
    """A callback, and when it is called."""

    call: Callable[[], Any]
    level: PressureLevel
    priority: int


CallbackRegistration: TypeAlias = Registration[PressureCallback]


class Callbacks:
    """
    Keep callbacks, and call those of a level in the order of their priority.

    Bounded by: 1000 callbacks.
    Locks: none.
    Keeps alive: callbacks, until their registration is closed.
    """

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._registered: Registry[PressureCallback] = Registry(
            MOST_CALLBACKS, "pressure callbacks"
        )

    def __len__(self) -> int:
        """Return the callbacks registered."""
        return len(self._registered)

    def add(
        self, callback: Callable[[], Any], *, level: PressureLevel, priority: int
    ) -> CallbackRegistration:
        """
        Register *callback*.

        Raises:
            TypeError: An argument is of the wrong kind.
            ConfigError: *level* or *priority* is out of range.
            CapacityError: There are 1000 already.
        """
        return self._registered.add(
            PressureCallback(
                call=check_callable(callback, "callback", optional=False),
                level=check_choice(level, PRESSURE_LEVELS, "level"),
                priority=check_int(priority, "priority", -(2**63), 2**63),
            )
        )

    def due(self, level: Level) -> list[PressureCallback]:
        """Return what is to be called at *level*: lowest priority first, then oldest."""
        severity = SEVERITY[level]
        due = [each for each in self._registered if SEVERITY[each.level] <= severity]
        return sorted(due, key=lambda each: each.priority)

    def call(self, callback: PressureCallback) -> tuple[int | None, Exception | None]:
        """Call one; return the bytes that it reports freed, and its error, which is counted."""
        try:
            freed = callback.call()
        except Exception as error:  # noqa: BLE001 - reason: the host's code; counted, and the loop finishes
            self._failures.add("callback", error)
            return None, error
        with contextlib.suppress(Exception):
            if isinstance(freed, int) and not isinstance(freed, bool) and freed >= 0:
                return freed, None
        return None, None
