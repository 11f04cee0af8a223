"""The parts that a report's page and a comparison's are built of. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.style import STYLE, content_policy
from memguard.report.render.html.tree import split_path

MOST_ENTRIES = 60
"""Entries of a section that are shown; a detector names ten, but a file may claim anything."""


def document(title: str, body: Markup) -> str:
    """Return a whole document with the look and the policy of a report."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=content_policy()),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} \u2013 memguard"),
        element("style", Markup(STYLE)),
    )
    page = element("html", head, element("body", element("main", body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def section(title: str, content: Markup | None, *, note: str | None = None) -> Markup | None:
    """Return a section under its heading; None where it has no content."""
    if not content:
        return None
    small = element("small", note) if note else None
    return element("section", element("h2", title, small), content)


def chart_card(drawing: Markup, *captions: Markup | None) -> Markup:
    """Return a drawing and what its lines mean."""
    return element("figure", drawing, element("figcaption", *captions), class_="card")


def key(kind: str, text: str) -> Markup:
    """Return a short line as in a drawing, and what it means."""
    line = element("line", x1="1", x2="23", y1="4", y2="4")
    sample = element("svg", line, class_=f"key {kind}", viewBox="0 0 24 8", aria_hidden="true")
    return element("span", sample, text)


def bar(share: float, *, kind: str = "fill", pair: bool = False) -> Markup:
    """Return a bar that is filled to *share*, 0 to 1."""
    width = min(max(share, 0.0), 1.0) * 100 if math.isfinite(share) else 0.0
    return element(
        "svg",
        element("rect", class_="track", width="100%", height="6"),
        element("rect", class_=kind, width=f"{width:.2f}%", height="6"),
        class_="bar pair" if pair else "bar",
        width="100%",
        height="6",
        aria_hidden="true",
    )


def path(text: str) -> Markup:
    """Return a holder's path as code that may be broken between its steps."""
    steps = [join(step, element("wbr")) for step in split_path(text)]
    return element("code", *steps)


def points(texts: Sequence[str]) -> Markup:
    """Return *texts* as a list on a card."""
    return element("div", bullets(texts), class_="card")


def bullets(texts: Sequence[str]) -> Markup:
    """Return *texts* as a list."""
    return element("ul", *(element("li", text) for text in texts[:MOST_ENTRIES]), class_="points")


def shown_of(shown: Sequence[object], found: Sequence[object], note: str) -> str:
    """Return *note*, and how many of the entries that were *found* are shown."""
    return note if len(shown) == len(found) else f"{note}; the first {len(shown)} of {len(found):,}"
