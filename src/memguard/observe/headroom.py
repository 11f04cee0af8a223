"""How full is memory? What cannot be reclaimed compared with what is allowed, limit by limit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import psutil

from memguard.observe.cgroups import parse_stat, read_text
from memguard.observe.limits import Bound, Limit, read_limit

Scope = Literal["group", "process", "children", "host"]
"""Whose memory *used* counts: the control group's, this process's, its children's, too, or all."""


class MemoryUse(Protocol):
    """What of a `Reading` is compared with bounds. Bytes."""

    @property
    def vms(self) -> int | None:
        """Address space, touched or not."""

    @property
    def data(self) -> int | None:
        """Private writable address space."""

    @property
    def private(self) -> int | None:
        """Memory that only this process holds."""

    @property
    def held(self) -> int | None:
        """That, and shared memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One bound and how much of it is taken. Bytes."""

    bound: Bound
    """What is allowed, and where that is written."""
    used: int
    """Memory that the kernel cannot take back by dropping caches, counted in the bound's scope."""
    scope: Scope
    """Whose memory *used* is."""
    current: int | None = None
    """Everything charged to the group, page cache too; None outside groups."""
    working_set: int | None = None
    """*current* without inactive file pages, as Kubernetes counts it; None outside groups."""

    @property
    def ratio(self) -> float:
        """*used* over the bound; above 1 if a bound was lowered below what was in use."""
        return self.used / self.bound.bytes

    @property
    def headroom(self) -> int:
        """Bytes left, never below 0."""
        return max(0, self.bound.bytes - self.used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Share of time lost waiting for memory (Linux PSI), percent over the last ten seconds."""

    some: float
    """At least one task waited."""
    full: float
    """All tasks waited at once."""
    source: str
    """The file it was read from: the control group's, or the whole machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEvents:
    """
    How often the control group ran into its bounds since it was made. Compare two of them.

    Version 1 groups count *limit* and *oom_kill* only.
    """

    limit: int
    """Allocations that hit the hard bound (``max``, ``failcnt``)."""
    oom_kill: int
    """Processes of the group that the kernel killed."""
    high: int | None = None
    """Times that tasks were throttled at ``memory.high``: a leak that looks like latency."""
    oom: int | None = None
    """Times that the kernel found nothing to reclaim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """How near this process is to the end of its memory, by every bound that can be seen."""

    fills: tuple[Fill, ...]
    """Every bound whose use is known, the fullest first."""
    limit: Limit
    """The bounds as they were found."""
    stall: Stall | None = None
    """Waiting for memory; None if the kernel keeps no such figure."""
    events: GroupEvents | None = None
    """Collisions with the bound of the fullest group; None outside groups."""

    @property
    def fullest(self) -> Fill | None:
        """The bound that will be hit first, by ratio; None if no use is known."""
        return self.fills[0] if self.fills else None


def read_headroom(reading: MemoryUse, *, limit: Limit | None = None, root: str = "/") -> Headroom:
    """
    Return how full each bound of this process is. Never raises.

    The signal is memory that cannot be reclaimed: in a control group anonymous, shared and kernel
    memory without reclaimable slab, from ``memory.stat``, not ``memory.current``, which the page
    cache drives to the limit in every group that reads files. RLIMIT_AS is compared with address
    space, RLIMIT_DATA with private writable address space, the host with what it calls available.

    Thread-safe: yes. Cost: some 100 µs with a *limit* that is kept and passed, twice that without.

    Args:
        reading: This process, just read; for the bounds that are the process's own.
        limit: What `read_limit` gave; read again when None. Limits change seldom: keep one for a
            minute.
        root: Where ``proc`` is looked up, for tests.
    """
    known = read_limit(root=root) if limit is None else limit
    fills = [fill for bound in known.bounds if (fill := _fill(bound, reading, root)) is not None]
    fills.sort(key=lambda fill: fill.ratio, reverse=True)
    in_groups = (fill.bound for fill in fills if fill.scope == "group")
    group = next(in_groups, None)
    return Headroom(
        fills=tuple(fills),
        limit=known,
        stall=_read_stall(known, root),
        events=None if group is None else _read_events(group),
    )


@dataclass(frozen=True, slots=True)
class Allowance:
    """The bound that growth will meet first. Bytes; None if nothing is known."""

    limit: int | None = None
    source: str | None = None
    left: int | None = None
    """Bytes of it that no process uses yet."""

    def seconds_left(self, bytes_per_hour: float) -> float | None:
        """Return the seconds until the bound at this rate; None when it will not be met."""
        if self.left is None or bytes_per_hour <= 0:
            return None
        return self.left / bytes_per_hour * 3600


def read_allowance(reading: MemoryUse, limit: int | None) -> Allowance:
    """
    Return the bound with the fewest bytes left. Never raises.

    Cost: about 0.3 ms on Linux; asked when there is a suspicion, not on every tick.

    Args:
        reading: This process, just read.
        limit: A bound given by the user, for what the process holds; None asks cgroups, rlimits,
            the host.
    """
    if limit is not None:
        used = reading.held or 0
        return Allowance(limit, "option limit", max(0, limit - used))
    nearest = min(read_headroom(reading).fills, key=lambda fill: fill.headroom, default=None)
    if nearest is None:
        return Allowance()
    return Allowance(nearest.bound.bytes, nearest.bound.source, nearest.headroom)


def _fill(bound: Bound, reading: MemoryUse, root: str) -> Fill | None:
    if bound.kind == "rlimit.as":
        return None if reading.vms is None else Fill(bound=bound, used=reading.vms, scope="process")
    if bound.kind == "rlimit.data":
        used = reading.data
        return None if used is None else Fill(bound=bound, used=used, scope="process")
    if bound.kind == "host":
        fill = _host_fill(bound, root)
        if fill is None and reading.private is not None:
            # /proc/meminfo is hidden (systemd's ProcSubset=pid): this process's own share.
            return Fill(bound=bound, used=reading.private, scope="process")
        return fill
    return _group_fill(bound)


def _host_fill(bound: Bound, root: str) -> Fill | None:
    text = read_text(Path(root, "proc", "meminfo")) or ""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    if match is not None:
        available = int(match[1]) * 1024
    elif root != "/":
        return None
    else:
        try:
            available = int(psutil.virtual_memory().available)
        except Exception:  # noqa: BLE001 - reason: one bound less beats a dead monitor
            return None
    return Fill(bound=bound, used=max(0, bound.bytes - available), scope="host")


def _group_fill(bound: Bound) -> Fill | None:
    directory = Path(bound.directory or "")
    stat = parse_stat(read_text(directory / "memory.stat") or "")
    if bound.kind == "cgroup1.limit":
        used, inactive = version_1_use(stat, _number(directory / "memory.kmem.usage_in_bytes"))
        current = _number(directory / "memory.usage_in_bytes")
    else:
        used, inactive = version_2_use(stat)
        current = _number(directory / "memory.current")
    if used is None:
        return None
    return Fill(
        bound=bound,
        used=used if current is None else min(used, current),
        scope="group",
        current=current,
        working_set=None if current is None else max(0, current - inactive),
    )


def version_2_use(stat: dict[str, int]) -> tuple[int | None, int]:
    """
    Return what cannot be reclaimed, and inactive file pages, of a version 2 ``memory.stat``.

    Source: Linux ``Documentation/admin-guide/cgroup-v2.rst``. ``kernel`` is there since 5.18; its
    parts are added up before that.
    """
    if "anon" not in stat:
        return None, 0
    if "kernel" in stat:
        kernel = stat["kernel"] - stat.get("slab_reclaimable", 0)
    else:
        parts = ("kernel_stack", "pagetables", "percpu", "slab_unreclaimable")
        kernel = sum(stat.get(part, 0) for part in parts)
    used = stat["anon"] + stat.get("shmem", 0) + stat.get("sock", 0) + max(0, kernel)
    return used, stat.get("inactive_file", 0)


def version_1_use(stat: dict[str, int], kernel: int | None) -> tuple[int | None, int]:
    """
    Return what cannot be reclaimed, and inactive file pages, of a version 1 ``memory.stat``.

    Version 1 does not split *kernel* (``memory.kmem.usage_in_bytes``) into reclaimable and not, so
    all of it counts. ``total_`` lines are of the group and all below it.
    """
    rss = stat.get("total_rss", stat.get("rss"))
    if rss is None:
        return None, 0
    shmem = stat.get("total_shmem", stat.get("shmem", 0))
    return rss + shmem + (kernel or 0), stat.get("total_inactive_file", 0)


def _read_events(bound: Bound) -> GroupEvents | None:
    directory = Path(bound.directory or "")
    if bound.kind == "cgroup1.limit":
        control = parse_stat(read_text(directory / "memory.oom_control") or "")
        failures = _number(directory / "memory.failcnt")
        if failures is None:
            return None
        return GroupEvents(limit=failures, oom_kill=control.get("oom_kill", 0))
    found = parse_stat(read_text(directory / "memory.events") or "")
    if "max" not in found:
        return None
    return GroupEvents(
        limit=found["max"],
        oom_kill=found.get("oom_kill", 0),
        high=found.get("high"),
        oom=found.get("oom"),
    )


def _read_stall(limit: Limit, root: str) -> Stall | None:
    own = [Path(group.directories[0]) for group in limit.groups if group.version == 2]
    files = [directory / "memory.pressure" for directory in own]
    for path in (*files, Path(root, "proc", "pressure", "memory")):
        stall = parse_stall(read_text(path) or "", source=str(path))
        if stall is not None:
            return stall
    return None


def parse_stall(text: str, *, source: str) -> Stall | None:
    """
    Return the ten second averages of a ``memory.pressure`` *text*; None if it has none.

    Source: Linux ``Documentation/accounting/psi.rst``.
    """
    shares: dict[str, float] = {}
    for line in text.splitlines():
        match = re.match(r"(some|full) avg10=(\d+(?:\.\d+)?)\b", line)
        if match is not None and math.isfinite(float(match[2])):
            shares[match[1]] = float(match[2])
    if "some" not in shares:
        return None
    return Stall(some=shares["some"], full=shares.get("full", 0.0), source=source)


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text is not None and text.isdecimal() else None
