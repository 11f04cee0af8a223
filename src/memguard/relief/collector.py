"""A collection of the garbage collector as a means of relief: how long, how often, how useful."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

NANOSECONDS_PER_BLOCK = 25
"""What a full collection takes for each block of Python's allocator until one was measured."""


def _blocks() -> int:
    count = getattr(sys, "getallocatedblocks", None)
    return 0 if count is None else int(count())


class Collecting:
    """
    Collect garbage when it is worth its pause.

    A full collection holds the interpreter for as long as it takes: seconds in heaps of some ten
    million objects, and often for nothing. So it must fit into a pause that is allowed and may take
    only a share of the time. Where a full one does not fit, the young generations are collected.

    Bounded by: a few numbers.
    Locks: none. Finalizers run, in the calling thread, under no lock of ours.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        *,
        share: float,
        timer: Callable[[], float],
        collect: Callable[[int], int] = gc.collect,
        blocks: Callable[[], int] = _blocks,
    ) -> None:
        self._share = share
        self._timer = timer
        self._collect = collect
        self._blocks = blocks
        self._not_before = float("-inf")
        self._per_block = NANOSECONDS_PER_BLOCK / 1e9

    def run(self, most_seconds: float, *, force: bool = False) -> tuple[int, str | None]:
        """
        Collect; return objects found, and why nothing was done, or None.

        Args:
            most_seconds: The longest pause allowed.
            force: The share of time does not count.
        """
        if self._timer() < self._not_before and not force:
            return 0, "its share of the time is used up"
        blocks = self._blocks()
        generation = 2 if blocks * self._per_block <= most_seconds else 1
        began = time.perf_counter()
        found = self._collect(generation)
        pause = time.perf_counter() - began
        if generation == 2 and blocks > 10_000:
            # Half old, half new: one collection that was preempted is not the rule.
            self._per_block = (self._per_block + pause / blocks) / 2
        self._not_before = self._timer() + pause / self._share
        return found, None
