"""The sections of the live page: each takes the state of the guard and returns markup. Pure."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence

from memguard.bounded.inventory import InventoryRow
from memguard.leaks.growth.series import Point
from memguard.leaks.growth.trend import pace
from memguard.leaks.report import LeakReport
from memguard.observe.gcwatch import GcStatistics
from memguard.relief.records import Alert, ReliefReport, StepResult, describe_change
from memguard.report.health.health_report import by_size, current_level
from memguard.report.health.page.curve import MemoryHistory, memory_curve
from memguard.report.render import words
from memguard.report.render.html.components import (
    badge,
    bar,
    bullets,
    chart_card,
    fact,
    key,
    path,
    row,
    table,
    wide_card,
)
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.words import VERDICTS, Locations, capital, rate
from memguard.report.state import GuardState
from memguard.units import format_bytes, format_seconds

MOST_REPORTS = 8
MOST_ROWS = 15
"""Containers that are shown; the others are added up in one row."""
_STEADY = 64 * 1024
"""Bytes a minute that are no growth worth a number."""
_PAUSES = (0.001, 0.01, 0.1, 1.0)
"""Bounds in which pauses are counted, seconds: each must be one of the histogram's own."""
_LEVELS = {
    "ok": "ok",
    "elevated": "elevated",
    "critical": "critical",
    "insufficient_data": "not known",
}
_KINDS = {"leak": "leak", "growth": "growth", "snapshot": "on demand"}
_ISO_UTC = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


# -- the head: how is it? ----------------------------------------------------------------------


def head_section(state: GuardState, history: MemoryHistory) -> Markup:
    """
    Return the level, what this process holds and by how much it grows, and what is off.

    The share of the limit counts others, too, where the limit does: it says so.
    """
    level, reasons = current_level(state)
    pressure = state.pressure
    ratio = pressure.used_ratio if state.running else None
    title: Markup | str = "The limit is not known"
    lede = "Nothing has been read yet, or no limit can be read here."
    if not state.running:
        title = "Not watching"
        lede = "The guard is not running in this process; numbers are of this moment only."
    elif ratio is not None and pressure.used is not None and pressure.limit is not None:
        title = join(percent(ratio), element("span", " of the limit in use", class_="of"))
        lede = (
            f"{format_bytes(pressure.used)} of {format_bytes(pressure.limit)} "
            f"({pressure.source}); {format_bytes(pressure.headroom or 0)} are left."
        )
        growth = _shown_growth(pressure.bytes_per_minute)
        lede += f" Growth of all that this limit counts: {growth}."
        if pressure.stall_some is not None and pressure.stall_some >= 1:
            lede += f" Tasks wait for memory {pressure.stall_some:.0f} % of the time."
    gauge = None
    if ratio is not None:
        label = f"{percent(ratio)} of the limit in use"
        gauge = bar(ratio, class_=f"gauge {level}", height=12, label=label)
    return join(
        element(
            "header",
            element("p", badge(level, _LEVELS.get(level, level)), state.name, class_="kicker"),
            element("h1", title),
            element("p", lede, class_="lede"),
        ),
        gauge,
        element("div", bullets(reasons), class_="why") if reasons else None,
        _degraded(state),
        element("dl", *_facts(state, history), class_="facts card"),
    )


def _degraded(state: GuardState) -> Markup | None:
    """Return which parts of the guard are off and why; None if all work."""
    if not state.degraded:
        return None
    off = [
        join(element("dt", each.part), element("dd", words.printable(each.reason, longest=300)))
        for each in state.degraded
    ]
    return element(
        "div",
        element(
            "p", badge("elevated", "degraded"), "parts of the guard that are off", class_="kicker"
        ),
        element("dl", *off),
        class_="card report",
    )


