"""The memory of child processes, counted so that pages which a fork shares count once."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from memguard.observe.readings import parse_status

_MOST_SHARE = 0.02
"""Of the time, that looking at children may take."""
_PROPORTIONAL = re.compile(r"^(Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a process and its children hold that the kernel cannot drop. Bytes."""

    children: int
    """How many there are, children of children too."""
    bytes: int
    """Private and shared memory of the children."""
    shared: int
    """What of that is also counted as this process's own: pages that a fork left shared."""


def read_family(*, root: str = "/proc") -> Family:
    """
    Return what the children of this process hold. Never raises; a child that ends counts nothing.

    On Linux a page that several processes share counts in each by its part (*proportional set
    size*), so that the sum is right. Elsewhere, and where ``smaps_rollup`` cannot be read, private
    memory counts, and a page that a fork left shared counts in each.

    Thread-safe. Cost: some ms to find them, and on Linux about 10 ms per GiB that they hold, during
    which the GIL is released.

    Args:
        root: The mount point of ``/proc``, for tests.

    Source: Linux ``Documentation/filesystems/proc.rst``.
    """
    try:
        found = psutil.Process().children(recursive=True)
    except (psutil.Error, OSError):
        found = []
    if not found:
        return Family(children=0, bytes=0, shared=0)
    sizes = [size for child in found if (size := _size(child, root)) is not None]
    own = _proportional(os.getpid(), root)
    held = _held(os.getpid(), root)
    shared = 0 if own is None or held is None else max(0, held - own)
    return Family(children=len(sizes), bytes=sum(sizes), shared=shared)


def _size(child: psutil.Process, root: str) -> int | None:
    size = _proportional(child.pid, root)
    if size is None:
        size = _held(child.pid, root)
    if size is None and sys.platform != "linux":
        try:
            size = int(child.memory_info().rss)
        except (psutil.Error, OSError):
            return None
    return size


def _proportional(pid: int, root: str) -> int | None:
    text = _text(Path(root, str(pid), "smaps_rollup"))
    rows = dict(_PROPORTIONAL.findall(text or ""))
    return sum(map(int, rows.values())) * 1024 if "Pss_Anon" in rows else None


def _held(pid: int, root: str) -> int | None:
    try:
        found = parse_status((_text(Path(root, str(pid), "status")) or "").encode())
    except ValueError:
        return None
    if "anon" not in found:  # a process that has ended, or a kernel before 4.5
        return None
    return found["anon"] + found.get("shmem", 0) + found.get("swap", 0)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


class FamilyMeter:
    """
    Read the family again and again, in a fiftieth of the time at most.

    Bounded by: one figure.
    Locks: none; for one thread.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        *,
        timer: Callable[[], float],
        read: Callable[[], Family] = read_family,
        cost: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._timer = timer
        self._read = read
        self._cost = cost
        self._known: Family | None = None
        self._not_before = float("-inf")

    def read(self) -> Family:
        """Return the children; as they were a moment ago, if looking at them takes long."""
        now = self._timer()
        if self._known is None or now >= self._not_before:
            began = self._cost()
            self._known = self._read()
            self._not_before = now + (self._cost() - began) / _MOST_SHARE
        return self._known
