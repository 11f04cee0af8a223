"""The components of reports, comparisons and the live page. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.tree import split_path

MOST_ENTRIES = 60
"""Entries of a section that are shown; a detector names ten, but a file may claim anything."""


def document(title: str, body: Markup, *, style: str, meta: Mapping[str, str]) -> str:
    """
    Return a whole document, UTF-8, ending in a newline.

    Args:
        title: For the browser's tab.
        body: All that is seen.
        style: Its style sheet.
        meta: Further names and contents of ``meta`` elements.
    """
    named = {
        "viewport": "width=device-width, initial-scale=1",
        "color-scheme": "light dark",
        **meta,
    }
    head = element(
        "head",
        element("meta", charset="utf-8"),
        *(_meta(name, content) for name, content in named.items()),
        element("title", title),
        element("style", Markup(style)),
    )
    page = element("html", head, element("body", body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _meta(name: str, content: str) -> Markup:
    if name == "Content-Security-Policy":
        return element("meta", http_equiv=name, content=content)
    return element("meta", name=name, content=content)


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


def bar(
    share: float, *, class_: str = "bar", fill: str = "fill", height: int = 6, label: str = ""
) -> Markup:
    """Return a bar that is filled to *share*, 0 to 1; without a *label* it is for the eye alone."""
    width = min(max(share, 0.0), 1.0) * 100 if math.isfinite(share) else 0.0
    return element(
        "svg",
        element("rect", class_="track", width="100%", height=height),
        element("rect", class_=fill, width=f"{width:.2f}%", height=height),
        class_=class_,
        width="100%",
        height=height,
        aria_hidden=None if label else "true",
        role="img" if label else None,
        aria_label=label or None,
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


def badge(kind: str, text: str) -> Markup:
    """Return a short word on a coloured ground."""
    return element("span", text, class_=f"badge {kind}")


def fact(name: str, value: str, note: str) -> Markup:
    """Return one number of a grid of facts: its name, itself, and what it is of."""
    return element(
        "div", element("dt", name), element("dd", value, element("small", note), class_="number")
    )


def row(first: Markup | str, *numbers: str, first_class: str | None = None) -> Markup:
    """Return a row of a table: a text to the left, numbers to the right."""
    cells = (element("td", number, class_="number") for number in numbers)
    return element("tr", element("td", first, class_=first_class), *cells)


def table(heads: Sequence[str], rows: Iterable[Markup], *, foot: Markup | None = None) -> Markup:
    """Return a table: the first of *heads* is that of a text, the others are of numbers."""
    first, *numbers = heads
    head = element(
        "tr",
        element("th", first, scope="col"),
        *(element("th", name, class_="number", scope="col") for name in numbers),
    )
    return element(
        "table",
        element("thead", head),
        element("tbody", *rows),
        None if foot is None else element("tfoot", foot),
    )


def wide_card(*content: Markup) -> Markup:
    """Return a card as wide as what is in it."""
    return element("div", *content, class_="card wide")


def shown_of(shown: Sequence[object], found: Sequence[object], note: str) -> str:
    """Return *note*, and how many of the entries that were *found* are shown."""
    return note if len(shown) == len(found) else f"{note}; the first {len(shown)} of {len(found):,}"
