"""
Who holds what a line has allocated: one object of it is looked for, and the way to it.

For a failure only: the whole heap is walked, which takes seconds where it is large.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from typing import Any

from memguard.bounded import inventory
from memguard.heap import walk
from memguard.leaks.evidence.tracing import Location, Tracer
from memguard.leaks.holders import paths as retention

SECONDS = 10.0
"""For the walk, and again for the search of the way."""
_ASK_AT_MOST = 5_000_000
"""Objects whose origin is asked for."""


def holders_of(lines: Iterable[Location], tracer: Tracer) -> dict[Location, str]:
    """
    Return the path to an object that each of the *lines* has allocated, where one is found.

    A session of ours is ended: nothing is known of any origin afterwards. Cost: two walks of the
    heap or more; at most twice ``SECONDS``.
    """
    found: dict[Location, Any] = {}
    try:
        _find(set(lines), tracer, found)
        tracer.abandon()  # what follows allocates much, and need not be traced
        wanted = {id(obj): obj for obj in found.values()}
        where = {line: id(obj) for line, obj in found.items()}
        ignore = (id(found), id(wanted))
        found.clear()
        paths = retention.find_paths(
            wanted, seconds=SECONDS, containers=inventory.names(), ignore=ignore
        )
        wanted.clear()
        return {line: paths[key].path for line, key in where.items() if key in paths}
    finally:
        found.clear()


def _find(missing: set[Location], tracer: Tracer, found: dict[Location, Any]) -> None:
    """Enter one object for each of the *missing* lines, of the youngest that are alive."""
    deadline = time.monotonic() + SECONDS
    opener = walk.Opener()
    left = _ASK_AT_MOST
    for chunk in walk.live_slices(pause=0):
        below = [obj for part in opener.parts(chunk) for obj in gc.get_referents(*part)]
        # What the collector does not track is found below what it does.
        deeper = [obj for part in opener.tuples(below) for obj in gc.get_referents(*part)]
        for found_dict in opener.untracked(chunk):
            deeper += gc.get_referents(found_dict)
        for objects in (chunk, below, deeper):
            left -= len(objects)
            for obj in reversed(objects):
                origin = tracer.origin(obj)
                if origin and origin[0] in missing and obj is not missing:
                    missing.discard(origin[0])
                    found[origin[0]] = obj
        del chunk, below, deeper, objects
        if not missing or left <= 0 or time.monotonic() > deadline:
            return
