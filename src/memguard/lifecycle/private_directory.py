"""
Private directories: created for this user only, checked at each use, safe from being swapped.

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
_ALWAYS = 0
for _flag in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
    _ALWAYS |= getattr(os, _flag, 0)


class PrivateDirectory:
    """
    An open directory: file operations on plain names inside it.

    Names are looked up from its descriptor, so that a path that is swapped for a link after the
    check leads nowhere else; on systems without such calls, by path.

    Bounded by: one descriptor, closed with `open_private`.
    Locks: none.
    Keeps alive: its path.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor
        """None on systems that look up only by path."""

    def _named(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)

    def names(self) -> list[str]:
        """Return all names in it."""
        place = self.path if self.descriptor is None else self.descriptor
        return os.listdir(place)  # noqa: PTH208 - reason: a Path cannot list a descriptor

    def status(self, name: str) -> os.stat_result | None:
        """Return what *name* itself is; None if it is not there."""
        try:
            return os.stat(self._named(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:  # another process was faster to delete it
            return None

    def file(self, name: str) -> os.stat_result | None:
        """Return what *name* itself is; None if it is a directory, or not there any more."""
        found = self.status(name)
        return None if found is None or stat.S_ISDIR(found.st_mode) else found

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of *name*, made with mode 0600; no link is followed."""
        return os.open(self._named(name), flags | _ALWAYS, 0o600, dir_fd=self.descriptor)

    def rename(self, name: str, to: str) -> None:
        """Rename *name*, over what is called *to*."""
        os.replace(
            self._named(name),
            self._named(to),
            src_dir_fd=self.descriptor,
            dst_dir_fd=self.descriptor,
        )

    def remove(self, name: str) -> None:
        """Delete *name*; no error if it is not there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._named(name), dir_fd=self.descriptor)

    def replace(self, name: str, content: bytes, *, temporary: str, durable: bool) -> None:
        """
        Give the file *name* new *content*, so that it is never seen half-written.

        Args:
            name: A plain file name.
            content: All of it.
            temporary: What it is called until it is whole; nobody else's.
            durable: Force it to disk before it is renamed.
        """
        try:
            descriptor = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                write_all(descriptor, content)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.rename(temporary, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(temporary)
            raise

    def force_to_disk(self) -> None:
        """Force what was renamed to disk, if the system can."""
        if self.descriptor is not None:
            with contextlib.suppress(OSError):  # some network file systems refuse; the data is safe
                os.fsync(self.descriptor)


@contextlib.contextmanager
def open_private(path: Path) -> Iterator[PrivateDirectory]:
    """
    Open the directory *path*, made if it is missing.

    Raises:
        ConfigError: It is not private; see `check_private`.
        OSError: It cannot be made or opened.
    """
    _make_private(path)
    check_private(path, os.lstat(path))
    if not CAN_NAME_FROM_DIRECTORY:
        yield PrivateDirectory(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _ALWAYS)
    try:
        check_private(path, os.fstat(descriptor))
        yield PrivateDirectory(path, descriptor)
    finally:
        os.close(descriptor)


def _make_private(path: Path) -> None:
    """Create *path* and its missing parents for their owner only, whatever the umask allows."""
    missing = []
    while not os.path.lexists(path) and path != path.parent:  # a drive of Windows may be missing
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster; checked later
            os.mkdir(directory, 0o700)  # noqa: PTH102 - reason: next to os.open, the same style


def check_private(path: Path, found: os.stat_result) -> None:
    """
    Raise if *path*, whose status is *found*, is not a directory that only this user can write to.

    Raises:
        ConfigError: It is a link, another kind of file, it belongs to another user, or others may
            write to it.
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


def for_process(path: Path) -> Path:
    """Return *path* with the number of this process in place of each ``{pid}``."""
    return Path(str(path).replace("{pid}", str(os.getpid())))


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of *content*, however little the system takes at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
