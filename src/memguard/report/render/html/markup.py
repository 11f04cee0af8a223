"""
Markup that cannot be injected into: every text is escaped unless this module made it.

``element("p", name)`` escapes *name*; what ``element`` returns is a ``Markup``, which is not
escaped again. The standard library's ``html`` would do for the escaping, but loads a table of two
thousand named characters that a guarded process does not need.
"""

from __future__ import annotations

import re

from memguard.report.render.words import printable

LONGEST = 4000
"""Characters of one text; longer ones keep their two ends."""

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_EMPTY = frozenset({"br", "input", "meta", "wbr"})


class Markup(str):
    """Text that is markup already: only ``element``, ``join`` and constants of ours are."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """
    Return *text* as markup that shows it: in an element or a quoted attribute.

    What a terminal would not print (control characters, bidirectional overrides, lone surrogates)
    is shown as an escape, because it can deceive the reader of a page as well.
    """
    return Markup(printable(text, longest=LONGEST).translate(_ESCAPES))


def join(*parts: str | None) -> Markup:
    """Return *parts* one after the other; each is escaped unless it is Markup."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else escape(part)
            for part in parts
            if part is not None  # an empty string adds nothing either way
        )
    )


def element(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """
    Return an element.

    Args:
        name: Of the tag.
        children: Texts, which are escaped, and Markup.
        attributes: A trailing underscore is dropped (``class_``), others become dashes
            (``aria_label``). True gives the bare name, None and False leave it out.
    """
    shown = []
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(attribute):  # a name is never data
            raise ValueError(f"{attribute!r} cannot be the name of an attribute")
        if value is True:
            shown.append(f" {attribute}")
        elif value is not None and value is not False:
            shown.append(f' {attribute}="{escape(_text(value))}"')
    tag = f"<{name}{''.join(shown)}>"
    return Markup(tag if name in _EMPTY else f"{tag}{join(*children)}</{name}>")


def _text(value: str | float) -> str:
    """Return a number in as few digits as a drawing needs."""
    return (
        value if isinstance(value, str) else f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
    )