def _facts(state: GuardState, history: MemoryHistory) -> list[Markup]:
    """Return four facts: they fill two rows of a telephone, and one of a desk."""
    reading, gc = state.reading, state.gc
    facts = [
        fact("Private memory", amount(reading.private), "held only by this process"),
        fact("Growth", *_own_growth(history)),
        fact("Resident", amount(reading.rss), f"at most {amount(reading.peak)} so far"),
    ]
    if gc is not None:
        share = percent(gc.wall_share, places=2)
        facts.append(fact("Collector", share, "of the time in its pauses"))
    else:
        threads = "unknown" if reading.threads is None else f"{reading.threads:,}"
        facts.append(fact("Threads", threads, "of the process"))
    return facts


def _own_growth(history: MemoryHistory) -> tuple[str, str]:
    """Return the growth of private memory over what the curve shows, and what that is."""
    last = history.points[-1].run if history.points else ""
    points = [Point(each.seconds, int(each.level)) for each in history.points if each.run == last]
    found = pace(points)
    if found is None:
        return "unknown", "of private memory: too few readings yet"
    return _shown_growth(found[0]), f"of private memory, over {format_seconds(found[1])}"


def _shown_growth(bytes_per_minute: float) -> str:
    if not math.isfinite(bytes_per_minute):
        return "unknown"
    if abs(bytes_per_minute) < _STEADY:
        return "steady"
    return ("+" if bytes_per_minute > 0 else "") + rate(bytes_per_minute)


# -- memory over time --------------------------------------------------------------------------


def memory_section(state: GuardState, history: MemoryHistory) -> Markup:
    """Return the curve, and the level at which this process reaches its limit."""
    if not history.kept:
        return nothing("No history is kept (history=False).")
    pressure = state.pressure
    ceiling = outside = None
    if state.running and pressure.limit is not None and pressure.private is not None:
        outside = max(0, (pressure.used or 0) - pressure.private)
        ceiling = pressure.limit - outside
    curve = memory_curve(history.points, None if ceiling is None else float(ceiling))
    if curve is None:
        return nothing("Not enough readings of this period yet.")
    captions = [key("curve", "private memory")]
    if curve.has_range:
        captions.append(key("range", "lowest and highest of each period"))
    if curve.has_ceiling and pressure.limit is not None:
        text = f"limit of {format_bytes(pressure.limit)}"
        if outside and outside > 0.01 * pressure.limit:
            text += f", less {format_bytes(outside)} in use outside of this curve"
        captions.append(key("limit", text))
    elif pressure.limit is not None and state.running:
        captions.append(
            element("span", f"The limit of {format_bytes(pressure.limit)} is far above.")
        )
    return chart_card(curve.drawing, *captions)


# -- containers and the collector -------------------------------------------------------------


def containers_section(rows: Sequence[InventoryRow]) -> Markup:
    """Return the live containers, the largest first."""
    if not rows:
        return nothing("No container of memguard is alive in this process.")
    ordered = by_size(rows)
    largest = max(row.bytes or 0 for row in ordered)
    body = [_container(row, largest) for row in ordered[:MOST_ROWS]]
    rest = ordered[MOST_ROWS:]
    if rest:
        body.append(_sum(f"{len(rest):,} more", rest))
    return wide_card(table(("Name", "Items", "Bytes"), body, foot=_sum("All", ordered)))


def _container(found: InventoryRow, largest: int) -> Markup:
    share = (found.bytes or 0) / largest if largest > 0 else 0.0
    name = join(
        path(found.name),
        element("span", found.kind, class_="type"),
        bar(share) if found.bytes else None,
    )
    size = "not counted" if found.bytes is None else format_bytes(found.bytes)
    return row(name, f"{found.items:,}", size, first_class="name")


def _sum(name: str, rows: Sequence[InventoryRow]) -> Markup:
    size = format_bytes(sum(row.bytes or 0 for row in rows))
    return row(name, f"{sum(row.items for row in rows):,}", size, first_class="name")


