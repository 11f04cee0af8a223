"""
Turns among the processes of a forking server: which worker may end now, without a coordinator.

A small file without a name is made in the parent, before it forks; its workers inherit the
descriptor. What they know together is written there under a record lock, and the one that ends
holds a second lock until it is gone. Record locks belong to a process and are not inherited: the
kernel frees them however the process ends (fcntl(2), "Advisory record locking"; POSIX.1-2017).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from memguard.errors import LifecycleError
from memguard.integrations.workers.recycle_policy import (
    PACKED_BYTES,
    RecycleOptions,
    Turn,
    TurnRecord,
    ask_for_turn,
)

if sys.platform != "win32":
    import fcntl

_RECORD_AT, _TURN_AT = 0, 4096
"""Where in the file each lock is. The second byte is never written."""


class Turns:
    """
    Let the workers of one parent end one after the other.

    Bounded by: one descriptor and 44 bytes.
    Locks: two record locks of the kernel; none is waited for longer than half a second.
    Keeps alive: nothing.

    Make it in the parent, before it forks. In each worker it must be used by one thread at a time:
    record locks do not distinguish threads.

    Raises:
        LifecycleError: This system has no record locks (Windows).
        OSError: No file descriptor is available, or the temporary directory is full.
    """

    def __init__(self, *, timer: Callable[[], float] = time.monotonic) -> None:
        if sys.platform == "win32":
            raise LifecycleError("workers cannot agree on turns here: this system has no fork")
        self.pid = os.getpid()
        """The parent's."""
        self._timer = timer
        self._descriptor = _nameless_file()
        self._identity = _identity(self._descriptor)
        closing = weakref.finalize(self, _close, self._descriptor, self._identity)
        closing.atexit = False  # a turn is held to the very end of the process
        self._write(TurnRecord())

    @property
    def is_shared(self) -> bool:
        """False in the process that made it, and in one that was not forked from that."""
        return os.getpid() != self.pid

    def ready(self) -> bool:
        """Say that a worker is ready to serve. False when the file was locked for too long."""
        deadline = self._timer() + 0.5
        while not self._lock(_RECORD_AT):
            if self._timer() > deadline:
                return False
            time.sleep(0.01)
        try:
            record = self._repaired()
            self._write(replace(record, ready=record.ready + 1))
        finally:
            self._unlock(_RECORD_AT)
        return True

    def take(self, options: RecycleOptions, *, at_once: bool) -> Turn:
        """
        Return whether this process may end now; if so, no other may until it is gone.

        Never waits. Cost: some ten µs.
        """
        if not self._lock(_RECORD_AT):
            return Turn(granted=False, reason="another worker is asking", wait=1.0)
        try:
            if not self._lock(_TURN_AT):
                return Turn(granted=False, reason="another worker is ending", wait=1.0)
            turn, record = ask_for_turn(
                self._repaired(), at=self._timer(), at_once=at_once, options=options
            )
            if turn.granted:
                self._write(record)
            else:
                self._unlock(_TURN_AT)
            return turn
        finally:
            self._unlock(_RECORD_AT)

    def record(self) -> TurnRecord:
        """Return what is written down, without a lock: for monitoring."""
        known = _identity(self._descriptor) == self._identity
        return (self._read() if known else None) or TurnRecord()

    def _read(self) -> TurnRecord | None:
        return TurnRecord.unpack(os.pread(self._descriptor, PACKED_BYTES, 0))

    def _repaired(self) -> TurnRecord:
        record = self._read()
        if record is None:  # a writer was killed half way: as if a turn had been given just now
            record = TurnRecord(granted_at=self._timer(), ready=1)
            self._write(record)
        return record

    def _write(self, record: TurnRecord) -> None:
        os.pwrite(self._descriptor, record.pack(), 0)

    def _lock(self, place: int) -> bool:
        if sys.platform == "win32":
            return False
        if _identity(self._descriptor) != self._identity:
            return False  # the host has closed every descriptor, and this number is another file's
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:  # held by another process, or the kernel is out of locks
            return False
        return True

    def _unlock(self, place: int) -> None:
        if sys.platform != "win32":
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _close(descriptor: int, identity: tuple[int, int] | None) -> None:
    if identity is not None and _identity(descriptor) == identity:
        os.close(descriptor)


def _nameless_file() -> int:
    """Return a descriptor that forked children inherit and executed programs do not."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("memguard-turns")
    descriptor, path = tempfile.mkstemp(prefix="memguard-turns-")
    Path(path).unlink()
    return descriptor
