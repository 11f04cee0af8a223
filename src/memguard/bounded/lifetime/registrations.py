"""What registries of listeners, timers and tasks share: a name, a bound, and logging."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from memguard import log
from memguard.bounded import callsite, inventory, options
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.errors import CapacityError, LifecycleError

_CROWDED = 0.8
_MAX_LOGGED = 100


class Bounds:
    """
    The name of a registry and how much it may hold.

    Bounded by: a hundred different warnings.
    Locks: none.
    Keeps alive: strings.

    Args:
        registry: Whose bounds these are; reports find it from now on.
        name: As the caller gave it; None for the kind and the line that made it.
        maxsize: Most registrations at the same time.
        nouns: What is registered: ``"timers"``.
        advice: What to do when it is full.
    """

    def __init__(self, registry: object, name: Any, maxsize: Any, nouns: str, advice: str) -> None:
        kind = type(registry).__name__
        self.maxsize = options.check_positive_int(maxsize, "maxsize")
        self.name = callsite.name_for(kind, name)
        self.closed = False
        self.warnings = 0
        """Times that the registry was more than four fifths full."""
        self._crowded = False
        self._nouns = nouns
        self._advice = advice
        self._logged: set[tuple[str, Any]] = set()
        inventory.register(registry, name=self.name, kind=kind)

    def admit(self, held: int, sites: Callable[[], Iterable[callsite.Site]] = tuple) -> None:
        """
        Refuse one more when the registry is closed or full.

        Args:
            held: How many it holds.
            sites: Called for where these were registered, to name who filled it.

        Raises:
            LifecycleError: It is closed.
            CapacityError: It is full.
        """
        if self.closed:
            raise LifecycleError(f"{self.name} is closed and takes no more {self._nouns}")
        if held >= self.maxsize:
            origin = callsite.grouped(sites())
            raise CapacityError(
                f"{self.name} is full: it holds maxsize={self.maxsize} {self._nouns}"
                f"{origin and f' from {origin}'}; {self._advice}"
            )

    def is_crowded(self, held: int) -> bool:
        """Return True when *held* exceeds four fifths of the bound; again after half of that."""
        if held <= self.maxsize * _CROWDED:
            self._crowded = self._crowded and held > self.maxsize * _CROWDED / 2
        elif not self._crowded:
            self._crowded = True
            self.warnings += 1
            return True
        return False

    def warn_once(self, event: str, about: Any, **keys: Any) -> None:
        """Log a warning, once for what it is *about*. Not under a lock."""
        if (event, about) not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add((event, about))
            log.event(log.WARNING, event, registry=self.name, **keys)


# The methods of every registry; each has `_count_all`, which includes registrations of the dead.


def footprint(self: Any) -> Footprint:
    """Return how many registrations it holds; they have no size in bytes. Never raises."""
    return Footprint(items=len(self), bytes=None)


def reclaim(
    self: Any,
    *,
    fraction: float | None = None,  # noqa: ARG001 - reason: the protocol's
    to_bytes: int | None = None,  # noqa: ARG001 - reason: the protocol's
) -> Reclaimed:
    """End what belonged to the dead. Relief ends no registration that is still wanted."""
    before = self._count_all()
    return Reclaimed(items=max(0, before - len(self)), bytes=None)