def collector_section(gc: GcStatistics | None) -> Markup:
    """Return the collector's pauses, by generation and by length."""
    if gc is None:
        return nothing("The collector is not watched (gc_watch=False).")
    if not gc.collections:
        return nothing("No collection was seen yet.")
    generations = [
        row(
            f"{each.generation}",
            f"{each.collections:,}",
            short(each.pause_total),
            short(each.pause_max),
        )
        for each in gc.generations
    ]
    foot = row("All", f"{gc.collections:,}", short(gc.pause_total), short(gc.pause_max))
    lengths = [
        element(
            "tr",
            element("td", label),
            element("td", bar(count / gc.collections), class_="share"),
            element("td", f"{count:,}", class_="number"),
        )
        for label, count in pauses_by_length(gc)
    ]
    return element(
        "div",
        wide_card(table(("Generation", "Pauses", "Together", "Longest"), generations, foot=foot)),
        wide_card(table(("Pauses of", "", "Pauses"), lengths)),
        class_="pair-of-tables",
    )


def pauses_by_length(gc: GcStatistics) -> list[tuple[str, int]]:
    """Return how many pauses fell between the bounds of ``_PAUSES``, the shortest first."""
    counts = [0] * (len(_PAUSES) + 1)
    for generation in gc.generations:
        for upper, count in generation.histogram:
            counts[sum(upper > bound * 1.0001 for bound in _PAUSES)] += count
    labels = [f"up to {short(bound)}" for bound in _PAUSES] + [f"over {short(_PAUSES[-1])}"]
    return list(zip(labels, counts, strict=True))


# -- alerts and reports ------------------------------------------------------------------------


def alerts_section(state: GuardState) -> Markup:
    """Return the last alerts, the newest first."""
    if not state.alerts:
        return nothing("No alert since the start of watching.")
    items = [_alert(alert, state.time) for alert in reversed(state.alerts)]
    return element("div", element("ul", *items, class_="news"), class_="card")


def _alert(alert: Alert, now: float) -> Markup:
    kind: str
    if alert.kind == "level":
        first = alert.previous == "insufficient_data"
        kind = alert.level
        text = "at the first look" if first else f"after {_LEVELS.get(alert.previous, '?')}"
    elif alert.kind == "ineffective":
        kind, text = "ineffective", "relief freed nothing, three times"
    else:
        kind, text = "recycle", "this process should be replaced"
    if alert.used is not None and alert.limit:
        text += f"; {percent(alert.used / alert.limit)} of {format_bytes(alert.limit)} in use"
    return element(
        "li",
        _head(element("span", badge(kind, _LEVELS.get(kind, kind)), text), when(alert.time, now)),
        bullets(alert.reasons) if alert.reasons else None,
    )


def reports_section(state: GuardState, locations: Locations) -> Markup:
    """Return the latest leak reports in short, the newest first."""
    if state.detector is None:
        return nothing("Leaks are not watched (leaks=False).")
    if not state.reports:
        return nothing(f"No leak was reported; the detector is {state.detector.state}.")
    latest = list(reversed(state.reports))[:MOST_REPORTS]
    return join(*(_report(report, locations) for report in latest))


def _state_badge(report: LeakReport) -> tuple[str, str]:
    """Return the kind that a badge has its colour from, and its words."""
    if report.state == "suspected":
        return "growth", "growing, may end"
    if report.state in ("ended", "retracted"):
        return "growth", f"{report.kind}, {report.state}"
    return report.kind, _KINDS.get(report.kind, report.kind)


def _report(report: LeakReport, locations: Locations) -> Markup:
    trend = report.trend
    kind = VERDICTS.get(report.verdict.kind, report.verdict.kind)
    facts: list[tuple[str, Markup | str]] = [("What it is", capital(kind))]
    if report.holders:
        holder = report.holders[0]
        size = ""
        if holder.bytes_added is not None:
            size = f", {format_bytes(holder.bytes_added, signed=True)}"
        entries = words.count(holder.entries, holder.unit)
        facts.append(("Held by", join(path(holder.path), f" ({entries}{size})")))
    if report.place is not None:
        place = element("code", locations.shown(report.place), class_="place")
        facts.append(("Allocated at", place))
    if report.verdict.advice:
        facts.append(("What to do", report.verdict.advice))
    if report.ended_at is not None:
        facts.append((capital(report.state or "ended"), moment(report.ended_at)))
    if report.watched_until is not None:
        facts.append(("Watched until", moment(report.watched_until)))
    facts.append(("Report", f"{report.id}, revision {report.revision}"))
    if report.fingerprint:
        facts.append(("Fingerprint", report.fingerprint))
    title = element(
        "h3",
        badge(*_state_badge(report)),
        report.headline,
    )
    return element(
        "article",
        _head(title, element("span", moment(report.updated_at), class_="soft small")),
        element(
            "p",
            element("span", format_bytes(trend.growth_bytes, signed=True), class_="size"),
            f" over a baseline of {format_bytes(trend.baseline_bytes)}, "
            f"{rate(trend.bytes_per_hour / 60)}",
        ),
        element("dl", *(join(element("dt", name), element("dd", text)) for name, text in facts)),
        class_="card report",
    )


