"""
The metrics of memguard: meaning, names and unit of each, and how to read it.

Prometheus and OpenTelemetry both export this table, so they never contradict each other. What the
client's own collectors export already (``process_*``, ``python_gc_*``) is not exported again.

Names and units of ``process.*`` and ``cpython.*`` are those of the OpenTelemetry semantic
conventions (process metrics and CPython metrics, both in development as of version 1.37). All
others are below ``memguard.``, with the unit beside the name.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import Any, get_args

from memguard._version import __version__
from memguard.leaks.report import FindingState, LeakReport
from memguard.relief.levels import SEVERITY
from memguard.relief.records import AlertKind, PressureState
from memguard.report.metrics.container_catalog import (
    ALIVE,
    COLLECTOR_ERRORS,
    COLLECTOR_RUNS,
    COLLECTOR_SECONDS,
    CONTAINERS,
    FOLDED,
    OF_CONTAINERS,
)
from memguard.report.metrics.metric import Metric, Pauses, counter, gauge, metric
from memguard.report.state import GuardState

_STATES = ("idle", "watching", "tracing", "cooling")
_SOURCES = ("cgroup", "rlimit", "host", "own", "unknown")

# -- how they are read ----------------------------------------------------------------------------


def _pressure(read: Callable[[PressureState], Any]) -> Callable[[GuardState], Any]:
    """Read what the monitor saw: nothing of a stopped guard, whose values would never change."""

    def value(state: GuardState) -> Any:
        pressure = state.pressure
        return read(pressure) if state.running and pressure.at is not None else None

    return value


def _generations(read: Callable[[Any], Any]) -> Callable[[GuardState], Any]:
    return lambda state: (
        {str(each.generation): read(each) for each in state.gc.generations} if state.gc else None
    )


def _collector(key: str) -> Callable[[GuardState], Any]:
    return lambda _: {str(number): each.get(key) for number, each in enumerate(gc.get_stats())}


def _one_of(names: tuple[str, ...], current: str) -> dict[str, int]:
    return {name: int(name == current) for name in names}


def _parts(field: str, *names: str) -> Callable[[GuardState], Any]:
    return lambda state: {name: getattr(getattr(state, name), field, None) for name in names}


def _alerts(state: GuardState) -> dict[str, int]:
    raised = dict(state.monitor.alerts_by_kind)
    return {kind: raised.get(kind, 0) for kind in get_args(AlertKind)}


def source_of(limit_source: str) -> str:
    """Return which kind of bound a limit is, by where it is written."""
    if limit_source.startswith("RLIMIT_"):
        return "rlimit"
    if limit_source.startswith("/"):
        return "cgroup"
    hosts = dict.fromkeys(("MemTotal", "psutil", "SC_PHYS_PAGES"), "host")
    return {"option limit": "own", **hosts}.get(limit_source, "unknown")


def _latest_leak(read: Callable[[LeakReport], float]) -> Callable[[GuardState], Any]:
    def value(state: GuardState) -> float | None:
        leaks = [report for report in state.reports if report.kind == "leak"]
        if state.detector is None or not leaks:
            return None
        return read(max(leaks, key=lambda report: report.updated_at))

    return value


def latest_fingerprint(state: GuardState) -> str:
    """Return the fingerprint of the latest leak; empty where there is none."""
    leaks = [report for report in state.reports if report.kind == "leak"]
    return max(leaks, key=lambda report: report.updated_at).fingerprint if leaks else ""


def _findings(state: GuardState) -> dict[str, int] | None:
    if state.detector is None:
        return None
    states = [report.state for report in state.reports]
    return {each: states.count(each) for each in get_args(FindingState)}


def _updated(report: LeakReport) -> float:
    moment = datetime.fromisoformat(report.updated_at)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


# -- this process ---------------------------------------------------------------------------------


_process_gauge = partial(gauge, of_guard=False)

_PROCESS = (
    _process_gauge(
        "build_info",
        "1, with the version of memguard.",
        lambda _: {__version__: 1},
        "version",
        across="livemax",
    ),
    _process_gauge(
        "private_bytes",
        "Memory that only this process holds, resident or swapped: what a leak grows.",
        "reading.private",
        otel=("memguard.memory.private", "By", "sum"),
    ),
    _process_gauge(
        "resident_bytes",
        "Resident memory by kind: anonymous, file or shared.",
        lambda state: {
            "anonymous": state.reading.anon,
            "file": state.reading.file,
            "shared": state.reading.shmem,
        },
        "memory",
    ),
    _process_gauge("swapped_bytes", "Anonymous memory that was swapped out.", "reading.swap"),
    _process_gauge("peak_resident_bytes", "The highest resident memory so far.", "reading.peak"),
    _process_gauge("allocated_blocks", "Blocks in use by Python's allocator.", "reading.blocks"),
    _process_gauge(
        "threads", "Threads of this process, not only those that Python started.", "reading.threads"
    ),
    _process_gauge(
        "open_descriptors",
        "Open file descriptors, sockets included; of servers of several processes, too.",
        "reading.open_files",
    ),
    _process_gauge(
        "asyncio_tasks",
        "Tasks that are alive; from CPython 3.14 on, of event loops that were seen running.",
        "reading.tasks",
        otel=("memguard.asyncio.tasks", "{task}", "sum"),
    ),
    _process_gauge(
        "traced_bytes",
        "Memory that tracemalloc traces; 0 while it is off.",
        lambda state: state.reading.traced or 0,
    ),
    _process_gauge(
        "tracer_bytes",
        "Memory that tracemalloc itself needs; 0 while it is off.",
        lambda state: state.reading.tracer or 0,
    ),
)

# -- one guard: pressure --------------------------------------------------------------------------

_PRESSURE = (
    gauge("running", "1 while the guard is started, else 0.", lambda state: int(state.running)),
    gauge(
        "degraded",
        "1 for a part that is off: see production.md.",
        attrgetter("off"),
        "part",
        otel=("memguard.degraded", "1", "sum"),
    ),
    counter(
        "degradations",
        "Times that it was switched off.",
        attrgetter("times_off"),
        "part",
        otel=("memguard.degradations", "{degradation}"),
    ),
    gauge(
        "used_bytes",
        "Memory in use that cannot be reclaimed, in the scope of the limit.",
        _pressure(attrgetter("used")),
        otel=("memguard.memory.used", "By"),
    ),
    gauge(
        "limit_bytes",
        "The limit that is closest to full.",
        _pressure(attrgetter("limit")),
        otel=("memguard.memory.limit", "By"),
    ),
    gauge(
        "limit_source",
        "1 for where that limit is set: cgroup, rlimit, host, own or unknown.",
        _pressure(
            lambda pressure: (
                None if pressure.limit is None else _one_of(_SOURCES, source_of(pressure.source))
            )
        ),
        "source",
        across="livesum",
    ),
    gauge(
        "used_ratio",
        "Memory in use over the limit, 0 to 1 and above.",
        _pressure(attrgetter("used_ratio")),
        otel=("memguard.memory.utilization", "1"),
    ),
    gauge(
        "growth_bytes_per_second",
        "Growth of used bytes over the last seconds; negative when shrinking.",
        _pressure(lambda pressure: pressure.bytes_per_minute / 60),
        otel=("memguard.memory.growth", "By/s"),
    ),
    gauge(
        "level",
        "1 for the level of pressure: ok, elevated, critical or insufficient_data.",
        _pressure(lambda pressure: _one_of(tuple(SEVERITY), pressure.level)),
        "level",
        across="livesum",
    ),
    gauge(
        "",
        "1 for the level of pressure, 0 for the others.",
        lambda state: _one_of(tuple(SEVERITY), state.pressure.level),
        "level",
        otel=("memguard.pressure.level", "1", "sum"),
    ),
    gauge(
        "stall_ratio",
        "Share of time that some task waited for memory (Linux PSI).",
        _pressure(
            lambda pressure: None if pressure.stall_some is None else pressure.stall_some / 100
        ),
        across="livemax",
    ),
    counter("looks", "Looks of the pressure monitor.", "monitor.ticks"),
    counter(
        "level_changes",
        "Changes of the level of pressure.",
        "monitor.level_changes",
        otel=("memguard.pressure.changes", "{change}"),
    ),
    counter(
        "alerts",
        "Alerts raised, by kind: level, ineffective or recycle.",
        _alerts,
        "kind",
        otel=("memguard.alerts", "{alert}"),
    ),
)

# -- relief and admission -------------------------------------------------------------------------

_RELIEF = (
    counter(
        "relief_runs",
        "Relief runs.",
        "relief.runs",
        otel=("memguard.relief.runs", "{run}"),
    ),
    counter("relief_refused", "Runs requested while another was in progress.", "relief.refused"),
    counter(
        "relief_freed_bytes",
        "Memory freed, as caches, pools and callbacks count it.",
        "relief.freed",
        otel=("memguard.relief.freed", "By"),
    ),
    gauge(
        "relief_returned_bytes",
        "By how much private memory fell during all relief runs; it may fall if others grew.",
        "relief.rss_freed",
        across="livesum",
        otel=("memguard.relief.fall", "By", "sum"),
    ),
    counter("relief_claimed_bytes", "What caches claimed to have freed.", "relief.claimed"),
    gauge(
        "relief_real_bytes",
        "By how much the memory in use fell while caches freed.",
        "relief.real",
        across="livesum",
    ),
    counter(
        "relief_seconds",
        "Time spent in relief.",
        "relief.seconds",
        otel=("memguard.relief.time", "s"),
    ),
    gauge(
        "relief_longest_seconds",
        "The longest relief run.",
        "relief.longest_seconds",
        across="livemax",
    ),
    gauge(
        "relief_lowered_caches",
        "Caches whose bound is lowered now.",
        "relief.lowered_caches",
        across="livesum",
        otel=("memguard.relief.lowered_caches", "{cache}", "sum"),
    ),
)
_ADMISSION = (
    counter("admission_admitted", "Work that was admitted.", "admission.admitted"),
    counter(
        "admission_refused", "Work that was rejected because memory was short.", "admission.refused"
    ),
    counter(
        "",
        "Work that requested admission.",
        lambda state: {"admitted": state.admission.admitted, "refused": state.admission.refused},
        "outcome",
        otel=("memguard.admission.requests", "{request}"),
    ),
    counter("admission_waited", "Admitted work that had to wait.", "admission.waited"),
    counter(
        "admission_wait_seconds",
        "Time that work waited, rejected work included.",
        "admission.waited_seconds",
    ),
    gauge(
        "admission_running",
        "Admitted work not yet ended.",
        "admission.running",
        across="livesum",
        otel=("memguard.admission.running", "{request}", "sum"),
    ),
    gauge(
        "admission_promised_bytes",
        "Memory promised to work that is running.",
        "admission.promised",
        across="livesum",
    ),
    gauge("admission_waiting", "Work that waits now.", "admission.waiting", across="livesum"),
    gauge(
        "admission_reserved_bytes",
        "Memory promised to running work, which it has not taken yet.",
        "admission.reserved",
        across="livesum",
    ),
    counter(
        "admission_dropped", "Places that were collected before their end.", "admission.dropped"
    ),
    counter(
        "admission_relief_runs", "Relief runs that made room for work.", "admission.relief_runs"
    ),
)

# -- leaks and the collector of garbage -----------------------------------------------------------

LEAKS_FOUND = counter(
    "leaks_found",
    "Leaks reported; updates of a report do not count.",
    "detector.findings",
    otel=("memguard.leaks", "{leak}"),
)
_LEAKS = (
    LEAKS_FOUND,
    gauge(
        "leak_findings",
        "Reports that are kept, by state: suspected, leaking, ended or retracted.",
        _findings,
        "state",
        across="livesum",
        otel=("memguard.leak.findings", "{finding}", "sum"),
    ),
    gauge(
        "leak_last_report_timestamp_seconds",
        "When the latest leak was reported or its report updated, seconds since the epoch.",
        _latest_leak(_updated),
        across="livemax",
    ),
    gauge(
        "leak_growth_bytes_per_second",
        "Growth of the latest reported leak, at that time; 0 once it has ended.",
        _latest_leak(
            lambda report: report.trend.bytes_per_hour / 3600 if report.is_leaking else 0.0
        ),
    ),
    counter(
        "leak_investigations",
        "Times that evidence of a leak was taken.",
        "detector.investigations",
        otel=("memguard.leak.investigations", "{investigation}"),
    ),
    counter(
        "leak_traced_seconds",
        "Time that memguard had tracemalloc on.",
        "detector.traced_seconds",
        otel=("memguard.leak.tracing.time", "s"),
    ),
    gauge(
        "leak_detector_state",
        "1 for what the leak detector does: idle, watching, tracing or cooling.",
        lambda state: None if state.detector is None else _one_of(_STATES, state.detector.state),
        "state",
        across="livesum",
    ),
)
_GC = (
    metric(
        "histogram",
        "gc_pause_seconds",
        "Pauses of the garbage collector.",
        _generations(lambda each: Pauses(each.histogram, each.pause_total)),
        "generation",
    ),
    gauge(
        "gc_longest_pause_seconds",
        "The longest pause of the garbage collector so far.",
        _generations(attrgetter("pause_max")),
        "generation",
        across="livemax",
        otel=("memguard.gc.pause.max", "s"),
    ),
    counter(
        "",
        "Time that the program was stopped by the garbage collector.",
        _generations(attrgetter("pause_total")),
        "generation",
        otel=("memguard.gc.pause.time", "s"),
    ),
    counter(
        "",
        "Pauses of the garbage collector while it was watched.",
        _generations(attrgetter("collections")),
        "generation",
        otel=("memguard.gc.pauses", "{pause}"),
    ),
    gauge(
        "",
        "Part of the time that went into pauses, 0 to 1.",
        "gc.wall_share",
        otel=("memguard.gc.pause.share", "1"),
    ),
)

# -- what it costs --------------------------------------------------------------------------------

_COST = (
    counter(
        "cpu_seconds",
        "Processor time of memguard's threads.",
        _parts("cpu_seconds", "monitor", "detector"),
        "part",
        otel=("memguard.cpu.time", "s"),
    ),
    counter(
        "errors",
        "Failures that memguard caught, by part: monitor, relief, detector.",
        _parts("errors", "monitor", "relief", "detector"),
        "part",
        otel=("memguard.errors", "{error}"),
    ),
)

PARTS: Mapping[str, tuple[Metric, ...]] = {
    "process": _PROCESS,
    "pressure": _PRESSURE,
    "relief": _RELIEF,
    "admission": _ADMISSION,
    "leaks": _LEAKS,
    "gc": _GC,
    "cost": _COST,
}
"""What may fail, each part for itself; only ``process`` is the same for all guards."""

# -- what the semantic conventions of OpenTelemetry have ------------------------------------------

CONVENTIONAL = (
    gauge(
        "",
        "The amount of physical memory in use.",
        "reading.rss",
        of_guard=False,
        otel=("process.memory.usage", "By", "sum"),
    ),
    gauge(
        "",
        "The amount of committed virtual memory.",
        "reading.vms",
        of_guard=False,
        otel=("process.memory.virtual", "By", "sum"),
    ),
    gauge(
        "",
        "Process threads count.",
        "reading.threads",
        of_guard=False,
        otel=("process.thread.count", "{thread}", "sum"),
    ),
    gauge(
        "",
        "Number of unix file descriptors in use by the process.",
        "reading.open_files",
        of_guard=False,
        otel=("process.unix.file_descriptor.count", "{file_descriptor}", "sum"),
    ),
    counter(
        "",
        "The number of times a generation was collected since interpreter start.",
        _collector("collections"),
        "generation",
        of_guard=False,
        otel=("cpython.gc.collections", "{collection}"),
    ),
    counter(
        "",
        "The total number of objects collected inside a generation since interpreter start.",
        _collector("collected"),
        "generation",
        of_guard=False,
        otel=("cpython.gc.collected_objects", "{object}"),
    ),
    counter(
        "",
        "The total number of objects which were found to be uncollectable inside a generation "
        "since interpreter start.",
        _collector("uncollectable"),
        "generation",
        of_guard=False,
        otel=("cpython.gc.uncollectable_objects", "{object}"),
    ),
)

_OF_GUARDS = tuple(metric for part in PARTS.values() for metric in part)
FAMILIES = tuple(
    metric
    for metric in (
        *_OF_GUARDS,
        CONTAINERS,
        FOLDED,
        *OF_CONTAINERS,
        COLLECTOR_RUNS,
        COLLECTOR_SECONDS,
        COLLECTOR_ERRORS,
    )
    if metric.prometheus
)
"""What Prometheus gets, in the order of exposition."""
INSTRUMENTS = tuple(
    metric for metric in (*CONVENTIONAL, *_OF_GUARDS, ALIVE, *OF_CONTAINERS) if metric.otel
)
"""What OpenTelemetry gets."""
