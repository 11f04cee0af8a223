"""What all formats of a report share: facts about its entries, hints, notes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from memguard.leaks.report import Cost, Holder, LeakReport, Suspect
from memguard.report.render.words import number, rate
from memguard.units import format_bytes, format_seconds

KINDS = {
    "leak": "Leak",
    "growth": "Growth, not classified as a leak",
    "snapshot": "One look on demand",
}
HOLDERS_NOTE = "sizes estimated from a sample of new entries"


def holder_size(holder: Holder) -> str:
    """Return by how much *holder* grew."""
    if holder.bytes_added is None:
        return "size unknown"
    return format_bytes(holder.bytes_added, signed=True)


def holder_pace(holder: Holder) -> str:
    """Return how fast *holder* grows, after a comma; empty where that is not known."""
    return "" if holder.bytes_per_minute is None else f", {rate(holder.bytes_per_minute)}"


def holder_facts(holder: Holder, *, most_types: int) -> list[str]:
    """Return what else is known of *holder*, not yet made printable; its entries come first."""
    entries = f"{holder.entries:,} entries now"
    if holder.bytes_per_entry is not None:
        all_of_them = format_bytes(holder.entries * holder.bytes_per_entry)
        entries += f", about {all_of_them}, {format_bytes(holder.bytes_per_entry)} each"
    facts = [entries]
    if holder.entry_types:
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


def blocks(suspect: Suspect) -> str:
    """Return how many blocks a line allocated that stay."""
    return "1 block" if suspect.count == 1 else f"{suspect.count:,} blocks"


def explained(report: LeakReport) -> str | None:
    """Return the part of the growth that the holders account for, in percent; None for unknown."""
    ratio = report.explained_ratio
    return None if ratio is None else f"{number(ratio * 100, '.0f')} %"


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
    Return what to do about the first *most* holders about which there is something to say.

    By what a holder is and holds. What the verdict's advice says already is left out.
    """
    if report.verdict.kind != "live_objects":
        return ()
    found = [f"{holder.path}: {holder.advice}" for holder in report.holders if holder.advice]
    return tuple(hint for hint in found[:most] if f"{hint}." != report.verdict.advice)
