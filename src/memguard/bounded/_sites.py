"""Where in the host's code something was registered: kept as a pair, shown as ``file.py:12``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

Site: TypeAlias = tuple[str, int]
"""File name and line."""

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - reason: pathlib at import costs more than the whole module


def caller() -> Site:
    """Return the nearest line outside memguard that led here. Cost: under a microsecond."""
    frame = sys._getframe(1)  # noqa: SLF001 - reason: the documented way to the caller's frame
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def shown(site: Site) -> str:
    """Return ``package/file.py:12``."""
    parts = site[0].replace("\\", "/").rsplit("/", 2)
    return f"{'/'.join(parts[-2:])}:{site[1]}"


def grouped(sites: Iterable[Site], most: int = 5) -> str:
    """Return the most frequent sites with their counts: ``"90x app.py:12, 3x jobs.py:7"``."""
    counts = Counter(sites)
    text = ", ".join(f"{count}x {shown(site)}" for site, count in counts.most_common(most))
    others = len(counts) - most
    return f"{text}, and {others} more places" if others > 0 else text
