"""The results of tests as text: the failure of each, and the summary of a session. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from memguard.integrations.testing import PREFIX
from memguard.leaks.evidence.frames import frames_of, functions_at
from memguard.leaks.evidence.tracing import Location, Site
from memguard.leaks.report import Frame
from memguard.report.render.words import Locations, printable
from memguard.units import format_bytes

MOST_LINES = 5
"""Lines shown of each failure."""
MOST_LEFT = 20
_CALLERS = 2
_TRIFLE = 200
"""A line with less than one part in this many of the heaviest is not shown."""
MOST_ROWS = 10
"""Tests named under each heading; the rest is counted."""


def lines_of(sites: Sequence[Site], holders: Mapping[Location, str]) -> list[str]:
    """
    Return the heaviest of *sites* as text, each with its callers and its holder.

    Cost: one walk of the heap, for the names of the functions.
    """
    shown = [site for site in sites[:MOST_LINES] if site.bytes * _TRIFLE >= sites[0].bytes]
    functions = functions_at({place for site in shown for place in site.stack})
    locations = Locations()
    rows = []
    for site in shown:
        blocks = f"{site.count:+,} block{'' if site.count == 1 else 's'}"
        first, *callers = frames_of(site.stack or (site.location,), functions)
        rows.append(
            f"  {format_bytes(site.bytes, signed=True):>10}  ({blocks})  allocated at  "
            f"{locations.shown(first)}"
        )
        rows += [f"{'':14}←  {locations.shown(caller)}" for caller in _nearest(callers)]
        if site.location in holders:
            rows.append(f"{'':14}held by  {printable(holders[site.location], longest=300)}")
    more = len(sites) - len(shown)
    if more > 0:
        rest = sum(site.bytes for site in sites[len(shown) :])
        lines = "line" if more == 1 else "lines"
        rows.append(f"  {format_bytes(rest, signed=True):>10}  at {more} other {lines}")
    return rows


def _nearest(callers: Sequence[Frame]) -> list[Frame]:
    """Return the callers to show: the nearest of the user's own code, else the nearest."""
    own = [caller for caller in callers if caller.in_user_code]
    return (own or list(callers))[:_CALLERS]


def survives(
    bytes_per_run: int, allowed: int, runs: int, warmup: int, details: Sequence[str]
) -> str:
    """Return the failure of a test that leaks."""
    head = (
        f"memguard: {format_bytes(bytes_per_run)} survive each run of this test "
        f"(allowed: {format_bytes(allowed)}); {runs} runs counted, after {warmup} to warm up"
    )
    return "\n".join((head, *details))


def keeps(growth: int, allowed: int, details: Sequence[str]) -> str:
    """Return the failure of a block that leaves too much alive."""
    head = f"memguard: {format_bytes(growth)} survive this block (allowed: {format_bytes(allowed)})"
    return "\n".join((head, *details))


def left_behind(found: Sequence[str], *, what: str) -> str:
    """Return the failure of what leaves behind what is *found*."""
    rows = [f"  {row}" for row in found[:MOST_LEFT]]
    if len(found) > MOST_LEFT:
        rows.append(f"  and {len(found) - MOST_LEFT} more")
    return "\n".join((f"memguard: left behind by {what}:", *rows))


def exceeds(peak: int, limit: int, details: Sequence[str], *, what: str) -> str:
    """Return the failure of what takes too much at once."""
    head = f"memguard: {what} needs {format_bytes(peak)} at its peak (limit: {format_bytes(limit)})"
    return "\n".join((head, *details))


class Summary:
    """
    The tests that were measured, the heaviest by name.

    Bounded by: ``MOST_ROWS`` names under each heading.
    Locks: none; pytest's own thread.
    Keeps alive: names and numbers.
    """

    def __init__(self) -> None:
        self._heaviest: dict[str, list[tuple[int, str]]] = {"bytes_per_run": [], "peak_bytes": []}
        self._counts = {"bytes_per_run": 0, "peak_bytes": 0}
        self._others: dict[str, list[str]] = {"not_measured": [], "left_behind": []}
        self._more = {"not_measured": 0, "left_behind": 0}

    def add(self, test: str, properties: Mapping[str, Any]) -> None:
        """Enter the *properties* of a *test*."""
        for name, rows in self._heaviest.items():
            value = properties.get(PREFIX + name)
            if isinstance(value, int):
                self._counts[name] += 1
                heapq.heappush(rows, (value, printable(test)))
                if len(rows) > MOST_ROWS:
                    heapq.heappop(rows)
        for name, texts in self._others.items():
            text = properties.get(PREFIX + name)
            if text is not None and len(texts) < MOST_ROWS:
                texts.append(f"{printable(test)}: {printable(str(text), longest=300)}")
            elif text is not None:
                self._more[name] += 1

    def lines(self) -> list[str]:
        """Return what is to be printed."""
        rows: list[str] = []
        for name, heading in (
            ("bytes_per_run", "surviving each run, at most"),
            ("peak_bytes", "peak, highest first"),
        ):
            count = self._counts[name]
            if count:
                rows.append(f"{count} test{'' if count == 1 else 's'} measured; {heading}:")
                rows += [
                    f"  {format_bytes(value):>10}  {test}"
                    for value, test in sorted(self._heaviest[name], reverse=True)
                ]
        for name, heading in (("left_behind", "left behind:"), ("not_measured", "not measured:")):
            if self._others[name]:
                rows += [heading, *(f"  {text}" for text in self._others[name])]
                if self._more[name]:
                    rows.append(f"  and {self._more[name]} more")
        return rows
