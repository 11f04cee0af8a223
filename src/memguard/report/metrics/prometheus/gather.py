"""Gather the rows of all guards and containers; what fails is counted and left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from memguard.errors import ConfigError
from memguard.lifecycle import locks
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.turn import Turn
from memguard.report.metrics.prometheus import families
from memguard.report.metrics.prometheus.containers import Containers
from memguard.report.metrics.prometheus.rows import GUARD_PARTS, Row, Table, label, process_rows
from memguard.report.state import Guarded, GuardState, guard_state

PARTS = ("guard", "process", "containers", *(name for name, _ in GUARD_PARTS))
"""What may fail, each for itself; ``guard`` is the state of one guard."""
MOST_CONTAINERS = 1000


class Gatherer:
    """
    Make rows of what guards know.

    Bounded by: *max_containers* pairs of name and kind; a counter for each of ``PARTS``.
    Locks: one that nobody waits for; what guards and containers do happens beside it. Two mutexes
        around counters; only arithmetic happens under them.
    Keeps alive: the guards.

    Args:
        guards: Who is asked; their names must differ.
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
        self._containers = Containers(max_containers, containers)
        self._timer = timer
        self._failures = Failures("prometheus.failed")
        self.reset()

    def reset(self) -> None:
        """Begin anew, with nobody at work: also in a forked child."""
        self._turn = Turn()
        self._lock = locks.RLock()
        self._errors: Counter[str] = Counter()
        self._runs = 0
        self._seconds = 0.0
        self._containers.reset()

    def gather(self) -> Table:
        """
        Return all rows by what they are of. Thread-safe; raises nothing but what ends a thread.

        Cost: what `guard_state` costs for each guard, and 2 µs a container.
        """
        began = self._timer()
        # Never waited for: of two that come at once, one lets the containers' counters go on.
        table = self._turn.run(partial(self._table, count=True), busy=None)
        if table is None:
            table = self._table(count=False)
        seconds = self._timer() - began
        with self._lock:
            self._runs += 1
            self._seconds += max(0.0, seconds)
            table[families.COLLECTOR_RUNS] = ([{}], [self._runs])
            table[families.COLLECTOR_SECONDS] = ([{}], [self._seconds])
            table[families.COLLECTOR_ERRORS] = (
                [{"part": part} for part in PARTS],
                [self._errors[part] for part in PARTS],
            )
        return table

    def _table(self, *, count: bool) -> Table:
        rows: list[Row] = []
        seen: GuardState | None = None
        for name, guard in self._guards.items():
            found = self._try("guard", guard_state, guard)
            if found is None:
                continue
            seen = seen or found
            for part, part_rows in GUARD_PARTS:
                rows += self._try(part, _listed, part_rows, found, name) or ()
        table: Table = {}
        if seen is not None:
            rows += self._try("process", _listed, process_rows, seen) or ()
            tell = partial(self._containers.table, seen.containers, count=count)
            table = self._try("containers", tell) or {}
        for family, labels, value in rows:
            column = table.get(family)
            if column is None:
                column = table[family] = ([], [])
            column[0].append(labels)
            column[1].append(value)
        return table

    def _try(self, part: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what *work* gives; None where it fails, which is counted and logged once."""
        try:
            return work(*arguments)
        except Exception as error:  # noqa: BLE001 - reason: one broken part must not hide the others
            with self._lock:
                self._errors[part] += 1
            self._failures.add(part, error)
            return None


def _listed(rows: Callable[..., Iterable[Row]], *arguments: Any) -> list[Row]:
    """Return all rows or none: a part that fails half way is left out whole."""
    return list(rows(*arguments))


def _named(guards: Sequence[Guarded]) -> Iterable[tuple[str, Guarded]]:
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
    if isinstance(most, bool) or not isinstance(most, int):
        raise TypeError(f"max_containers must be a whole number (got {type(most).__name__})")
    if not 0 <= most <= MOST_CONTAINERS:
        raise ConfigError(
            f"max_containers must be from 0 to {MOST_CONTAINERS} (got {most}); "
            "what has no labels of its own is summed as 'other'"
        )
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
