"""The parts of the live page: each takes figures and gives markup. Pure."""

from __future__ import annotations

import math

from memguard.leaks.report import LeakReport
from memguard.relief.records import Alert, ReliefReport, StepResult, change
from memguard.report.health.data import current_level
from memguard.report.health.page.curve import memory_curve
from memguard.report.health.page.history import Story
from memguard.report.health.page.words import (
    amount,
    capital,
    fact,
    head_row,
    moment,
    nothing,
    percent,
    short,
    when,
)
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.parts import bullets, key, path
from memguard.report.render.words import VERDICTS, Places, rate
from memguard.report.state import GuardState
from memguard.units import format_bytes, format_seconds

MOST_REPORTS = 8
_LEVELS = {
    "ok": "ok",
    "elevated": "elevated",
    "critical": "critical",
    "insufficient_data": "not known",
}
_KINDS = {"leak": "leak", "growth": "growth", "snapshot": "on demand"}


# -- the head: how is it? ----------------------------------------------------------------------


def head_part(known: GuardState) -> Markup:
    """Return the level, the share of the limit that is used, and the numbers behind them."""
    level, reasons = current_level(known)
    pressure = known.pressure
    ratio = pressure.used_ratio if known.running else None
    title: Markup | str = "The limit is not known"
    lede = "Nothing was seen yet, or no limit can be read here."
    if not known.running:
        title = "Not watching"
        lede = "The guard is not running in this process; numbers are of this moment only."
    elif ratio is not None and pressure.used is not None and pressure.limit is not None:
        title = join(percent(ratio), element("span", " of the limit in use", class_="of"))
        lede = (
            f"{format_bytes(pressure.used)} of {format_bytes(pressure.limit)} "
            f"({pressure.source}); {format_bytes(pressure.headroom or 0)} are left."
        )
        if pressure.stall_some is not None and pressure.stall_some >= 1:
            lede += f" Tasks wait for memory {pressure.stall_some:.0f} % of the time."
    return join(
        element(
            "header",
            element(
                "p",
                element("span", _LEVELS.get(level, level), class_=f"badge {level}"),
                known.name,
                class_="kicker",
            ),
            element("h1", title),
            element("p", lede, class_="lede"),
        ),
        None if ratio is None else _gauge(ratio, level),
        element("div", bullets(reasons), class_="why") if reasons else None,
        element("dl", *_facts(known), class_="facts card"),
    )


def _gauge(ratio: float, level: str) -> Markup:
    width = min(max(ratio, 0.0), 1.0) * 100 if math.isfinite(ratio) else 0.0
    return element(
        "svg",
        element("rect", class_="track", width="100%", height="12"),
        element("rect", class_="fill", width=f"{width:.2f}%", height="12"),
        class_=f"gauge {level}",
        width="100%",
        height="12",
        role="img",
        aria_label=f"{percent(ratio)} of the limit in use",
    )


def _facts(known: GuardState) -> list[Markup]:
    """Return four facts: they fill two rows of a telephone, and one of a desk."""
    reading, gc = known.reading, known.gc
    facts = [
        fact("Private memory", amount(reading.private), "held by this process alone"),
        fact("Resident", amount(reading.rss), f"at most {amount(reading.peak)} so far"),
        fact("Pace", _pace(known), "of all that the limit counts, lately"),
    ]
    if gc is not None:
        share = percent(gc.wall_share, places=2)
        facts.append(fact("Collector", share, "of the time in its pauses"))
    else:
        threads = "unknown" if reading.threads is None else f"{reading.threads:,}"
        facts.append(fact("Threads", threads, "of the process"))
    return facts


def _pace(known: GuardState) -> str:
    pace = known.pressure.bytes_per_minute if known.running else math.nan
    if not math.isfinite(pace):
        return "unknown"
    return "steady" if abs(pace) < 64 * 1024 else ("+" if pace > 0 else "") + rate(pace)


# -- memory over time --------------------------------------------------------------------------


def memory_part(known: GuardState, story: Story) -> Markup:
    """Return the curve, and the level at which this process reaches its limit."""
    if not story.kept:
        return nothing("No history is kept (history=False).")
    pressure = known.pressure
    ceiling = outside = None
    if known.running and pressure.limit is not None and pressure.private is not None:
        outside = max(0, (pressure.used or 0) - pressure.private)
        ceiling = pressure.limit - outside
    curve = memory_curve(story.points, None if ceiling is None else float(ceiling))
    if curve is None:
        return nothing("Not enough readings of this stretch of time yet.")
    captions = [key("curve", "private memory")]
    if curve.has_range:
        captions.append(key("range", "lowest and highest of each stretch"))
    if curve.has_ceiling and pressure.limit is not None:
        text = f"limit of {format_bytes(pressure.limit)}"
        if outside and outside > 0.01 * pressure.limit:
            text += f", less {format_bytes(outside)} in use outside of this curve"
        captions.append(key("limit", text))
    elif pressure.limit is not None and known.running:
        captions.append(
            element("span", f"The limit of {format_bytes(pressure.limit)} is far above.")
        )
    return element("figure", curve.drawing, element("figcaption", *captions), class_="card")


