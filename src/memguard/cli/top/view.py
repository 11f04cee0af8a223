"""
What ``memguard top`` shows, as lines of styled words: rich in the live view, plain elsewhere.

Pure. Whatever comes from the watched process is made printable here and nowhere later.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from memguard.leaks.growth.series import Point
from memguard.leaks.growth.trend import pace
from memguard.report.health.health_report import (
    AlertHealth,
    ContainerHealth,
    HealthReport,
    LeakHealth,
)
from memguard.report.publish.process_status import ProcessStatus
from memguard.report.render.words import VERDICTS, printable, rate
from memguard.units import MiB, format_bytes, format_seconds

Style = Literal["", "dim", "bold", "ok", "elevated", "critical", "curve"]
MOST_POINTS = 600
_OF_HOST = ("MemTotal", "psutil", "SC_PHYS_PAGES")
_MOST_ALERTS = 5
_MOST_LEAKS = 5
_MOST_DEGRADED = 5
_STEADY = 1024
"""Bytes a minute that are no growth worth a word."""
_LEAST_RANGE = 1 * MiB
"""Of the curve's height: noise of some pages must not look like a mountain."""


class Span(NamedTuple):
    """Words of one style."""

    text: str
    style: Style = ""


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a title."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that pictures are made of."""

    eighths: str
    """From empty to full, upwards."""
    full: str
    empty: str


BLOCKS = Glyphs(" ▁▂▃▄▅▆▇█", "█", "░")
ASCII = Glyphs(" ..::||##", "#", "-")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Return block characters if *encoding* has them, else ASCII."""
    try:
        f"{BLOCKS.eighths}{BLOCKS.empty}".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


class Trail:
    """
    One process's private memory over time, as far as known.

    Bounded by: `MOST_POINTS` points, oldest dropped first.
    Locks: none; for one thread.
    Keeps alive: numbers.
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=MOST_POINTS)

    def add(self, status: ProcessStatus) -> None:
        """Add what of *status* is newer than what is known."""
        written = status.health.time_seconds
        if not math.isfinite(written):
            return
        last = self._points[-1].at if self._points else -math.inf
        known = zip(status.curve_seconds, status.curve_bytes, strict=True)
        newer = [Point(written - before, size) for before, size in known]
        private = status.health.memory.private_bytes
        if private is not None:
            newer.append(Point(written, private))
        for point in newer:
            if point.at > last + 0.05:  # the same reading, published twice
                self._points.append(point)
                last = point.at

    @property
    def points(self) -> tuple[Point, ...]:
        """Seconds since the epoch and bytes, oldest first."""
        return tuple(self._points)


