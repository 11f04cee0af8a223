"""
What a guard knows as rows of samples: one function for each part, so that each may fail alone.

Pure: figures in, rows out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from memguard._version import __version__
from memguard.report.metrics.prometheus import families
from memguard.report.metrics.prometheus.families import Family
from memguard.report.render.words import printable
from memguard.report.state import GuardState

LONGEST_LABEL = 120
"""Characters of a label value; what is longer is cut in the middle."""

NUMBERS = (int, float)
MOST = 1e300
"""A larger int would make the client fail where it writes a double; NaN is not below it."""

_LEVELS = ("ok", "elevated", "critical", "insufficient_data")
_STATES = ("idle", "watching", "tracing", "cooling")
_SOURCES = ("cgroup", "rlimit", "host", "own", "unknown")
_ALERTS = ("level", "ineffective", "recycle")


@dataclass(frozen=True, slots=True)
class Pauses:
    """A histogram: how many were as long as that, not cumulated, and all of them together."""

    buckets: tuple[tuple[float, int], ...]
    """(upper bound in seconds, pauses up to it and above the bound before); the last is inf."""
    total: float
    """Seconds."""


Row: TypeAlias = tuple[Family, dict[str, str], "float | Pauses"]
"""One sample, or one histogram: what it is of, its labels, its value; plain, for there are many."""

Table: TypeAlias = dict[Family, tuple[list[dict[str, str]], "list[float | Pauses]"]]
"""Rows by what they are of: labels, and as many values, for each."""


def rows_of(table: Table) -> Iterator[Row]:
    """Yield the rows of *table*."""
    for family, column in table.items():
        for labels, value in zip(*column, strict=True):
            yield family, labels, value


def label(text: Any) -> str:
    """
    Return *text* as the value of a label: one printable line of at most ``LONGEST_LABEL``.

    Nothing of a stranger's is called: what is no string is told by its type.
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


def is_number(value: object) -> bool:
    """Return whether *value* can be told: an int or float itself, finite, that fits a double."""
    return type(value) in NUMBERS and -MOST < value < MOST  # type: ignore[operator]  # reason: the types are known by then


def bound_label(seconds: float) -> str:
    """Return the upper bound of a bucket as OpenMetrics writes it (canonical numbers)."""
    return "+Inf" if seconds == math.inf else repr(float(seconds))


def known(rows: Iterable[tuple[Family, dict[str, str], Any]]) -> list[Row]:
    """Return those with a value that can be told."""
    # As is_number says it; there are a hundred at each scrape.
    return [row for row in rows if type(row[2]) in NUMBERS and -MOST < row[2] < MOST]


def _one_of(family: Family, guard: str, names: tuple[str, ...], current: str | None) -> list[Row]:
    """Return a row for each of *names*: 1 for the current one, else 0."""
    label_name = family.labels[1]
    return [(family, {"guard": guard, label_name: name}, int(name == current)) for name in names]


# -- this process ---------------------------------------------------------------------------------


def process_rows(found: GuardState) -> Iterator[Row]:
    """Yield what is the same for every guard of the process."""
    reading = found.reading
    nothing: dict[str, str] = {}
    yield (families.BUILD_INFO, {"version": __version__}, 1)
    yield from known(
        (
            (families.PRIVATE, nothing, reading.private),
            (families.RESIDENT, {"memory": "anonymous"}, reading.anon),
            (families.RESIDENT, {"memory": "file"}, reading.file),
            (families.RESIDENT, {"memory": "shared"}, reading.shmem),
            (families.SWAPPED, nothing, reading.swap),
            (families.PEAK, nothing, reading.peak),
            (families.BLOCKS, nothing, reading.blocks),
            (families.THREADS, nothing, reading.threads),
            (families.TRACED, nothing, reading.traced or 0),
            (families.TRACER, nothing, reading.tracer or 0),
        )
    )


# -- one guard ------------------------------------------------------------------------------------


