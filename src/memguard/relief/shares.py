"""What the process's own caches, pools and buffers hold, asked of each without trusting any."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from memguard.bounded import inventory
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.relief.failures import Failures
from memguard.relief.plan import Holding
from memguard.units import MiB

_SLICE_BYTES = 4 * MiB
"""Given back by one call, so that no other thread waits long for the interpreter or the lock."""
_LEAST_SHARE = 0.01
"""Of what a cache holds, that is left to it while the level is not critical."""


@dataclass(slots=True)
class _Floor:
    reference: weakref.ref[Any]
    least_bytes: int


class Shares:
    """
    Ask containers what they hold, and take from them in slices.

    Bounded by: a row for each live cache that was asked or is protected.
    Locks: none; for one thread at a time. Containers are called under no lock of ours.
    Keeps alive: nothing; containers are held by weak references.
    """

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._floors: dict[int, _Floor] = {}
        self._hits: dict[int, int] = {}

    def protect(self, cache: Any, least_bytes: int) -> None:
        """Leave *cache* at least so many bytes; 0 takes that back."""
        self._prune()
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
        """Return every live container that lends: what is idle there can go."""
        return [container for container in inventory.containers() if is_pool(container)]

    def holdings(self, caches: Iterable[tuple[Any, Footprint]], *, critical: bool) -> list[Holding]:
        """Return *caches* as the plan wants them; their hits count from the last call."""
        self._prune()
        rows = []
        hits: dict[int, int] = {}
        for cache, footprint in caches:
            size = footprint.bytes or 0
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

    def take(self, cache: Any, footprint: Footprint, wanted: int) -> Reclaimed:
        """Take about *wanted* bytes from *cache*, slice by slice; return what it says it gave."""
        size = footprint.bytes or 0
        average = max(1.0, size / max(1, footprint.items))
        items = freed = 0
        while freed < wanted:
            left = footprint.items - items
            if left <= 0:
                break
            entries = max(1, int(min(wanted - freed, _SLICE_BYTES) / average))
            given = self.reclaim(cache, min(1.0, entries / left))
            if given.items == 0:
                break
            items += given.items
            # A container that counts no bytes is believed about its entries.
            freed += int(given.items * average) if given.bytes is None else given.bytes
        return Reclaimed(items=items, bytes=freed)

    def reclaim(self, container: Any, share: float) -> Reclaimed:
        """Ask *container* for this share of its entries; a failure gives nothing and is counted."""
        try:
            given: Reclaimed = container.reclaim(fraction=share)
        except Exception as error:  # noqa: BLE001 - reason: the others can still give
            self._failures.add("reclaim", error)
            return Reclaimed(items=0, bytes=0)
        return given

    def _prune(self) -> None:
        for ident, floor in list(self._floors.items()):
            if floor.reference() is None:
                self._floors.pop(ident, None)


def is_pool(container: Any) -> bool:
    """Return whether *container* lends what it holds."""
    return hasattr(type(container), "lease")


def _hits_of(cache: Any) -> int:
    try:
        return int(cache.statistics().hits)
    except Exception:  # noqa: BLE001 - reason: one that counts no hits is as cold as can be
        return 0
