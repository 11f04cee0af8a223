"""
The process-wide weak list of live containers, and what relief may call on each of them.

A container registers itself once, under a name, and is forgotten when it dies: nothing here keeps a
container or its entries alive. Leak reports use the list to call a growing dict by the name of the
cache that owns it; relief uses it to find what can be made smaller.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from memguard.lifecycle import fork
from memguard.lifecycle.queues import drain


@dataclass(frozen=True, slots=True)
class Footprint:
    """How much one container holds right now."""

    items: int
    """Live entries."""
    bytes: int | None
    """Their size in bytes as the container counts it; None when it does not count bytes."""
    opaque: bool = False
    """True when there are values whose memory only their library knows: *bytes* are too few."""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What one call of `Reclaimable.reclaim` removed: counted, not estimated."""

    items: int
    """Entries removed."""
    bytes: int | None
    """Bytes of those entries as the container counts them; None when it does not count bytes."""


@runtime_checkable
class Reclaimable(Protocol):
    """What relief calls: a container that reports what it holds and can free some of it."""

    @property
    def name(self) -> str:
        """What reports call this container."""

    def footprint(self) -> Footprint:
        """Return what the container holds now. Never raises; cost: O(1), and O(expired entries)."""

    def reclaim(self, *, fraction: float | None = None, to_bytes: int | None = None) -> Reclaimed:
        """
        Remove entries until the goal is met, the least useful first; return what was removed.

        Args:
            fraction: Remove this share of the entries, 0 to 1.
            to_bytes: Keep at most this many bytes.
        """


@dataclass(frozen=True)
class InventoryRow:
    """One live container, described with strings and numbers only."""

    name: str
    kind: str
    items: int
    bytes: int | None
    statistics: Any
    """The container's own frozen statistics; None when it keeps none."""


class _Entry(weakref.ref[Any]):
    """A weak reference that knows under which ids its container was filed."""

    __slots__ = ("idents", "kind", "name")

    name: str
    kind: str
    idents: tuple[int, ...]


_entries: dict[int, _Entry] = {}
# Weakref callbacks only append here; the dead are taken out at the next ordinary call.
_dead: deque[_Entry] = deque()


class _Look(threading.local):
    """The look at all containers that a thread is in."""

    waiting: list[float] | None = None
    """How urgently the container being read must measure; None: it measures at once."""


_look = _Look()
_MOST_WAITING = 1000
"""One container is read at a time; more come only from callbacks that read others meanwhile."""

_new = object.__new__
_set = object.__setattr__


def register(container: object, *, name: str, kind: str, also: tuple[object, ...] = ()) -> None:
    """
    File *container* under *name* until it dies. Thread-safe; cost: O(1), no lock.

    Args:
        container: Anything that can be weakly referenced; `_after_fork_in_child()` is called on it
            in a forked child when it has such a method.
        name: What reports call it.
        kind: Its class, as a word a reader knows: ``"BoundedCache"``.
        also: Objects that belong to it and live as long as it does; `names` answers for them too.
    """
    _forget_dead()
    fork.call_in_child(_after_fork_in_child)
    entry = _Entry(container, _dead.append)
    entry.name = name
    entry.kind = kind
    entry.idents = (id(container), *map(id, also))
    for ident in entry.idents:
        _entries[ident] = entry


def unregister(container: object) -> None:
    """Forget *container*, as if it had died. No error when it is not filed."""
    _forget_dead()
    entry = _entries.get(id(container))
    if entry is not None and entry() is container:
        _remove(entry)


def names() -> dict[int, tuple[str, str]]:
    """Return ``id(container) -> (name, kind)`` of every live container. Cost: O(containers)."""
    _forget_dead()
    return {
        ident: (entry.name, entry.kind)
        for ident, entry in _entries.copy().items()
        if entry() is not None
    }


def containers() -> list[Any]:
    """Return the live containers themselves, oldest first; drop the list soon, it is strong."""
    _forget_dead()
    found = ((ident, entry, entry()) for ident, entry in _entries.copy().items())
    return [
        container
        for ident, entry, container in found
        if container is not None and ident == entry.idents[0]
    ]


