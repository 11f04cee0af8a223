"""One row of numbers about this process's memory, cheap enough to read on every tick."""

from __future__ import annotations

import functools
import gc
import os
import re
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from memguard.errors import ConfigError
from memguard.observe import counts
from memguard.observe.allocator import read_allocator
from memguard.observe.headroom import read_headroom

__all__ = ["Detail", "Reading", "ReadingSource", "parse_status", "read_memory"]

ReadingSource = Literal["status", "psutil", "none"]
"""Where the operating system's numbers came from: ``/proc/self/status``, psutil, or nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    What this process's memory was at one moment. Bytes unless said; None if unknown.

    Linux keeps the counters behind these numbers per CPU, so that a row may be some hundred KiB
    behind the truth. Compare rows, not single pages.
    """

    at: float
    """Seconds on the timer that was given to `read_memory`; monotonic by default."""
    rss: int | None = None
    """Resident memory: anonymous, file and shared pages together."""
    anon: int | None = None
    """Resident anonymous memory: heaps, stacks, arenas. What a leak of objects grows."""
    file: int | None = None
    """Resident pages of files (code, mapped data); the kernel can drop them."""
    shmem: int | None = None
    """Resident shared memory: ``/dev/shm``, ``multiprocessing.shared_memory``, memfds."""
    swap: int | None = None
    """Anonymous memory that was swapped out."""
    vms: int | None = None
    """Address space, touched or not."""
    data: int | None = None
    """Private writable address space, which is what RLIMIT_DATA bounds on Linux."""
    peak: int | None = None
    """The highest *rss* so far."""
    footprint: int | None = None
    """The system's own figure of private memory, if it keeps one.

    Private bytes on Windows; on macOS the physical footprint, compressed pages included.
    """
    blocks: int | None = None
    """Blocks in use by Python's allocator; None while counting them would cost too much."""
    gc_counts: tuple[int, int, int] | None = None
    """``gc.get_count()``: allocations since the youngest collection, and the older counters."""
    threads: int | None = None
    """Threads of this process, not only those Python started."""
    open_files: int | None = None
    """Open file descriptors, sockets included (handles on Windows).

    If counting them is not cheap, the number may be some seconds old.
    """
    open_files_limit: int | None = None
    """Descriptors that this process may have open (RLIMIT_NOFILE)."""
    tasks: int | None = None
    """asyncio tasks that are alive; from CPython 3.14 on those of loops that were seen running."""
    traced: int | None = None
    """Bytes that tracemalloc traces; None while it is not tracing."""
    tracer: int | None = None
    """Bytes that tracemalloc itself needs; None while it is not tracing."""
    source: ReadingSource = "none"
    """Where the operating system's numbers came from."""

    # What `read_memory` reads only when its group is in *include*.
    uss: int | None = None
    """``uss``: private pages, those of files too; what would be freed if the process ended."""
    malloc_in_use: int | None = None
    """``malloc``: bytes that the C allocator has given out."""
    malloc_free: int | None = None
    """``malloc``: bytes that were freed and that the C allocator keeps."""
    minor_faults: int | None = None
    """``faults``: page faults that needed no I/O, since the process began."""
    major_faults: int | None = None
    """``faults``: page faults that did."""
    limit: int | None = None
    """``limit``: the bound that is fullest."""
    limit_source: str | None = None
    """``limit``: where that bound is written."""
    headroom: int | None = None
    """``limit``: bytes left below that bound."""
    used_ratio: float | None = None
    """``limit``: what cannot be reclaimed, over that bound."""
    stall_some: float | None = None
    """``limit``: percent of the last ten seconds in which some task waited for memory (PSI)."""
    stall_full: float | None = None
    """``limit``: percent of the last ten seconds in which all tasks did."""

    @property
    def private(self) -> int | None:
        """
        Bytes that only this process holds, resident or swapped: the number a leak grows.

        *anon* and *swap* if the system reports them, else *footprint*, else *rss* and *swap*;
        None if nothing is known. tracemalloc's own memory (*tracer*) is in it.
        """
        swap = self.swap or 0
        if self.anon is not None:
            return self.anon + swap
        if self.footprint is not None:
            return self.footprint
        return None if self.rss is None else self.rss + swap

    @property
    def held(self) -> int | None:
        """
        Bytes of this process that the kernel cannot drop: *private* and *shmem*.

        Shared memory counts in each process that has touched it. None if *private* is.
        """
        private = self.private
        return None if private is None else private + (self.shmem or 0)


