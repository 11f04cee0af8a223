"""Minutes and hours in an SQLite file: one writer, capped, private. The only module with SQL."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from errno import EINVAL, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING

from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.private_directory import PrivateDirectory, open_private
from memguard.observe.rollup import HOUR, MINUTE, Bucket, roll_up

if TYPE_CHECKING:
    import sqlite3

_LEAST_ROOM = 64 * 1024
"""Bytes: SQLite makes a file of 32 KiB to share its write-ahead log."""
_APPLICATION_ID = 0x6D67_6831  # "mgh1": a database that is not ours is not written to
_COLUMNS = "run, start, seconds, count, total, lowest, peak, first_minute, first, last_minute, last"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS bucket (
    run TEXT NOT NULL,
    start INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    count INTEGER NOT NULL,
    total INTEGER NOT NULL,
    lowest INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    first_minute INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last_minute INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (seconds, start, run)
) WITHOUT ROWID
"""
_BUSY_SECONDS = 2.0

_writers: dict[str, int] = {}
"""Files this process writes, and the process id that opened them (a forked child writes none)."""


class HistoryFile:
    """
    One SQLite file of buckets.

    A connection lives for one call only, so that none is ever carried through a fork. Calls raise
    ``sqlite3.Error`` and ``OSError``; the caller counts them.

    Bounded by: *keep_minutes* and *keep_hours* rows; what falls off is counted.
    Locks: none of its own (the caller brings one); a POSIX record lock on ``<path>.lock`` keeps
        other processes from writing.
    Keeps alive: one file descriptor, of the lock file.
    """

    def __init__(self, path: Path, *, keep_minutes: int, keep_hours: int) -> None:
        """
        Open or make the file, mode 0600.

        Args:
            path: In a directory that only this user can write to: nobody else can then plant a link
                there, or swap what was checked.
            keep_minutes: Minutes kept.
            keep_hours: Hours kept.

        Raises:
            ConfigError: *path* is a link or not a memguard database, its directory is not private,
                or this Python lacks ``sqlite3``.
            LifecycleError: Another writer has it.
            OSError: It cannot be made or read.
        """
        try:
            import sqlite3  # noqa: PLC0415 - reason: some interpreters are built without it
        except ImportError as error:
            raise ConfigError(
                "a history file needs the sqlite3 module, which this Python was built without; "
                "leave path out to keep the history in memory"
            ) from error
        self._sqlite3 = sqlite3
        self.path = path.absolute()
        self.dropped = 0
        self._keep = {MINUTE: keep_minutes, HOUR: keep_hours}
        self._key = os.path.realpath(self.path)
        self._pid = os.getpid()
        if _writers.get(self._key) == self._pid:
            raise LifecycleError(f"{path} is being written by another History of this process")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(ENOENT, "no such directory", str(self.path.parent))
        with open_private(self.path.parent) as directory:
            self._open(directory)
        _writers[self._key] = self._pid

    def _open(self, directory: PrivateDirectory) -> None:
        name = self.path.name
        for suffix in ("", ".lock", "-wal", "-shm", "-journal"):
            _check_own(directory, f"{name}{suffix}")
        self._lock = _locked(directory.open(f"{name}.lock", os.O_RDWR | os.O_CREAT), self.path)
        try:
            os.close(directory.open(name, os.O_RDWR | os.O_CREAT))
            self._prepare()
        except self._sqlite3.DatabaseError as error:
            os.close(self._lock)
            if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
                raise ConfigError(
                    f"{self.path} is not a readable SQLite database ({error}); "
                    "give the history a file of its own"
                ) from error
            # Damaged, full, read-only, locked: the disk's fault, not that of who named the file.
            raise OSError(
                f"{self.path} cannot be used now: {_in_words(error, self.path)}"
            ) from error
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self) -> None:
        with closing(self._connect()) as connection:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if owner != _APPLICATION_ID and tables:
                raise ConfigError(
                    f"{self.path} is a database of another application; "
                    "give the history a file of its own"
                )
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            with connection:
                connection.execute(_SCHEMA)

    def write(self, minutes: Iterable[Bucket]) -> None:
        """Add *minutes*, roll the oldest ones up to hours, and drop the oldest hours."""
        with closing(self._connect()) as connection, connection:
            # WAL stays whole without a sync per commit; a power cut may cost the last minute.
            connection.execute("PRAGMA synchronous = NORMAL")
            self._put(connection, minutes)
            self._put(connection, roll_up(self._take_oldest(connection, MINUTE), seconds=HOUR))
            self.dropped += len(self._take_oldest(connection, HOUR))

    def read(self) -> tuple[Bucket, ...]:
        """Return all buckets, hours and minutes, oldest first."""
        with closing(self._connect()) as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM bucket ORDER BY start")  # noqa: S608 - reason: a constant of this module
            return tuple(map(_bucket, rows))

    def close(self) -> None:
        """Let others write. Idempotent."""
        if self._lock >= 0:
            # In a forked child the lock is not ours (record locks are not inherited), only the fd.
            if _writers.get(self._key) == self._pid:
                del _writers[self._key]
            os.close(self._lock)
            self._lock = -1

    def _connect(self) -> sqlite3.Connection:
        return self._sqlite3.connect(self.path, timeout=_BUSY_SECONDS)

    def _put(self, connection: sqlite3.Connection, buckets: Iterable[Bucket]) -> None:
        for bucket in buckets:
            key = (bucket.seconds, bucket.start, bucket.run)
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM bucket WHERE seconds = ? AND start = ? AND run = ?",  # noqa: S608 - reason: a constant of this module
                key,
            ).fetchone()
            known = () if row is None else (_bucket(row),)
            (merged,) = roll_up((*known, bucket), seconds=bucket.seconds)
            marks = ", ".join("?" * len(_COLUMNS.split(", ")))
            connection.execute(
                f"INSERT OR REPLACE INTO bucket ({_COLUMNS}) VALUES ({marks})",  # noqa: S608 - reason: a constant of this module
                [getattr(merged, name) for name in _COLUMNS.split(", ")],
            )

    def _take_oldest(self, connection: sqlite3.Connection, seconds: int) -> tuple[Bucket, ...]:
        """Remove and return the rows of *seconds* above their cap."""
        count = connection.execute(
            "SELECT count(*) FROM bucket WHERE seconds = ?", (seconds,)
        ).fetchone()[0]
        excess = max(0, count - self._keep[seconds])
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM bucket WHERE seconds = ? ORDER BY start, run LIMIT ?",  # noqa: S608 - reason: a constant of this module
            (seconds, excess),
        ).fetchall()
        taken = tuple(map(_bucket, rows))
        connection.executemany(
            "DELETE FROM bucket WHERE seconds = ? AND start = ? AND run = ?",
            [(bucket.seconds, bucket.start, bucket.run) for bucket in taken],
        )
        return taken


