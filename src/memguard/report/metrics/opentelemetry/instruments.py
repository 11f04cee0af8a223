"""
The instruments: what each is called, in which unit, and which of the figures it tells. Pure.

Names and units of ``process.*`` and ``cpython.*`` are those of the OpenTelemetry semantic
conventions (process metrics and CPython metrics, both in development as of version 1.37); units are
UCUM (https://ucum.org). All others are below ``memguard.``, with the unit where it belongs: beside
the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from memguard.relief.levels import SEVERITY
from memguard.relief.records import AlertKind
from memguard.report.state import GuardState

Attributes = Mapping[str, str | int]
Values = Iterable[tuple[float | None, Attributes]]
GUARD = "memguard.guard"
GENERATION = "cpython.gc.generation"
_NONE: Attributes = {}


@dataclass(frozen=True, slots=True)
class Cycle:
    """What is told in one collection: the figures of each guard, and what is the process's own."""

    number: int
    """Of the collection; later ones have higher numbers."""
    guards: tuple[tuple[str, GuardState], ...]
    """(label, figures)."""
    process: bool
    """True where the metrics of the semantic conventions are ours to tell."""
    gc_stats: tuple[Mapping[str, int], ...]
    """``gc.get_stats()``, youngest generation first."""
    containers: Mapping[tuple[str, str], list[int | None]]
    """(name, kind) → containers, items, bytes."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One observable instrument."""

    name: str
    kind: Literal["counter", "updown", "gauge"]
    unit: str
    description: str
    of_guard: Callable[[GuardState], Values] | None = None
    """What is told of each guard."""
    of_process: Callable[[Cycle], Values] | None = None
    """What is told once for the process."""

    def values(self, cycle: Cycle) -> Iterable[tuple[float, Attributes]]:
        """Yield (value, attributes) for what is known."""
        if self.of_process is not None:
            for value, attributes in self.of_process(cycle):
                if value is not None:
                    yield value, attributes
        elif self.of_guard is not None:
            for label, figures in cycle.guards:
                for value, attributes in self.of_guard(figures):
                    if value is not None:
                        yield value, {GUARD: label, **attributes}


def _private(cycle: Cycle) -> Values:
    yield cycle.guards[0][1].reading.private, _NONE


def _process(read: Callable[[GuardState], float | None]) -> Callable[[Cycle], Values]:
    def values(cycle: Cycle) -> Values:
        if cycle.process:
            yield read(cycle.guards[0][1]), _NONE

    return values


def _collector(key: str) -> Callable[[Cycle], Values]:
    def values(cycle: Cycle) -> Values:
        if cycle.process:
            for generation, stats in enumerate(cycle.gc_stats):
                yield stats.get(key), {GENERATION: generation}

    return values


def _container(column: int) -> Callable[[Cycle], Values]:
    def values(cycle: Cycle) -> Values:
        for (name, kind), sums in cycle.containers.items():
            yield (
                sums[column],
                {"memguard.container.name": name, "memguard.container.kind": kind},
            )

    return values


def _one(read: Callable[[GuardState], float | None]) -> Callable[[GuardState], Values]:
    return lambda figures: [(read(figures), _NONE)]


def _pressure_level(figures: GuardState) -> Values:
    for level in SEVERITY:
        yield int(figures.pressure.level == level), {"memguard.level": level}


def _relief(field: str) -> Callable[[GuardState], Values]:
    return _one(lambda figures: getattr(figures.relief, field, None))


def _gc_pauses(field: str) -> Callable[[GuardState], Values]:
    def values(figures: GuardState) -> Values:
        for generation in figures.gc.generations if figures.gc is not None else ():
            yield getattr(generation, field), {GENERATION: generation.generation}

    return values


def _cost(figures: GuardState) -> Values:
    yield figures.monitor.cpu_seconds, {"memguard.part": "monitor"}
    if figures.detector is not None:
        yield figures.detector.cpu_seconds, {"memguard.part": "detector"}


def _errors(figures: GuardState) -> Values:
    yield figures.monitor.errors, {"memguard.part": "monitor"}
    if figures.detector is not None:
        yield figures.detector.errors, {"memguard.part": "detector"}
    if figures.relief is not None:
        yield figures.relief.errors, {"memguard.part": "relief"}


def _alerts(figures: GuardState) -> Values:
    counts = dict(figures.monitor.alerts_by_kind)
    for kind in get_args(AlertKind):
        yield counts.get(kind, 0), {"memguard.alert.kind": kind}


def _admissions(figures: GuardState) -> Values:
    yield figures.admission.admitted, {"memguard.outcome": "admitted"}
    yield figures.admission.refused, {"memguard.outcome": "refused"}


