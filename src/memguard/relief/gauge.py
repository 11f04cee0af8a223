"""
How full is memory now? A full look at every limit, and cheap looks in between.

A full look reads some files of the control group (about 150 µs), once an interval. A cheap one adds
to that what this process has grown since (about 30 µs; Linux 6, CPython 3.11): among busy threads
each file costs a wait for the interpreter lock, and then there is no time for ten of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from memguard.observe.children import FamilyMeter
from memguard.observe.headroom import Fill, Headroom, read_headroom
from memguard.observe.limits import Bound, Limit, read_limit
from memguard.observe.readings import Reading, read_memory
from memguard.relief.address_space import AddressSpace
from memguard.relief.levels import Sample
from memguard.relief.room import BoundUse


class Glance:
    """
    Take readings of this process from a file that is kept open; call it.

    A reading has resident, anonymous and mapped sizes only, without swap: compare it with its own
    kind. If there is no such file it does what `read_memory` does. A
    descriptor that others closed or reused is noticed, and not touched.

    Bounded by: one file descriptor, from the first call until `close`.
    Locks: none.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        *,
        timer: Callable[[], float] = time.monotonic,
        path: str = "/proc/self/statm",
    ) -> None:
        self._timer = timer
        self._path = path
        self._page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = 0

    def __call__(self) -> Reading:
        """Return a reading. Cost: about 5 µs, and one wait for the interpreter lock."""
        if self._pid != os.getpid():
            # The parent's file would show the parent's memory.
            self.close()
            self._open()
        found = self._read()
        if found is None:
            self._forget()
            return read_memory(timer=self._timer)
        size, resident, shared, data = found
        return Reading(
            at=self._timer(),
            rss=resident,
            anon=max(0, resident - shared),
            vms=size,
            data=data,
            source="status",
        )

    def _open(self) -> None:
        self._pid = os.getpid()
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._descriptor = descriptor
            self._identity = _identity(descriptor)

    def _read(self) -> tuple[int, int, int, int] | None:
        """Return address space, resident, shared and writable bytes (proc_pid_statm(5))."""
        if self._descriptor is None:
            return None
        try:
            fields = os.pread(self._descriptor, 256, 0).split()
            size, resident, shared = (int(field) * self._page for field in fields[:3])
            data = int(fields[5]) * self._page
        except (OSError, ValueError, IndexError):
            return None
        return (size, resident, shared, data) if len(fields) == 7 else None

    def _forget(self) -> None:
        """Drop a descriptor that is no longer ours; the next call opens the file again."""
        if self._descriptor is not None:
            self._descriptor = None
            self._pid = 0

    def close(self) -> None:
        """Close the file; the next call opens it again. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        self._pid = 0
        if descriptor is not None:
            with contextlib.suppress(OSError):
                # The host may have reused the number.
                if _identity(descriptor) == self._identity:
                    os.close(descriptor)

    def __del__(self, *, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close the file if it is still open; at the interpreter's end the system does."""
        if not is_finalizing() and getattr(self, "_descriptor", None) is not None:
            self.close()


def no_limit() -> Limit:
    """Return what the system allows of a resource that it does not know."""
    return Limit(bytes=None, source="unknown")


def no_headroom(_reading: Reading, *, limit: Limit) -> Headroom:
    """Return how full the bounds of the system are where there is none."""
    return Headroom(fills=(), limit=limit)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


OWN_LIMIT = "option limit"
_AT_REST = 3
_NOTABLE = 16
"""
One part in so many of what is left: when pages of files and of shared memory have grown by more, a
full look is due. Only that can say which of them the kernel cannot drop.
"""
_LIMIT_SECONDS = 60.0
"""How long the bounds are taken to be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look saw."""

    sample: Sample
    """For the level."""
    reading: Reading
    """This process."""
    scope: str = "process"
    """Whose memory is counted: ``group``, ``process``, ``children``, ``host``."""
    headroom: int | None = None
    """Fewest bytes left below any bound, not only the fullest: half of a small one goes sooner."""
    bounds: tuple[BoundUse, ...] = ()
    """Every bound whose use is known, the fullest first."""
    is_full: bool = True
    """False for an estimate between two full looks."""

    @property
    def own_share(self) -> float:
        """The share of the used memory that is this process's."""
        used, own = self.sample.used, self.reading.private
        if not used or own is None or self.scope == "process":
            return 1.0
        return min(1.0, own / used)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Full:
    """The last full look."""

    at: float
    reading: Reading
    fills: tuple[Fill, ...]


