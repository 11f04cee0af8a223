"""
Containers as rows with labels from a closed set, and counters that never fall.

Names of containers come from programs, and programs make names from user input. So each pair of
name and kind gets labels of its own only while there are some left, keeps them for the life of the
collector, and all others are summed under ``container="other"``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from memguard.bounded.inventory import InventoryRow
from memguard.report import prometheus_families as families
from memguard.report.prometheus_families import Family
from memguard.report.prometheus_rows import LONGEST_LABEL, MOST, NUMBERS, Table, is_number, label

OTHER = "other"

# What is told of a container, by the first of these fields that its statistics have.
_FIELDS: tuple[tuple[Family, tuple[str, ...]], ...] = (
    (families.HITS, ("hits",)),
    (families.MISSES, ("misses",)),
    (families.EVICTIONS, ("evictions", "evicted", "dropped")),
    (families.LEASED, ("leased",)),
    (families.LOST, ("lost",)),
)
_TOLD = (families.ITEMS, families.BYTES, families.FILL, *(family for family, _ in _FIELDS))
_HELD = ("currsize", "size", "items", "listeners", "timers", "tasks")
"""Fields that are bounded by ``maxsize``."""

_INTS = {int}
_MOST_SEEN = 2000
"""Names remembered as they are, so that they need not be made harmless each time."""


class _Slot:
    """The labels of one pair of name and kind, and where its counters stand."""

    __slots__ = ("counted", "labels", "members", "raw")

    def __init__(self, container: str, kind: str) -> None:
        self.labels = {"container": container, "kind": kind}
        self.raw: dict[Family, float] = {}
        """Each counter as the containers told it the last time."""
        self.counted: dict[Family, float] = {}
        """Each counter as it is told to Prometheus."""
        self.members = 0
        """How many containers shared it at the last look."""

    def count(self, family: Family, raw: float) -> float:
        """
        Return the counter after the containers' own sum became *raw*.

        When one of several containers dies, their sum falls. Prometheus would take that for a
        restart and count the whole rest anew, so what falls stands still here.
        """
        before = self.raw.get(family, 0)
        if raw == before:
            return self.counted.setdefault(family, 0)
        counted = self.counted.get(family, 0) + max(0, raw - before)
        self.raw[family] = raw
        self.counted[family] = counted
        return counted


class Containers:
    """
    Make rows of containers.

    Bounded by: *most* pairs of name and kind, and one for all others.
    Locks: one mutex around the counters; only arithmetic happens under it.
    Keeps alive: names and numbers.

    Args:
        most: Pairs of name and kind with labels of their own.
        reserved: Names that get theirs before all others.
    """

    def __init__(self, most: int, reserved: Collection[str] = ()) -> None:
        self._most = most
        self._reserved = frozenset(label(name) for name in reserved)
        self._free = most - len(self._reserved)
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._seen: dict[tuple[str, str], _Slot] = {}  # by the names as they are
        self._others = _Slot(OTHER, OTHER)
        self.reset()

    def reset(self) -> None:
        """Let nobody be at work: runs after fork."""
        # Re-entrant: a finalizer or signal handler may ask for metrics in the midst of it.
        self._lock = threading.RLock()

    def table(self, inventory: Iterable[InventoryRow], *, count: bool = True) -> Table:
        """
        Return the rows of the containers in *inventory*. Thread-safe; cost: 2 µs a container.

        Args:
            inventory: What there is.
            count: Let counters go on. Of two threads that looked at once, one may: nobody knows
                which of them saw the later state.
        """
        table: Table = {}
        with self._lock:
            sums = self._sums(inventory)
            looked = sums.items()
            for family in _TOLD:
                if family.type != "counter":
                    table[family] = [(s.labels, v[family]) for s, v in looked if family in v]
                elif count:
                    table[family] = [
                        (s.labels, s.count(family, v[family])) for s, v in looked if family in v
                    ]
                else:
                    table[family] = [
                        (s.labels, s.counted.get(family, 0)) for s, v in looked if family in v
                    ]
            if count:
                for slot in (*self._slots.values(), self._others):
                    if slot not in sums:
                        slot.raw.clear()  # all died; who comes under this name begins at 0
            table[families.CONTAINERS] = [({}, sum(slot.members for slot in sums))]
            table[families.FOLDED] = [({}, self._others.members if self._others in sums else 0)]
        return table

    def _sums(self, inventory: Iterable[InventoryRow]) -> dict[_Slot, dict[Family, float]]:
        """Return the figures of each slot, and note how many share it."""
        sums: dict[_Slot, dict[Family, float]] = {}
        for row in inventory:
            slot = self._slot(row)
            found = sums.get(slot)
            if found is None:
                slot.members = 1
                sums[slot] = _figures(row)
                continue
            slot.members += 1
            for family, value in _figures(row).items():
                before = found.get(family, 0)
                is_fill = family is families.FILL
                found[family] = max(before, value) if is_fill else before + value
        return sums

    def _slot(self, row: InventoryRow) -> _Slot:
        # Only plain strings are looked up: a subclass may hash and compare in its own way.
        plain = type(row.name) is str and type(row.kind) is str
        slot = self._seen.get((row.name, row.kind)) if plain else None
        if slot is not None:
            return slot
        key = label(row.name), label(row.kind)
        slot = self._slots.get(key) or self._new_slot(key)
        if plain and max(len(row.name), len(row.kind)) < LONGEST_LABEL:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[row.name, row.kind] = slot
        return slot

    def _new_slot(self, key: tuple[str, str]) -> _Slot:
        is_reserved = key[0] in self._reserved
        is_full = len(self._slots) >= self._most or (not is_reserved and self._free <= 0)
        if is_full or key[0] == OTHER:
            return self._others
        self._free -= not is_reserved
        slot = self._slots[key] = _Slot(*key)
        return slot


def _figures(row: InventoryRow) -> dict[Family, float]:
    """Return what is known of one container, as far as these are numbers."""
    statistics = row.statistics
    plan = _plans.get(type(statistics)) or _plan(type(statistics))
    found = dict(zip(plan.families, plan.read(statistics), strict=True))
    found[families.ITEMS] = row.items
    if row.bytes is not None:
        found[families.BYTES] = row.bytes
    # Nearly always all are ints of a sane size, and is_number need not be asked a thousand times.
    told = found.values()
    if set(map(type, told)) != _INTS or max(map(abs, told)) >= MOST:
        found = {family: value for family, value in found.items() if is_number(value)}
    fill = _fill(plan, statistics)
    if fill is not None and is_number(fill):
        found[families.FILL] = fill
    return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read the statistics of one type, all fields at once: there may be many of them."""

    families: tuple[Family, ...]
    read: Callable[[Any], tuple[Any, ...]]
    bounds: tuple[Callable[[Any], tuple[Any, Any]], ...]
    """Each gives what is held and how much may be."""