# -- memory freed --------------------------------------------------------------------------------


def relief_section(state: GuardState, last: tuple[float, ReliefReport] | None) -> Markup:
    """Return what was freed so far, and by the last run requested over HTTP."""
    found = state.relief
    if found is None:
        return nothing("This guard frees no memory (relief=False).")
    lowered = f"{found.lowered_caches:,} caches are held smaller" if found.lowered_caches else ""
    in_all = f"of {format_seconds(found.seconds)} in all"
    facts = element(
        "dl",
        fact("Runs", f"{found.runs:,}", f"{found.refused:,} refused while one ran"),
        fact("Memory fell by", format_bytes(found.rss_freed), "in all runs together"),
        fact("Freed", format_bytes(found.freed), lowered or "as the containers count it"),
        fact("Longest run", short(found.longest_seconds), in_all),
        class_="facts card",
    )
    return join(facts, None if last is None else _last_run(*last, now=state.time))


def _last_run(at: float, run: ReliefReport, *, now: float) -> Markup:
    text = f"The last run requested here: {describe_change(run.rss_freed)} in {short(run.seconds)}"
    rows = [_step(step) for step in run.steps]
    return wide_card(
        _head(element("span", text), when(at, now)),
        table(("Step", "Items", "Freed", "Fell by"), rows),
    )


def _step(step: StepResult) -> Markup:
    if step.skipped is not None:
        skipped = element("td", step.skipped, colspan="3", class_="none")
        return element("tr", element("td", step.name), skipped)
    freed = "not counted" if step.freed is None else format_bytes(step.freed)
    return row(step.name, f"{step.items:,}", freed, amount(step.rss_freed))


# -- the words that sections share -----------------------------------------------------------


def _head(left: Markup, right: Markup) -> Markup:
    return element("div", left, right, class_="head")


def nothing(text: str) -> Markup:
    """Return the sentence that stands where there is nothing to show."""
    return element("p", text, class_="card none")


def amount(count: float | None) -> str:
    """Return bytes as people read them; ``"unknown"`` for None."""
    return "unknown" if count is None else format_bytes(count)


def percent(share: float, *, places: int = 0) -> str:
    """Return a share as percent."""
    return f"{share * 100:.{places}f} %" if math.isfinite(share) else "unknown"


def short(seconds: float) -> str:
    """Return a duration that may be far below a millisecond: ``"0.21 ms"``, ``"12 ms"``."""
    if 0 < seconds < 0.0095:
        return f"{seconds * 1000:.2g} ms"
    return format_seconds(seconds)


def when(at: float, now: float) -> Markup:
    """Return how long ago *at* was, both in seconds since the epoch; the date is its title."""
    try:
        date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):  # no year of this calendar
        return element("span", "at an unknown time", class_="when")
    age = now - at
    # In whole minutes, so that a page that stays current does not change for nothing.
    text = "just now" if age < 60 else f"{format_seconds(age // 60 * 60)} ago"
    return element("time", text, class_="when", title=date)


def moment(written: str) -> str:
    """Return a moment as people read it, of one in ISO 8601 and UTC; anything else as it is."""
    found = _ISO_UTC.fullmatch(written)
    return f"{found[1]} {found[2]} UTC" if found else written