def _detector(field: str) -> Callable[[GuardState], Values]:
    return _one(lambda figures: getattr(figures.detector, field, None))


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "process.memory.usage",
        "updown",
        "By",
        "The amount of physical memory in use.",
        of_process=_process(lambda figures: figures.reading.rss),
    ),
    Instrument(
        "process.memory.virtual",
        "updown",
        "By",
        "The amount of committed virtual memory.",
        of_process=_process(lambda figures: figures.reading.vms),
    ),
    Instrument(
        "cpython.gc.collections",
        "counter",
        "{collection}",
        "The number of times a generation was collected since interpreter start.",
        of_process=_collector("collections"),
    ),
    Instrument(
        "cpython.gc.collected_objects",
        "counter",
        "{object}",
        "The total number of objects collected inside a generation since interpreter start.",
        of_process=_collector("collected"),
    ),
    Instrument(
        "cpython.gc.uncollectable_objects",
        "counter",
        "{object}",
        "The total number of objects which were found to be uncollectable inside a generation "
        "since interpreter start.",
        of_process=_collector("uncollectable"),
    ),
    Instrument(
        "memguard.memory.private",
        "updown",
        "By",
        "Memory that only this process holds, resident or swapped.",
        of_process=_private,
    ),
    Instrument(
        "memguard.memory.used",
        "gauge",
        "By",
        "What cannot be reclaimed, in the scope of the bound that is fullest.",
        of_guard=_one(lambda figures: figures.pressure.used),
    ),
    Instrument(
        "memguard.memory.limit",
        "gauge",
        "By",
        "The bound that is fullest.",
        of_guard=_one(lambda figures: figures.pressure.limit),
    ),
    Instrument(
        "memguard.memory.utilization",
        "gauge",
        "1",
        "Used share of that bound, 0 to 1.",
        of_guard=_one(lambda figures: figures.pressure.used_ratio),
    ),
    Instrument(
        "memguard.memory.growth",
        "gauge",
        "By/s",
        "Growth of used memory over the last seconds; negative when shrinking.",
        of_guard=_one(lambda figures: figures.pressure.bytes_per_minute / 60),
    ),
    Instrument(
        "memguard.pressure.level",
        "updown",
        "1",
        "1 for the level that the guard is at, 0 for the others.",
        of_guard=_pressure_level,
    ),
    Instrument(
        "memguard.pressure.changes",
        "counter",
        "{change}",
        "Changes of the level.",
        of_guard=_one(lambda figures: figures.monitor.level_changes),
    ),
    Instrument(
        "memguard.alerts",
        "counter",
        "{alert}",
        "Alerts raised: changes of the level, relief without effect, requests to be recycled.",
        of_guard=_alerts,
    ),
    Instrument(
        "memguard.relief.runs", "counter", "{run}", "Relief runs.", of_guard=_relief("runs")
    ),
    Instrument(
        "memguard.relief.freed",
        "counter",
        "By",
        "Memory given back, by the containers' and callbacks' own account.",
        of_guard=_relief("freed"),
    ),
    Instrument(
        "memguard.relief.fall",
        "updown",
        "By",
        "By how much private memory fell during relief runs; negative where others grew meanwhile.",
        of_guard=_relief("rss_freed"),
    ),
    Instrument(
        "memguard.relief.time", "counter", "s", "Time spent in relief.", of_guard=_relief("seconds")
    ),
    Instrument(
        "memguard.relief.lowered_caches",
        "updown",
        "{cache}",
        "Caches whose bound is lowered now.",
        of_guard=_relief("lowered_caches"),
    ),
    Instrument(
        "memguard.leaks",
        "counter",
        "{leak}",
        "Leaks found, updates not counted.",
        of_guard=_detector("findings"),
    ),
    Instrument(
        "memguard.leak.investigations",
        "counter",
        "{investigation}",
        "Growth that was looked into.",
        of_guard=_detector("investigations"),
    ),
    Instrument(
        "memguard.leak.tracing.time",
        "counter",
        "s",
        "Time that tracing of allocations was on.",
        of_guard=_detector("traced_seconds"),
    ),
    Instrument(
        "memguard.gc.pause.time",
        "counter",
        "s",
        "Time that the program stood still for the collector.",
        of_guard=_gc_pauses("pause_total"),
    ),
    Instrument(
        "memguard.gc.pauses",
        "counter",
        "{pause}",
        "Pauses of the collector while it was watched.",
        of_guard=_gc_pauses("collections"),
    ),
    Instrument(
        "memguard.gc.pause.max",
        "gauge",
        "s",
        "The longest pause so far.",
        of_guard=_gc_pauses("pause_max"),
    ),
    Instrument(
        "memguard.gc.pause.share",
        "gauge",
        "1",
        "Part of the time that went into pauses, 0 to 1.",
        of_guard=_one(lambda figures: getattr(figures.gc, "wall_share", None)),
    ),
    Instrument(
        "memguard.admission.requests",
        "counter",
        "{request}",
        "Work that asked to be admitted.",
        of_guard=_admissions,
    ),
    Instrument(
        "memguard.admission.running",
        "updown",
        "{request}",
        "Work admitted and not yet ended.",
        of_guard=_one(lambda figures: figures.admission.running),
    ),
    Instrument(
        "memguard.cpu.time",
        "counter",
        "s",
        "Processor time of memguard's own threads.",
        of_guard=_cost,
    ),
    Instrument(
        "memguard.errors",
        "counter",
        "{error}",
        "Failures that memguard survived.",
        of_guard=_errors,
    ),
    Instrument(
        "memguard.containers",
        "updown",
        "{container}",
        "Containers alive.",
        of_process=_container(0),
    ),
    Instrument(
        "memguard.container.items",
        "updown",
        "{item}",
        "Entries of containers.",
        of_process=_container(1),
    ),
    Instrument(
        "memguard.container.size",
        "updown",
        "By",
        "Size of the entries, by the containers' own account.",
        of_process=_container(2),
    ),
)
