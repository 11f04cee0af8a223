"""What the tests of a session have shown, for the end of it. Pure: properties in, lines out."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

from memguard.report.render.words import printable
from memguard.units import format_bytes

MOST_ROWS = 10
"""Tests named under each heading; the rest is counted."""
_PREFIX = "memguard."


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
            value = properties.get(_PREFIX + name)
            if isinstance(value, int):
                self._counts[name] += 1
                heapq.heappush(rows, (value, printable(test)))
                if len(rows) > MOST_ROWS:
                    heapq.heappop(rows)
        for name, texts in self._others.items():
            text = properties.get(_PREFIX + name)
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
