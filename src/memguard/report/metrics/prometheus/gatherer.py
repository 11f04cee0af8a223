"""Gather the samples of all guards and containers; what fails is counted and left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from memguard.bounded.inventory import InventoryRow
from memguard.bounded.options import check_int
from memguard.errors import ConfigError
from memguard.lifecycle import locks
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.turn import Turn
from memguard.report.metrics import catalog, container_catalog
from memguard.report.metrics.containers import OTHER, ContainerMetrics, Labels, label
from memguard.report.metrics.metric import Metric
from memguard.report.state import Guarded, GuardState, guard_state

MOST_CONTAINERS = 1000
PARTS = ("guard", "containers", *catalog.PARTS)
"""What may fail, each for itself; ``guard`` is the state of one guard."""

Column: TypeAlias = tuple[list[dict[str, str]], list[Any]]
"""Labels and as many values: two lists, as a thousand pairs would keep the collector busy."""
Table: TypeAlias = dict[Metric, Column]


class Gatherer:
    """
    Gather what guards know.

    Bounded by: *max_containers* pairs of name and kind; a counter for each of ``PARTS``.
    Locks: a turn that no thread waits for; guards and containers run outside of it. Mutexes
        around counters; only arithmetic happens under them.
    Keeps alive: the guards.

    Args:
        guards: The guards to read; their names must differ.
        max_containers: Pairs of name and kind of containers that get labels of their own.
        containers: Names that get theirs before all others.
        timer: Seconds, for what gathering costs.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of range, or two guards have the same name.
    """

    def __init__(
        self,
        guards: Sequence[Guarded],
        *,
        max_containers: int,
        containers: Collection[str],
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._guards = dict(_named(guards))
        _check_containers(max_containers, containers)
        self._containers = ContainerMetrics(max_containers, containers)
        self._labels: dict[Labels, dict[str, str]] = {}
        """Those of containers: the same objects again, which are quickly compared."""
        self.fingerprints: dict[str, str] = {}
        """By guard: of its latest leak, as of the last time they were gathered."""
        self._timer = timer
        self._failures = Failures("prometheus.failed")
        self.reset()

    def reset(self) -> None:
        """Start over, idle; also in a forked child."""
        self._turn = Turn()
        self._lock = locks.RLock()
        self._errors: Counter[str] = Counter()
        self._runs = 0
        self._seconds = 0.0

    def gather(self) -> Table:
        """
        Return all samples. Thread-safe; raises nothing but what ends a thread.

        Cost: what `guard_state` costs for each guard, and 3 µs a container.
        """
        began = self._timer()
        # Never waited for: of two that come at once, one lets the containers' counters go on.
        table = self._turn.run(lambda: self._table(count=True), busy=None)
        if table is None:
            table = self._table(count=False)
        seconds = self._timer() - began
        with self._lock:
            self._runs += 1
            self._seconds += max(0.0, seconds)
            table[container_catalog.COLLECTOR_RUNS] = ([{}], [self._runs])
            table[container_catalog.COLLECTOR_SECONDS] = ([{}], [self._seconds])
            errors = list(map(self._errors.__getitem__, PARTS))
        table[container_catalog.COLLECTOR_ERRORS] = ([{"part": part} for part in PARTS], errors)
        return table

    def _table(self, *, count: bool) -> Table:
        table: Table = {}
        seen: GuardState | None = None
        for name, guard in self._guards.items():
            state = self._try("guard", guard_state, guard)
            if state is None:
                continue
            self.fingerprints[name] = catalog.latest_fingerprint(state)
            for part in catalog.PARTS:
                if part != "process" or seen is None:
                    self._try(part, _add, table, part, state, name)
            seen = seen or state
        if seen is not None:
            self._try("containers", self._add_containers, table, seen.containers, count)
        return table

    def _add_containers(self, table: Table, rows: Iterable[InventoryRow], count: bool) -> None:  # noqa: FBT001 - reason: private
        found = self._containers.read(rows, count=count)
        alive = found[container_catalog.ALIVE]
        labels = self._labels
        for each in alive:
            if each not in labels:
                labels[each] = {"container": each[0], "kind": each[1]}
        for metric in container_catalog.OF_CONTAINERS:
            sums = found[metric]
            table[metric] = ([labels[each] for each in sums], list(sums.values()))
        table[container_catalog.CONTAINERS] = ([{}], [sum(alive.values())])
        table[container_catalog.FOLDED] = ([{}], [alive.get((OTHER, OTHER), 0)])

    def _try(self, part: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what *work* returns; None if it fails, which is counted and logged once."""
        try:
            return work(*arguments)
        except Exception as error:  # noqa: BLE001 - reason: one broken part must not hide the others
            with self._lock:
                self._errors[part] += 1
            self._failures.add(part, error)
            return None


def column_of(metric: Metric, state: GuardState, guard: str) -> Column:
    """Return what *state* says of *metric*."""
    values = metric.values(state)
    labels = {"guard": guard} if metric.of_guard else {}
    if not metric.label:
        return [labels] * len(values), [value for _, value in values]
    return [{**labels, metric.label: name} for name, _ in values], [value for _, value in values]


def _add(table: Table, part: str, state: GuardState, guard: str) -> None:
    """Add all samples of a part or none: a part that fails half way is left out whole."""
    metrics = [metric for metric in catalog.PARTS[part] if metric.prometheus]
    for metric, column in [(metric, column_of(metric, state, guard)) for metric in metrics]:
        for whole, more in zip(table.setdefault(metric, ([], [])), column, strict=True):
            whole.extend(more)


def _named(guards: Sequence[Guarded]) -> Iterator[tuple[str, Guarded]]:
    """Yield each guard with its name as a label."""
    if not guards:
        raise ConfigError("give at least one guard, such as memguard.install()")
    taken: set[str] = set()
    for guard in guards:
        if not callable(getattr(guard, "status", None)) or not isinstance(
            getattr(guard, "name", None), str
        ):
            raise TypeError(f"guard must be a MemoryGuard (got {type(guard).__name__})")
        name = label(guard.name)
        if name in taken:
            raise ConfigError(
                f"guards must have different names (two are called {name!r}); "
                "give them some: MemoryGuard(name='second')"
            )
        taken.add(name)
        yield name, guard


def _check_containers(most: int, reserved: Collection[str]) -> None:
    check_int(most, "max_containers", 0, MOST_CONTAINERS)
    if isinstance(reserved, str) or not isinstance(reserved, Collection):
        raise TypeError(
            f"containers must be a list of names (got {type(reserved).__name__}): ['sessions']"
        )
    if any(not isinstance(name, str) for name in reserved):
        raise TypeError("containers must be names, which are strings: ['sessions']")
    if len(set(reserved)) > most:
        raise ConfigError(
            f"containers must be at most max_containers names (got {len(set(reserved))} names and "
            f"max_containers={most})"
        )