def read_memory(
    *,
    include: Collection[Detail] = (),
    timer: Callable[[], float] = time.monotonic,
    status_path: str = "/proc/self/status",
) -> Reading:
    """
    Return one `Reading` of this process. What cannot be read is None.

    Thread-safe: yes. Cost: about 20 µs on Linux (one read of ``/proc/self/status``, never smaps),
    measured in ``benchmarks/readings.py``; psutil elsewhere and if ``/proc`` cannot be read.

    Args:
        include: Groups of numbers to read as well, each at a price of its own: ``"faults"`` and
            ``"malloc"`` 10 µs (the latter more in a shredded heap), ``"files"`` (*open_files*
            counted one by one, now) 20 µs and more with many of them, ``"limit"`` 350 µs,
            ``"uss"`` about 10 ms per GiB.
        timer: Seconds; stamps the row.
        status_path: The status file, for tests.

    Raises:
        TypeError: *include* is not a collection of names.
        ConfigError: *include* names a group that does not exist.
    """
    if include != ():
        check(include)
    at = timer()
    system = _from_status(status_path) or _from_psutil()
    tracing = tracemalloc.is_tracing()
    reading = Reading(
        at=at,
        blocks=_blocks.count(),
        gc_counts=gc.get_count(),
        # Asked twice on purpose: another thread may stop tracing in between, and 0 is honest then.
        traced=tracemalloc.get_traced_memory()[0] if tracing else None,
        tracer=tracemalloc.get_tracemalloc_memory() if tracing else None,
        open_files=counts.open_descriptors(),
        open_files_limit=counts.descriptor_limit(),
        tasks=counts.task_count(),
        **system,
    )
    return replace(reading, **read_details(reading, include)) if include else reading


_FIELDS = (
    # In the order of the kernel's task_mem(), so that each search starts where the last one ended.
    # proc_pid_status(5); RssAnon, RssFile and RssShmem since Linux 4.5.
    (b"\nVmSize:", "vms"),
    (b"\nVmHWM:", "peak"),
    (b"\nVmRSS:", "rss"),
    (b"\nRssAnon:", "anon"),
    (b"\nRssFile:", "file"),
    (b"\nRssShmem:", "shmem"),
    (b"\nVmData:", "data"),
    (b"\nVmSwap:", "swap"),
)


def _from_status(path: str) -> dict[str, Any]:
    """Return the numbers of a status file by field, or an empty dict when it has none."""
    try:
        # Opened again each time: a kept descriptor would show the parent's memory after a fork.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            text = os.read(descriptor, 16384)
        finally:
            os.close(descriptor)
        found: dict[str, Any] = dict(parse_status(text))
    except (OSError, ValueError):
        return {}
    return {**found, "source": "status"} if "rss" in found else {}


def parse_status(text: bytes) -> dict[str, int]:
    """
    Return the memory fields of a ``/proc/<pid>/status`` text in bytes, and ``threads``.

    Raises:
        ValueError: A field is there but is not a number.
    """
    found: dict[str, int] = {}
    start = 0
    for label, name in _FIELDS:
        at = text.find(label, start)
        if at >= 0:
            at += len(label)
            start = text.find(b"\n", at)
            found[name] = int(text[at:start].removesuffix(b" kB")) * 1024
            start = max(start, 0)
    at = text.find(b"\nThreads:", start)
    if at >= 0:
        at += 9
        found["threads"] = int(text[at : text.find(b"\n", at)])
    return found


def _from_psutil() -> dict[str, Any]:
    """Return what psutil knows on this system by field; nothing when it knows nothing."""
    try:
        # A new Process each time: a kept one would be the parent's after a fork.
        process = psutil.Process()
        with process.oneshot():
            info = process.memory_info()
            found = {"rss": int(info.rss), "vms": int(info.vms), "source": "psutil"}
            found["threads"] = process.num_threads()
    except Exception:  # noqa: BLE001 - reason: on a system we have not seen, a blind row beats a dead thread
        return {}
    if sys.platform == "win32":
        found["footprint"] = int(info.private)
        found["peak"] = int(info.peak_wset)
    elif sys.platform == "darwin":
        found["footprint"] = footprint()
    elif hasattr(info, "shared"):
        # Linux: statm's "shared" counts file and shmem pages, so the rest is anonymous.
        found["anon"] = max(0, int(info.rss) - int(info.shared))
    return found


_RUSAGE_INFO_V0 = 0
# struct rusage_info_v0 of <sys/resource.h>: uuid, user and system time, package idle and interrupt
# wakeups, page-ins, wired, resident, physical footprint, start and exit time.
_RUSAGE = struct.Struct("16s10Q")
_FOOTPRINT = 8


def footprint() -> int | None:
    """
    Return macOS's physical footprint of this process, in bytes: what Activity Monitor shows.

    Resident memory is no measure there: idle pages are compressed and leave it, so that a process
    of gigabytes may show some MiB. None on other systems. Never raises.

    Source: ``proc_pid_rusage`` of ``<libproc.h>``.
    """
    try:
        call = _proc_pid_rusage()
        if call is None:
            return None
        buffer = bytearray(_RUSAGE.size)
        return None if call(os.getpid(), _RUSAGE_INFO_V0, buffer) else parse_rusage(bytes(buffer))
    except Exception:  # noqa: BLE001 - reason: a figure less beats a dead thread
        return None