# -- alerts and reports ------------------------------------------------------------------------


def alerts_part(known: GuardState) -> Markup:
    """Return the last alerts, the newest first."""
    if not known.alerts:
        return nothing("No alert since the start of watching.")
    items = [_alert(alert, known.time) for alert in reversed(known.alerts)]
    return element("div", element("ul", *items, class_="news"), class_="card")


def _alert(alert: Alert, now: float) -> Markup:
    badge: str
    if alert.kind == "level":
        first = alert.previous == "insufficient_data"
        badge = alert.level
        text = "at the first look" if first else f"after {_LEVELS.get(alert.previous, '?')}"
    elif alert.kind == "ineffective":
        badge, text = "ineffective", "relief gave nothing back, three times"
    else:
        badge, text = "recycle", "this process should be replaced"
    if alert.used is not None and alert.limit:
        text += f"; {percent(alert.used / alert.limit)} of {format_bytes(alert.limit)} in use"
    return element(
        "li",
        element(
            "div",
            element(
                "span", element("span", _LEVELS.get(badge, badge), class_=f"badge {badge}"), text
            ),
            when(alert.time, now),
            class_="head",
        ),
        bullets(alert.reasons) if alert.reasons else None,
    )


def reports_part(known: GuardState, places: Places) -> Markup:
    """Return the latest leak reports in short, the newest first."""
    if known.detector is None:
        return nothing("Leaks are not watched (leaks=False).")
    if not known.reports:
        return nothing(f"No leak was reported; the detector is {known.detector.state}.")
    latest = list(reversed(known.reports))[:MOST_REPORTS]
    return join(*(_report(report, places) for report in latest))


def _report(report: LeakReport, places: Places) -> Markup:
    trend = report.trend
    facts: list[Markup] = []
    if report.holders:
        holder = report.holders[0]
        size = (
            ""
            if holder.bytes_added is None
            else f", {format_bytes(holder.bytes_added, signed=True)}"
        )
        facts += _pair("Held by", join(path(holder.path), f" ({holder.entries:,} entries{size})"))
    if report.suspects:
        suspect = report.suspects[0]
        facts += _pair("Allocated at", element("code", places.shown(suspect), class_="place"))
    if report.verdict.advice:
        facts += _pair("What to do", report.verdict.advice)
    facts += _pair("Report", f"{report.id}, revision {report.revision}")
    return element(
        "article",
        element(
            "div",
            element(
                "h3",
                element(
                    "span", _KINDS.get(report.kind, report.kind), class_=f"badge {report.kind}"
                ),
                capital(VERDICTS.get(report.verdict.kind, report.verdict.kind)),
            ),
            element("span", moment(report.updated_at), class_="soft small"),
            class_="head",
        ),
        element(
            "p",
            element("span", format_bytes(trend.growth_bytes, signed=True), class_="size"),
            f" over a baseline of {format_bytes(trend.baseline_bytes)}, "
            f"{rate(trend.bytes_per_hour / 60)}",
        ),
        element("dl", *facts),
        class_="card report",
    )


def _pair(name: str, text: Markup | str) -> list[Markup]:
    return [element("dt", name), element("dd", text)]


# -- memory given back -------------------------------------------------------------------------


def relief_part(known: GuardState, last: tuple[float, ReliefReport] | None) -> Markup:
    """Return what was given back so far, and by the last run that was asked for over HTTP."""
    found = known.relief
    if found is None:
        return nothing("This guard gives nothing back (relief=False).")
    lowered = f"{found.lowered_caches:,} caches are held smaller" if found.lowered_caches else ""
    facts = element(
        "dl",
        fact("Runs", f"{found.runs:,}", f"{found.refused:,} refused while one ran"),
        fact("Memory fell by", format_bytes(found.rss_freed), "in all runs together"),
        fact("Given", format_bytes(found.freed), lowered or "by the containers' own account"),
        fact(
            "Longest run",
            short(found.longest_seconds),
            f"of {format_seconds(found.seconds)} in all",
        ),
        class_="facts card",
    )
    return join(facts, None if last is None else _last_run(*last, now=known.time))


def _last_run(at: float, run: ReliefReport, *, now: float) -> Markup:
    rows = [_step(step) for step in run.steps]
    head = element(
        "div",
        element(
            "span", f"The last run asked for here: {change(run.rss_freed)} in {short(run.seconds)}"
        ),
        when(at, now),
        class_="head",
    )
    table = element(
        "table",
        element("thead", head_row("Step", "Items", "Given", "Fell by")),
        element("tbody", *rows),
    )
    return element("div", head, table, class_="card wide")


def _step(step: StepResult) -> Markup:
    if step.skipped is not None:
        return element(
            "tr", element("td", step.name), element("td", step.skipped, colspan="3", class_="none")
        )
    return element(
        "tr",
        element("td", step.name),
        element("td", f"{step.items:,}", class_="number"),
        element(
            "td", "not counted" if step.freed is None else format_bytes(step.freed), class_="number"
        ),
        element("td", amount(step.rss_freed), class_="number"),
    )