_plans: dict[type, _Plan] = {}  # by types of ours, which are few


def _plan(kind: type) -> _Plan:
    """Return how to read statistics of this type; nothing is asked of a stranger's."""
    if not kind.__module__.startswith("memguard."):
        return _Plan((), lambda _: (), ())
    there = frozenset(dir(kind))
    chosen = [
        (family, next(name for name in names if name in there))
        for family, names in _FIELDS
        if there.intersection(names)
    ]
    bounds = [(held, "maxsize") for held in _HELD if held in there and "maxsize" in there][:1]
    bounds += [("bytes", "maxbytes")] if {"bytes", "maxbytes"} <= there else []
    plan = _plans[kind] = _Plan(
        tuple(family for family, _ in chosen),
        _reader([name for _, name in chosen]),
        tuple(attrgetter(held, bound) for held, bound in bounds),
    )
    return plan


def _reader(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda statistics: tuple(getattr(statistics, name) for name in names)


def _fill(plan: _Plan, statistics: Any) -> float | None:
    """Return how full the fuller of its bounds is; None where it has none."""
    fullest: float | None = None
    for read in plan.bounds:
        held, most = read(statistics)
        if type(most) in NUMBERS and type(held) in NUMBERS and most > 0:
            try:
                ratio = held / most
            except OverflowError:  # ints that are more than a double holds
                continue
            if fullest is None or ratio > fullest:
                fullest = ratio
    return fullest
