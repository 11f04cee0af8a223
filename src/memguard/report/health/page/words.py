"""The small words and pieces that the parts of the live page share. Pure."""

from __future__ import annotations

import math
import re
import time

from memguard.report.render.html.markup import Markup, element
from memguard.units import format_bytes, format_seconds

_ISO_UTC = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


def fact(name: str, value: str, note: str) -> Markup:
    """Return one number of a grid of facts: its name, itself, and what it is of."""
    return element(
        "div", element("dt", name), element("dd", value, element("small", note), class_="number")
    )


def head_row(first: str, *numbers: str) -> Markup:
    """Return the heads of a table: a text to the left, numbers to the right."""
    heads = (element("th", name, class_="number", scope="col") for name in numbers)
    return element("tr", element("th", first, scope="col"), *heads)


def nothing(text: str) -> Markup:
    """Return the sentence that stands where there is nothing to show."""
    return element("p", text, class_="card none")


def amount(count: float | None) -> str:
    """Return bytes as people read them; ``"unknown"`` for None."""
    return "unknown" if count is None else format_bytes(count)


def percent(share: float, *, places: int = 0) -> str:
    """Return a share as percent."""
    return f"{share * 100:.{places}f} %" if math.isfinite(share) else "unknown"


def short(seconds: float) -> str:
    """Return a duration that may be far below a millisecond: ``"0.21 ms"``, ``"12 ms"``."""
    if 0 < seconds < 0.0095:
        return f"{seconds * 1000:.2g} ms"
    return format_seconds(seconds)


def when(at: float, now: float) -> Markup:
    """Return how long ago *at* was, both in seconds since the epoch; the date is its title."""
    try:
        date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):  # no year of this calendar
        return element("span", "at an unknown time", class_="when")
    age = now - at
    # In whole minutes, so that a page that stays current does not change for nothing.
    text = "just now" if age < 60 else f"{format_seconds(age // 60 * 60)} ago"
    return element("time", text, class_="when", title=date)


def moment(written: str) -> str:
    """Return a moment as people read it, of one in ISO 8601 and UTC; anything else as it is."""
    found = _ISO_UTC.fullmatch(written)
    return f"{found[1]} {found[2]} UTC" if found else written


def capital(text: str) -> str:
    """Return *text* with a large first letter."""
    return text[:1].upper() + text[1:]