def _bucket(row: tuple[str | int, ...]) -> Bucket:
    return Bucket(**dict(zip(_COLUMNS.split(", "), row, strict=True)))  # type: ignore[arg-type]  # reason: the schema keeps the types


def _check_own(directory: PrivateDirectory, name: str) -> None:
    """
    Raise if *name* leads elsewhere.

    Raises:
        ConfigError: It is a link, has a second name, or belongs to another user.
        OSError: It is no regular file: a FIFO would be waited for.
    """
    path = directory.path / name
    found = directory.status(name)
    if found is None:
        return
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{path} must not be a symbolic link; give the file it leads to")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(EINVAL, "must be a regular file; it is another kind of file", str(path))
    if found.st_nlink > 1:
        raise ConfigError(f"{path} must have one name only (it has {found.st_nlink} hard links)")
    if os.name == "posix" and found.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} must belong to the user of this process, {os.geteuid()} "
            f"(its owner is {found.st_uid}); give the history a file of its own"
        )


def _locked(descriptor: int, path: Path) -> int:
    """Return *descriptor*, locked by this process."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - reason: the module exists on Windows only

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - reason: the module does not exist on Windows

            # lockf, not flock: a record lock is not inherited, so that a worker that was forked
            # off does not keep the file locked when its parent is gone.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LifecycleError(
            f"{path} is being written by another process; "
            "give each process a history file of its own: '{pid}' in the path is its number"
        ) from error
    return descriptor


WAITING = 120
"""Minutes kept for a file that cannot be written at the moment."""


class Journal:
    """
    Brings minutes to a `HistoryFile` and never lets it fail its caller.

    Bounded by: 120 waiting minutes; older ones are dropped and counted.
    Locks: one mutex around the queue, held for no I/O; one around the file.
    Keeps alive: the file.
    """

    def __init__(self, file: HistoryFile) -> None:
        self.file = file
        self.dropped = 0
        self.failures = Failures("history.file_failed")
        self.last_failure: str | None = None
        """The last failure; None after a write that succeeded."""
        self._waiting: deque[Bucket] = deque()
        # Re-entrant: a collection that starts in here may run a finalizer that comes back.
        self._lock = locks.RLock()
        self._file_lock = locks.RLock()

    def add(self, minute: Bucket) -> None:
        """Queue *minute*; no I/O."""
        with self._lock:
            if len(self._waiting) >= WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(minute)

    def write(self) -> None:
        """Write what waits. A failure is counted, logged once a kind, and made up for later."""
        if self._waiting:
            with self._file_lock:
                self._write()
            self.failures.log()

    def _write(self) -> None:
        with self._lock:
            minutes = tuple(self._waiting)
        if not minutes:
            return
        try:
            self.file.write(minutes)
        except Exception as error:  # noqa: BLE001 - reason: a full disk must not reach the host's tick
            self._fail("write", error)
            return
        with self._lock:
            self.last_failure = None
            self._drop(set(map(id, minutes)))

    def _drop(self, written: set[int]) -> None:
        # The queue may have dropped some of them meanwhile, and new ones are behind them.
        while self._waiting and id(self._waiting[0]) in written:
            self._waiting.popleft()

    def read(self, newer: Callable[[], tuple[Bucket, ...]]) -> tuple[Bucket, ...] | None:
        """
        Return what is in the file and what *newer* gives; None if the file cannot be read.

        *newer* is called while no write can move a minute from the queue to the file, so that
        nothing is returned twice or left out.
        """
        try:
            with self._file_lock:
                return (*self.file.read(), *newer())
        except Exception as error:  # noqa: BLE001 - reason: the caller still has this run in memory
            self._fail("read", error)
            self.failures.log()
            return None

    def pending(self) -> tuple[Bucket, ...]:
        """Return the minutes that wait."""
        with self._lock:
            return tuple(self._waiting)

    def waiting(self) -> int:
        """Return how many minutes wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        with self._file_lock:
            self.file.close()

    def _fail(self, what: str, error: Exception) -> None:
        self.failures.count_only(what, error)
        self.last_failure = f"{type(error).__name__}: {_in_words(error, self.file.path)}"


def _in_words(error: Exception, path: Path) -> str:
    """Return what *error* says; SQLite has only "disk I/O error" for some disks that are full."""
    text = str(error)
    if "full" not in text and hasattr(os, "statvfs"):
        with suppress(OSError):
            room = os.statvfs(path.parent)
            if room.f_bavail * room.f_frsize < _LEAST_ROOM:
                return f"{text}; the disk is full"
    return text
