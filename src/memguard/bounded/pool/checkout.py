"""
The holders of lent objects: recorded at each checkout, described on request.

A record names code and instruction instead of a line, because computing a line costs as much as
the rest of a checkout. It refers to code and never to a frame, which would keep locals alive.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType
from typing import TypeAlias

from memguard.bounded import callsite
from memguard.units import format_seconds

Record: TypeAlias = tuple[float, int, CodeType, int] | tuple[float, int, CodeType, int, str]
"""Time of lending, thread, code, instruction, and the task's name if there is a task."""

MAX_HOLDERS = 100
"""Most holders of a message."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds one thing that a pool has lent."""

    site: str
    """``package/file.py:12 function`` that took it."""
    who: str
    """``thread <name>`` or ``task <name>``."""
    age: float
    """Seconds since it was lent."""

    def __str__(self) -> str:
        return f"{self.site}, {self.who}, {format_seconds(self.age)}"


def site_of(record: Record) -> str:
    """Return ``package/file.py:12 function`` of the line that took it. Cost: some microseconds."""
    code = record[2]
    return f"{callsite.shown((code, record[3]))} {code.co_name}"


def holders_of(records: Iterable[Record], now: float) -> tuple[Holder, ...]:
    """Return the holders of *records* at the time *now*, the oldest first, at most a hundred."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    oldest = sorted(records, key=_time_of)[:MAX_HOLDERS]
    return tuple(
        Holder(site=site_of(record), who=_who(record, names), age=max(0.0, now - record[0]))
        for record in oldest
    )


def describe_holders(holders: tuple[Holder, ...], most: int = 5) -> str:
    """Return the holders by site in one line: how many, where, and the oldest of each."""
    if not holders:
        return "no holder is known"
    counts = Counter(holder.site for holder in holders)
    parts = []
    for site, count in counts.most_common(most):
        oldest = next(holder for holder in holders if holder.site == site)
        parts.append(f"{count}x {site} (oldest: {oldest.who}, {format_seconds(oldest.age)})")
    more = len(counts) - most
    return "held by " + "; ".join(parts) + (f"; and {more} more sites" if more > 0 else "")


def _time_of(record: Record) -> float:
    return record[0]


def _who(record: Record, names: dict[int | None, str]) -> str:
    if len(record) == 5:
        return f"task {record[4]}"
    return f"thread {names.get(record[1], f'{record[1]} (ended)')}"
