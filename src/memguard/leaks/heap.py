"""
Walk the live heap in slices that let the application breathe. Shared by census and retention.

``gc.get_objects`` is one call that copies pointers (about 3 ns each); everything after it is done
a slice at a time, and each slice is dropped as soon as it was seen, so that an object which dies
during the walk is not kept alive by it for long.
"""

from __future__ import annotations

import gc
import itertools
import operator
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

SLICE = 4096
HUGE = 500_000
"""Containers with more entries are not opened to see what they hold."""
PAUSE_SECONDS = 0.0002
"""Sleep between slices: long enough to hand the GIL over, short enough to finish."""

_LENGTHS: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (OrderedDict, OrderedDict.__len__),
    (dict, dict.__len__),
    (list, list.__len__),
    (set, set.__len__),
    (deque, deque.__len__),
)


def length_of(kind: type) -> Callable[[Any], int] | None:
    """
    Return the C function that counts the entries of a container of type *kind*, or None.

    The base type's own slot, never an override: no code of a stranger runs.
    """
    return next((length for base, length in _LENGTHS if issubclass(kind, base)), None)


def live_slices(*, pause: float = PAUSE_SECONDS) -> Iterator[list[Any]]:
    """
    Yield the objects that the collector tracks, a slice at a time, the youngest first.

    Generation by generation, so that the young ones, of which many will be dead in a moment, are
    let go of early.

    Args:
        pause: Seconds to sleep between slices.

    Cost: 8 bytes an object while the walk lasts.
    """
    for generation in _generations():
        objects = gc.get_objects(generation=generation)
        while objects:
            chunk = objects[-SLICE:]
            del objects[-SLICE:]
            yield chunk
            del chunk
            if pause and objects:
                time.sleep(pause)


def not_huge(chunk: list[Any]) -> list[Any]:
    """Leave out containers whose entries would be copied by the million when they are opened."""
    kept = []
    for obj in chunk:
        kind = type(obj)
        if not (kind is dict or kind is list or kind is set) or len(obj) <= HUGE:
            kept.append(obj)
    return kept


def untracked_dicts(chunk: list[Any]) -> list[dict[Any, Any]]:
    """
    Return the dicts below *chunk* that the collector does not track.

    Up to CPython 3.13 a dict of strings and numbers only is none of the collector's business and is
    in no walk of it; caches often are such dicts. They hang below objects that are tracked.

    Cost: about 30 ns a reference, in C.
    """
    if sys.version_info >= (3, 14):
        return []  # every dict is tracked there (python/cpython#127010)
    below = gc.get_referents(*not_huge(chunk))
    dicts = itertools.compress(below, map(operator.is_, map(type, below), itertools.repeat(dict)))
    return [found for found in dicts if not gc.is_tracked(found)]


def _generations() -> list[int | None]:
    # From 3.14 on the numbers mean something else. None is all of them.
    return [None] if sys.version_info >= (3, 14) else [0, 1, 2]


def too_large(max_objects: int) -> int | None:
    """Return the number of blocks when there are too many to walk, else None."""
    blocks = sys.getallocatedblocks()
    return blocks if blocks > max_objects else None
