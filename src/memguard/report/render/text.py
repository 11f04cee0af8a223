"""
A report for a terminal: at most 60 lines, the most important first.

Pure, but for asking the current directory, which file names are shortened against. Names in a
report come from the program watched and may be hostile: whatever a terminal would not print as
itself is written as an escape.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from memguard.leaks.report import Holder, LeakReport, Suspect, TypeGrowth
from memguard.report.render.content import (
    HOLDERS_NOTE,
    KINDS,
    allocated_for,
    blocks,
    costs,
    explained,
    hints,
    holder_facts,
    holder_pace,
    holder_size,
)
from memguard.report.render.words import VERDICTS, Locations, limit, number, printable, rate
from memguard.units import format_bytes, format_seconds

WIDTH = 100
MAX_LINES = 60

_INDENT = " " * 16


@dataclass(frozen=True)
class _Caps:
    """How many entries of each section are shown; the JSON has them all."""

    holders: int
    suspects: int
    types: int
    limits: int
    reasons: int
    prose: int  # lines of advice


# The most generous that fits is taken. The last always fits: 5 lines of headline, 4 a holder, 2 a
# suspect, 1 a type, 2 a limit, and a heading, an "and more" and a blank for each section.
_CAPS = (
    _Caps(holders=10, suspects=8, types=8, limits=8, reasons=6, prose=8),
    _Caps(holders=6, suspects=4, types=4, limits=4, reasons=3, prose=4),
    _Caps(holders=4, suspects=3, types=3, limits=3, reasons=2, prose=3),
)
_HINTS = (3, 1, 0)
"""How many hints are shown; they give way to what was found."""


def render_text(report: LeakReport, *, directory: str | None = None) -> str:
    """
    Return *report* as text of at most 60 lines, about 100 columns wide, ending in a newline.

    Longer lines hold a long name, which is left whole so that it can be searched for.

    Args:
        report: What was found; its holders, suspects and types are shown in their order.
        directory: File names below it are shown relative to it; by default the current directory.
    """
    locations = Locations(directory)
    lines: list[str] = []
    for caps, most in itertools.product(_CAPS, _HINTS):
        lines = _lines(report, locations, caps, hints(report, most=most))
        if len(lines) <= MAX_LINES:
            break
    return "\n".join(lines) + "\n"


def _lines(report: LeakReport, locations: Locations, caps: _Caps, said: Sequence[str]) -> list[str]:
    holders = report.holders[: caps.holders]
    claimed = {holder.path: allocated_for(holder, report.suspects) for holder in holders}
    others = [suspect for suspect in report.suspects if suspect not in claimed.values()]
    sections = [
        _headline(report),
        _section(
            f"Held by ({HOLDERS_NOTE})",
            [_holder(holder, claimed[holder.path], locations) for holder in holders],
            len(report.holders),
        ),
        _section(
            "Also allocated at" if len(others) < len(report.suspects) else "Allocated at",
            [_suspect(suspect, locations) for suspect in others[: caps.suspects]],
            len(others),
        ),
        _section(
            "Growing types",
            [_type(growth) for growth in report.types[: caps.types]],
            len(report.types),
        ),
        _advice(report, caps, said),
        _section(
            "Not seen",
            [_wrapped("  - " + unseen, most=2) for unseen in report.limits[: caps.limits]],
            len(report.limits),
        ),
        _cost(report),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section).split("\n")


def _section(title: str, entries: Sequence[Sequence[str]], found: int) -> list[str]:
    if not entries:
        return []
    more = [f"  and {found - len(entries):,} more"] if found > len(entries) else []
    return [title, *(line for entry in entries for line in entry), *more]


def _headline(report: LeakReport) -> list[str]:
    trend = report.trend
    revision = f", updated {report.updated_at}" if report.revision > 1 else ""
    growth = (
        f"  {format_bytes(trend.growth_bytes, signed=True)} over a baseline of "
        f"{format_bytes(trend.baseline_bytes)}, {rate(trend.bytes_per_hour / 60)}; trend "
        f"{printable(trend.kind, longest=40)}, confidence {number(trend.confidence, '.2f')}, "
        f"{trend.samples:,} readings in {format_seconds(trend.span_seconds)}"
    )
    kind = "LEAK" if report.kind == "leak" else KINDS[report.kind]
    lines = [f"{kind}: {VERDICTS[report.verdict.kind]}", growth]
    if trend.limit_bytes is not None:
        lines.append("  " + limit(trend, trend.limit_bytes))
    share = explained(report)
    if share is not None:
        lines.append(f"  the holders named account for {share} of the growth rate")
    lines.append(
        "  "
        + printable(f"{report.detector}, process {report.pid}, {report.started_at}{revision}")
        + f", {format_seconds(report.uptime_seconds)} after the start of watching"
    )
    return lines


def _holder(holder: Holder, suspect: Suspect | None, locations: Locations) -> list[str]:
    facts = [printable(fact) for fact in holder_facts(holder, most_types=3)]
    first = (
        f"  {holder_size(holder):<12}  ({holder.entries_added:+,} entries{holder_pace(holder)})  "
        f"held by  {printable(holder.path)} : {printable(holder.type, longest=80)}"
    )
    lines = [first, _INDENT + "; ".join(facts)]
    if suspect is not None:
        lines += _chain(f"{_INDENT}allocated at  ", suspect, locations)
    elif holder.site is not None:
        lines.append(f"{_INDENT}allocated at  {locations.shown(holder.site)}")
    return lines


def _suspect(suspect: Suspect, locations: Locations) -> list[str]:
    # No rate: what no holder explains may be a request in flight when a short burst ended.
    size = format_bytes(suspect.bytes, signed=True)
    amount = f"  {size:<12}  ({blocks(suspect)} alive)  "
    return _chain(amount, suspect, locations)


def _chain(start: str, suspect: Suspect, locations: Locations) -> list[str]:
    """Return *start*, the allocating line and the nearest caller in the user's own code."""
    line = start + locations.shown(suspect)
    site = (suspect.file, suspect.line)
    above = (frame for frame in suspect.frames[1:] if (frame.file, frame.line) != site)
    caller = next((frame for frame in above if frame.in_user_code), None)
    if caller is None:
        return [line]
    called_from = "←  " + locations.shown(caller, after=suspect.file)
    if len(line) + 2 + len(called_from) <= WIDTH:
        return [f"{line}  {called_from}"]
    return [line, _INDENT + called_from]


