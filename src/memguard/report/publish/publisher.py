"""
Publish the status of a guard in a small file that ``memguard top`` reads.

One file for each guard, 0600 in a directory of 0700, replaced whole (rename is atomic, POSIX
``rename(2)``) and not forced to disk: after a crash of the machine it is of no use. The name says
which process wrote it and when that was started, so that a number given out again is not taken for
the process that had it before.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from memguard.bounded.options import check_path
from memguard.errors import ValueTooLargeError
from memguard.lifecycle.at_exit import not_at_exit, stop_at_exit
from memguard.lifecycle.degraded import described
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import reset_after_fork
from memguard.lifecycle.identity import UNKNOWN, is_running, started
from memguard.lifecycle.private_directory import PrivateDirectory, open_private
from memguard.lifecycle.turn import Turn
from memguard.report.publish import process_status
from memguard.report.state import Guarded, guard_state

NAME = re.compile(
    r"memguard-(?P<pid>[0-9]{1,10})-(?P<started>[0-9]{1,20})-(?P<number>[0-9]{1,9})\.json"
)
"""
Process number, when it was started, and which of its guards.

What others may have in the same directory, such as ``2026-11-20.json``, must not look like it:
files of that name are deleted when there is no such process.
"""
_LEFTOVER = re.compile(rf"\.?(?:{NAME.pattern})(?:\.tmp)?")
MOST_FILES = 10_000
"""Looked at in one directory."""
_LEAST_GAP = 0.5
"""Seconds between two files, however often memory is read."""
_MOST_SHARE = 0.01
"""Of the time of one core, that publishing may cost."""
_DEAD_AFTER = 60.0
"""Seconds that a file of a dead process stays: in a directory that containers share, a process
number of one means nothing in another, but the living write again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherStatistics:
    """What a `Publisher` did and what it cost. Seconds."""

    file: str | None
    """The file that is there now; None if there is none."""
    written: int
    longest_seconds: float
    """Processor time of the most expensive file, gathering included."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]
    error: str | None = None
    """Why nothing can be written now; None after a file that was."""


class Publisher:
    """
    Write the status of a guard, again and again, in the thread of its monitor.

    A disk that is full, a directory that is gone or not ours, and whatever else fails is counted
    and tried again later, at last every minute. The directory must be local: a network file system
    that hangs would hang the monitor.

    Bounded by: one file of at most 256 KiB; one percent of a core.
    Locks: one mutex around the file; a writer that does not get it at once leaves this one out.
    Keeps alive: nothing.

    Args:
        place: The directory; None takes the one of this user, see `directory_of`.
        within: Seconds within which the guard reads memory again.
        timer: Monotonic seconds.

    Raises:
        TypeError: *place* is not a path.
        ConfigError: *place* is not a directory that only this user can write to.
    """

    def __init__(
        self,
        place: str | os.PathLike[str] | None = None,
        *,
        within: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place: Path | None = None
        if place is not None:
            self._place = check_path(place, "publish")
        self._within = within
        self._timer = timer
        self._failures = Failures("publishing.failed")
        self._reset()
        if self._place is not None:
            try:
                with open_private(self._place):
                    pass
            except OSError as error:  # a disk that is full or read-only: tried again
                self._fail(error)
        reset_after_fork(self)

    def _reset(self) -> None:
        """Be closed, with no file: in a forked child the file is the parent's."""
        self._turn = Turn()
        self._closed = True
        self._file: Path | None = None
        self._name: str | None = None
        self._due = float("-inf")
        self._in_vain = 0
        self._trouble: str | None = None
        self._written = 0
        self._longest = 0.0

    def open(self) -> None:
        """Begin to publish."""
        if self._place is None:
            directory_of(os.environ)  # so that its imports do not happen during a fork
        self._closed = False
        self._due = float("-inf")
        stop_at_exit(self, 1.0)

    def publish(self, guard: Guarded) -> None:
        """
        Write what *guard* knows, if it is time for that. Raises nothing. Thread-safe.

        Cost: two numbers compared, or else 0.6 ms with ten containers, 1.5 ms with a hundred.
        """
        now = self._timer()
        if self._closed or now < self._due:
            return
        began = time.thread_time()
        gap = _LEAST_GAP
        try:
            content = self._content(guard)
            if not self._turn.run(lambda: self._write_if_open(content), busy=False):
                return
            self._in_vain = 0
            self._trouble = None
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._fail(error)
            self._in_vain = min(self._in_vain + 1, 6)
            gap = min(60.0, 2.0**self._in_vain)
        cost = time.thread_time() - began
        self._longest = max(self._longest, cost)
        self._due = now + max(gap, cost / _MOST_SHARE)

    def _fail(self, error: Exception) -> None:
        self._failures.add("write", error)
        self._trouble = described(error)

    def stop(self, timeout: float = 1.0) -> None:
        """Delete the file and publish no more; idempotent. Waits for a write that is under way."""
        self._closed = True
        not_at_exit(self)
        self._turn.run(self._unlink, busy=None, timeout=timeout)

    def statistics(self) -> PublisherStatistics:
        """Return what was done so far, in this process. Thread-safe."""
        file = self._file
        return PublisherStatistics(
            file=None if file is None else str(file),
            written=self._written,
            longest_seconds=self._longest,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
            error=self._trouble,
        )

    def _write_if_open(self, content: bytes) -> bool:
        if not self._closed:
            self._write(content)
            self._written += 1
        return True

    def _content(self, guard: Guarded) -> bytes:
        history = guard.history
        content = process_status.encode(
            process_status.status_of(
                guard_state(guard),
                () if history is None else history.last(),
                program=program(),
                within=self._within,
            )
        )
        if len(content) > process_status.MOST_BYTES:
            raise ValueTooLargeError(f"a status may have {process_status.MOST_BYTES} bytes")
        return content

    def _write(self, content: bytes) -> None:
        # Asked each time: a server gives up root once it has its port, and a session may end.
        place = self._place or directory_of(os.environ)
        if self._name is None:
            pid = os.getpid()
            self._name = f"memguard-{pid}-{started(pid) or UNKNOWN}-{next(_numbers)}.json"
        file = place / self._name
        if self._file is not None and self._file != file:
            self._unlink()
        with open_private(place) as directory:
            if self._file is None:
                _remove_leftovers(directory)
            # The temporary name is its own in each process, and nobody else may write in here.
            directory.replace(self._name, content, temporary=f".{self._name}.tmp", durable=False)
        self._file = file

    def _unlink(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # gone already, or written as another user
                file.unlink()


_numbers = itertools.count(1)


def directory_of(environment: Mapping[str, str], user: int | None = None) -> Path:
    """
    Return the directory in which guards of a user publish, made or not.

    That of the session (``$XDG_RUNTIME_DIR`` and ``/run/user/<number>``, XDG Base Directory
    Specification) if it exists and belongs to the user, else one in the directory for temporary
    files.

    Args:
        environment: ``os.environ``.
        user: Whose; None is the one as whom this process acts.
    """
    if os.name != "posix":
        return temporary() / "memguard"  # which is each user's own
    user = os.geteuid() if user is None else user
    for session in (environment.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
        with contextlib.suppress(OSError, ValueError):
            if session.startswith("/") and Path(session).stat().st_uid == user:
                return Path(session) / "memguard"
    return temporary() / f"memguard-{user}"


def temporary() -> Path:
    """Return the directory for temporary files, or where it should be if none can be used."""
    import tempfile  # noqa: PLC0415 - reason: 8 ms and two compressors that a host may do without

    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # a container whose file system is read-only
        return Path("/tmp")  # noqa: S108 - reason: what is made in it is checked, each time


def program() -> str:
    """Return what this process runs, as people call it: ``app.py``, ``-m shop``."""
    arguments = getattr(sys, "argv", None) or [""]
    path = Path(str(arguments[0]))
    return f"-m {path.parent.name}" if path.name == "__main__.py" else path.name or "python"


def _remove_leftovers(directory: PrivateDirectory) -> None:
    """Delete what processes left that were killed."""
    for name in directory.names()[:MOST_FILES]:
        match = _LEFTOVER.fullmatch(name)
        found = directory.file(name) if match else None
        if match and found and time.time() - found.st_mtime > _DEAD_AFTER and not is_current(match):
            with contextlib.suppress(OSError):  # it belongs to another user
                directory.remove(name)


def is_current(match: re.Match[str]) -> bool:
    """Return True while the process that a file's name names is there, and still the same."""
    return is_running(int(match["pid"]), int(match["started"]))
