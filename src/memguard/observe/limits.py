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

from memguard.observe.cgroups import Group, find_groups, parse_stat, read_text

__all__ = ["Bound", "Group", "Limit", "LimitKind", "read_limit"]

LimitKind = Literal[
    "cgroup2.max", "cgroup2.high", "cgroup1.limit", "rlimit.as", "rlimit.data", "host", "none"
]

BY_SYSCONF = "SC_PHYS_PAGES"
"""The *source* of the host's memory where how much of it is in use cannot be read."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What this process may use, and what sets that bound."""

    bytes: int | None
    """The smallest bound; None if not even the host's memory is known."""
    source: str
    """Where the smallest bound is written; ``"unknown"`` if there is none."""
    kind: LimitKind = "none"
    """Which kind of bound is the smallest."""
    directory: str | None = None
    """The directory of the control group that sets it; None for the other kinds."""
    bounds: tuple[Bound, ...] = ()
    """Every bound that was found, smallest first."""
    groups: tuple[Group, ...] = ()
    """The memory control groups of this process that can be seen, version 2 first."""
    unread: tuple[str, ...] = ()
    """Files that should hold a bound and could not be read or understood."""


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
            # A memory.high of 0 asks for reclaim; it is not a limit that a process could keep to.
            if limit is not None and 0 < limit < _UNLIMITED:
                yield Bound(bytes=limit, kind=kind, source=str(path), directory=directory)


def _version_1(group: Group, unread: list[str]) -> Iterator[Bound]:
    own = group.directories[0]
    smallest = _UNLIMITED
    for directory in group.directories:
        # Without use_hierarchy (kernels before 5.11) a group above does not charge those below.
        if directory != own and read_text(Path(directory, "memory.use_hierarchy")) == "0":
            break
        path = Path(directory, "memory.limit_in_bytes")
        limit = _read_number(path, unread)
        if limit is not None and 0 < limit < _UNLIMITED:
            smallest = min(smallest, limit)
            yield Bound(bytes=limit, kind="cgroup1.limit", source=str(path), directory=directory)
    # The kernel's own minimum over all ancestors: news if one of them is outside this mount.
    path = Path(own, "memory.stat")
    limit = parse_stat(read_text(path) or "").get("hierarchical_memory_limit")
    if limit is not None and 0 < limit < smallest:
        source = f"{path} hierarchical_memory_limit"
        yield Bound(bytes=limit, kind="cgroup1.limit", source=source, directory=own)


def _read_number(path: Path, unread: list[str]) -> int | None:
    """Return the number in *path*; None for ``max`` and for a file that is not there."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None  # the root group and groups without the controller have none
    except OSError:
        text = ""
    if text.isdecimal():
        return int(text)
    if text != "max":
        unread.append(str(path))
    return None


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
    except Exception:  # noqa: BLE001 - reason: /proc may be hidden in ways psutil has not seen
        return _physical_memory()


def _physical_memory() -> Bound | None:
    """Return the host's memory by sysconf(3), which needs no ``/proc/meminfo``."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return Bound(bytes=total, kind="host", source=BY_SYSCONF) if total > 0 else None
