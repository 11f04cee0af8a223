"""The line of the host's code that registered something: a pair, shown as ``file.py:12``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from types import CodeType
from typing import Any, TypeAlias, cast

from memguard.bounded import options

Site: TypeAlias = tuple[CodeType, int]
"""A piece of code and an offset in it: cheaper to take than a line number, and as exact."""

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - reason: pathlib at import costs more than the whole module
_INSIDE = (_HERE, cast.__code__.co_filename)


def caller(depth: int = 1) -> Site:
    """
    Return the nearest line outside memguard that led here, *depth* calls up or higher.

    ``BoundedCache[str, int](10)`` is called by typing, which is left out as well.
    """
    frame = sys._getframe(depth)  # noqa: SLF001 - reason: the documented way to the caller's frame
    code = frame.f_code
    while code.co_filename.startswith(_INSIDE) and frame.f_back is not None:
        frame = frame.f_back
        code = frame.f_code
    return code, frame.f_lasti


def name_for(kind: str, name: Any) -> str:
    """
    Return *name* if one was given, else what and where: ``BoundedCache@shop/app.py:12``.

    Raises:
        TypeError: *name* is not a string.
        ConfigError: It is empty.
    """
    return options.check_name(name) or f"{kind}@{shown(caller())}"


def line_of(site: Site) -> int:
    """Return the line number; 0 when the code keeps none."""
    code, offset = site
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return 0


def shown(site: Site) -> str:
    """Return ``package/file.py:12``."""
    parts = site[0].co_filename.replace("\\", "/").rsplit("/", 2)
    return f"{'/'.join(parts[-2:])}:{line_of(site)}"


def is_same_line(site: Site, other: Site) -> bool:
    """Return whether both are on one line of one piece of code."""
    return site[0] is other[0] and (site[1] == other[1] or line_of(site) == line_of(other))


def counted(sites: Iterable[Site]) -> Counter[str]:
    """Return how often each line occurs."""
    # By identity: comparing code objects compares what is in them.
    known: dict[tuple[int, int], Site] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for site in sites:
        key = (id(site[0]), site[1])
        known[key] = site
        counts[key] += 1
    text: Counter[str] = Counter()
    for key, count in counts.items():
        text[shown(known[key])] += count
    return text


def grouped(sites: Iterable[Site], most: int = 5) -> str:
    """Return the most frequent sites with their counts: ``"90x app.py:12, 3x jobs.py:7"``."""
    counts = counted(sites)
    text = ", ".join(f"{count}x {place}" for place, count in counts.most_common(most))
    others = len(counts) - most
    return f"{text}, and {others} more" if others > 0 else text
