"""
The status that a guard publishes: its state at one moment, small enough to write every second.

Plain data and its JSON, ASCII only. The one who reads it may be another user and another version of
memguard, so reading is strict: what comes back is strings and finite numbers of a sane size.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memguard._version import __version__
from memguard.bounded.inventory import InventoryRow
from memguard.errors import ReportFormatError
from memguard.leaks.report import FindingState, LeakReport
from memguard.observe.readings import Reading
from memguard.relief.records import Alert
from memguard.report.render.words import VERDICTS, Locations
from memguard.report.state import GuardState
from memguard.schema import plain, read

STATUS_VERSION = 1
MOST_BYTES = 256 * 1024
"""A longer one is none; usual are some KiB."""
MOST_CONTAINERS = 30
MOST_REPORTS = 5
MOST_POINTS = 120
"""Of the curve."""
_LONGEST = 120
"""Characters of a name."""
_LARGEST = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRow:
    """One container."""

    name: str
    kind: str
    items: int
    bytes: int | None
    """As it counts them; None if it counts no bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert."""

    kind: str
    level: str
    previous: str
    time: float
    """Seconds since the epoch."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One leak report, in short."""

    id: str
    kind: str
    updated_at: str
    """ISO 8601, UTC."""
    growth_bytes: int
    bytes_per_minute: float
    verdict: str
    """In words."""
    holder: str | None
    """How to reach what holds the most: ``shop.SESSIONS``."""
    holder_type: str | None
    place: str | None
    """The line that allocates the most, and its function."""
    state: FindingState | None = None
    fingerprint: str = ""
    """The same for the same leak in every process; see `memguard.LeakReport`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """What a guard knew when this was written. Bytes and seconds; None if unknown."""

    version: int
    """`STATUS_VERSION` of the writer."""
    memguard: str
    """The writer's version of memguard."""
    python: str
    pid: int
    program: str
    guard: str
    """The guard's name."""
    running: bool
    written: float
    """Seconds since the epoch."""
    within: float
    """The next one is due within so many seconds."""
    rss: int | None
    private: int | None
    """What only this process holds; the number a leak grows."""
    swap: int | None
    threads: int | None
    descriptors: int | None
    """Open file descriptors, sockets included."""
    descriptors_limit: int | None
    tasks: int | None
    """asyncio tasks."""
    level: str
    reasons: tuple[str, ...]
    used: int | None
    """In the scope of the bound that is fullest."""
    limit: int | None
    """That bound."""
    source: str
    """Where it is written."""
    bytes_per_minute: float
    """Growth over the last seconds."""
    stall_some: float | None
    """Percent of the time that some task waited for memory."""
    curve_seconds: tuple[float, ...]
    """How long before `written` each point of the curve was read, oldest first."""
    curve_bytes: tuple[int, ...]
    """Private memory at each of these points."""
    gc_share: float | None
    """Part of the time that went into the collector's pauses, 0 to 1."""
    gc_longest: float | None
    """The longest pause, seconds."""
    gc_collections: int | None
    relief_runs: int | None
    """None if nothing is freed."""
    relief_freed: int | None
    detector: str | None
    """What the leak detector is doing; None if leaks are not watched."""
    findings: int | None
    containers: tuple[ContainerRow, ...]
    """The largest, by bytes and then by items."""
    containers_count: int
    """All of them."""
    containers_bytes: int
    """What those that count bytes hold, together."""
    alerts: tuple[AlertRow, ...]
    """The latest, oldest first."""
    reports: tuple[ReportRow, ...]
    """The latest, oldest first."""
    errors: int
    """Failures of memguard itself that were caught."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready dicts, lists, strings and numbers."""
        result: dict[str, Any] = plain(asdict(self))
        return result


