"""
The cheapest look at this process: one system call, so that busy threads cannot starve it.

Each system call of a reading gives the interpreter lock away, and among eight busy threads it is
40 ms and more before it comes back. Opening, reading and closing ``/proc/self/status`` is three of
them; while memory fills at a gigabyte a second, that is too many. So the file is kept open.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from memguard.observe.reading import Reading, parse_status, read_memory


class Glance:
    """
    Take readings of this process from a file that is kept open; call it.

    What it gives has sizes and threads only. Where there is no such file it does what `read_memory`
    does. A descriptor that was closed or reused behind its back is noticed, and left alone.

    Bounded by: one file descriptor, from the first call until `close`.
    Locks: none.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        *,
        timer: Callable[[], float] = time.monotonic,
        path: str = "/proc/self/status",
    ) -> None:
        self._timer = timer
        self._path = path
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = 0

    def __call__(self) -> Reading:
        """Return a reading. Cost: about 20 µs, and one wait for the interpreter lock."""
        if self._pid != os.getpid():
            # The parent's file would show the parent's memory.
            self.close()
            self._open()
        found = self._read()
        if found is None:
            self._forget()
            return read_memory(timer=self._timer)
        return Reading(
            at=self._timer(),
            rss=found["rss"],
            anon=found.get("anon"),
            file=found.get("file"),
            shmem=found.get("shmem"),
            swap=found.get("swap"),
            vms=found.get("vms"),
            data=found.get("data"),
            peak=found.get("peak"),
            threads=found.get("threads"),
            source="status",
        )

    def _open(self) -> None:
        self._pid = os.getpid()
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._descriptor = descriptor
            self._identity = _identity(descriptor)

    def _read(self) -> dict[str, int] | None:
        if self._descriptor is None:
            return None
        try:
            found = parse_status(os.pread(self._descriptor, 16384, 0))
        except (OSError, ValueError):
            return None
        return found if "rss" in found else None

    def _forget(self) -> None:
        """Give the descriptor up for lost; the next call opens the file again."""
        if self._descriptor is not None:
            self._descriptor = None
            self._pid = 0

    def close(self) -> None:
        """Close the file; the next call opens it again. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        self._pid = 0
        if descriptor is not None:
            with contextlib.suppress(OSError):
                # The number may belong to somebody else by now.
                if _identity(descriptor) == self._identity:
                    os.close(descriptor)

    def __del__(self) -> None:
        """Close the file of one that nobody closed."""
        if getattr(self, "_descriptor", None) is not None:
            self.close()


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
