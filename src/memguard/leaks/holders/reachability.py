"""
Does anything hold these objects that is not one of them? Reference counts against referrers.

As the collector does it: references that the objects have from one another are taken off their
counts. What is left is held by something else, if only by C code or by the stack of a running
function, which nothing else shows.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from memguard.heap import walk
from memguard.lifecycle import locks


def is_garbage(
    objects: list[Any], *, is_ours: Callable[[Any], bool], is_over: Callable[[], bool]
) -> bool:
    """
    Return True where nothing but one another, and the search, holds *objects*.

    False where that is unknown: without the GIL, where time is up, where the walk cannot see all.

    Args:
        objects: The wanted object and every holder above it; in this list, and in what *is_ours*.
        is_ours: True for what holds objects only for the sake of the search.
        is_over: True when time is up.

    Cost: one walk of the heap.
    """
    if locks.FREE_THREADED or not all(map(gc.is_tracked, objects)):
        return False  # counts are not kept in one number, or holders are not all to be seen
    referrers = _Referrers(objects, is_ours)
    opener = walk.Opener()
    with walk.live_slices() as slices:
        for chunk in slices:
            for part in opener.parts(chunk):
                for tuples in opener.tuples(referrers.look_below(part)):
                    referrers.look_below(tuples)
            for holder in opener.huge(chunk):
                referrers.enter(holder, itertools.chain.from_iterable(walk.pieces(holder)))
            del chunk
            if referrers.met_another or is_over():
                return False
    spare = _count([object()])[0] - 1  # references of the counting itself
    counted = [referrers.counts[key] for key in map(id, objects)]
    return all(count - spare <= seen for count, seen in zip(_count(objects), counted, strict=True))


def _count(objects: list[Any]) -> list[int]:
    """Return the reference counts of *objects*, none of which is in a local variable meanwhile."""
    return list(map(sys.getrefcount, objects))


class _Referrers:
    """
    References to a few objects, counted by object.

    Bounded by: the referrers of those objects.
    """

    __slots__ = ("_among", "_is_ours", "_own", "_seen", "counts", "met_another")

    def __init__(self, objects: list[Any], is_ours: Callable[[Any], bool]) -> None:
        self._among = frozenset(map(id, objects))
        self._own = id(objects)
        self._is_ours = is_ours
        self._seen: set[int] = set()
        self.counts: Counter[int] = Counter()
        self.met_another = False
        """True once a referrer was met that is neither among the objects nor ours."""

    def look_below(self, holders: list[Any]) -> list[Any]:
        """Enter the references that *holders* have; return all they hold."""
        below = gc.get_referents(*holders)
        if not self._among.isdisjoint(map(id, below)):
            for holder in holders:
                self.enter(holder, gc.get_referents(holder))
        return below

    def enter(self, holder: Any, held: Iterable[Any]) -> None:
        """Count the references that *holder* has, once: what moves meanwhile is met twice."""
        found = [key for key in map(id, held) if key in self._among]
        if not found or id(holder) in self._seen:
            return
        self._seen.add(id(holder))
        self.counts.update(found)
        known = id(holder) in self._among or id(holder) == self._own
        self.met_another = self.met_another or not (known or self._is_ours(holder))
