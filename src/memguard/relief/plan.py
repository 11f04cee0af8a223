"""How much each cache frees, and which may grow again. Pure: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_RISE = 64 * 1024
"""Bytes: less is not worth changing a bound for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One cache, as relief sees it."""

    ident: int
    """Which one."""
    bytes: int
    """What it holds."""
    floor: int = 0
    """What it must be left with."""
    heat: float = 0.0
    """Hits for each MiB held, since relief last looked: what is lost by taking it."""


def plan_shrink(holdings: Sequence[Holding], goal: int) -> dict[int, int]:
    """
    Return how many bytes each cache is to free, *goal* or all there is together.

    The coldest free first, and of equally cold ones the largest. In a first round none frees more
    than half of what is above its floor, so that no cache is emptied while others are full; what
    is still missing comes from a second round in the same order.

    Args:
        holdings: The caches.
        goal: Bytes wanted; none when it is not above 0.
    """
    order = sorted(holdings, key=lambda holding: (_degree(holding.heat), -holding.bytes))
    takes: dict[int, int] = {}
    missing = goal
    for share in (0.5, 1.0):
        for holding in order:
            if missing <= 0:
                return takes
            taken = takes.get(holding.ident, 0)
            most = math.ceil(max(0, holding.bytes - holding.floor) * share) - taken
            take = min(most, missing)
            if take > 0:
                takes[holding.ident] = taken + take
                missing -= take
    return takes


def _degree(heat: float) -> int:
    """Return the power of two of *heat*: what differs by less is equally warm."""
    return round(math.log2(heat)) if heat > 2**-20 else -20


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A cache whose bound is lowered. Bytes."""

    ident: int
    bytes: int
    """What it holds."""
    bound: int
    """What it may hold now."""
    original: int
    """What its owner allowed it."""


def plan_regrowth(lowered: Sequence[Lowered], room: int) -> dict[int, int]:
    """
    Return new bounds for the caches that may grow again.

    Half of the *room* that is left, beyond what lowered bounds allow already, is shared out among
    the caches that are full, in proportion to their bounds. So the sum of all bounds comes ever
    nearer to what fits and does not pass it. If everything would fit, bounds are as they were.

    Args:
        lowered: The caches with lowered bounds.
        room: Bytes that the process may still grow by.
    """
    wanted = sum(row.original - row.bytes for row in lowered)
    if wanted <= room:
        return {row.ident: row.original for row in lowered}
    spare = room - sum(max(0, row.bound - row.bytes) for row in lowered)
    full = [row for row in lowered if row.bytes >= 0.9 * row.bound]
    total = sum(row.bound for row in full)
    if spare <= 0 or not full:
        return {}
    bounds = {}
    for row in full:
        share = row.bound / total if total else 1 / len(full)
        rise = int(spare / 2 * share)
        if rise >= SMALLEST_RISE:
            bounds[row.ident] = min(row.original, row.bound + rise)
    return bounds
