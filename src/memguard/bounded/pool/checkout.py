"""
Who holds what a pool has lent: recorded in a few instructions, put into words when asked.

A record names code and instruction instead of a line, because computing a line costs as much as
the rest of a checkout. It refers to code and never to a frame, which would keep locals alive.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType
from typing import TypeAlias

from memguard import log
from memguard.bounded import callsite as sites
from memguard.units import format_seconds

Record: TypeAlias = tuple[float, int, CodeType, int] | tuple[float, int, CodeType, int, str]
"""Time of lending, thread, code, instruction, and the task's name where there is a task."""

MOST_HOLDERS = 100
"""Holders that are told at most: a message is not a dump."""


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
    return f"{sites.shown((code, record[3]))} {code.co_name}"


def holders_of(records: Iterable[Record], now: float) -> tuple[Holder, ...]:
    """Return the holders of *records* at the time *now*, the oldest first, at most a hundred."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    oldest = sorted(records, key=_time_of)[:MOST_HOLDERS]
    return tuple(
        Holder(site=site_of(record), who=_who(record, names), age=max(0.0, now - record[0]))
        for record in oldest
    )


def told(holders: tuple[Holder, ...], most: int = 5) -> str:
    """Return the holders by site in one line: how many, where, and the oldest of each."""
    if not holders:
        return "nobody is on record as holding one"
    counts = Counter(holder.site for holder in holders)
    parts = []
    for site, count in counts.most_common(most):
        oldest = next(holder for holder in holders if holder.site == site)
        parts.append(f"{count}x {site} (oldest: {oldest.who}, {format_seconds(oldest.age)})")
    more = len(counts) - most
    return "held by " + "; ".join(parts) + (f"; and {more} more places" if more > 0 else "")


def _time_of(record: Record) -> float:
    return record[0]


def _who(record: Record, names: dict[int | None, str]) -> str:
    if len(record) == 5:
        return f"task {record[4]}"
    return f"thread {names.get(record[1], f'{record[1]} (ended)')}"


MOST_SITES = 100
"""Places of loss that are told apart; further ones are counted together."""


class Losses:
    """The lost checkouts of one pool. Thread-safe."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._lock = threading.RLock()  # re-entrant: a destructor may interrupt and count as well
        self._sites: dict[str, int] = {}
        self._others = 0
        self.total = 0

    def lose(self, record: Record | None, outcome: str) -> None:
        """Count a checkout that was never given back; each place is logged once."""
        site = "(interrupted hand-over)" if record is None else site_of(record)
        with self._lock:
            self.total += 1
            known = site in self._sites
            room = len(self._sites) < MOST_SITES
            if known or room:
                self._sites[site] = self._sites.get(site, 0) + 1
            else:
                self._others += 1
        if room and not known:
            log.event(
                logging.WARNING, "pool.lease_lost", pool=self._pool, site=site, outcome=outcome
            )

    def sites(self) -> tuple[tuple[str, int], ...]:
        """Return ``(site, losses)``, the most first."""
        with self._lock:
            sites = list(self._sites.items())
            others = self._others
        sites.sort(key=_count_of, reverse=True)
        return (*sites, *([("(other places)", others)] if others else []))


def _count_of(row: tuple[str, int]) -> int:
    return row[1]
