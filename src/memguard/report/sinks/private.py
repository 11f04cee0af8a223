"""
Directories that are ours alone: made private, checked each time, and not to be swapped under us.

For whatever memguard leaves in a place that others may write to, such as ``/tmp``.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from memguard.errors import ConfigError

CAN_NAME_FROM_DIRECTORY = {os.open, os.rename, os.unlink, os.stat} <= os.supports_dir_fd


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int | None]:
    """
    Open the directory *path*, made where it is missing, for names to be looked up from.

    Yields:
        Its descriptor: a path that is swapped for a link after the check leads nowhere else. None
        on systems that look up by path alone.

    Raises:
        ConfigError: It is not ours alone; see `refuse_unsafe`.
        OSError: It cannot be made or opened.
    """
    make_private(path)
    refuse_unsafe(path, os.lstat(path))
    if not CAN_NAME_FROM_DIRECTORY:
        yield None
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        refuse_unsafe(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Create *path* and its missing parents for their owner alone, whatever the umask allows."""
    missing = []
    while not os.path.lexists(path) and path != path.parent:  # a drive of Windows may be missing
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster; checked later
            os.mkdir(directory, 0o700)  # noqa: PTH102 - reason: beside os.open, the same style


def refuse_unsafe(path: Path, found: os.stat_result) -> None:
    """
    Raise where *path*, of which *found* is the status, is no directory that is ours alone to write.

    Raises:
        ConfigError: It is a link, another kind of file, somebody else's, or others may write to it.
    """
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{path} must not be a symbolic link; give the directory it leads to")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} must be a directory; it is another kind of file")
    if os.name != "posix":
        return  # Windows says who may write in access control lists, which mode bits do not show
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path} must belong to the user of this process, {os.geteuid()} "
            f"(its owner is {found.st_uid}); give another directory"
        )
    if found.st_mode & 0o022:
        raise ConfigError(
            f"{path} must not be writable by others (its mode is "
            f"{stat.S_IMODE(found.st_mode):04o}); do 'chmod go-w' or give another directory"
        )


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of *content*, however little the system takes at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def is_alive(pid: int) -> bool:
    """Return False where there is surely no process of that number."""
    if os.name != "posix":
        return True  # there, os.kill(pid, 0) would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
