"""Notices in a file: one JSON object per line, private, rotated and bounded."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from memguard.bounded.options import check_int, check_path
from memguard.errors import ConfigError
from memguard.lifecycle.private_directory import PrivateDirectory, open_private, write_all
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.notice import Notice, Severity
from memguard.report.alerting.sink import DeliveryError, Sink
from memguard.units import parse_bytes

try:
    import fcntl
except ImportError:  # Windows, where one process should write to a file
    fcntl = None  # type: ignore[assignment] # reason: that is how its absence is said

_POLL_SECONDS = 0.05
_LEAST_BYTES = 64 * 1024


class FileSink(Sink):
    """
    Append each notice to a file of JSON lines: `Notice.to_dict`.

    The file has mode 0600, in a directory into which nobody else may write; each line is written
    whole and forced to disk. A full file is renamed to ``<name>.1``, that one to ``<name>.2``, and
    so on. Several processes may share a file: they lock its directory for each line (``flock``;
    not on Windows).

    Bounded by: *max_bytes* for each of *keep* + 1 files.
    Locks: none of ours; no file stays open.
    Keeps alive: its options.

    Args:
        path: The file; missing directories are made, as private as the file.
        max_bytes: Bytes in one file, 64 KiB or more.
        keep: Full files that are kept, 1 to 100.
        name: For statistics, logs and the thread.
        min_severity: Notices about less grave alerts are not written.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range, or the directory is not private.
        OSError: The directory cannot be made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | str = "1MiB",
        keep: int = 5,
        name: str = "file",
        min_severity: Severity = "info",
    ) -> None:
        super().__init__(name=name, min_severity=min_severity)
        self._keep = check_int(keep, "keep", 1, 100)
        self._max_bytes = parse_bytes(max_bytes, name="max_bytes")
        if self._max_bytes < _LEAST_BYTES:
            raise ConfigError(f"max_bytes must be >= 64 KiB (got {max_bytes!r})")
        self._path = check_path(path, "path")
        if self._path.is_dir():
            raise ConfigError(f"path must be a file, and {self._path} is a directory")
        with open_private(self._path.parent):
            pass  # refused here rather than at the first alert

    def __repr__(self) -> str:
        return f"FileSink({str(self._path)!r}, name={self.name!r})"

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._path

    def deliver(self, notice: Notice, connection: Connection) -> None:
        """
        Append *notice*.

        Raises:
            DeliveryError: The disk is full, the directory is not private any more, and the like.
        """
        line = json.dumps(notice.to_dict(), allow_nan=False, separators=(",", ":")) + "\n"
        try:
            with open_private(self._path.parent) as directory, _locked(directory, connection):
                self._append(directory, line.encode())
        except DeliveryError:
            raise
        except ConfigError:
            raise DeliveryError("the directory is not private any more") from None
        except OSError as error:
            raise DeliveryError(f"{type(error).__name__} {error.errno}") from None

    def _append(self, directory: PrivateDirectory, line: bytes) -> None:
        descriptor = self._open(directory)
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(line) > self._max_bytes:
                os.close(descriptor)
                descriptor = -1
                self._rotate(directory)
                descriptor = self._open(directory)
                size = os.fstat(descriptor).st_size
            if size and _last_byte(descriptor, size) != b"\n":
                line = b"\n" + line  # somebody died in the middle of a line
            try:
                write_all(descriptor, line)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)  # no half a line
                raise
            os.fsync(descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self, directory: PrivateDirectory) -> int:
        # Neither a link nor a pipe that somebody placed there is followed or waited for.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        descriptor = directory.open(self._path.name, flags)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(descriptor)
            raise DeliveryError("the file is not a regular file with a single name", retry=False)
        return descriptor

    def _rotate(self, directory: PrivateDirectory) -> None:
        name = self._path.name
        for number in range(self._keep, 0, -1):
            newer = f"{name}.{number - 1}" if number > 1 else name
            with contextlib.suppress(FileNotFoundError):
                directory.rename(newer, f"{name}.{number}")


def _last_byte(descriptor: int, size: int) -> bytes:
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1)


@contextlib.contextmanager
def _locked(directory: PrivateDirectory, connection: Connection) -> Iterator[None]:
    """Wait until no other process appends, and keep them out meanwhile."""
    while not _try_lock(directory):
        time.sleep(min(_POLL_SECONDS, connection.left()))
    try:
        yield
    finally:
        # Closing is not enough: a child forked meanwhile has the directory open as well, and would
        # hold the lock for as long as it lives.
        if fcntl is not None and directory.descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(directory.descriptor, fcntl.LOCK_UN)


def _try_lock(directory: PrivateDirectory) -> bool:
    if fcntl is None or directory.descriptor is None:
        return True
    try:
        fcntl.flock(directory.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: as on Windows
        return True
    return True
