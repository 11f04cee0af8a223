"""What may this process use? Control groups, resource limits, the host: the smallest wins."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

LimitKind = Literal[
    "cgroup2.max", "cgroup2.high", "cgroup1.limit", "rlimit.as", "rlimit.data", "host", "none"
]

_UNLIMITED = 2**60
"""At least an EiB: how version 1 groups (PAGE_COUNTER_MAX) and rlimits spell "no limit"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One bound that was found."""

    bytes: int
    """What it allows."""
    kind: LimitKind
    """Which kind of bound."""
    source: str
    """Where it is written, for people: a file, ``RLIMIT_AS`` or ``MemTotal``."""
    directory: str | None = None
    """The directory of the control group that sets it; None for the other kinds."""


@dataclass(frozen=True, slots=True)
class Group:
    """A memory control group of this process: its directory and those of its ancestors."""

    version: Literal[1, 2]
    directories: tuple[str, ...]
    """The process's own directory first, the mount point last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What this process may use, and who says so."""

    bytes: int | None
    """The smallest bound; None where not even the host's memory is known."""
    source: str
    """Where the smallest bound is written; ``"unknown"`` where there is none."""
    kind: LimitKind = "none"
    """Which kind of bound is the smallest."""
    directory: str | None = None
    """The directory of the control group that sets it; None for the other kinds."""
    bounds: tuple[Bound, ...] = ()
    """Every bound that was found, smallest first."""
    groups: tuple[Group, ...] = ()
    """The memory control groups of this process that can be seen, version 2 first."""
    unread: tuple[str, ...] = ()
    """Files that should have told a bound and could not be read or understood."""


def read_limit(
    *, root: str = "/", rlimits: Callable[[], Mapping[str, int | None]] | None = None
) -> Limit:
    """
    Return the smallest bound on this process's memory. Never raises.

    Looks at ``memory.max`` and ``memory.high`` (version 2) and ``memory.limit_in_bytes`` (version
    1) of this process's own control group and of every ancestor that can be seen, at RLIMIT_AS and
    RLIMIT_DATA, and at the memory of the host. RLIMIT_AS bounds address space and RLIMIT_DATA
    private writable address space, not resident memory: compare them with `Reading.vms` and
    `Reading.data`.

    Thread-safe: yes. Cost: some hundred µs (about ten small files); limits change seldom, so ask
    every minute or so and not on every tick.

    Args:
        root: Where ``proc`` and the mount points are looked up, for tests.
        rlimits: Gives ``{"as": bytes or None, "data": …}``, for tests.

    Source: Linux ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``;
    cgroups(7), proc_pid_mountinfo(5), getrlimit(2).
    """
    unread: list[str] = []
    groups = find_groups(root=root)
    bounds = [*_group_bounds(groups, unread), *_resource_bounds(rlimits or _read_rlimits)]
    host = _host_memory(root)
    if host is not None:
        bounds.append(host)
    bounds.sort(key=lambda bound: bound.bytes)
    if not bounds:
        return Limit(bytes=None, source="unknown", groups=groups, unread=tuple(unread))
    smallest = bounds[0]
    return Limit(
        bytes=smallest.bytes,
        source=smallest.source,
        kind=smallest.kind,
        directory=smallest.directory,
        bounds=tuple(bounds),
        groups=groups,
        unread=tuple(unread),
    )


# --- control groups ------------------------------------------------------------------------------


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
    ``/proc/self/mountinfo`` tells it. Where the rest does not exist (a container that sees the
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


def _group_bounds(groups: tuple[Group, ...], unread: list[str]) -> Iterator[Bound]:
    for group in groups:
        if group.version == 2:
            yield from _version_2(group, unread)
        else:
            yield from _version_1(group, unread)


def _version_2(group: Group, unread: list[str]) -> Iterator[Bound]:
    files: tuple[tuple[str, LimitKind], ...] = (
        ("memory.max", "cgroup2.max"),
        ("memory.high", "cgroup2.high"),
    )
    for directory in group.directories:
        for name, kind in files:
            path = Path(directory, name)
            limit = _read_number(path, unread)
            # A memory.high of 0 asks for reclaim; it is no amount that one could keep to.
            if limit is not None and 0 < limit < _UNLIMITED:
                yield Bound(bytes=limit, kind=kind, source=str(path), directory=directory)


def _version_1(group: Group, unread: list[str]) -> Iterator[Bound]:
    own = group.directories[0]
    for directory in group.directories:
        # Without use_hierarchy (kernels before 5.11) a group above does not charge those below.
        if directory != own and read_text(Path(directory, "memory.use_hierarchy")) == "0":
            break
        path = Path(directory, "memory.limit_in_bytes")
        limit = _read_number(path, unread)
        if limit is not None and 0 < limit < _UNLIMITED:
            yield Bound(
                bytes=limit, kind="cgroup1.limit", source=str(path), directory=str(directory)
            )
    # The kernel's own sum over all ancestors, those outside this mount too.
    path = Path(own, "memory.stat")
    limit = parse_stat(read_text(path) or "").get("hierarchical_memory_limit")
    if limit is not None and 0 < limit < _UNLIMITED:
        source = f"{path} hierarchical_memory_limit"
        yield Bound(bytes=limit, kind="cgroup1.limit", source=source, directory=own)


def parse_stat(text: str) -> dict[str, int]:
    """Return the ``name number`` lines of a ``memory.stat``-like *text*; others are left out."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if number.isdecimal():
            found[name] = int(number)
    return found


def _read_number(path: Path, unread: list[str]) -> int | None:
    """Return the number in *path*; None for ``max`` and for a file that is not there."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None  # the root group and groups without the controller have none
    except OSError:
        text = ""
    if text.isdecimal():
        return int(text)
    if text != "max":
        unread.append(str(path))
    return None


def read_text(path: Path) -> str | None:
    """Return the stripped text of a small file of the kernel's; None where it cannot be read."""
    try:
        return os.fsdecode(path.read_bytes()).strip()
    except OSError:
        return None


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # no permission to look: as good as not there


# --- resource limits and the host ----------------------------------------------------------------


def _resource_bounds(rlimits: Callable[[], Mapping[str, int | None]]) -> Iterator[Bound]:
    kinds: tuple[tuple[str, LimitKind], ...] = (("as", "rlimit.as"), ("data", "rlimit.data"))
    found = rlimits()
    for name, kind in kinds:
        limit = found.get(name)
        if limit is not None and 0 < limit < _UNLIMITED:
            yield Bound(bytes=limit, kind=kind, source=f"RLIMIT_{name.upper()}")


def _read_rlimits() -> dict[str, int | None]:
    if sys.platform == "win32":
        return {}
    import resource  # noqa: PLC0415 - reason: the module does not exist on Windows

    found: dict[str, int | None] = {}
    for name, constant in (("as", "RLIMIT_AS"), ("data", "RLIMIT_DATA")):
        number = getattr(resource, constant, None)
        if number is not None:
            soft = resource.getrlimit(number)[0]
            found[name] = None if soft == resource.RLIM_INFINITY else soft
    return found


def _host_memory(root: str) -> Bound | None:
    text = read_text(Path(root, "proc", "meminfo"))
    if text is not None:
        match = re.search(r"^MemTotal:\s+(\d+) kB$", text, re.MULTILINE)
        if match is not None:
            return Bound(bytes=int(match[1]) * 1024, kind="host", source="MemTotal")
    if root != "/":
        return None
    try:
        return Bound(bytes=int(psutil.virtual_memory().total), kind="host", source="psutil")
    except (psutil.Error, OSError, RuntimeError):
        return None
