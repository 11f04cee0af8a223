"""Read what the guards of this machine publish: the processes, and the last status of each."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from memguard.errors import ConfigError, ReportFormatError
from memguard.lifecycle import identity
from memguard.lifecycle.private_directory import check_private
from memguard.report.publish import process_status
from memguard.report.publish.process_status import ProcessStatus
from memguard.report.publish.publisher import MOST_FILES, NAME, directory_of, is_current, temporary
from memguard.report.render.words import printable


@dataclass(frozen=True, slots=True)
class Published:
    """One status and where it was found."""

    status: ProcessStatus
    file: Path


@dataclass(frozen=True, slots=True)
class Found:
    """Who publishes, by process number; and what could not be read, in words."""

    guards: tuple[Published, ...]
    troubles: tuple[str, ...] = ()


def directories(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """
    Return the directories in which guards publish that this user may look at.

    The superuser may look at those of all users.
    """
    found = [directory_of(environment)]
    given = environment.get("MEMGUARD_PUBLISH", "")
    if os.sep in given:
        found.insert(0, Path(given))
    if os.name == "posix":
        user = os.geteuid()
        whose = "[0-9]*" if user == 0 else str(user)
        # A service has no session, and a session may have its own directory for temporary files.
        patterns = [f"/run/user/{whose}/memguard"]
        shared = (temporary(), "/tmp")  # noqa: S108 - reason: its owner is checked
        patterns += [f"{glob.escape(str(folder))}/memguard-{whose}" for folder in shared]
        for pattern in patterns:
            found += map(Path, sorted(glob.glob(pattern)))  # noqa: PTH207 - reason: absolute patterns
    return tuple(dict.fromkeys(found))


def look(folders: Iterable[Path], *, pid: int | None = None) -> Found:
    """
    Return what guards publish in *folders*; files of processes that have ended are left out.

    Cost: one small file for each of them.

    Args:
        folders: Directories; those that are not there are passed over.
        pid: Of this process only.
    """
    guards: dict[str, Published] = {}
    troubles: list[str] = []
    for folder in folders:
        for one in _readable(folder, pid, troubles):
            # A guard that moved to another directory may have left a file in the first one.
            other = guards.get(one.file.name)
            if other is None or one.status.health.time_seconds > other.status.health.time_seconds:
                guards[one.file.name] = one
    ordered = sorted(
        guards.values(),
        key=lambda one: (one.status.health.process_id, len(one.file.name), one.file.name),
    )
    return Found(tuple(ordered), tuple(troubles))


def _readable(folder: Path, pid: int | None, troubles: list[str]) -> Iterator[Published]:
    """Yield what can be read in *folder*, and add the rest to *troubles*."""
    try:
        owner = _trusted_owner(folder)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, MOST_FILES)]
    except FileNotFoundError:
        return
    except (OSError, ConfigError) as error:
        troubles.append(printable(str(error)))
        return
    for match in filter(None, map(NAME.fullmatch, names)):
        if pid in (None, int(match["pid"])) and is_current(match):
            with contextlib.suppress(FileNotFoundError):  # ended a moment ago
                try:
                    yield _one(folder, match, owner)
                except FileNotFoundError:
                    raise
                except (OSError, ReportFormatError) as error:
                    troubles.append(printable(f"{folder / match[0]}: {error}", longest=400))


def _one(folder: Path, match: re.Match[str], owner: int | None) -> Published:
    file, pid = folder / match[0], int(match["pid"])
    found = process_status.decode(_content(file, owner))
    about = found.health.process_id
    if about != pid:
        raise ReportFormatError(f"it is about another process, {about}")
    if owner not in (None, 0, os.geteuid()) and identity.owner(pid) != owner:
        raise ReportFormatError("the process belongs to another user")
    return Published(found, file)


def _trusted_owner(folder: Path) -> int | None:
    """Return whose directory it is, after a check that nobody else may write to it."""
    found = os.lstat(folder)
    if os.name == "posix" and os.geteuid() == 0 and stat.S_ISDIR(found.st_mode):
        if found.st_mode & 0o022:
            raise ConfigError(f"{folder} is writable by others and therefore not trusted")
        return found.st_uid
    check_private(folder, found)
    return found.st_uid if os.name == "posix" else None


def _content(file: Path, owner: int | None) -> bytes:
    # The writer may be hostile to the superuser who reads it: no link is followed, no
    # pipe is waited for, and no more is read than a status can have.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(file, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (owner is not None and found.st_uid != owner):
            raise ReportFormatError("it is not a regular file of the directory's owner")
        parts: list[bytes] = []
        while sum(map(len, parts)) <= process_status.MOST_BYTES:
            part = os.read(descriptor, process_status.MOST_BYTES + 1)
            if not part:
                break
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
