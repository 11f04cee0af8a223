"""Forked children of a guarded process: which of them have no guard, noticed by their parent."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator

import psutil

from memguard.lifecycle import interpreter

PATIENCE = 10.0
"""Seconds that a child has to install a guard of its own, before it is called unguarded."""
_SLOTS = 64
_SLOT = struct.Struct("=qd")
_EMPTY = bytes(_SLOTS * _SLOT.size)


class Children:
    """
    Know which forked children run without a guard, though none of them says anything.

    Each child notes itself in a page of memory that it shares with its parent, which looks there.
    The parent speaks, from a thread of its own: within a fork no lock and no log is safe.

    Bounded by: a page of memory, for 64 children; of more, some are not known.
    Locks: none: each child writes its own slot.
    Keeps alive: nothing.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._page: mmap.mmap | None = None
        self._pid = os.getpid()

    def open(self) -> None:
        """In a process whose guard starts: it is guarded, and its own children are watched."""
        if self._pid != os.getpid() or self._page is None:
            self.leave()
            self._pid = os.getpid()
            self._page = None
            if interpreter.is_main():  # CPython may hang when it ends another one's mapped memory
                with contextlib.suppress(OSError, ValueError):  # no memory: then nobody is noticed
                    self._page = mmap.mmap(-1, mmap.PAGESIZE)  # shared, as is the default

    def enter(self) -> None:
        """In a child, right after the fork: note it as unguarded. Safe in a hook for forks."""
        page, pid = self._page, os.getpid()
        if page is not None and pid != self._pid:
            _SLOT.pack_into(page, _at(pid), pid, self._clock())

    def leave(self) -> None:
        """In a child: it is guarded, or wants to be left alone."""
        page, pid = self._page, os.getpid()
        if page is not None and pid != self._pid and _SLOT.unpack_from(page, _at(pid))[0] == pid:
            _SLOT.pack_into(page, _at(pid), 0, 0.0)
            self._page = None

    def unguarded(self) -> int | None:
        """
        In the parent: return a child that has run without a guard for `PATIENCE` seconds.

        A child that has ended, or runs another program, is none. Cost: 1 µs without such a child.
        """
        page = self._page
        if page is None or page[: len(_EMPTY)] == _EMPTY:
            return None
        now = self._clock()
        for at, pid, since in list(_slots(page)):
            if now - since < PATIENCE:
                continue
            if _is_fork(pid):
                return pid
            _SLOT.pack_into(page, at, 0, 0.0)
        return None


def _at(pid: int) -> int:
    return pid % _SLOTS * _SLOT.size


def _slots(page: mmap.mmap) -> Iterator[tuple[int, int, float]]:
    for at in range(0, len(_EMPTY), _SLOT.size):
        pid, since = _SLOT.unpack_from(page, at)
        if pid:
            yield at, pid, since


def _is_fork(pid: int) -> bool:
    """Return whether *pid* is a child of this process that runs the same program."""
    try:
        child, own = psutil.Process(pid), psutil.Process()
        if child.ppid() != own.pid or child.status() == psutil.STATUS_ZOMBIE:
            return False
        return child.exe() == own.exe()
    except (psutil.Error, OSError):
        return False