class Gauge:
    """
    Look at the bound that is fullest.

    Bounded by: the last full look.
    Locks: none; for one thread at a time.
    Keeps alive: numbers and strings.

    Args:
        limit: The user's own bound on private and shared memory, bytes, besides those of the
            system; None for only those of the system.
        interval: Seconds after which a look is full again.
        timer: Monotonic seconds.
        read: Takes a reading, for full looks.
        glance: Takes one that may know sizes only, for those in between; a `Glance` by default.
        children: Count the memory of child processes, too, against *limit*.
        bounds: Gives what the system allows.
        headroom: Gives how full each bound is.
    """

    def __init__(
        self,
        *,
        limit: int | None,
        interval: float,
        timer: Callable[[], float],
        read: Callable[[], Reading] = read_memory,
        glance: Callable[[], Reading] | None = None,
        children: bool = False,
        bounds: Callable[[], Limit] = read_limit,
        headroom: Callable[..., Headroom] = read_headroom,
    ) -> None:
        self._own = limit
        self._interval = interval
        self._timer = timer
        self._read = read
        self._glance: Callable[[], Reading] = Glance(timer=timer) if glance is None else glance
        self._family = FamilyMeter(timer=timer) if children else None
        self._spaces = {"rlimit.as": AddressSpace(), "rlimit.data": AddressSpace()}
        self._bounds = bounds
        self._headroom = headroom
        self._known: Limit | None = None
        self._known_at = 0.0
        self._full: _Full | None = None
        self.full_looks = 0
        self.trouble: str | None = None
        """What the last full look could not see, and what that means; None if nothing."""

    def look(self, *, at_rest: bool = False) -> Look | None:
        """
        Return how full it is; a full look when one is due.

        Args:
            at_rest: Nothing has moved lately. Then a full look is due after three intervals, and
                None is returned if nothing has changed: that costs next to nothing.
        """
        reading = self._glance()
        now = self._timer()
        full = self._full
        patience = _AT_REST * self._interval if at_rest else self._interval
        if full is None or now - full.at >= patience:
            return self._look_at_all(now, reading)
        left = min((fill.headroom for fill in full.fills), default=0)
        mapped = _mapped(full.reading, reading)
        if mapped * _NOTABLE > left:
            return self._look_at_all(now, reading)
        if at_rest:
            before, own = full.reading.private, reading.private
            if before is not None and own is not None and abs(own - before) * 64 < left:
                return None
        grown = [_grown(fill, full.reading, reading) for fill in full.fills]
        if any(growth is None for growth in grown):
            return self._look_at_all(now, reading)
        # Every limit: another one may have become the fullest, a small one under a big host.
        fills = [
            replace(fill, used=max(0, fill.used + (growth or 0)))
            for fill, growth in zip(full.fills, grown, strict=True)
        ]
        # Stalls and collisions belong to the moment they were read.
        return self._fullest(fills, reading, reading, Sample(at=now), is_full=False)

    def look_now(self) -> Look:
        """Return how full it is, however little has moved."""
        look = self.look()
        assert look is not None  # noqa: S101 - reason: only a look at rest gives nothing
        return look

    def close(self) -> None:
        """Close the file that is kept open for glances; another look opens it again."""
        if isinstance(self._glance, Glance):
            self._glance.close()

    def _look_at_all(self, now: float, glanced: Reading) -> Look:
        self.full_looks += 1
        # Once an interval, so that histories have the counters of the interpreter, too.
        reading = self._read() if self._read is not self._glance else glanced
        if self._known is None or now - self._known_at >= _LIMIT_SECONDS:
            self._known = self._bounds()
            self._known_at = now
        seen = self._headroom(reading, limit=self._known)
        fills = list(seen.fills)
        own = None if self._own is None else self._own_fill(self._own, reading)
        if own is not None:
            fills.append(own)
        self._full = _Full(at=now, reading=glanced, fills=tuple(fills))
        self.trouble = _trouble(fills, reading)
        stall, events = seen.stall, seen.events
        measured = Sample(
            at=now,
            stall_some=None if stall is None else stall.some,
            stall_full=None if stall is None else stall.full,
            stall_is_own=stall is not None and self._is_own(stall.source),
            collisions=None if events is None else events.limit + (events.high or 0),
        )
        return self._fullest(fills, reading, glanced, measured, is_full=True)

    def _own_fill(self, limit: int, reading: Reading) -> Fill | None:
        """Return how full the user's own bound is."""
        used = reading.held
        if used is None:
            return None
        bound = Bound(bytes=limit, kind="none", source=OWN_LIMIT)
        if self._family is None:
            return Fill(bound=bound, used=used, scope="process")
        family = self._family.read()
        used = max(0, used - family.shared) + family.bytes
        return Fill(bound=bound, used=used, scope="children")

    def _fullest(
        self, fills: list[Fill], reading: Reading, glanced: Reading, base: Sample, *, is_full: bool
    ) -> Look:
        in_memory = (
            space.fill(fill, reading.private)
            if (space := self._spaces.get(fill.bound.kind))
            else fill
            for fill in fills
        )
        fills = sorted(in_memory, key=lambda fill: fill.ratio, reverse=True)
        if not fills:
            return Look(sample=base, reading=reading, is_full=is_full)
        fullest = fills[0]
        return Look(
            sample=replace(
                base, used=fullest.used, limit=fullest.bound.bytes, source=fullest.bound.source
            ),
            reading=reading,
            scope=fullest.scope,
            headroom=min(fill.headroom for fill in fills),
            bounds=tuple(BoundUse.of(fill, glanced) for fill in fills),
            is_full=is_full,
        )

    def _is_own(self, source: str) -> bool:
        """Return whether a pressure file is that of a group with a bound, not of the machine."""
        if self._known is None:
            return False
        directories = [bound.directory for bound in self._known.bounds if bound.directory]
        return any(source.startswith(directory + "/") for directory in directories)


