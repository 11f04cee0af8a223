"""
Paths of holders as a tree: a common prefix of two paths is written once.

Pure. A path is text for people (``app.JOBS[str].lines``, ``local 'q' of running function app.main
(line 3).items``); splitting it loses no character of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_ANCHOR = re.compile(
    r"local '[^']*' of [a-z ]+ \S+ \(line \d+\)"  # a variable of a function that runs
    r"|[a-z][a-z ]*'[^']*'"  # one of our containers, by its name
)
_SEGMENT = re.compile(
    r"\.?<[^<>]*>"  # .<closure payload>
    r"|\[[^\[\]]*\]"  # [str]
    r"|\.?[^.\[<]+"  # .name
    r"|.",  # anything else, a character at a time
    re.DOTALL,
)
MAX_SEGMENTS = 100


@dataclass(slots=True)
class Branch:
    """A stretch of path that is common to everything below it."""

    segments: tuple[str, ...]
    members: list[int] = field(default_factory=list)
    """Numbers of the paths that end here."""
    branches: list[Branch] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The stretch as it stands in the path."""
        return "".join(self.segments)


def split_path(path: str) -> tuple[str, ...]:
    """
    Return the steps of *path*, from its root down; joined, they are *path* again.

    >>> split_path("shop.app.SESSIONS[str].lines")
    ('shop', '.app', '.SESSIONS', '[str]', '.lines')
    """
    anchor = _ANCHOR.match(path)
    start = anchor.end() if anchor else 0
    segments = [path[:start]] if start else []
    while start < len(path):
        if len(segments) == MAX_SEGMENTS - 1:
            segments.append(path[start:])
            break
        found = _SEGMENT.match(path, start)
        end = found.end() if found else len(path)
        segments.append(path[start:end])
        start = end
    return tuple(segments)


def tree(paths: Sequence[str]) -> list[Branch]:
    """
    Return *paths* as branches; their order is kept, as far as common beginnings allow.

    Bounded by: a branch more than there are paths for each path.
    """
    return _branches([(split_path(path), number) for number, path in enumerate(paths)])


def _branches(entries: list[tuple[tuple[str, ...], int]]) -> list[Branch]:
    groups: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for segments, number in entries:
        groups.setdefault(segments[0] if segments else "", []).append((segments, number))
    return [_branch(group) for group in groups.values()]


def _branch(group: list[tuple[tuple[str, ...], int]]) -> Branch:
    first = group[0][0]
    common = min(len(segments) for segments, _ in group)
    for segments, _ in group:
        common = next((n for n in range(common) if segments[n] != first[n]), common)
    ending = [number for segments, number in group if len(segments) == common]
    longer = [(segments[common:], number) for segments, number in group if len(segments) > common]
    return Branch(first[:common], ending, _branches(longer))
