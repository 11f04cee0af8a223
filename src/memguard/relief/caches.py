"""The process's caches, pools and buffers: their sizes, entries to evict, and lowered bounds."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from memguard.bounded import inventory
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.lifecycle.failures import Failures
from memguard.relief.calibration import Calibration
from memguard.relief.libraries import allocated_bytes
from memguard.relief.plan import Holding, Lowered, plan_regrowth
from memguard.relief.records import Shrunk
from memguard.units import MiB

SLICE_SECONDS = 0.004
"""
What one call of a cache may take, as far as the last one shows, for no other thread gets the
interpreter or the lock meanwhile. Processor time of this thread: waiting for the interpreter among
busy threads must not make slices smaller. What an entry weighs does not say how long it takes to
free: a parsed document of 300 bytes may have a million nodes of C.
"""
_FASTER = 4
"""How much larger than the last a slice may be."""
_LEAST_SHARE = 0.01
"""Of what a cache holds, that is left to it while the level is not critical."""


@dataclass(slots=True)
class _Floor:
    reference: weakref.ref[Any]
    least_bytes: int


class Shares:
    """
    Ask containers what they hold, and take from them in slices of some ms.

    Bounded by: a row for each live cache that was asked or is protected.
    Locks: none; for one thread at a time. Containers are called outside our locks.
    Keeps alive: nothing; containers are held by weak references.

    Args:
        failures: Counts what containers raise.
        in_use: Gives the memory in use, bytes: what allocators keep free is not. None if unknown.
        clock: Seconds of processor time of this thread.
    """

    def __init__(
        self,
        failures: Failures,
        *,
        in_use: Callable[[], int | None],
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._failures = failures
        self._in_use = in_use
        self._clock = clock
        self._calibration = Calibration()
        self._floors: dict[int, _Floor] = {}
        self._hits: dict[int, int] = {}

    def protect(self, cache: Any, least_bytes: int) -> None:
        """Leave *cache* at least so many bytes; 0 takes that back."""
        _drop_dead(self._floors)
        if least_bytes == 0:
            self._floors.pop(id(cache), None)
        else:
            self._floors[id(cache)] = _Floor(weakref.ref(cache), least_bytes)

    def measure(self, container: Any) -> Footprint | None:
        """Return what *container* holds; None when it fails to say."""
        try:
            footprint: Footprint = container.footprint()
        except Exception as error:  # noqa: BLE001 - reason: one broken container must not hide the others
            self._failures.add("footprint", error)
            return None
        return footprint

    def caches(self) -> list[tuple[Any, Footprint]]:
        """Return every live container that holds bytes it can drop entry by entry."""
        found = []
        for container in inventory.containers():
            if is_pool(container) or not hasattr(container, "reclaim"):
                continue
            footprint = self.measure(container)
            if footprint is not None and footprint.bytes is not None:
                found.append((container, footprint))
        return found

    @staticmethod
    def pools() -> list[Any]:
        """Return every live container that lends objects; relief takes the idle ones."""
        return [container for container in inventory.containers() if is_pool(container)]

    def holdings(self, caches: Iterable[tuple[Any, Footprint]], *, critical: bool) -> list[Holding]:
        """Return *caches* as the plan wants them; their hits count from the last call."""
        _drop_dead(self._floors)
        rows = []
        hits: dict[int, int] = {}
        for cache, footprint in caches:
            size = self.weight(cache, footprint)
            known = _hits_of(cache)
            hits[id(cache)] = known
            new = max(0, known - self._hits.get(id(cache), 0))
            floor = self._floors.get(id(cache))
            least = 0 if critical else int(size * _LEAST_SHARE)
            rows.append(
                Holding(
                    ident=id(cache),
                    bytes=size,
                    floor=max(least, 0 if floor is None else floor.least_bytes),
                    heat=new / (size / MiB) if size else 0.0,
                )
            )
        self._hits = hits
        return rows

    def factor(self, cache: Any) -> float:
        """Return how many times what it claims *cache* weighs, as far as known."""
        return self._calibration.factor(cache)

    def weight(self, cache: Any, footprint: Footprint) -> int:
        """Return what *cache* weighs: what it claims, corrected by what it has freed."""
        return int((footprint.bytes or 0) * self.factor(cache))

    def take(self, cache: Any, footprint: Footprint, wanted: int, *, missing: int) -> Shrunk:
        """
        Take about *wanted* bytes from *cache*, slice by slice, and learn what it really weighs.

        Args:
            cache: Whose entries are dropped.
            footprint: What it holds.
            wanted: Bytes, by its corrected weight.
            missing: Bytes that the run still wants. When the first slice shows that the container
                is heavier than it claims, it ends with these, and not with *wanted*.
        """
        factor = known = self._calibration.factor(cache)
        average = max(1.0, (footprint.bytes or 0) / max(1, footprint.items))
        before, allocated = self._in_use(), allocated_bytes()
        items = claimed = corrected = real = 0
        entries = 1
        while corrected < min(missing, wanted * factor / known) and items < footprint.items:
            left = footprint.items - items
            enough = int((min(missing, wanted * factor / known) - corrected) / (average * factor))
            entries = min(entries, max(1, enough), left)
            began = self._clock()
            given = self.reclaim(cache, entries / left)
            seconds = self._clock() - began
            if given.items == 0:
                break
            items += given.items
            # A container that counts no bytes counts its entries.
            size = int(given.items * average) if given.bytes is None else given.bytes
            claimed += size
            corrected += int(size * factor)
            now = self._in_use()
            real = 0 if before is None or now is None else before - now
            real = max(real, allocated - allocated_bytes())
            factor = max(factor, self._calibration.found(claimed=claimed, real=real))
            entries = next_slice(given.items, seconds)
        if items:
            factor = self._calibration.learn(cache, claimed=claimed, real=real)
        return Shrunk(
            name=str(getattr(cache, "name", type(cache).__name__)),
            items=items,
            claimed=claimed,
            corrected=corrected,
            real=None if before is None else real,
            factor=factor,
        )

    def reclaim(self, container: Any, share: float) -> Reclaimed:
        """Ask *container* for this share of its entries; a failure frees nothing and is counted."""
        try:
            given: Reclaimed = container.reclaim(fraction=share)
        except Exception as error:  # noqa: BLE001 - reason: the others can still give
            self._failures.add("reclaim", error)
            return Reclaimed(items=0, bytes=0)
        return given


def next_slice(entries: int, took: float) -> int:
    """Return how many entries to free next, when *entries* of them *took* so many seconds."""
    fit = entries * SLICE_SECONDS / took if took > 0 else float("inf")
    return max(1, int(min(fit, entries * _FASTER)))


def held_by_containers() -> int:
    """
    Return the bytes that all live containers hold, as far as they count them. Never raises.

    Cost: some µs for each of them.
    """
    total = 0
    for container in inventory.containers():
        with contextlib.suppress(Exception):  # one broken container must not hide the others
            total += container.footprint().bytes or 0
    return total


def is_pool(container: Any) -> bool:
    """Return whether *container* lends what it holds."""
    return hasattr(type(container), "lease")


def _hits_of(cache: Any) -> int:
    try:
        return int(cache.statistics().hits)
    except Exception:  # noqa: BLE001 - reason: one that counts no hits is as cold as can be
        return 0


LEAST_SHARE = 1 / 64
"""Share of its own bound that a cache may always hold, so that a new one is not starved."""
_MOST_LEAST = {"maxbytes": 4 * MiB, "maxsize": 1024}
"""And no more than this: some have a bound that is far above the limit of the process."""


@dataclass(slots=True)
class _Cap:
    reference: weakref.ref[Any]
    unit: Literal["maxbytes", "maxsize"]
    original: float
    now: float
    per_unit: float
    """Bytes for each unit of the bound."""


class _Row(NamedTuple):
    """A cache, what it holds, and what it may always hold, in the unit of its bound."""

    cache: Any
    size: int
    least: int
    cap: _Cap


class Caps:
    """
    Lowered bounds: caches stay as small as relief made them, until there is room again.

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

    def hold(
        self,
        caches: Sequence[tuple[Any, Footprint]],
        *,
        room: int = 0,
        factor: Callable[[Any], float] = lambda _: 1.0,
    ) -> int:
        """
        Let *caches* hold what they hold now, and *room* bytes more together; return how many.

        Bounds are only ever lowered here. Left unchanged are caches for which a smaller bound could
        turn a value away that the owner's own bound lets in, by an error: those that raise on too
        large values and those that weigh them.
        """
        _drop_dead(self._caps)
        rows = [
            row for cache, footprint in caches if (row := self._cap_of(cache, footprint, factor))
        ]
        # By what it holds, a small one by what it may always hold: an empty one may fill, too.
        weights = [max(row.size, row.least) * row.cap.per_unit for row in rows]
        total = sum(weights)
        held = 0
        for row, weight in zip(rows, weights, strict=True):
            cap = row.cap
            share = max(0, room) * weight / total / cap.per_unit if total else 0.0
            lower = max(1, row.least, int(row.size + share))
            if lower < cap.now:
                cap.now = lower
                self._caps[id(row.cache)] = cap
                row.cache.resize(**{cap.unit: lower})
                held += 1
        return held

    def _cap_of(
        self, cache: Any, footprint: Footprint, factor: Callable[[Any], float]
    ) -> _Row | None:
        """Return what *cache* may hold now; None if its bound is not to be lowered."""
        unit = getattr(cache, "lowerable", None)
        if unit is None:
            return None
        bound = getattr(cache, unit)
        size = (footprint.bytes or 0) if unit == "maxbytes" else footprint.items
        known = self._caps.get(id(cache))
        original = bound if known is None or known.now != bound else known.original
        weight = factor(cache)
        most_least = _MOST_LEAST[unit] / weight if unit == "maxbytes" else _MOST_LEAST[unit]
        least = int(min(original * LEAST_SHARE, most_least))
        per_unit = (footprint.bytes or 0) * weight / size if size else 0.0
        return _Row(
            cache, size, least, _Cap(weakref.ref(cache), unit, original, bound, per_unit or 1.0)
        )

    def regrow(self, room: int, measure: Callable[[Any], Footprint | None]) -> int:
        """Raise bounds so that *room* more bytes are used at most; return how many were raised."""
        _drop_dead(self._caps)
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
        """Restore the bound of every cache."""
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


def _drop_dead(rows: dict[int, Any]) -> None:
    for ident, row in list(rows.items()):
        if row.reference() is None:
            rows.pop(ident, None)
