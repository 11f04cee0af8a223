"""
A report for a terminal: at most 60 lines, the most important first.

Pure, but for asking the current directory, which file names are shortened against. Names in a
report come from the program watched and may be hostile: whatever a terminal would not print as
itself is written as an escape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from memguard.leaks.report import Holder, LeakReport, Suspect, TypeGrowth
from memguard.report.render.content import (
    KINDS,
    STATES,
    allocated_for,
    blocks,
    callers,
    callers_note,
    callers_title,
    costs,
    explained,
    garbage,
    hints,
    holder_facts,
    holder_gain,
    holder_size,
    holders_note,
    holders_title,
    is_of_others,
    label,
    last_window,
    of_weight,
    readings,
    stack_shown,
    suspects_note,
    suspects_title,
    trend_of,
    trend_words,
    watched_until,
    why_no_user_line,
    window,
)
from memguard.report.render.resources import group_places, resource_facts, resources_title
from memguard.report.render.words import VERDICTS, Locations, limit, number, printable, rate
from memguard.units import format_bytes, format_seconds

WIDTH = 100
MAX_LINES = 60

_LOUD = (KINDS["leak"], *STATES.values())
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
    resources: int
    groups: int  # of each resource


# The most generous that fits is taken. The last always fits: 6 lines of headline, 4 a holder, 2 a
# suspect, 1 a type, 3 a hint, 2 a limit; and a heading, an "and more" and a blank a section.
_CAPS = (
    _Caps(holders=10, suspects=8, types=8, limits=8, reasons=6, prose=8, resources=4, groups=8),
    _Caps(holders=6, suspects=4, types=4, limits=4, reasons=3, prose=4, resources=3, groups=4),
    _Caps(holders=4, suspects=3, types=3, limits=3, reasons=2, prose=4, resources=2, groups=2),
    _Caps(holders=4, suspects=2, types=2, limits=2, reasons=1, prose=4, resources=1, groups=2),
    _Caps(holders=3, suspects=2, types=2, limits=2, reasons=1, prose=3, resources=1, groups=1),
)
HINTS = 3
"""Hints that are shown: what to do does not give way to minor lines."""


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
    for caps in _CAPS:
        lines = _lines(report, locations, caps)
        if len(lines) <= MAX_LINES:
            break
    return "\n".join(lines) + "\n"


def _lines(report: LeakReport, locations: Locations, caps: _Caps) -> list[str]:
    holders = report.holders[: caps.holders]
    claimed = {holder.path: allocated_for(holder, report.suspects) for holder in holders}
    calling = callers(report)
    shown = calling[: caps.suspects]
    others = [
        each for each in report.suspects if each.callee is None and each not in claimed.values()
    ]
    some = [each for each in claimed.values() if each is not None]
    heavy = of_weight(others, report.suspects)[: caps.suspects - len(shown)]
    looks = last_window(report)
    sections = [
        _headline(report),
        _advice(report, caps),
        _resources(report, caps, locations),
        _section(
            f"{holders_title(report)} ({holders_note(report)})",
            [_holder(holder, report, claimed[holder.path], locations) for holder in holders],
            len(report.holders),
        ),
        _section(
            f"{callers_title()} ({callers_note()})",
            [_caller(suspect, locations) for suspect in shown],
            len(calling),
        ),
        _section(
            f"{suspects_title(report, some_claimed=bool(some))} ({suspects_note(report)})",
            [_suspect(suspect, locations) for suspect in heavy],
            len(others),
        ),
        _section(
            f"Growing types ({looks})" if looks else "Growing types",
            [_type(growth) for growth in report.types[: caps.types]],
            len(report.types),
        ),
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


def _resources(report: LeakReport, caps: _Caps, locations: Locations) -> list[str]:
    if not report.resources:
        return []
    looks = window(report)
    title = resources_title(report)
    lines = [f"{title} ({looks})" if looks else title]
    for growth in report.resources[: caps.resources]:
        lines.append(f"  {printable(resource_facts(growth))}")
        for group in growth.groups[: caps.groups]:
            added = f"{group.added:+,}"
            lines.append(f"    {added:<10}  {printable(group.name)}  ({group.count:,} now)")
            places = [f"{said}  {locations.shown(at)}" for said, at in group_places(group)]
            if places:
                lines.append(_INDENT + "; ".join(places))
    return lines


def _headline(report: LeakReport) -> list[str]:
    trend = trend_of(report)
    revision = f", updated {report.updated_at}" if report.revision > 1 else ""
    kind, words = label(report), trend_words(report)
    growth = (
        f"  {VERDICTS[report.verdict.kind]}; {format_bytes(trend.growth_bytes, signed=True)} over "
        f"a baseline of {format_bytes(trend.baseline_bytes)}, {rate(trend.bytes_per_hour / 60)}"
    )
    lines = [
        f"{kind.upper() if kind in _LOUD else kind}: {report.headline}",
        growth,
        f"  in {readings(report)}{f'; {words}' if words else ''}",
    ]
    if (until := watched_until(report)) is not None:
        lines.append("  " + until)
    if trend.limit_bytes is not None:
        lines.append("  " + limit(trend, trend.limit_bytes))
    parts = explained(report)
    if parts is not None:
        by = "objects" if is_of_others(report) else "holders"
        waits = garbage(report)
        between = f"; garbage in reference cycles: {waits}" if waits else ""
        lines.append(
            f"  explained by the {by} named: {parts[0]}{between}; not explained: {parts[1]}"
        )
    lines.append(
        "  "
        + printable(f"{report.detector}, process {report.pid}, {report.started_at}{revision}")
        + f", {format_seconds(report.uptime_seconds)} after the start of watching"
    )
    return lines


def _holder(
    holder: Holder, report: LeakReport, suspect: Suspect | None, locations: Locations
) -> list[str]:
    facts = [printable(fact) for fact in holder_facts(holder, report, most_types=3)]
    kind, path = printable(holder.type, longest=80), printable(holder.path)
    gain = holder_gain(holder, report)
    what = f"{kind}, one is" if holder.unit == "instances" else "held by"
    name = path if holder.unit == "instances" else f"{path} : {kind}"
    first = f"  {holder_size(holder):<12}  {f'({gain})  ' if gain else ''}{what}  {name}"
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


def _caller(suspect: Suspect, locations: Locations) -> list[str]:
    return _chain(f"  {printable(suspect.callee or '', longest=80)}  from  ", suspect, locations)


def _chain(start: str, suspect: Suspect, locations: Locations) -> list[str]:
    """Return *start*, the user's line, and what it calls or is called by; or why there is none."""
    first, beside, calls = stack_shown(suspect)
    line = start + locations.shown(first)
    if beside is not None:
        more = f"{'→' if calls else '←'}  " + locations.shown(beside, after=first.file)
    elif (reason := why_no_user_line(suspect)) is not None:
        more = f"({reason})"
    else:
        return [line]
    return [f"{line}  {more}"] if len(line) + 2 + len(more) <= WIDTH else [line, _INDENT + more]


def _type(growth: TypeGrowth) -> list[str]:
    added = f"{growth.added:+,}"
    now = f"{growth.count:,} now, {number(growth.per_minute, ',.0f')}/min"
    return [f"  {added:<12}  {printable(growth.name)}  ({now})"]


def _advice(report: LeakReport, caps: _Caps) -> list[str]:
    lines = [
        *_wrapped("  " + report.verdict.advice, most=caps.prose),
        *(
            line
            for hint in hints(report, most=HINTS)
            for line in _wrapped("  - " + hint, most=caps.prose)
        ),
        *(
            line
            for reason in report.verdict.reasons[: caps.reasons]
            for line in _wrapped("  - " + reason, most=1)
        ),
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
