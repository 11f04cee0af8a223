"""
Walk the live heap in slices that let the application breathe. Shared by census and retention.

``gc.get_objects`` is one call that copies pointers (about 3 ns each); everything after it is done
a slice at a time, and each slice is dropped as soon as it was seen, so that an object which dies
during the walk is not kept alive by it for long.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

SLICE = 4096
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


def live_slices(*, young: bool = False, pause: float = PAUSE_SECONDS) -> Iterator[list[Any]]:
    """
    Yield the objects that the collector tracks, a slice at a time, newest first.

    Args:
        young: Also objects that have not yet survived a collection. What leaks grows old, so a
            census does without them where the collector runs.
        pause: Seconds to sleep between slices.

    Cost: 8 bytes an object while the walk lasts.
    """
    for generation in _generations(young=young):
        objects = gc.get_objects(generation=generation)
        while objects:
            chunk = objects[-SLICE:]
            del objects[-SLICE:]
            yield chunk
            del chunk
            if pause and objects:
                time.sleep(pause)


def _generations(*, young: bool) -> list[int | None]:
    if sys.version_info >= (3, 14) or not gc.isenabled():
        return [None]  # generations mean something else there, or nothing grows old
    return [2, 1, 0] if young else [2, 1]


def too_large(max_objects: int) -> int | None:
    """Return the number of blocks when there are too many to walk, else None."""
    blocks = sys.getallocatedblocks()
    return blocks if blocks > max_objects else None
