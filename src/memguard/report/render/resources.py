"""Threads, tasks, sockets and files that pile up, in words that text and HTML share. Pure."""

from __future__ import annotations

from memguard.leaks.report import Frame, LeakReport, ResourceGroup, ResourceGrowth
from memguard.report.render.words import number
from memguard.units import format_seconds

WORDS = {
    "threads": "threads",
    "tasks": "asyncio tasks",
    "sockets": "open sockets",
    "files": "open descriptors other than sockets",
}


def resources_title(report: LeakReport) -> str:
    """Return the heading of the resources: what the report is about, or what grew meanwhile."""
    is_cause = any(each.kind == report.verdict.kind for each in report.resources)
    return "What piles up" if is_cause else "Also growing"


def resource_facts(growth: ResourceGrowth) -> str:
    """Return what it is, how many there are and were gained, how fast, and how many may be."""
    about = "about " if growth.sampled else ""
    facts = [
        f"{about}{growth.count:,} {WORDS.get(growth.kind, growth.kind)} now",
        f"{growth.added:+,}",
        f"{number(growth.per_minute, ',.0f')}/min",
    ]
    if growth.limit is not None:
        facts.append(f"{growth.limit:,} descriptors are allowed")
    if growth.seconds_to_limit is not None:
        facts.append(f"reached in about {format_seconds(growth.seconds_to_limit)}")
    return ", ".join(facts)


def group_places(group: ResourceGroup) -> list[tuple[str, Frame]]:
    """Return where a thread or task of *group* begins and waits, as far as that is known."""
    places = (("begins at", group.begins_at), ("waits at", group.waits_at))
    return [(said, place) for said, place in places if place is not None]
