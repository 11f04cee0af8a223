"""
One turn among the processes of a forking server: who may end now, without anybody to ask.

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
    Ledger,
    RecycleOptions,
    Turn,
    ask_for_turn,
)

if sys.platform != "win32":
    import fcntl

_LEDGER, _TURN = 0, 4096
"""Where in the file each lock is. The second byte is never written."""


class Turns:
    """
    Let the workers of one parent end one after the other.

    Bounded by: one descriptor and 44 bytes.
    Locks: two record locks of the kernel; none is waited for longer than half a second.
    Keeps alive: nothing.

    Make it in the parent, before it forks. In each worker it must be used by one thread at a time:
    record locks do not tell threads apart.

    Raises:
        LifecycleError: This system has no record locks (Windows).
        OSError: There is no descriptor to be had, or no room in the temporary directory.
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
        self._write(Ledger())

    @property
    def is_shared(self) -> bool:
        """False in the process that made it, and in one that was not forked from that."""
        return os.getpid() != self.pid

    def ready(self) -> bool:
        """Say that a worker is ready to serve. False when the file was locked for too long."""
        deadline = self._timer() + 0.5
        while not self._lock(_LEDGER):
            if self._timer() > deadline:
                return False
            time.sleep(0.01)
        try:
            ledger = self._mended()
            self._write(replace(ledger, ready=ledger.ready + 1))
        finally:
            self._unlock(_LEDGER)
        return True

    def take(self, options: RecycleOptions, *, at_once: bool) -> Turn:
        """
        Return whether this process may end now; if so, nobody else may until it is gone.

        Never waits. Cost: some ten µs.
        """
        if not self._lock(_LEDGER):
            return Turn(granted=False, reason="another worker is asking", wait=1.0)
        try:
            if not self._lock(_TURN):
                return Turn(granted=False, reason="another worker is ending", wait=1.0)
            turn, ledger = ask_for_turn(
                self._mended(), at=self._timer(), at_once=at_once, options=options
            )
            if turn.granted:
                self._write(ledger)
            else:
                self._unlock(_TURN)
            return turn
        finally:
            self._unlock(_LEDGER)

    def ledger(self) -> Ledger:
        """Return what is written down, without a lock: for the eye."""
        known = _identity(self._descriptor) == self._identity
        return (self._read() if known else None) or Ledger()

    def _read(self) -> Ledger | None:
        return Ledger.unpack(os.pread(self._descriptor, PACKED_BYTES, 0))

    def _mended(self) -> Ledger:
        ledger = self._read()
        if ledger is None:  # a writer was killed half way: as if a turn had been given just now
            ledger = Ledger(granted_at=self._timer(), ready=1)
            self._write(ledger)
        return ledger

    def _write(self, ledger: Ledger) -> None:
        os.pwrite(self._descriptor, ledger.pack(), 0)

    def _lock(self, place: int) -> bool:
        if sys.platform == "win32":
            return False
        if _identity(self._descriptor) != self._identity:
            return False  # the host has closed every descriptor, and this number is a stranger's
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