def status_of(
    state: GuardState, readings: Sequence[Reading], *, pid: int, program: str, within: float
) -> ProcessStatus:
    """
    Return what *state* and the guard's last *readings*, oldest first, say.

    Cost: O(readings + containers); some hundred µs.
    """
    reading, pressure, watch = state.reading, state.pressure, state.gc
    seconds, sizes = _curve(readings, reading.at)
    rows = sorted(state.containers, key=lambda row: (row.bytes or 0, row.items), reverse=True)
    detector, relief = state.detector, state.relief
    parts = (state.monitor, detector, relief)
    return ProcessStatus(
        version=STATUS_VERSION,
        memguard=__version__,
        python=platform.python_version(),
        pid=pid,
        program=_cut(program),
        guard=_cut(state.name),
        running=state.running,
        written=state.time,
        within=within,
        rss=reading.rss,
        private=reading.private,
        swap=reading.swap,
        threads=reading.threads,
        descriptors=reading.open_files,
        descriptors_limit=reading.open_files_limit,
        tasks=reading.tasks,
        level=pressure.level,
        reasons=tuple(map(_cut, pressure.reasons[:5])),
        used=pressure.used,
        limit=pressure.limit,
        source=_cut(pressure.source),
        bytes_per_minute=pressure.bytes_per_minute,
        stall_some=pressure.stall_some,
        curve_seconds=seconds,
        curve_bytes=sizes,
        gc_share=None if watch is None else watch.wall_share,
        gc_longest=None if watch is None else watch.pause_max,
        gc_collections=None if watch is None else watch.collections,
        relief_runs=None if relief is None else relief.runs,
        relief_freed=None if relief is None else relief.freed,
        detector=None if detector is None else detector.state,
        findings=None if detector is None else detector.findings,
        containers=tuple(map(_container, rows[:MOST_CONTAINERS])),
        containers_count=len(rows),
        containers_bytes=sum(row.bytes or 0 for row in rows),
        alerts=tuple(map(_alert, state.alerts[-10:])),
        reports=tuple(map(report_row, state.reports[-MOST_REPORTS:])),
        errors=sum(part.errors for part in parts if part is not None),
    )


def encode(status: ProcessStatus) -> bytes:
    """Return *status* as one line of JSON."""
    return json.dumps(status.to_dict(), allow_nan=False).encode("ascii") + b"\n"


def decode(content: bytes) -> ProcessStatus:
    """
    Return the status that ``encode`` made *content* from. Safe for untrusted input.

    Raises:
        ReportFormatError: It is too long, no JSON, of another version, or a field is wrong.
    """
    return from_dict(load(content))


def load(content: bytes) -> Any:
    """
    Return the JSON in *content*, of a sane length and with numbers of a sane size.

    Raises:
        ReportFormatError: It is too long, or no JSON.
    """
    if len(content) > MOST_BYTES:
        raise ReportFormatError(f"there are more than {MOST_BYTES} bytes")
    try:
        return json.loads(
            content, parse_int=_whole, parse_float=_number, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise ReportFormatError(f"it must be JSON ({error})") from error


def from_dict(data: object) -> ProcessStatus:
    """
    Return the status that ``to_dict`` made *data* from.

    Raises:
        ReportFormatError: Another version, or a missing, unknown or mistyped field.
    """
    version = data.get("version") if isinstance(data, dict) else None
    if version != STATUS_VERSION:
        raise ReportFormatError(
            f"a status's version must be {STATUS_VERSION} (got {version!r:.20}); "
            "look at this process with the memguard that it runs"
        )
    status = read(ProcessStatus, data, "status")
    if len(status.curve_seconds) != len(status.curve_bytes):
        raise ReportFormatError("status.curve_seconds and curve_bytes must be equally long")
    return status


def _curve(readings: Sequence[Reading], now: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Thin *readings* to `MOST_POINTS`, the newest among them."""
    step = -(-len(readings) // MOST_POINTS) or 1
    seconds: list[float] = []
    sizes: list[int] = []
    for reading in reversed(readings[::-1][::step]):
        private = reading.private
        if private is not None:
            seconds.append(round(max(0.0, now - reading.at), 2))
            sizes.append(private)
    return tuple(seconds), tuple(sizes)


def _container(row: InventoryRow) -> ContainerRow:
    return ContainerRow(name=_cut(row.name), kind=_cut(row.kind), items=row.items, bytes=row.bytes)


def _alert(alert: Alert) -> AlertRow:
    return AlertRow(
        kind=alert.kind,
        level=alert.level,
        previous=alert.previous,
        time=alert.time,
        reasons=tuple(map(_cut, alert.reasons[:3])),
    )


def report_row(report: LeakReport) -> ReportRow:
    """Return *report* in short."""
    holder = next(iter(report.holders), None)
    place = report.place
    return ReportRow(
        id=_cut(report.id),
        kind=report.kind,
        updated_at=report.updated_at,
        growth_bytes=report.trend.growth_bytes,
        bytes_per_minute=report.trend.bytes_per_hour / 60,
        verdict=VERDICTS[report.verdict.kind],
        holder=None if holder is None else _cut(holder.path),
        holder_type=None if holder is None else _cut(holder.type),
        place=None if place is None else _cut(Locations().shown(place)),
        state=report.state,
        fingerprint=_cut(report.fingerprint),
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > _LARGEST:
        raise ValueError("a number is out of all bounds")
    return value


def _number(text: str) -> float:
    value = float(text)
    if abs(value) > _LARGEST:
        raise ValueError("a number is out of all bounds")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
