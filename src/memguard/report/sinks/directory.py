"""
Reports on disk: private, atomic, and bounded in number and bytes.

A file is written under another name in the same directory, forced to disk and then renamed over the
old one, so that a crash at any moment leaves the old file or the new one (rename is atomic, POSIX
``rename(2)``; the directory is synced to disk as well: a rename is a change of the directory).
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memguard.bounded.options import check_int, check_path
from memguard.errors import ConfigError, ValueTooLargeError
from memguard.leaks.report import LeakReport
from memguard.lifecycle import identity, locks
from memguard.lifecycle.private_directory import PrivateDirectory, open_private
from memguard.report.render.html.page import render_html
from memguard.report.render.json import render_json
from memguard.report.render.text import render_text
from memguard.report.render.words import printable
from memguard.units import parse_bytes

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REPORT_FILE = re.compile(rf"leak-({_ID.pattern})\.(?:html|json|txt)")
_TEMPORARY = re.compile(r"\.leak-(\d{1,10})-[0-9a-f]{16}\.tmp")

# No write takes a minute. To look only for the writer's process is not enough: in a directory that
# containers share, a process number of one means nothing in another.
_DEAD_AFTER_SECONDS = 60.0
_SURELY_DEAD_AFTER_SECONDS = 3600.0  # that process ID may have been reused by now


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDirectoryStatistics:
    """What a report directory has done so far, in this process."""

    written: int
    """Reports written whole, each as JSON, text and HTML."""
    failed: int
    """Reports of which a file could not be written."""
    dropped_files: int
    """Files deleted, oldest first, to stay within the bounds."""
    dropped_bytes: int
    removed_leftovers: int
    """Half-written files of writers that died, deleted."""


@dataclass(frozen=True)
class _Entry:
    name: str
    id: str
    size: int
    changed_ns: int


class ReportDirectory:
    """
    Keep the reports of detectors in one private directory.

    Several processes may share one directory, each with its own instance.

    Bounded by: *max_files* files and *max_bytes* bytes of reports, oldest deleted first. While a
        report is written, its new files exist beside its old ones.
    Locks: one mutex around a write, so that two threads do not both count the same space as free.
        ``statistics`` does not wait for it.
    Keeps alive: nothing; no file stays open between two calls.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_files: int = 150,
        max_bytes: int | str = "16MiB",
    ) -> None:
        """
        Create the directory, readable only by its owner, or check the one that is there.

        Args:
            path: The directory; missing parents are created, as private as itself.
            max_files: Files of reports to keep; a report has three.
            max_bytes: Bytes of reports to keep, or a string such as ``"16MiB"``.

        Raises:
            TypeError: An option of a wrong kind.
            ConfigError: An option out of its range, or a *path* that is a symbolic link, is no
                directory, belongs to another user, or may be written to by others.
            OSError: The directory cannot be created or read.
        """
        self._path = check_path(path, "path")
        self._max_files = check_int(max_files, "max_files", 3)  # which a report has
        self._max_bytes = parse_bytes(max_bytes, name="max_bytes")
        if self._max_bytes < 512 * 1024:
            raise ConfigError(f"max_bytes must be >= 512 KiB, to hold a report (got {max_bytes!r})")
        self._written = self._failed = 0
        self._dropped_files = self._dropped_bytes = self._removed_leftovers = 0
        self._mutex = locks.Lock()
        self._pid = os.getpid()
        with open_private(self._path) as directory:
            self._remove_leftovers(directory)

    def __repr__(self) -> str:
        return f"ReportDirectory({str(self._path)!r})"

    @property
    def path(self) -> Path:
        """The directory, absolute."""
        return self._path

    def write(self, report: LeakReport) -> tuple[Path, Path, Path]:
        """
        Write *report*, in place of an earlier one of the same id, and return its three files.

        ``leak-<id>.json`` first, then ``.txt``, then ``.html``; each is replaced whole, with mode
        0600.

        Thread-safe: yes. Cost: three small files forced to disk, typically milliseconds.

        Raises:
            ConfigError: The report's id is not a plain file name, or the directory is not private
                any more.
            ValueTooLargeError: The report alone is larger than *max_bytes*.
            OSError: The disk is full, the directory is gone for good, and the like. Each file is
                then the old one or the new one; nothing half-written stays.
        """
        if self._pid != os.getpid():
            # Forked: another thread of the parent may have held the mutex, and no one here does.
            self._mutex, self._pid = locks.Lock(), os.getpid()
        try:
            contents = _contents(report)
            with self._mutex:
                self._write(report.id, contents)
                self._written += 1
        except Exception:
            with self._mutex:
                self._failed += 1
            raise
        json_file, text_file, html_file = (self._path / name for name in contents)
        return json_file, text_file, html_file

    def statistics(self) -> ReportDirectoryStatistics:
        """Return what was done so far, in this process."""
        return ReportDirectoryStatistics(
            written=self._written,
            failed=self._failed,
            dropped_files=self._dropped_files,
            dropped_bytes=self._dropped_bytes,
            removed_leftovers=self._removed_leftovers,
        )

    def _write(self, report_id: str, contents: dict[str, bytes]) -> None:
        size = sum(map(len, contents.values()))
        if size > self._max_bytes:
            raise ValueTooLargeError(
                f"report {report_id} has {size} bytes, all reports may have {self._max_bytes}; "
                "raise max_bytes"
            )
        with open_private(self._path) as directory:
            self._remove_leftovers(directory)
            self._make_room(directory, report_id, files=len(contents), size=size)
            for name, content in contents.items():
                temporary = f".leak-{os.getpid()}-{secrets.token_hex(8)}.tmp"
                directory.replace(name, content, temporary=temporary, durable=True)
            directory.force_to_disk()

    def _make_room(
        self, directory: PrivateDirectory, report_id: str, *, files: int, size: int
    ) -> None:
        others: dict[str, list[_Entry]] = {}
        for entry in _reports(directory):
            if entry.id != report_id:
                others.setdefault(entry.id, []).append(entry)
                files += 1
                size += entry.size
        # A report goes as a whole; its age is that of its last change.
        oldest_first = sorted(others.values(), key=lambda report: max(e.changed_ns for e in report))
        for report in oldest_first:
            if files <= self._max_files and size <= self._max_bytes:
                return
            for entry in report:
                directory.remove(entry.name)
                files -= 1
                size -= entry.size
                self._dropped_files += 1
                self._dropped_bytes += entry.size

    def _remove_leftovers(self, directory: PrivateDirectory) -> None:
        for name in directory.names():
            match = _TEMPORARY.fullmatch(name)
            found = directory.file(name) if match else None
            if match and found:
                alive = identity.started(int(match[1])) is not None
                limit = _SURELY_DEAD_AFTER_SECONDS if alive else _DEAD_AFTER_SECONDS
                if time.time() - found.st_mtime > limit:
                    directory.remove(name)
                    self._removed_leftovers += 1


def _reports(directory: PrivateDirectory) -> Iterator[_Entry]:
    for name in directory.names():
        match = _REPORT_FILE.fullmatch(name)
        found = directory.file(name) if match else None
        if match and found:
            yield _Entry(name, match[1], found.st_size, found.st_mtime_ns)


def _contents(report: LeakReport) -> dict[str, bytes]:
    if not _ID.fullmatch(report.id):
        raise ConfigError(
            "a report's id must be 1 to 100 letters, digits, dots, dashes or underscores, a letter "
            f"or digit first (got {printable(report.id)!r})"
        )
    return {
        f"leak-{report.id}.json": render_json(report).encode("ascii"),
        f"leak-{report.id}.txt": render_text(report).encode("utf-8"),
        f"leak-{report.id}.html": render_html(report).encode("utf-8"),
    }
