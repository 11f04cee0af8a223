"""Bounds lowered for as long as memory is short, and raised again step by step."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memguard.bounded.inventory import Footprint
from memguard.relief.plan import Lowered, plan_regrowth

LEAST_SHARE = 1 / 64
"""Of its own bound, that a cache always may hold: one that is new is not starved."""


@dataclass(slots=True)
class _Cap:
    reference: weakref.ref[Any]
    unit: Literal["maxbytes", "maxsize"]
    original: float
    now: float
    per_unit: float
    """Bytes for each unit of the bound."""


class Caps:
    """
    Keep caches as small as relief made them, until there is room again.

    Without this a busy cache would be full again before the next look, and a process would swing
    between shrinking and filling. A cache whose owner resizes it meanwhile is the owner's again.

    Bounded by: one row for each live cache that was made smaller.
    Locks: none of its own; for one thread at a time. ``resize`` of the caches runs under none.
    Keeps alive: nothing; caches are held by weak references.
    """

    def __init__(self) -> None:
        self._caps: dict[int, _Cap] = {}

    def __len__(self) -> int:
        """Return the caches whose bound is lowered."""
        return len(self._caps)

    def hold(self, caches: Sequence[tuple[Any, Footprint]], *, room: int = 0) -> int:
        """
        Let *caches* hold what they hold now, and *room* bytes more together; return how many.

        Bounds are only ever lowered here. Left alone are caches for which a smaller bound could
        turn a value away that the owner's own bound lets in, by an error: those that raise on too
        large values and those that weigh them.
        """
        self._prune()
        total = sum(footprint.bytes or 0 for _, footprint in caches)
        factor = 1 + max(0, room) / total if total else 1.0
        held = 0
        for cache, footprint in caches:
            unit = getattr(cache, "lowerable", None)
            if unit is None:
                continue
            bound = getattr(cache, unit)
            size = (footprint.bytes or 0) if unit == "maxbytes" else footprint.items
            cap = self._caps.get(id(cache))
            original = bound if cap is None or cap.now != bound else cap.original
            # An int always: a bound of entries may be infinite, and is then no measure of a least.
            least = int(original * LEAST_SHARE) if original < 2**62 else 1024
            lower = max(1, least, int(size * factor))
            if lower >= bound:
                continue
            per_unit = (footprint.bytes or 0) / size if size else 1.0
            self._caps[id(cache)] = _Cap(weakref.ref(cache), unit, original, lower, per_unit)
            cache.resize(**{unit: lower})
            held += 1
        return held

    def regrow(self, room: int, measure: Callable[[Any], Footprint | None]) -> int:
        """Raise bounds so that *room* more bytes are used at most; return how many were raised."""
        self._prune()
        rows = []
        for ident, cap in list(self._caps.items()):
            cache = cap.reference()
            footprint = None if cache is None else measure(cache)
            if cache is None or footprint is None or getattr(cache, cap.unit, None) != cap.now:
                self._caps.pop(ident, None)  # the owner has resized it, or it is gone
                continue
            size = (footprint.bytes or 0) if cap.unit == "maxbytes" else footprint.items
            rows.append(
                Lowered(
                    ident=ident,
                    bytes=int(size * cap.per_unit),
                    bound=int(cap.now * cap.per_unit),
                    original=int(min(cap.original, 2**62) * cap.per_unit),
                )
            )
        raised = plan_regrowth(rows, room)
        originals = {row.ident: row.original for row in rows}
        for ident, bound in raised.items():
            cap = self._caps[ident]
            if bound >= originals[ident]:
                self._give_back(ident, cap)
            else:
                self._set(cap, max(cap.now + 1, int(bound / max(cap.per_unit, 1e-9))))
        return len(raised)

    def restore(self) -> None:
        """Give every cache the bound that its owner gave it."""
        for ident, cap in list(self._caps.items()):
            self._give_back(ident, cap)

    def _give_back(self, ident: int, cap: _Cap) -> None:
        self._caps.pop(ident, None)
        self._set(cap, cap.original)

    @staticmethod
    def _set(cap: _Cap, bound: float) -> None:
        cache = cap.reference()
        if cache is None or getattr(cache, cap.unit, None) != cap.now:
            return
        # The owner's own bound goes back as it was, infinity too.
        bound = int(bound) if bound < cap.original else cap.original
        cap.now = bound
        with contextlib.suppress(Exception):  # closed meanwhile, or a resize of the owner's own
            cache.resize(**{cap.unit: bound})

    def _prune(self) -> None:
        for ident, cap in list(self._caps.items()):
            if cap.reference() is None:
                self._caps.pop(ident, None)
