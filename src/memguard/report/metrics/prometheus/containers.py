"""
Containers as rows with labels from a closed set, and counters that never fall.

Names of containers come from programs, and programs make names from user input. So each pair of
name and kind gets labels of its own only while there are some left, keeps them for the life of the
collector, and all others are summed under ``container="other"``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, truediv
from typing import Any, TypeAlias

from memguard.bounded.inventory import InventoryRow
from memguard.lifecycle import locks
from memguard.report.metrics.prometheus import families
from memguard.report.metrics.prometheus.families import Family
from memguard.report.metrics.prometheus.rows import (
    LONGEST_LABEL,
    MOST,
    NUMBERS,
    Table,
    is_number,
    label,
)

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
_NUMBERS = frozenset(NUMBERS)
_MOST_SEEN = 2000
"""Names remembered as they are, so that they need not be made harmless each time."""

_Column: TypeAlias = "Sequence[float | None]"
"""One figure of many containers; None where one of them has none that can be told."""


class _Slot:
    """The labels of one pair of name and kind."""

    __slots__ = ("labels", "members")

    def __init__(self, container: str, kind: str) -> None:
        self.labels = {"container": container, "kind": kind}
        self.members = 0
        """How many containers shared it at the last look."""


class _Counter:
    """Where one counter of every slot stands."""

    __slots__ = ("counted", "raw")

    def __init__(self) -> None:
        self.raw: dict[_Slot, float] = {}
        """As the containers told it the last time."""
        self.counted: dict[_Slot, float] = {}
        """As it is told to Prometheus."""

    def told(self, slots: list[_Slot], raw: list[float], *, count: bool) -> list[float]:
        """
        Return the counters, where they are to go on after the containers' own sums became *raw*.

        When one of several containers dies, their sum falls. Prometheus would take that for a
        restart and count the whole rest anew, so what falls stands still here.
        """
        counted = self.counted
        if not count:
            return [counted.get(slot, 0) for slot in slots]
        before = list(map(self.raw.get, slots))
        if before != raw:
            for slot, then, now in zip(slots, before, raw, strict=True):
                if then is None or now > then:
                    counted[slot] = counted.get(slot, 0) + max(0, now - (then or 0))
            self.raw.update(zip(slots, raw, strict=True))
        return [counted[slot] for slot in slots]


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
        self._counters = {family: _Counter() for family in _TOLD if family.type == "counter"}
        self._alive: set[_Slot] = set()
        self.reset()

    def reset(self) -> None:
        """Let nobody be at work: runs after fork."""
        # Re-entrant: a finalizer or signal handler may ask for metrics in the midst of it.
        self._lock = locks.RLock()

    def table(self, inventory: Iterable[InventoryRow], *, count: bool = True) -> Table:
        """
        Return the rows of the containers in *inventory*. Thread-safe; cost: 1 µs a container.

        Args:
            inventory: What there is.
            count: Let counters go on. Of two threads that looked at once, one may: nobody knows
                which of them saw the later state.
        """
        table: Table = {}
        with self._lock:
            looked, alone, shared = self._sorted(inventory)
            if count:
                self._forget_dead(looked)
            # By column and not by container: there may be a hundred, and each step that the
            # interpreter takes for each of them is paid a hundred times.
            told = {family: _Told() for family in _TOLD}
            for kind, (slots, rows) in alone.items():
                labels = [slot.labels for slot in slots]
                for family, column in _columns(kind, rows).items():
                    told[family].add(slots, labels, column)
            for slot, rows in shared.items():
                for family, value in _sums(rows).items():
                    told[family].add([slot], [slot.labels], [value])
            for family, found in told.items():
                counter, values = self._counters.get(family), found.values
                if counter is not None:
                    values = counter.told(found.slots, values, count=count)
                table[family] = (found.labels, values)
            folded = self._others.members if self._others in looked else 0
            table[families.CONTAINERS] = ([{}], [sum(slot.members for slot in looked)])
            table[families.FOLDED] = ([{}], [folded])
        return table

    def _sorted(self, inventory: Iterable[InventoryRow]) -> tuple[_Looked, _Alone, _Shared]:
        """Return the slots that are in use, the rows by type, and those that share a slot."""
        looked: _Looked = {}
        shared: _Shared = {}
        seen = self._seen
        for row in inventory:
            name, kind = row.name, row.kind
            # Only plain strings are looked up: a subclass may hash and compare in its own way.
            plain = type(name) is str and type(kind) is str
            slot = (seen.get((name, kind)) if plain else None) or self._slot(row, plain=plain)
            if slot not in looked:
                looked[slot] = row
                slot.members = 1
            else:
                slot.members += 1
                shared.setdefault(slot, [looked[slot]]).append(row)
        alone: _Alone = {}
        for slot, row in looked.items():
            if slot.members == 1:
                group = alone.get(type(row.statistics))
                if group is None:
                    group = alone[type(row.statistics)] = ([], [])
                group[0].append(slot)
                group[1].append(row)
        return looked, alone, shared

    def _forget_dead(self, looked: _Looked) -> None:
        """Let who comes under a name of which all have died begin at 0."""
        for slot in self._alive - looked.keys():
            for counter in self._counters.values():
                counter.raw.pop(slot, None)
        self._alive = set(looked)

    def _slot(self, row: InventoryRow, *, plain: bool) -> _Slot:
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


_Looked: TypeAlias = dict[_Slot, InventoryRow]
_Alone: TypeAlias = dict[type, tuple[list[_Slot], list[InventoryRow]]]
_Shared: TypeAlias = dict[_Slot, list[InventoryRow]]


class _Told:
    """What is told of one family: three lists of the same length."""

    __slots__ = ("labels", "slots", "values")

    def __init__(self) -> None:
        self.slots: list[_Slot] = []
        self.labels: list[dict[str, str]] = []
        self.values: list[Any] = []

    def add(self, slots: list[_Slot], labels: list[dict[str, str]], column: _Column) -> None:
        """Add a column, without those of which it tells nothing."""
        if None not in column:
            self.slots += slots
            self.labels += labels
            self.values += column
            return
        for slot, value in zip(slots, column, strict=True):
            if value is not None:
                self.slots.append(slot)
                self.labels.append(slot.labels)
                self.values.append(value)


def _sums(rows: list[InventoryRow]) -> dict[Family, float]:
    """Return the figures of containers that share a slot: sums, and how full the fullest is."""
    by_kind: dict[type, list[InventoryRow]] = {}
    for row in rows:
        by_kind.setdefault(type(row.statistics), []).append(row)
    sums: dict[Family, float] = {}
    for kind, alike in by_kind.items():
        for family, column in _columns(kind, alike).items():
            values = [value for value in column if value is not None]
            if values and family is families.FILL:
                sums[family] = max(*values, sums.get(family, values[0]))
            elif values:
                sums[family] = sums.get(family, 0) + sum(values)
    return sums


def _columns(kind: type, rows: list[InventoryRow]) -> dict[Family, _Column]:
    """Return what is known of containers whose statistics are of *kind*, where it is a number."""
    plan = _plans.get(kind) or _plan(kind)
    found: dict[Family, _Column] = {
        families.ITEMS: _told([row.items for row in rows]),
        families.BYTES: _told([row.bytes for row in rows]),
    }
    if plan.read is None:
        return found
    columns = list(zip(*map(plan.read, [row.statistics for row in rows]), strict=True))
    for family, column in zip(plan.families, columns, strict=False):
        found[family] = _told(column)
    fullest: _Column | None = None
    for at in range(len(plan.families), len(columns), 2):
        ratios = _ratios(columns[at], columns[at + 1])
        if fullest is None or ratios is None:
            fullest = ratios if fullest is None else fullest
        elif None in fullest or None in ratios:
            fullest = list(map(_higher, fullest, ratios))
        else:
            fullest = list(map(max, fullest, ratios))  # type: ignore[arg-type]  # reason: no None
    if fullest is not None:
        found[families.FILL] = fullest
    return found


def _told(column: Sequence[Any]) -> _Column:
    # Nearly always all are ints of a sane size, and is_number need not be asked a thousand times.
    if set(map(type, column)) == _INTS and max(map(abs, column)) < MOST:
        return column
    return [value if is_number(value) else None for value in column]


def _ratios(held: Sequence[Any], most: Sequence[Any]) -> _Column | None:
    """Return how full a bound of each container is; None where it has none, or none has one."""
    if most.count(None) == len(most):
        return None
    if _NUMBERS.issuperset(map(type, held)) and _NUMBERS.issuperset(map(type, most)):
        with contextlib.suppress(OverflowError, ZeroDivisionError):
            ratios = list(map(truediv, held, most))
            # One that is not finite shows in the sum.
            if min(most) > 0 and -MOST < sum(ratios) < MOST:
                return ratios
    return [_ratio(*pair) for pair in zip(held, most, strict=True)]


def _ratio(held: Any, most: Any) -> float | None:
    if type(most) in NUMBERS and type(held) in NUMBERS and most > 0:
        with contextlib.suppress(OverflowError):  # ints that are more than a double holds
            ratio: float = held / most
            return ratio if is_number(ratio) else None
    return None


def _higher(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read the statistics of one type, all fields at once: there may be many of them."""

    families: tuple[Family, ...]
    read: Callable[[Any], tuple[Any, ...]] | None
    """Gives a value for each family, then for each bound what is held and how much may be."""


_plans: dict[type, _Plan] = {}  # by types of ours, which are few


def _plan(kind: type) -> _Plan:
    """Return how to read statistics of this type; nothing is asked of a stranger's."""
    if not kind.__module__.startswith("memguard."):
        return _Plan((), None)
    # Fields without slots are known to the dataclass alone.
    there = frozenset((*dir(kind), *getattr(kind, "__dataclass_fields__", ())))
    chosen = [
        (family, next(name for name in names if name in there))
        for family, names in _FIELDS
        if there.intersection(names)
    ]
    bounds = [(held, "maxsize") for held in _HELD if held in there and "maxsize" in there][:1]
    bounds += [("bytes", "maxbytes")] if {"bytes", "maxbytes"} <= there else []
    names = [name for _, name in chosen] + [name for bound in bounds for name in bound]
    plan = _plans[kind] = _Plan(tuple(family for family, _ in chosen), _reader(names))
    return plan


def _reader(names: list[str]) -> Callable[[Any], tuple[Any, ...]] | None:
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda statistics: (getattr(statistics, names[0]),)) if names else None
