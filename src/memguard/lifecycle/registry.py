"""Registrations such as callbacks: a bounded list, and a handle to close each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self, TypeVar

from memguard.errors import CapacityError

T = TypeVar("T")


class Registration(Generic[T]):
    """
    An entry that is registered, until `close`.

    Bounded by: one entry.
    Locks: none.
    Keeps alive: the entry.
    """

    __slots__ = ("_registry", "entry")

    def __init__(self, registry: Registry[T], entry: T) -> None:
        self._registry: Registry[T] | None = registry
        self.entry = entry

    def close(self) -> None:
        """Take the entry back; idempotent."""
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.remove(self)

    def __enter__(self) -> Self:
        """Return the registration."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the entry back."""
        self.close()


class Registry(Generic[T]):
    """
    Entries in the order of their registration.

    Bounded by: *most* entries; more are rejected, except those added at the same instant.
    Locks: none: each change is one operation of a dict, in destructors and signal handlers too.
    Keeps alive: entries, until their registration is closed.

    Args:
        most: Entries at the same time.
        what: What they are, in the message of a refusal.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._registrations: dict[int, Registration[T]] = {}  # by id: each is alive in here

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._registrations)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the entries of this moment, in the order of registration."""
        # A dict is copied in one step; a list of its values is not.
        return iter([each.entry for each in self._registrations.copy().values()])

    def add(self, entry: T) -> Registration[T]:
        """
        Register *entry*.

        Raises:
            CapacityError: There are too many already.
        """
        if len(self._registrations) >= self._most:
            raise CapacityError(
                f"{self._most} {self._what} are registered; close the registrations that are not "
                "needed any more, or register one for all"
            )
        registration = Registration(self, entry)
        self._registrations[id(registration)] = registration
        return registration

    def remove(self, registration: Registration[T]) -> None:
        """Remove a registration; no error if it is missing."""
        self._registrations.pop(id(registration), None)

    def discard(self, entry: T) -> bool:
        """Remove the registrations of *entry*, by identity; False when there is none."""
        found = [each for each in self._registrations.copy().values() if each.entry is entry]
        for registration in found:
            registration.close()
        return bool(found)
