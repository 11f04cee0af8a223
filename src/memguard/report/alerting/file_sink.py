"""Messages in a file: one JSON object a line, for its owner alone, rotated and never too large."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from memguard.errors import ConfigError
from memguard.report.alerting.notice import Notice, Severity
from memguard.report.alerting.sink import DeliveryError, Sink
from memguard.report.alerting.wire import Wire
from memguard.report.sinks import private
from memguard.units import parse_bytes

try:
    import fcntl
except ImportError:  # Windows, where one process should write to a file
    fcntl = None  # type: ignore[assignment] # reason: that is how its absence is said

_POLL_SECONDS = 0.05
_LEAST_BYTES = 64 * 1024


class FileSink(Sink):
    """
    Append each message to a file of JSON lines: `Notice.to_dict`.

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
        least: Messages about less grave alerts are not written.

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
        least: Severity = "info",
    ) -> None:
        super().__init__(name=name, least=least)
        if isinstance(keep, bool) or not isinstance(keep, int):
            raise TypeError(f"keep must be a number of files (got {type(keep).__name__})")
        if not 1 <= keep <= 100:
            raise ConfigError(f"keep must be from 1 to 100 files (got {keep})")
        self._keep = keep
        self._max_bytes = parse_bytes(max_bytes, name="max_bytes")
        if self._max_bytes < _LEAST_BYTES:
            raise ConfigError(f"max_bytes must be >= 64 KiB (got {max_bytes!r})")
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise TypeError(f"path must be a string or a Path (got {type(path).__name__})")
        # Absolute from now on: the host may change its current directory.
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - reason: resolve() follows links
        if self._path.is_dir():
            raise ConfigError(f"path must be a file, and {self._path} is a directory")
        with private.opened(self._path.parent):
            pass  # refused here rather than at the first alert

    def __repr__(self) -> str:
        return f"FileSink({str(self._path)!r}, name={self.name!r})"

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._path

    def deliver(self, notice: Notice, wire: Wire) -> None:
        """
        Append *notice*.

        Raises:
            DeliveryError: The disk is full, the directory is not private any more, and the like.
        """
        line = json.dumps(notice.to_dict(), allow_nan=False, separators=(",", ":")) + "\n"
        try:
            with private.opened(self._path.parent) as directory, _locked(directory, wire):
                _Lines(self._path, directory, self._max_bytes, self._keep).append(line.encode())
        except DeliveryError:
            raise
        except ConfigError:
            raise DeliveryError("the directory is not private any more") from None
        except OSError as error:
            raise DeliveryError(f"{type(error).__name__} {error.errno}") from None


@contextlib.contextmanager
def _locked(directory: int | None, wire: Wire) -> Iterator[None]:
    """Wait until no other process appends, and keep them out meanwhile."""
    while not _try_lock(directory):
        time.sleep(min(_POLL_SECONDS, wire.left()))
    try:
        yield
    finally:
        # Closing is not enough: a child forked meanwhile has the directory open as well, and would
        # hold the lock for as long as it lives.
        if fcntl is not None and directory is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(directory, fcntl.LOCK_UN)


def _try_lock(directory: int | None) -> bool:
    if fcntl is None or directory is None:
        return True
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: as on Windows
        return True
    return True


class _Lines:
    """The file, its elders, and the directory they are named from."""

    def __init__(self, path: Path, directory: int | None, max_bytes: int, keep: int) -> None:
        self._path = path
        self._directory = directory
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, line: bytes) -> None:
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(line) > self._max_bytes:
                os.close(descriptor)
                descriptor = -1
                self._rotate()
                descriptor = self._open()
                size = os.fstat(descriptor).st_size
            if size and self._last_byte(descriptor, size) != b"\n":
                line = b"\n" + line  # somebody died in the middle of a line
            try:
                private.write_all(descriptor, line)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)  # no half a line
                raise
            os.fsync(descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        # Neither a link nor a pipe that somebody placed there is followed or waited for.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        for flag in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):
            flags |= getattr(os, flag, 0)
        descriptor = os.open(self._named(""), flags, 0o600, dir_fd=self._directory)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(descriptor)
            raise DeliveryError("the file is no plain file of its own", retry=False)
        return descriptor

    def _last_byte(self, descriptor: int, size: int) -> bytes:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            newer = f".{number - 1}" if number > 1 else ""
            with contextlib.suppress(FileNotFoundError):
                os.replace(
                    self._named(newer),
                    self._named(f".{number}"),
                    src_dir_fd=self._directory,
                    dst_dir_fd=self._directory,
                )

    def _named(self, suffix: str) -> str:
        name = self._path.name + suffix
        return name if self._directory is not None else str(self._path.parent / name)