def _type(growth: TypeGrowth) -> list[str]:
    added = f"{growth.added:+,}"
    now = f"{growth.count:,} now, {number(growth.per_minute, ',.0f')}/min"
    return [f"  {added:<12}  {printable(growth.name)}  ({now})"]


def _advice(report: LeakReport, caps: _Caps, said: Sequence[str]) -> list[str]:
    advice = _wrapped("  " + report.verdict.advice, most=caps.prose)
    reasons = report.verdict.reasons[: caps.reasons]
    lines = [
        *advice,
        *(line for hint in said for line in _wrapped("  - " + hint, most=2)),
        *(line for reason in reasons for line in _wrapped("  - " + reason, most=1)),
    ]
    return ["What to do", *lines] if lines else []


def _cost(report: LeakReport) -> list[str]:
    *times, tracer = (f"{name.lower()} {amount}" for name, amount in costs(report.cost))
    python = printable(report.python, longest=60) or "Python"
    return [f"Cost: {', '.join(times)}", f"      {tracer}; {python}"]


def _wrapped(text: str, *, most: int) -> list[str]:
    """Return *text* in at most *most* lines, indented as its first one."""
    body = text.lstrip(" -")
    indent = " " * (len(text) - len(body))
    return textwrap.wrap(
        printable(" ".join(body.split()), longest=WIDTH * most * 2),
        WIDTH,
        initial_indent=text[: len(indent)],
        subsequent_indent=indent,
        max_lines=most,
        placeholder=" ...",
    )
