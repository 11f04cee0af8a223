"""Rendered pages are kept by address: a dict of strings, which the collector does not track."""

from __future__ import annotations

HOLDER = "dict_of_strings.PAGES"

PAGES: dict[str, str] = {}


def step(number: int) -> None:
    """Render one page."""
    PAGES[f"/page/{number}"] = "<p>" + "x" * (6000 + number % 5)  # <- allocates
