"""The memory control groups of this process, and the small files that the kernel keeps there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Group:
    """A memory control group of this process: its directory and those of its ancestors."""

    version: Literal[1, 2]
    directories: tuple[str, ...]
    """The process's own directory first, the mount point last."""


@dataclass(frozen=True, slots=True)
class _Mount:
    version: Literal[1, 2]
    root: str
    point: str


def find_groups(*, root: str = "/") -> tuple[Group, ...]:
    """
    Return the memory control groups of this process, version 2 first. Never raises.

    The path in ``/proc/self/cgroup`` counts from the root of the hierarchy (of the namespace);
    what is mounted may be only a part of it. So each mount's own root is taken off the path, as
    listed in ``/proc/self/mountinfo``. If the rest does not exist (a container that sees the
    host's paths but only its own group), the nearest directory above it is taken.
    """
    proc = Path(root, "proc", "self")
    paths = _own_paths(read_text(proc / "cgroup") or "")
    mounts = _memory_mounts(read_text(proc / "mountinfo") or "")
    groups = []
    for version, path in sorted(paths.items(), reverse=True):
        choices = [
            directories
            for mount in mounts
            if mount.version == version
            and (directories := _directories(root, mount, path)) is not None
        ]
        if choices:
            # Several mounts of one hierarchy: the one that shows most ancestors.
            groups.append(Group(version, max(choices, key=len)))
    return tuple(groups)


def _own_paths(text: str) -> dict[Literal[1, 2], str]:
    paths: dict[Literal[1, 2], str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # A group that was removed under a living process is shown so.
        path = path.removesuffix(" (deleted)")
        if number == "0" and controllers == "":
            paths[2] = path
        elif "memory" in controllers.split(","):
            paths[1] = path
    return paths


def _memory_mounts(text: str) -> list[_Mount]:
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        tail = after.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 3:
            continue
        mount_root, point = _unescape(fields[3]), _unescape(fields[4])
        if tail[0] == "cgroup2":
            mounts.append(_Mount(2, mount_root, point))
        elif tail[0] == "cgroup" and "memory" in tail[2].split(","):
            mounts.append(_Mount(1, mount_root, point))
    return mounts


def _unescape(text: str) -> str:
    r"""Undo mountinfo's octal escapes of space, tab, newline and backslash (``\040``)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _directories(root: str, mount: _Mount, path: str) -> tuple[str, ...] | None:
    point = Path(root, mount.point.lstrip("/"))
    prefix = mount.root.rstrip("/")
    if path == mount.root:
        inner = ""
    elif path.startswith(prefix + "/"):
        inner = path[len(prefix) :]
    else:
        inner = ""  # seen from another namespace: the mount point is all we can see
    parts = [part for part in inner.split("/") if part]
    if ".." in parts:
        parts = []  # moved to a group outside the namespace's root
    directories = [point.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    seen = tuple(str(directory) for directory in directories if _is_directory(directory))
    return seen or None


def parse_stat(text: str) -> dict[str, int]:
    """Return the ``name number`` lines of a ``memory.stat``-like *text*; others are left out."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if number.isdecimal():
            found[name] = int(number)
    return found


def read_text(path: Path) -> str | None:
    """Return the stripped text of a small file of the kernel's; None if it cannot be read."""
    try:
        return os.fsdecode(path.read_bytes()).strip()
    except OSError:
        return None


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # no permission to look: as good as not there
