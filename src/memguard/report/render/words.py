"""
Words for locations, rates and limits, and escaped names: for text that people read.

Pure, but for asking the current directory, which file names are shortened against.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from memguard.leaks.report import VERDICTS, Frame, HolderUnit, Suspect, TrendSummary
from memguard.units import format_bytes, format_seconds
from memguard.units import format_rate as rate

__all__ = [
    "VERDICTS",
    "Locations",
    "capital",
    "count",
    "limit",
    "number",
    "printable",
    "rate",
]

_PACKAGES = re.compile(r"^.*[/\\](?:site|dist)-packages[/\\]", re.DOTALL)
_STANDARD_LIBRARY = re.compile(r"^.*[/\\]lib[/\\](?=python3\.\d+t?[/\\])", re.DOTALL)


def printable(text: str, *, longest: int = 200) -> str:
    """
    Return *text* as one line that does nothing to a terminal, cut in the middle past *longest*.

    Control characters, line breaks, bidirectional overrides and lone surrogates become escapes.
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def capital(text: str) -> str:
    """Return *text* with a large first letter."""
    return text[:1].upper() + text[1:]


def number(value: float, form: str) -> str:
    """Return *value* in a format, or ``"unknown"`` where it is not finite."""
    return format(value, form) if math.isfinite(value) else "unknown"


def count(entries: int, unit: HolderUnit) -> str:
    """Return ``"4,598 instances"``, in the singular for one; bytes in their units."""
    if unit == "bytes":
        return format_bytes(entries)
    return f"{entries:,} {_SINGULAR[unit] if entries == 1 else unit}"


_SINGULAR = {"entries": "entry", "instances": "instance"}


def limit(trend: TrendSummary, limit_bytes: int) -> str:
    """Return the limit, where it comes from, and when it is reached."""
    source = f" ({printable(trend.limit_source)})" if trend.limit_source else ""
    text = f"limit {format_bytes(limit_bytes)}{source}"
    if trend.seconds_to_limit is None:
        return f"{text}, not being approached"
    return f"{text}, reached in about {format_seconds(trend.seconds_to_limit)} at this rate"


class Locations:
    """
    Shows ``file:line  function``, with each file name as short as it stays clear.

    Args:
        directory: Files below it are shown relative to it; None is the current directory.
    """

    def __init__(self, directory: str | None = None) -> None:
        found = _current_directory() if directory is None else directory
        self._directory = found.rstrip("/\\")

    def shown(self, place: Suspect | Frame, *, after: str | None = None) -> str:
        """Return where *place* is; only the last part of a file that was just named (*after*)."""
        file = re.split(r"[/\\]", place.file)[-1] if place.file == after else self.file(place.file)
        function = f"  {printable(place.function, longest=80)}" if place.function else ""
        return f"{printable(file)}:{place.line}{function}"

    def file(self, file: str) -> str:
        """Return *file*, shortened; not yet made printable."""
        if self._directory and file.startswith((self._directory + "/", self._directory + "\\")):
            file = file[len(self._directory) + 1 :]
        return _STANDARD_LIBRARY.sub("", _PACKAGES.sub("", file))


def _current_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted under the process
        return ""
