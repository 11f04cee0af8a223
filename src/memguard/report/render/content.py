"""What all formats of a report share: facts about its entries, hints, notes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from memguard.leaks.report import Cost, Frame, Holder, LeakReport, Suspect, TrendSummary
from memguard.report.render.words import count, number, printable, rate
from memguard.units import format_bytes, format_seconds

KINDS = {
    "leak": "Leak",
    "growth": "Growth, not classified as a leak",
    "snapshot": "One look on demand",
}
STATES = {
    "suspected": "Suspected",
    "leaking": "Leak",
    "ended": "Ended",
    "retracted": "Retracted: no leak",
}
"""A finding's state says more than its kind."""
_LISTED = 3
"""Holders that a hint for several of them names."""


def label(report: LeakReport) -> str:
    """Return what the report is, in a word or two: of its state, or else of its kind."""
    return STATES.get(report.state or "", KINDS.get(report.kind, report.kind))


def watched_until(report: LeakReport) -> str | None:
    """Return what is to be said where nobody has looked since; None where somebody has."""
    if report.watched_until is None:
        return None
    return f"watching ended at {printable(report.watched_until)}: this is how it was then"


def is_of_others(report: LeakReport) -> bool:
    """Return True where the growth is no memory of Python: its lines were busy meanwhile."""
    return report.verdict.kind in ("native", "fragmentation", "none")


def readings(report: LeakReport) -> str:
    """Return the window of the report's first numbers: how many readings, over how long."""
    trend = report.trend
    return f"{trend.samples:,} readings over {format_seconds(trend.span_seconds)}"


def trend_of(report: LeakReport) -> TrendSummary:
    """Return what the readings did; noise approaches no limit."""
    trend = report.trend
    return replace(trend, seconds_to_limit=None) if report.verdict.kind == "none" else trend


def trend_words(report: LeakReport) -> str | None:
    """Return what the readings did and how sure that is; None for a look too short to tell."""
    trend = report.trend
    if report.kind == "snapshot" and trend.kind != "leak":
        return None
    confidence = f"confidence {number(trend.confidence, '.2f')}"
    rise = "a steady rise" if trend.kind == "leak" else f"trend {printable(trend.kind, longest=40)}"
    return f"{rise}, {confidence}"


def holders_title(report: LeakReport) -> str:
    """Return the heading of the holders: under other kinds of growth they are not its cause."""
    return "Held by" if not is_of_others(report) else "Python objects that grew meanwhile"


def holders_note(report: LeakReport) -> str:
    """Return the window of what the holders gained, and what their sizes are."""
    looks = window(report)
    return f"{looks}; sizes estimated from samples" if looks else "sizes estimated from samples"


def window(report: LeakReport) -> str | None:
    """Return the time in which holders gained what they did; None for unknown."""
    if report.window_seconds <= 0:
        return None
    looks = "between two looks" if _is_one_window(report) else "from the first look to the last"
    return f"in {format_seconds(report.window_seconds)} {looks}"


def last_window(report: LeakReport) -> str | None:
    """Return the time in which types gained what they did; None for unknown."""
    if report.gap_seconds <= 0 or _is_one_window(report):
        return window(report)
    return f"in {format_seconds(report.gap_seconds)} between the last two looks"


def _is_one_window(report: LeakReport) -> bool:
    """Return True where there were two looks only."""
    return report.window_seconds <= report.gap_seconds or report.revision == 1


def suspects_title(report: LeakReport, *, some_claimed: bool) -> str:
    """Return the heading of the lines that no holder shown was traced to."""
    if is_of_others(report):
        return "Python lines busy meanwhile"
    return "Also allocated at" if some_claimed else "Allocated at"


def callers_title() -> str:
    """Return the heading of the lines that called C code while native memory grew."""
    return "C functions called meanwhile from"


def callers_note() -> str:
    """Return in what order they are, and that none need be the cause."""
    return "busy meanwhile, the busiest first"


def callers(report: LeakReport) -> list[Suspect]:
    """Return the lines that called C code while native memory grew."""
    return [suspect for suspect in report.suspects if suspect.callee is not None]


def suspects_note(report: LeakReport) -> str:
    """Return the window in which the lines allocated what they did."""
    traced = report.cost.traced_seconds
    lasted = f" {format_seconds(traced)} of" if _is_one_window(report) and traced > 0 else ""
    return f"alive after{lasted} tracing"


def holder_size(holder: Holder) -> str:
    """Return by how much *holder* grew."""
    if holder.bytes_added is None:
        return "size unknown"
    return format_bytes(holder.bytes_added, signed=True)


def holder_gain(holder: Holder, report: LeakReport) -> str:
    """Return what *holder* gained besides bytes, and how fast it grows: all of one window."""
    gained = (
        [] if holder.unit == "bytes" else [f"+{count(max(0, holder.entries_added), holder.unit)}"]
    )
    if holder.bytes_per_minute is not None and _is_one_window(report):
        gained.append(rate(holder.bytes_per_minute))
    return ", ".join(gained)


