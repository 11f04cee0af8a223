"""What is planted in the leaky shop; lines and functions are read from its source, not typed in."""

from __future__ import annotations

import ast
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
PACKAGE = "leaky_shop"
"""The name the server imports this package by, ``examples/`` being on its path."""

_MARK = re.compile(r"#\s*planted:\s*(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """One planted leak."""

    key: str
    """The word behind ``planted:`` in the source."""
    story: str
    holder: str
    """Path of the container that holds what leaks."""
    holder_type: str
    file: str
    """Source file below the package: ``app.py``."""
    line: int
    """The line that allocates what leaks."""
    function: str
    """The function around that line."""

    @property
    def where(self) -> str:
        """``leaky_shop/app.py:43 remember_session``."""
        return f"{PACKAGE}/{self.file}:{self.line} {self.function}"


_HOLDERS = {
    "sessions": ("a dict used as a cache by session", f"{PACKAGE}.app.SESSIONS", "dict"),
    "listeners": (
        "a listener per order on a signal",
        f"{PACKAGE}.signals.order_shipped.receivers",
        "dict",
    ),
    "jobs": ("finished jobs on a service", f"{PACKAGE}.jobs.SERVICE.finished", "list"),
}


def planted(sources: Path = SOURCES) -> tuple[Plant, ...]:
    """
    Return the planted leaks, found by the marks in *sources*.

    Raises:
        LookupError: A leak without exactly one mark, or a mark outside any function.
    """
    marks: dict[str, list[tuple[str, int, str]]] = {key: [] for key in _HOLDERS}
    for path in sorted(sources.glob("*.py")):
        for key, line in _marks(path):
            marks.setdefault(key, []).append((path.name, line, _function_at(path, line)))
    plants = []
    for key, found in marks.items():
        if key not in _HOLDERS or len(found) != 1:
            raise LookupError(f"'planted: {key}' must mark one line of a known leak (got {found})")
        story, holder, holder_type = _HOLDERS[key]
        file, line, function = found[0]
        plants.append(
            Plant(
                key=key,
                story=story,
                holder=holder,
                holder_type=holder_type,
                file=file,
                line=line,
                function=function,
            )
        )
    return tuple(plants)


def _marks(path: Path) -> list[tuple[str, int]]:
    with path.open("rb") as file:
        return [
            (match[1], token.start[0])
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT and (match := _MARK.fullmatch(token.string))
        ]


def _function_at(path: Path, line: int) -> str:
    around = [
        node
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    if not around:
        raise LookupError(f"{path.name}:{line} is marked as planted but lies in no function")
    return max(around, key=lambda node: node.lineno).name