def _trouble(fills: list[Fill], reading: Reading) -> str | None:
    if reading.private is None:
        also = "" if fills else ", nor that of its control group"
        return f"the memory of this process cannot be read{also}: is /proc mounted and readable?"
    if not fills:
        return "no bound on memory can be read: is /proc mounted and readable? Or give limit="
    if any(fill.bound.kind == "host" and fill.scope == "process" for fill in fills):
        return (
            "how much of the host's memory is in use cannot be read (/proc/meminfo is hidden): "
            "only what this process itself holds is compared with it"
        )
    return None


def _mapped(before: Reading, reading: Reading) -> int:
    """Return by how much resident pages of files and of shared memory have grown; 0 if unknown."""
    then, now = _of_files(before), _of_files(reading)
    return 0 if then is None or now is None else max(0, now - then)


def _of_files(reading: Reading) -> int | None:
    return None if reading.rss is None or reading.anon is None else reading.rss - reading.anon


def _grown(fill: Fill, before: Reading, reading: Reading) -> int | None:
    """Return by how much this process has filled a bound since; None if that is unknown."""
    # Address space is what these bounds count, touched or not.
    if fill.bound.kind == "rlimit.as":
        now, then = reading.vms, before.vms
    elif fill.bound.kind == "rlimit.data":
        now, then = reading.data, before.data
    else:
        now, then = reading.private, before.private
    return None if now is None or then is None else now - then
