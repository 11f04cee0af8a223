"""
The places of a pool: one permit object for each, and never more, whatever is interrupted.

A signal handler may raise between any two steps of ours, and what we held is dropped then. A permit
that is dropped dies, its weak reference tells, and a new one takes its place.
"""

from __future__ import annotations

import weakref
from contextlib import suppress

from memguard.bounded.atomic import remove_if_dead


class Permit:
    """The right to have one object."""

    __slots__ = ("__weakref__",)


class Places:
    """The permits of one pool: free ones in a list, the others with who makes or has an object."""

    __slots__ = ("_count", "_known", "free")

    def __init__(self, count: int) -> None:
        self.free: list[Permit] = []
        """What is free; taking from it and putting into it is atomic."""
        self._count = count
        self._known: dict[int, weakref.ref[Permit]] = {}
        self.repair()

    def take(self) -> Permit | None:
        """Return a permit, None when all are in use."""
        with suppress(IndexError):
            return self.free.pop()
        return None

    def repair(self) -> None:
        """Replace permits that were dropped. Takes no lock, may be interrupted. O(places)."""
        known = self._known
        for place in range(self._count):
            there = known.get(place)
            if there is not None and there() is not None:
                continue
            permit = Permit()
            reference = weakref.ref(permit)
            # Both steps are atomic, and whoever comes here in between finds a place that is taken.
            remove_if_dead(known, place)
            if known.setdefault(place, reference) is reference:
                self.free.append(permit)
