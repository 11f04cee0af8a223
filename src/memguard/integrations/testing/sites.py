"""
Allocation sites of a test: which code owns the memory, by line, and what holds it.

pytest, its plugins and memguard keep something of every run as well: a finalizer, a report. That
memory is not the test's. Holders are looked for on a failure only: the whole heap is walked, which
takes seconds if it is large.
"""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from memguard.bounded import inventory
from memguard.heap import walk
from memguard.leaks.evidence.tracing import Location, Site, Tracer
from memguard.leaks.holders import paths as retention

SECONDS = 10.0
"""For the walk, and again for the search of the way."""
_ASK_AT_MOST = 5_000_000
"""Objects whose origin is looked up."""
_MEMGUARD = str(Path(__file__).parents[2])
_RUNNERS = ("pytest", "_pytest", "pluggy", "xdist", "execnet", "coverage", "hypothesis")


class Runner:
    """
    Knows the files of the test runner.

    Bounded by: the plugins of a session.
    Locks: none.
    Keeps alive: names of files.

    Args:
        modules: pytest's plugins, as its plugin manager has them.
    """

    def __init__(self, modules: Iterable[Any] = ()) -> None:
        self._files: set[str] = set()
        self._folders = [
            os.path.join(_MEMGUARD, room) + os.sep  # noqa: PTH118 - reason: a prefix, not a path
            for room in ("integrations", "leaks")
        ]
        for module in (*modules, *(sys.modules.get(name) for name in _RUNNERS)):
            self._add(module)
        stdlib = sysconfig.get_paths()["stdlib"]
        self._stdlib = stdlib.rstrip("/\\") + os.sep

    def _add(self, module: Any) -> None:
        file = getattr(module, "__file__", None)
        name = getattr(module, "__name__", None)
        if not isinstance(file, str) or not isinstance(name, str):
            return
        self._files.add(file)
        top = name.split(".")[0]
        if top in _RUNNERS or top.startswith("pytest_"):
            levels = name.count(".") + (0 if Path(file).stem == "__init__" else -1)
            folder = Path(file).parents[max(0, levels)]
            if levels >= 0 and folder.name == top:
                self._folders.append(str(folder) + os.sep)

    def owns(self, stack: Iterable[Location]) -> bool:
        """Return whether the first of *stack* that says anything about it is the runner's."""
        for file, _ in stack:
            if self._says_nothing(file):
                continue
            return file in self._files or file.startswith(tuple(self._folders))
        return False

    def _says_nothing(self, file: str) -> bool:
        """Return whether *file* is shared infrastructure: the standard library, generated code."""
        if file.startswith("<"):
            return True
        return file.startswith(self._stdlib) and "site-packages" not in file


def by_line(stacks: Iterable[Site], runner: Runner) -> dict[Location, Site]:
    """
    Return what the program gained by line; negative if a line freed more than it allocated.

    Each has its heaviest stack, up to where the test runner begins.
    """
    lines: dict[Location, Site] = {}
    for found in stacks:
        if runner.owns(found.stack):
            continue
        line = lines.setdefault(found.location, Site(found.location))
        line.bytes += found.bytes
        line.count += found.count
        if found.bytes > line.stack_bytes:
            line.stack, line.stack_bytes = without_runner(found.stack, runner), found.bytes
    return lines


def heaviest_first(lines: Iterable[Site]) -> list[Site]:
    """Return those of *lines* that gained memory, the heaviest first."""
    return sorted((line for line in lines if line.bytes > 0), key=lambda line: -line.bytes)


def grown_each_time(parts: Sequence[dict[Location, Site]]) -> list[Site]:
    """
    Return the lines that gained memory in every one of *parts*, with what they gained in all.

    A late import or a cache that was filled meanwhile is in one of them only.
    """
    lasting = [
        line for line in parts[0] if all(line in part and part[line].bytes > 0 for part in parts)
    ]
    summed = []
    for line in lasting:
        shares = [part[line] for part in parts]
        heaviest = max(shares, key=lambda share: share.stack_bytes)
        summed.append(
            Site(
                line,
                sum(share.bytes for share in shares),
                sum(share.count for share in shares),
                heaviest.stack,
                heaviest.stack_bytes,
            )
        )
    return heaviest_first(summed)


def without_runner(stack: tuple[Location, ...], runner: Runner) -> tuple[Location, ...]:
    """Return *stack* up to where the test runner begins."""
    for at, location in enumerate(stack):
        if at and runner.owns((location,)):
            return stack[:at]
    return stack


def holders_of(lines: Iterable[Location], tracer: Tracer) -> dict[Location, str]:
    """
    Return the path to an object that each of the *lines* has allocated, if one is found.

    Our tracing session ends: allocation sites are unknown afterwards. Cost: two walks of the
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
    with walk.live_slices(pause=0) as slices:
        for chunk in slices:
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
