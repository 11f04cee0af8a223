"""
What containers really weigh, learned from what the process really freed.

A container counts what it can see. Values of a library that tells nobody what it holds weigh more,
thousands of times more at worst. When relief has taken entries, it knows both: what the container
claims to have freed, and by how much the memory in use has fallen.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

from memguard import log
from memguard.units import MiB

LEAST_FREED = MiB
"""Bytes: a smaller change may be anybody's."""
MOST_FACTOR = 10_000.0
NOTABLE = 2.0
"""A container that weighs so many times what it claims is logged, once."""


@dataclass(slots=True)
class _Row:
    reference: weakref.ref[Any]
    factor: float
    logged: bool = False


class Calibration:
    """
    Remember by which factor each container is heavier than it claims.

    Bounded by: a row for each live container that was found to be heavier.
    Locks: none; for one thread at a time.
    Keeps alive: nothing; containers are held by weak references.
    """

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    def factor(self, container: Any) -> float:
        """Return how many times what it claims *container* weighs; 1 until more is known."""
        row = self._rows.get(id(container))
        return row.factor if row is not None and row.reference() is container else 1.0

    @staticmethod
    def found(*, claimed: int, real: int) -> float:
        """Return the factor between what was claimed and what was freed; 1 while that is noise."""
        if real < LEAST_FREED:
            return 1.0
        return min(MOST_FACTOR, max(1.0, real / max(1, claimed)))

    def learn(self, container: Any, *, claimed: int, real: int) -> float:
        """
        Note what was freed from *container*, and return its factor.

        Lighter than claimed is no news: freed memory may stay with an allocator. What was learned
        earlier counts as much as what is learned now. Bytes.
        """
        before = self.factor(container)
        if real < LEAST_FREED and claimed < LEAST_FREED:
            return before
        found = self.found(claimed=claimed, real=real)
        factor = found if before == 1.0 else math.sqrt(before * found)
        row = self._rows.get(id(container))
        if row is None or row.reference() is not container:
            self._drop_dead()
            if factor == 1.0:
                return 1.0
            row = self._rows[id(container)] = _Row(weakref.ref(container), factor)
        row.factor = factor
        if factor >= NOTABLE and not row.logged:
            row.logged = True
            log.event(
                log.WARNING,
                "relief.container_heavier",
                container=getattr(container, "name", type(container).__name__),
                claimed=claimed,
                real=real,
                factor=round(factor, 1),
                remedy="give sizer=, which says what a value weighs",
            )
        return factor

    def _drop_dead(self) -> None:
        for ident, row in list(self._rows.items()):
            if row.reference() is None:
                self._rows.pop(ident, None)