def sections(
    status: ProcessStatus,
    points: Sequence[Point],
    *,
    width: int,
    height: int | None = None,
    glyphs: Glyphs = BLOCKS,
) -> tuple[Section, ...]:
    """
    Return what to show of *status*.

    Args:
        status: What the guard published last.
        points: Its memory over time.
        width: Columns.
        height: Lines in all, titles and frames included; None if there is no bound.
        glyphs: What pictures are made of.
    """
    room = 1000 if height is None else height - 8  # four titles, four ends of frames
    rows = 4 if room >= 20 else 2 if room >= 12 else 1
    health = status.health
    memory = _memory(health, points, width=width, rows=rows, glyphs=glyphs)
    room = max(3, room - len(memory))
    alerts = tuple(map(_alert, reversed(health.alerts[-_MOST_ALERTS:]))) or (_nothing(),)
    alerts = alerts[: max(1, room // 4)]
    latest = reversed(health.leaks[-_MOST_LEAKS:])
    reports = tuple(line for row in latest for line in _report(row))
    reports = reports or (_nothing() if health.leaks_state else (Span("not watched for", "dim"),),)
    reports = reports[: max(1, (room - len(alerts)) // 2)]
    left = max(1, room - len(alerts) - len(reports))
    return (
        Section("memory", memory),
        Section(_containers_title(health), _containers(health.containers.largest, left)),
        Section("alerts", alerts),
        Section("leak reports", reports),
    )


def headline(status: ProcessStatus, *, age: float) -> Line:
    """Return who this is, and if an update is overdue, how old the state is; *age* in seconds."""
    who = f"{printable(status.program)}, process {status.health.process_id}"
    about = [f"guard {printable(status.health.guard)}"]
    if status.python:
        about += [
            f"Python {printable(status.python)}",
            f"memguard {printable(status.memguard)}",
        ]
    line = [Span(who, "bold"), Span(f"   {', '.join(about)}", "dim")]
    if is_late(status, age):
        line.append(Span(f"   no update for {format_seconds(age)}", "critical"))
    return tuple(line)


def is_late(status: ProcessStatus, age: float) -> bool:
    """Return True when an update of *status*'s guard is overdue: it hangs, or was suspended."""
    within = status.within if math.isfinite(status.within) else 0.0
    return age > max(10.0, 2 * within)


def plain(
    status: ProcessStatus,
    points: Sequence[Point],
    *,
    age: float,
    width: int,
    glyphs: Glyphs = BLOCKS,
) -> str:
    """Return everything as text, ending in a newline."""
    lines = [_text(headline(status, age=age))]
    for section in sections(status, points, width=width - 2, glyphs=glyphs):
        lines += ["", section.title, *(f"  {_text(line)}".rstrip() for line in section.lines)]
    return "\n".join(lines) + "\n"


def listed(statuses: Iterable[ProcessStatus]) -> str:
    """Return a table of processes to choose from."""
    rows = [("PID", "PRIVATE", "LEVEL", "GUARD", "PROGRAM")]
    rows += [
        (
            str(one.health.process_id),
            _bytes(one.health.memory.private_bytes),
            _level(one.health.level),
            printable(one.health.guard, longest=30),
            printable(one.program, longest=60),
        )
        for one in statuses
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "".join(
        f"{row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}  "
        f"{row[3]:{widths[3]}}  {row[4]}\n"
        for row in rows
    )


def chart(points: Sequence[Point], *, width: int, rows: int, glyphs: Glyphs = BLOCKS) -> list[str]:
    """
    Draw *points* over time, the highest of each column, in *rows* lines; the top one first.

    The lowest line is the lowest point and not zero; the height is a MiB at least.
    """
    if not points or width < 1:
        return []
    first, last = points[0].at, points[-1].at
    span = max(last - first, 1e-9)
    columns: list[int | None] = [None] * width
    for point in points:
        place = min(width - 1, int((point.at - first) / span * width))
        columns[place] = max(columns[place] or 0, point.value)
    low = min(point.value for point in points)
    high = max(low + _LEAST_RANGE, *(point.value for point in points))
    steps = rows * (len(glyphs.eighths) - 1)
    heights: list[int] = []
    for column in columns:  # where nothing was read, it is taken to be as it was
        before = heights[-1] if heights else 1
        heights.append(
            before if column is None else 1 + round((column - low) / (high - low) * (steps - 1))
        )
    each = len(glyphs.eighths) - 1
    return [
        "".join(glyphs.eighths[max(0, min(each, height - row * each))] for height in heights)
        for row in reversed(range(rows))
    ]


def gauge(share: float, *, width: int, glyphs: Glyphs = BLOCKS) -> str:
    """Return a bar of *width* characters, filled to *share*."""
    filled = round(min(1.0, max(0.0, share)) * width)
    return glyphs.full * filled + glyphs.empty * (width - filled)


def _counts(health: HealthReport) -> str:
    """Return the threads, descriptors and tasks of a process; empty for what is not known."""
    memory = health.memory
    counts = [] if memory.threads is None else [f"{memory.threads:,} threads"]
    if memory.open_descriptors is not None:
        counts.append(f"{memory.open_descriptors:,} fds")
    if memory.asyncio_tasks:
        counts.append(f"{memory.asyncio_tasks:,} tasks")
    return "".join(f"   {each}" for each in counts)


def _memory(
    health: HealthReport, points: Sequence[Point], *, width: int, rows: int, glyphs: Glyphs
) -> tuple[Line, ...]:
    """Return what is the process's own, then what it shares its limit with."""
    memory = health.memory
    sizes = (
        Span(f"{_bytes(memory.private_bytes)} private", "bold"),
        Span(
            f"   {_bytes(memory.resident_bytes)} resident   "
            f"{_bytes(memory.swapped_bytes)} swapped{_counts(health)}"
        ),
    )
    lines: list[Line] = [sizes, _pace(points)]
    lines += [
        (Span(row, "curve"),)
        for row in chart(points, width=min(width, MOST_POINTS), rows=rows, glyphs=glyphs)
    ]
    lines += [
        (Span(f"off: {printable(off.part)}  ", "elevated"), Span(printable(off.reason)))
        for off in health.degraded[:_MOST_DEGRADED]
    ]
    lines.append(_limit(health, width, glyphs))
    lines += [(Span(printable(reason), _style(health.level)),) for reason in health.reasons[:5]]
    lines.append(_upkeep(health))
    return tuple(lines)


def _limit(health: HealthReport, width: int, glyphs: Glyphs) -> Line:
    level = Span(_level(health.level), _style(health.level))
    limit = health.limit
    if not limit.limit_bytes or limit.used_bytes is None:
        return (Span("no limit known   "), level)
    share = limit.used_bytes / limit.limit_bytes
    of = f"{format_bytes(limit.used_bytes)} of {format_bytes(limit.limit_bytes)}"
    is_host = limit.limit_source in _OF_HOST
    source = "the whole host" if is_host else printable(limit.limit_source, longest=60)
    growth = limit.growth_bytes_per_minute
    whole = ""
    if math.isfinite(growth) and abs(growth) >= _STEADY:
        whole = f"   all that it counts: {_signed_rate(growth)}"
    words = f"  {share:.0%}  {of} ({source})   "
    bar = gauge(share, width=max(10, min(40, width - len(words) - 20)), glyphs=glyphs)
    return (Span(bar, _style(health.level)), Span(words), level, Span(whole, "dim"))


def _pace(points: Sequence[Point]) -> Line:
    if not points:
        return (Span("no history is kept", "dim"),)
    low, high = min(p.value for p in points), max(p.value for p in points)
    if len(points) == 1:
        return (Span(f"{format_bytes(high)} now; the curve begins here", "dim"),)
    span = f"{format_seconds(points[-1].at - points[0].at)}: "
    text = f"last {span}{format_bytes(low)} to {format_bytes(high)}"
    seen = pace(points)
    if seen is None:
        return (Span(text),)
    is_steady = abs(seen[0]) < _STEADY
    growth = "not growing" if is_steady else f"growth {_signed_rate(seen[0])}"
    return (Span(f"{text}, {growth}"),)


def _upkeep(health: HealthReport) -> Line:
    parts, gc, relief = [], health.gc, health.relief
    if gc is not None and math.isfinite(gc.pause_ratio):
        longest = f"longest pause {format_seconds(gc.longest_pause_seconds)}"
        parts.append(f"collector {gc.pause_ratio:.2%} of the time, {longest}")
    if relief is not None and relief.runs:
        freed = format_bytes(relief.freed_bytes)
        parts.append(f"relief: {_count(relief.runs, 'run')}, {freed} freed")
    if health.leaks_state is not None:
        found = f", {_count(health.findings, 'finding')}" if health.findings else ""
        parts.append(f"leak detector: {printable(health.leaks_state)}{found}")
    if health.errors:
        parts.append(f"failures inside memguard: {health.errors}")
    return (Span("   ".join(parts), "dim"),)


def _containers_title(health: HealthReport) -> str:
    containers = health.containers
    if not containers.count:
        return "containers"
    return f"containers: {containers.count}, {format_bytes(containers.bytes)} as they report"


def _containers(rows: Sequence[ContainerHealth], most: int) -> tuple[Line, ...]:
    if not rows:
        return (_nothing(),)
    shown = rows if len(rows) <= most else rows[: max(1, most - 1)]
    names = [printable(row.name, longest=40) for row in shown]
    kinds = [printable(row.kind, longest=24) for row in shown]
    name, kind = max(map(len, names)), max(map(len, kinds))
    lines: list[Line] = [
        (
            Span(f"{_bytes(row.bytes):>11}  ", "bold"),
            Span(f"{row.items:>9,}  {names[number]:{name}}  "),
            Span(f"{kinds[number]:{kind}}", "dim"),
        )
        for number, row in enumerate(shown)
    ]
    if len(shown) < min(len(rows), most):
        lines.append((Span(f"{len(rows) - len(shown)} more", "dim"),))
    return tuple(lines)


def _alert(row: AlertHealth) -> Line:
    style = _style(row.level)
    what = _level(row.level) if row.kind == "level" else printable(row.kind)
    was = f" (was {_level(row.previous_level)})" if row.previous_level != row.level else ""
    why = "; ".join(map(printable, row.reasons[:3]))
    return (
        Span(f"{_clock(row.time_seconds)}  ", "dim"),
        Span(what, style),
        Span(f"{was}  {why}".rstrip()),
    )


def _report(row: LeakHealth) -> tuple[Line, ...]:
    is_over = row.state in ("ended", "retracted")
    style: Style = "ok" if is_over else "critical" if row.kind == "leak" else "elevated"
    size = format_bytes(row.growth_bytes, signed=True)
    verdict = printable(VERDICTS.get(row.verdict, row.verdict))
    what = f"  {size}, {rate(row.growth_bytes_per_hour / 60)}, {verdict}"
    is_plain = row.state in (None, "leaking")  # its kind says it
    name = row.kind if is_plain else f"{row.kind}, {row.state}"
    lines: list[Line] = [(Span(printable(name), style), Span(what))]
    if row.holder is not None:
        kind = "" if row.holder_type is None else f" : {printable(row.holder_type)}"
        held = f"{printable(row.holder)}{kind}"
        lines.append((Span("  held by       ", "dim"), Span(held, "bold")))
    if row.allocated_at is not None:
        lines.append((Span("  allocated at  ", "dim"), Span(printable(row.allocated_at), "bold")))
    return tuple(lines)


def _nothing() -> Line:
    return (Span("none", "dim"),)


def _text(line: Line) -> str:
    return "".join(span.text for span in line)


def _bytes(size: int | None) -> str:
    return "?" if size is None else format_bytes(size)


def _count(number: int | None, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _signed_rate(bytes_per_minute: float) -> str:
    return ("+" if bytes_per_minute > 0 else "") + rate(bytes_per_minute)


def _level(level: str) -> str:
    return "not known yet" if level == "insufficient_data" else printable(level, longest=20)


def _style(level: str) -> Style:
    styles: dict[str, Style] = {"ok": "ok", "elevated": "elevated", "critical": "critical"}
    return styles.get(level, "dim")


def _clock(seconds: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # no such day
        return "--:--:--"
