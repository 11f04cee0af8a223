"""
Metrics of containers: labels from a closed set, and counters that never fall.

Names of containers come from programs, and programs make names from user input; a backend keeps
every combination of labels that it has ever seen. So each pair of name and kind gets labels of its
own only while there are some left, keeps them for good, and all others are summed as ``other``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

from memguard.bounded.inventory import InventoryRow
from memguard.lifecycle import locks
from memguard.lifecycle.fork import reset_after_fork
from memguard.report.metrics import container_catalog
from memguard.report.metrics.metric import MOST, NUMBERS, Metric, is_number
from memguard.report.render.words import printable

LONGEST_LABEL = 120
"""Characters of a label; what is longer is cut in the middle."""
OTHER = "other"
_MOST_SEEN = 2000
"""Names remembered as escaped, so they need not be escaped each time."""

# Each metric of a container comes from the first of these fields that its statistics have.
_FIELDS: tuple[tuple[Metric, tuple[str, ...]], ...] = (
    (container_catalog.HITS, ("hits",)),
    (container_catalog.MISSES, ("misses",)),
    (container_catalog.EVICTIONS, ("evictions", "evicted", "dropped")),
    (container_catalog.LEASED, ("leased",)),
    (container_catalog.LOST, ("lost",)),
)
_HELD = ("currsize", "size", "items", "listeners", "timers", "tasks")
"""Fields that are bounded by ``maxsize``."""

Labels: TypeAlias = tuple[str, str]
"""The name and the kind of a container."""
Found: TypeAlias = dict[Metric, dict[Labels, float]]


def label(text: Any) -> str:
    """
    Return *text* as the value of a label: one printable line of at most ``LONGEST_LABEL``.

    No user code is called: a value that is not a string is named by its type.
    """
    if not issubclass(type(text), str):
        return f"<{type(text).__name__}>"[:LONGEST_LABEL]
    # A subclass of str may bring methods of its own; a slice by the base class is a plain str.
    plain = str.__getitem__(text, slice(None))
    is_long = len(plain) > 2 * LONGEST_LABEL
    if is_long:  # before it is escaped: a name may have megabytes
        plain = plain[:LONGEST_LABEL] + plain[-LONGEST_LABEL:]
    shown = printable(plain, longest=len(plain))
    if is_long or len(shown) > LONGEST_LABEL:
        half = LONGEST_LABEL // 2 - 2
        shown = f"{shown[:half]}...{shown[-half:]}"
    return shown


class BoundedLabels:
    """
    Give out labels for pairs of name and kind, as long as there are any.

    Bounded by: *most* pairs, and one for all others.
    Locks: none; its owner has one.
    Keeps alive: strings.

    Args:
        most: Pairs of name and kind with labels of their own.
        reserved: Names that get theirs before all others.
    """

    def __init__(self, most: int, reserved: Collection[str] = ()) -> None:
        self._most = most
        self._reserved = frozenset(label(name) for name in reserved)
        self._free = most - len(self._reserved)
        self._given: set[Labels] = set()
        self._seen: dict[Labels, Labels] = {}  # by the names as they are

    def __len__(self) -> int:
        """Return how many were given out."""
        return len(self._given)

    def of(self, name: str, kind: str) -> Labels:
        """Return the labels of a container."""
        # Only plain strings are looked up: a subclass may hash and compare in its own way.
        plain = type(name) is str and type(kind) is str
        found = self._seen.get((name, kind)) if plain else None
        if found is None:
            found = self._new(label(name), label(kind))
            if plain and max(len(name), len(kind)) < LONGEST_LABEL:
                if len(self._seen) >= _MOST_SEEN:
                    self._seen.clear()
                self._seen[name, kind] = found
        return found

    def _new(self, name: str, kind: str) -> Labels:
        if (name, kind) in self._given:
            return name, kind
        is_reserved = name in self._reserved
        is_full = len(self._given) >= self._most or (not is_reserved and self._free <= 0)
        if is_full or name == OTHER:
            return OTHER, OTHER
        self._free -= not is_reserved
        self._given.add((name, kind))
        return name, kind


class ContainerMetrics:
    """
    Sum containers by their labels.

    Bounded by: its labels, and two numbers for each counter of each of them.
    Locks: one mutex around labels and counters; only arithmetic happens under it.
    Keeps alive: names and numbers.

    Args:
        most: Pairs of name and kind with labels of their own.
        reserved: Names that get theirs before all others.
    """

    def __init__(self, most: int, reserved: Collection[str] = ()) -> None:
        self._labels = BoundedLabels(most, reserved)
        self._raw: Found = {}
        """Each counter as the containers counted it the last time."""
        self._counted: Found = {}
        """Each counter as it is exported."""
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """In a forked child: no thread is at work."""
        # Re-entrant: a finalizer or signal handler may ask for metrics in the midst of it.
        self._lock = locks.RLock()

    def __len__(self) -> int:
        """Return how many pairs of name and kind have labels of their own."""
        return len(self._labels)

    def read(self, inventory: Iterable[InventoryRow], *, count: bool = True) -> Found:
        """
        Return the metrics of the containers in *inventory*. Thread-safe; cost: 3 µs a container.

        Args:
            inventory: What there is.
            count: Let counters go on. Of two threads that looked at once, one may: nobody knows
                which of them saw the later state.
        """
        found: Found = {
            metric: {} for metric in (container_catalog.ALIVE, *container_catalog.OF_CONTAINERS)
        }
        with self._lock:
            self._add_up(found, inventory, count=count)
        return found

    def _add_up(self, found: Found, inventory: Iterable[InventoryRow], *, count: bool) -> None:
        keyed = [(self._labels.of(row.name, row.kind), row) for row in inventory]
        _add(found[container_catalog.ALIVE], ((labels, 1) for labels, _ in keyed))
        _add(found[container_catalog.ITEMS], ((labels, row.items) for labels, row in keyed))
        _add(found[container_catalog.BYTES], ((labels, row.bytes) for labels, row in keyed))
        by_kind: dict[type, list[tuple[Labels, Any]]] = {}
        for labels, row in keyed:
            by_kind.setdefault(type(row.statistics), []).append((labels, row.statistics))
        for kind, each in by_kind.items():
            _add_statistics(found, _plans.get(kind) or _plan(kind), each)
        alive = found[container_catalog.ALIVE]
        for metric, sums in found.items():
            if metric.kind == "counter":
                found[metric] = self._reported(metric, sums, alive, count=count)

    def _reported(
        self, metric: Metric, sums: dict[Labels, float], alive: Collection[Labels], *, count: bool
    ) -> dict[Labels, float]:
        """
        Return a counter if it is to go on after the containers' own sums became *sums*.

        When one of several containers dies, their sum falls. Prometheus would take that for a
        restart and count the whole rest again, so what falls stands still here.
        """
        raw, counted = self._raw.setdefault(metric, {}), self._counted.setdefault(metric, {})
        if not count:
            return {labels: counted.get(labels, 0) for labels in sums}
        if raw != sums:
            for labels in raw.keys() - alive:
                del raw[labels]  # a successor begins at zero
            for labels, now in sums.items():
                counted[labels] = counted.get(labels, 0) + max(0, now - raw.get(labels, 0))
            raw |= sums
        return {labels: counted[labels] for labels in sums}


def _add(sums: dict[Labels, float], numbers: Iterable[tuple[Labels, Any]]) -> None:
    for labels, value in numbers:
        if type(value) in NUMBERS and -MOST < value < MOST:  # as is_number says it
            sums[labels] = sums.get(labels, 0) + value


def _add_statistics(found: Found, plan: _Plan, each: list[tuple[Labels, Any]]) -> None:
    """Add the statistics of containers of one kind."""
    if plan.read is None:
        return
    keys = [labels for labels, _ in each]
    columns = list(zip(*(plan.read(statistics) for _, statistics in each), strict=True))
    for metric, column in zip(plan.metrics, columns, strict=False):
        _add(found[metric], zip(keys, column, strict=True))
    fullest = found[container_catalog.FILL]
    for at in range(len(plan.metrics), len(columns), 2):
        for labels, held, most in zip(keys, columns[at], columns[at + 1], strict=True):
            ratio = _ratio(held, most)
            if ratio is not None:
                fullest[labels] = max(ratio, fullest.get(labels, ratio))


def _ratio(held: Any, most: Any) -> float | None:
    if type(most) in NUMBERS and type(held) in NUMBERS and most > 0:
        with contextlib.suppress(OverflowError):  # ints that are more than a double holds
            ratio: float = held / most
            return ratio if is_number(ratio) else None
    return None


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read the statistics of one type, all fields at once."""

    metrics: tuple[Metric, ...]
    read: Callable[[Any], tuple[Any, ...]] | None
    """Returns a value for each metric, then for each bound the current and the allowed value."""


_plans: dict[type, _Plan] = {}  # by our own types, which are few


def _plan(kind: type) -> _Plan:
    """Return how to read statistics of this type; those of other classes are not read."""
    if not kind.__module__.startswith("memguard."):
        return _Plan((), None)
    # Only the dataclass knows fields without slots.
    there = frozenset((*dir(kind), *getattr(kind, "__dataclass_fields__", ())))
    chosen = [
        (metric, next(name for name in names if name in there))
        for metric, names in _FIELDS
        if there.intersection(names)
    ]
    bounds = [(held, "maxsize") for held in _HELD if held in there and "maxsize" in there][:1]
    bounds += [("bytes", "maxbytes")] if {"bytes", "maxbytes"} <= there else []
    names = [name for _, name in chosen] + [name for bound in bounds for name in bound]
    plan = _plans[kind] = _Plan(tuple(metric for metric, _ in chosen), _reader(names))
    return plan


def _reader(names: list[str]) -> Callable[[Any], tuple[Any, ...]] | None:
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda statistics: (getattr(statistics, names[0]),)) if names else None