def inventory() -> tuple[InventoryRow, ...]:
    """
    Return one row for each live container of this process, oldest first.

    Never raises: a container that cannot be read is listed with zero items and no statistics.
    Cost: O(containers), and each of them drops its expired entries first. A cache that does not
    count bytes measures a few of its values when too much has changed since it last did so.
    """
    return survey(None)


def survey(measure_seconds: float | None) -> tuple[InventoryRow, ...]:
    """
    Return the inventory, for those who look often and at a bounded cost.

    Args:
        measure_seconds: Of the caches that would measure their values again, let only as many do so
            as this time allows, and at least one: those that changed most and waited longest. The
            others report their earlier average, times the entries that they have now. A cache that
            has no useful average measures at once. None: all of them measure.
    """
    rows: list[InventoryRow] = []
    overdue: list[tuple[float, int, _Entry]] = []
    waiting: list[float] | None = None if measure_seconds is None else []
    try:
        _look.waiting = waiting
        for ident, entry in list(_entries.copy().items()):
            container = entry()
            if container is None or ident != entry.idents[0]:
                continue
            rows.append(_row(container, entry))
            if waiting:
                overdue.append((max(waiting), len(rows) - 1, entry))
                waiting.clear()
    finally:
        # Not what it was before: of two looks that meet in a thread, as those of greenlets may, the
        # one that ends last would put back the list of the other.
        _look.waiting = None
    if overdue and measure_seconds is not None:
        _measure(overdue, rows, measure_seconds)
    return tuple(rows)


def measures_later(urgency: float) -> bool:
    """Return whether a look at all containers is under way in this thread that measures later."""
    waiting = _look.waiting
    if waiting is None or len(waiting) >= _MOST_WAITING:
        return False
    waiting.append(urgency)
    return True


def _measure(
    overdue: list[tuple[float, int, _Entry]], rows: list[InventoryRow], seconds: float
) -> None:
    """Replace the rows of those that are measured."""
    overdue.sort(reverse=True)
    began = time.perf_counter()
    for _, place, entry in overdue:
        container = entry()
        if container is not None:
            rows[place] = _row(container, entry)
            if time.perf_counter() - began >= seconds:
                return


def _row(container: Any, entry: _Entry) -> InventoryRow:
    try:
        statistics = container.statistics()
        # What may be an estimate is made once, not twice.
        has_both = getattr(type(statistics), "has_footprint", False)
        held = statistics if has_both else container.footprint()
        fields = {
            "name": entry.name,
            "kind": entry.kind,
            "items": held.items,
            "bytes": held.bytes,
            "statistics": statistics,
        }
    except Exception:  # noqa: BLE001 - reason: one broken container must not hide the others
        return InventoryRow(entry.name, entry.kind, 0, None, None)
    # As its constructor would, which sets each by a call and takes twice as long.
    row = _new(InventoryRow)
    _set(row, "__dict__", fields)
    return row


def _forget_dead() -> None:
    for entry in drain(_dead):
        _remove(entry)


def _remove(entry: _Entry) -> None:
    for ident in entry.idents:
        # The id may have been given to a younger container already.
        if _entries.get(ident) is entry:
            _entries.pop(ident, None)


def _after_fork_in_child() -> None:
    """Give every container the chance to replace locks that a vanished thread may have held."""
    found = [
        getattr(entry(), "_after_fork_in_child", None) for entry in list(_entries.copy().values())
    ]
    fork.call_each(reset for reset in found if reset is not None)


SAMPLE = 8
"""Entries measured at each end of a cache."""

TRUSTED_SECONDS = 60.0
"""How long a measured average counts while few entries change: values may grow in place."""


class Measured(NamedTuple):
    """An average, and what the cache was like when it was made."""

    average: float
    """Bytes of an entry."""
    changes: int
    """Changes of the cache until then."""
    entries: int
    """Its entries."""
    at: float
    """When that was, in seconds of the monotonic clock."""

    def will_do(self, changes: int, count: int, now: float) -> bool:
        """
        Return whether the outdated average is used once more, because others are measured first.

        True during a look at all containers that measures only some of them; see
        `memguard.bounded.inventory.survey`.
        """
        # The average of a few entries, or of none, does not estimate the many that have come since.
        if self.entries < 2 * SAMPLE and not 0 < count <= 2 * self.entries:
            return False
        age = now - self.at
        return measures_later(age * (1 + abs(changes - self.changes) / max(1, count)))