def parse_rusage(buffer: bytes) -> int | None:
    """Return the physical footprint in a ``struct rusage_info_v0``; None if it is zero."""
    fields = _RUSAGE.unpack(buffer)
    return int(fields[_FOOTPRINT]) or None


@functools.cache
def _proc_pid_rusage() -> Any:
    import ctypes  # noqa: PLC0415 - reason: only macOS needs it here

    call = getattr(ctypes.CDLL(None), "proc_pid_rusage", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    call.restype = ctypes.c_int

    def into(pid: int, flavor: int, buffer: bytearray) -> int:
        view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        return int(call(pid, flavor, ctypes.byref(view)))

    return into


class _BlockCounter:
    """
    Counts the allocator's blocks while that is cheap.

    ``sys.getallocatedblocks`` walks every pool of every arena with the GIL held: half a
    microsecond in a small process, milliseconds in one of some GiB. Twice in a row above the
    budget, and it rests until the readings in between have paid for one more try.
    """

    BUDGET_NS = 50_000
    PRICE_PER_READING_NS = 1_000

    def __init__(
        self,
        walk: Callable[[], int] | None,
        timer_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._walk = walk
        self._timer_ns = timer_ns
        self._rest = 0
        self._strikes = 0

    def count(self) -> int | None:
        """Return the blocks in use, or None while counting is too expensive."""
        # No lock: a race between threads costs one walk more or less.
        if self._walk is None:
            return None
        if self._rest > 0:
            self._rest -= 1
            return None
        began = self._timer_ns()
        blocks = self._walk()
        cost = self._timer_ns() - began
        if cost <= self.BUDGET_NS:
            self._strikes = 0
            return blocks
        self._strikes += 1
        # One may be expensive because we were preempted; the second one in a row is not.
        if self._strikes >= 2:
            self._rest = cost // self.PRICE_PER_READING_NS
        return blocks


_blocks = _BlockCounter(getattr(sys, "getallocatedblocks", None))


Detail = Literal["uss", "malloc", "faults", "files", "limit"]
"""A group of numbers that `read_memory` reads on demand."""

_DETAILS = frozenset(get_args(Detail))


def check(include: Collection[str]) -> None:
    """
    Reject anything but a collection of detail names.

    Raises:
        TypeError: *include* is a string or no collection.
        ConfigError: It names something else.
    """
    if isinstance(include, str) or not isinstance(include, Collection):
        raise TypeError(
            f"include must be a collection of detail names (got {type(include).__name__}); "
            "write ('limit',) for a single one"
        )
    unknown = sorted(str(name) for name in include if name not in _DETAILS)
    if unknown:
        raise ConfigError(
            f"include may name {', '.join(sorted(_DETAILS))} (got {', '.join(unknown)})"
        )


def read_details(reading: Reading, include: Collection[str], *, root: str = "/") -> dict[str, Any]:
    """Return the fields of the groups in *include*. What cannot be read is left out."""
    found: dict[str, Any] = {}
    if "uss" in include:
        found["uss"] = _unique_bytes(root)
    if "malloc" in include:
        state = read_allocator()
        found["malloc_in_use"] = state.in_use
        found["malloc_free"] = state.free
    if "faults" in include:
        found.update(_faults())
    if "files" in include:
        found["open_files"] = counts.count_descriptors(str(Path(root, "proc", "self", "fd")))
    if "limit" in include:
        found.update(_limit(reading, root))
    return found


def _limit(reading: Reading, root: str) -> dict[str, Any]:
    headroom = read_headroom(reading, root=root)
    found: dict[str, Any] = {}
    fullest = headroom.fullest
    if fullest is not None:
        found["limit"] = fullest.bound.bytes
        found["limit_source"] = fullest.bound.source
        found["headroom"] = fullest.headroom
        found["used_ratio"] = fullest.ratio
    elif headroom.limit.bytes is not None:
        found["limit"] = headroom.limit.bytes
        found["limit_source"] = headroom.limit.source
    if headroom.stall is not None:
        found["stall_some"] = headroom.stall.some
        found["stall_full"] = headroom.stall.full
    return found


def _unique_bytes(root: str) -> int | None:
    """Return the private pages of this process, file pages too; the page tables are walked."""
    if sys.platform.startswith("linux"):
        try:
            text = Path(root, "proc", "self", "smaps_rollup").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None
        sizes = re.findall(r"^Private_(?:Clean|Dirty|Hugetlb):\s+(\d+) kB$", text, re.MULTILINE)
        return sum(map(int, sizes)) * 1024 if sizes else None
    try:
        return int(psutil.Process().memory_full_info().uss)
    except Exception:  # noqa: BLE001 - reason: forbidden or unknown there; None then
        return None


def _faults() -> dict[str, int]:
    if sys.platform == "win32":
        return {}
    import resource  # noqa: PLC0415 - reason: the module does not exist on Windows

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"minor_faults": usage.ru_minflt, "major_faults": usage.ru_majflt}