def pressure_rows(found: GuardState, guard: str) -> Iterator[Row]:
    """Yield how near the limit is; nothing of that while the guard does not look."""
    labels = {"guard": guard}
    monitor, pressure = found.monitor, found.pressure
    yield (families.RUNNING, labels, int(found.running))
    # The last look of a guard that was stopped would go on to be told for ever.
    if found.running and pressure.at is not None:
        stall = pressure.stall_some
        yield from known(
            (
                (families.USED, labels, pressure.used),
                (families.LIMIT, labels, pressure.limit),
                (families.USED_RATIO, labels, pressure.used_ratio),
                (families.GROWTH, labels, pressure.bytes_per_minute / 60),
                (families.STALL, labels, None if stall is None else stall / 100),
            )
        )
        yield from _one_of(families.LEVEL, guard, _LEVELS, pressure.level)
        if pressure.limit is not None:
            yield from _one_of(families.LIMIT_SOURCE, guard, _SOURCES, source_of(pressure.source))
    raised: dict[str, int] = dict(monitor.alerts_by_kind)
    yield from known(
        (
            (families.LOOKS, labels, monitor.ticks),
            (families.LEVEL_CHANGES, labels, monitor.level_changes),
            *(
                (families.ALERTS, {"guard": guard, "kind": kind}, raised.get(kind, 0))
                for kind in _ALERTS
            ),
            (families.CPU, {"guard": guard, "part": "monitor"}, monitor.cpu_seconds),
            (families.ERRORS, {"guard": guard, "part": "monitor"}, monitor.errors),
        )
    )


def source_of(limit_source: str) -> str:
    """Return which kind of bound a limit is, by where it is written."""
    if limit_source.startswith("RLIMIT_"):
        return "rlimit"
    if limit_source.startswith("/"):
        return "cgroup"
    return {"option limit": "own", "MemTotal": "host", "psutil": "host"}.get(
        limit_source, "unknown"
    )


def relief_rows(found: GuardState, guard: str) -> Iterator[Row]:
    """Yield what was given back."""
    relief = found.relief
    if relief is None:
        return
    labels = {"guard": guard}
    yield from known(
        (
            (families.RELIEF_RUNS, labels, relief.runs),
            (families.RELIEF_REFUSED, labels, relief.refused),
            (families.RELIEF_FREED, labels, relief.freed),
            (families.RELIEF_RETURNED, labels, relief.rss_freed),
            (families.RELIEF_SECONDS, labels, relief.seconds),
            (families.RELIEF_LONGEST, labels, relief.longest_seconds),
            (families.LOWERED, labels, relief.lowered_caches),
            (families.ERRORS, {"guard": guard, "part": "relief"}, relief.errors),
        )
    )


def admission_rows(found: GuardState, guard: str) -> Iterator[Row]:
    """Yield who was let in."""
    admission, labels = found.admission, {"guard": guard}
    yield from known(
        (
            (families.ADMITTED, labels, admission.admitted),
            (families.REFUSED, labels, admission.refused),
            (families.WAITED, labels, admission.waited),
            (families.WAIT_SECONDS, labels, admission.waited_seconds),
            (families.ADMISSION_RUNNING, labels, admission.running),
            (families.PROMISED, labels, admission.promised),
        )
    )


def leak_rows(found: GuardState, guard: str) -> Iterator[Row]:
    """Yield what the leak detector did and found."""
    detector, labels = found.detector, {"guard": guard}
    if detector is None:
        return
    yield from _one_of(families.DETECTOR_STATE, guard, _STATES, detector.state)
    yield from known(
        (
            (families.LEAKS, labels, detector.findings),
            (families.INVESTIGATIONS, labels, detector.investigations),
            (families.TRACED_SECONDS, labels, detector.traced_seconds),
            (families.CPU, {"guard": guard, "part": "detector"}, detector.cpu_seconds),
            (families.ERRORS, {"guard": guard, "part": "detector"}, detector.errors),
        )
    )
    leaks = [report for report in found.reports if report.kind == "leak"]
    if leaks:
        latest = max(leaks, key=lambda report: report.updated_at)
        updated = datetime.fromisoformat(latest.updated_at)
        if updated.tzinfo is None:
            updated = updated.replace(tzinfo=UTC)
        yield from known(
            (
                (families.LAST_LEAK, labels, updated.timestamp()),
                (families.LEAK_RATE, labels, latest.trend.bytes_per_hour / 3600),
            )
        )


def gc_rows(found: GuardState, guard: str) -> Iterator[Row]:
    """Yield the pauses of the garbage collector by generation."""
    if found.gc is None:
        return
    for row in found.gc.generations:
        labels = {"guard": guard, "generation": str(row.generation)}
        yield (families.GC_PAUSES, labels, Pauses(row.histogram, row.pause_total))
        yield (families.GC_LONGEST, labels, row.pause_max)


GUARD_PARTS: tuple[tuple[str, Callable[[GuardState, str], Iterator[Row]]], ...] = (
    ("pressure", pressure_rows),
    ("relief", relief_rows),
    ("admission", admission_rows),
    ("leaks", leak_rows),
    ("gc", gc_rows),
)
"""The parts of one guard, by the name under which their failures are counted."""