def holder_facts(holder: Holder, report: LeakReport, *, most_types: int) -> list[str]:
    """Return what else is known of *holder*, not yet made printable; its entries come first."""
    entries = f"{count(holder.entries, holder.unit)} now"
    if holder.bytes_per_entry is not None and holder.unit != "bytes":
        all_of_them = format_bytes(holder.entries * holder.bytes_per_entry)
        entries += f", about {all_of_them}, {format_bytes(holder.bytes_per_entry)} each"
    if holder.containers > 1:
        entries += f", in {holder.containers} of them"
    facts = [entries]
    if holder.bytes_per_minute is not None and not _is_one_window(report):
        last = f" in the last {format_seconds(report.gap_seconds)}" if report.gap_seconds else ""
        facts.append(f"{rate(holder.bytes_per_minute)}{last}")
    if holder.entry_types and holder.unit == "entries":
        facts.append("new ones are " + ", ".join(holder.entry_types[:most_types]))
    if holder.inventory_name:
        facts.append(f"registered as {holder.inventory_name}")
    if holder.allows is not None:
        facts.append(f"its owner allows {holder.allows:,}")
    if not holder.anchored:
        facts.append("no named object was found above it")
    return facts


def allocated_for(holder: Holder, suspects: Sequence[Suspect]) -> Suspect | None:
    """Return the line that allocates the most of what *holder* holds."""
    own = [suspect for suspect in suspects if suspect.held_by == holder.path]
    return max(own, key=lambda suspect: suspect.bytes, default=None)


def of_weight(suspects: Sequence[Suspect], all_of_them: Sequence[Suspect]) -> list[Suspect]:
    """Return those of *suspects* with more than a hundredth of the heaviest of all."""
    least = max((suspect.bytes for suspect in all_of_them), default=0) / 100
    return [suspect for suspect in suspects if suspect.bytes > least]


def blocks(suspect: Suspect) -> str:
    """Return how many blocks a line allocated that stay."""
    return "1 block" if suspect.count == 1 else f"{suspect.count:,} blocks"


def stack_shown(suspect: Suspect) -> tuple[Frame | Suspect, Frame | Suspect | None, bool]:
    """
    Return the line to read first, the one to name beside it, and whether the first calls that.

    The user's own line comes first. Where a library allocates for it, that is its callee; where it
    allocates itself, the nearest other line of the user's that calls it is named. Where no line is
    the user's, the allocating one stands alone.
    """
    mine = suspect.user_frame
    site = (suspect.file, suspect.line)
    if mine is not None and (mine.file, mine.line) != site:
        return mine, suspect, True
    above = (frame for frame in suspect.frames[1:] if (frame.file, frame.line) != site)
    return suspect, next((frame for frame in above if frame.in_user_code), None), False


def why_no_user_line(suspect: Suspect) -> str | None:
    """Return why the stack of *suspect* shows no line of the user's; None where it does."""
    depth = len(suspect.frames)
    if suspect.user_frame is not None or not depth:
        return None
    return f"none of the {depth} frames traced is in your code" if depth > 1 else None


def explained(report: LeakReport) -> tuple[str, str] | None:
    """
    Return how much of the growth the holders account for and how much is left; None for unknown.

    With `garbage`, if any, the two add up to the growth rate of the readings.
    """
    ratio = report.explained_ratio
    if ratio is None:
        return None
    total = report.trend.bytes_per_hour / 60
    if not math.isfinite(ratio):
        return "an unknown part", "the rest"
    share = round(min(1.0, max(0.0, ratio)) * 100)
    left = 100 - share - _garbage_percent(report)
    return f"{rate(total * share / 100)} ({share} %)", f"{rate(total * left / 100)} ({left} %)"


def garbage(report: LeakReport) -> str | None:
    """Return how much of the growth is garbage in reference cycles; None for none, or unknown."""
    percent = _garbage_percent(report)
    return (
        f"{rate(report.trend.bytes_per_hour / 60 * percent / 100)} ({percent} %)"
        if percent
        else None
    )


def _garbage_percent(report: LeakReport) -> int:
    held, ratio = report.explained_ratio or 0.0, report.garbage_ratio or 0.0
    if not math.isfinite(held + ratio):
        return 0
    return min(100 - round(min(1.0, max(0.0, held)) * 100), round(min(1.0, max(0.0, ratio)) * 100))


def costs(cost: Cost) -> list[tuple[str, str]]:
    """Return what a report cost the process, as names and amounts."""
    return [
        ("Traced for", format_seconds(cost.traced_seconds)),
        ("Census", format_seconds(cost.census_seconds)),
        ("Holders", format_seconds(cost.retention_seconds)),
        ("Processor time", format_seconds(cost.cpu_seconds)),
        ("Tracer at most", format_bytes(cost.tracer_peak_bytes)),
    ]


def hints(report: LeakReport, *, most: int) -> tuple[str, ...]:
    """
    Return up to *most* pieces of advice, each with the holders that it is for.

    By what a holder is and holds. What the verdict's advice says already is left out.
    """
    if report.verdict.kind != "live_objects":
        return ()
    said: dict[str, list[str]] = {}
    for holder in report.holders:
        if holder.advice and f"{holder.path}: {holder.advice}." != report.verdict.advice:
            said.setdefault(holder.advice, []).append(holder.path)
    return tuple(f"{_listed(paths)}: {advice}" for advice, paths in said.items())[:most]


def _listed(paths: Sequence[str]) -> str:
    """Return *paths*, each once, the first few of them."""
    shown = list(dict.fromkeys(paths))
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more
