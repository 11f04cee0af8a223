"""
Which line allocates: tracemalloc in a short, bounded burst. The only module that uses tracemalloc.

A session that the host runs is used, never stopped, cleared or shortened. One of ours is ended as
soon as it has shown what it can, since every allocation of the process pays for it meanwhile. If
the host starts or stops tracing meanwhile, ours is over and the host has what it asked for.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from memguard.leaks.evidence import own_code
from memguard.lifecycle import interpreter, locks
from memguard.lifecycle.fork import call_in_child

Location = tuple[str, int]
"""File name and line."""

FOREIGN_LIMIT_BYTES = 16 * 1024 * 1024
"""A foreign session that traces more than this is not copied: that would be the stall."""

_OWN = tuple(
    tracemalloc.Filter(inclusive=False, filename_pattern=pattern)
    for pattern in (
        tracemalloc.__file__,
        str(Path(own_code.FOLDER) / "*"),
        "<frozen importlib*>",
    )
)


@dataclass(slots=True)
class Site:
    """Live memory that one line allocated during a burst."""

    location: Location
    bytes: int = 0
    count: int = 0
    stack: tuple[Location, ...] = ()
    """The stack that allocated most of it, the allocating line first."""
    stack_bytes: int = 0


@dataclass(slots=True)
class Trace:
    """What a burst of tracing saw."""

    seconds: float = 0.0
    sites: dict[Location, Site] = field(default_factory=dict)
    tracer_bytes: int = 0
    traced_bytes: int = 0
    foreign: bool = False


def unsupported() -> str | None:
    """Return why this interpreter must not be traced, or None."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "no tracing: tracemalloc is not safe without the GIL (python/cpython#126315)"
    if not interpreter.is_main():
        return "no tracing: in a subinterpreter it may block the process"
    return None


_BUFFER_HEADER = 128
"""By how much a buffer's own size may differ from that of its block."""


class Tracer:
    """
    One burst of tracing: ``start``, ``photograph``, ``origin`` of single objects, ``finish``.

    The photograph comes before the questions, so that asking them is not in it.

    Bounded by: the caller, who ends it by time and by ``own_bytes``.
    Locks: none of ours; one thread starts and finishes it.
    Keeps alive: nothing; sites are names and numbers.
    """

    def __init__(self) -> None:
        self._started_at = 0.0
        self._before: tracemalloc.Snapshot | None = None
        self._after: tracemalloc.Snapshot | None = None
        self._trace = Trace()
        self.joined = False
        """True while a session of ours is joined."""
        self.foreign = False
        """True if the session existed before: it also knows older blocks."""
        self.running = False
        self._number = 0

    def start(self, frames: int, *, to_photograph: bool = True) -> None:
        """
        Begin to trace *frames* frames a block, or join the session that is already running.

        Args:
            frames: Of each block; a session that is running keeps its own number.
            to_photograph: False where `photograph` will not be called: then the host's
                session is not copied now.
        """
        own_code.claim_generated_code()
        joined = session.join(frames)
        self._number = session.number
        self.joined = joined != "foreign"
        self.foreign = joined != "ours"
        small = tracemalloc.get_traced_memory()[0] <= FOREIGN_LIMIT_BYTES
        if to_photograph and self.foreign and small:
            self._before = tracemalloc.take_snapshot()
        self.running = True
        self._started_at = time.perf_counter()

    @property
    def is_lost(self) -> bool:
        """True if the session of ours that was joined is over: the host started or stopped one."""
        return self.joined and not session.is_ours(self._number)

    @property
    def seconds(self) -> float:
        """Seconds since ``start``."""
        return time.perf_counter() - self._started_at if self.running else 0.0

    @property
    def own_bytes(self) -> int:
        """Memory that tracing itself takes, bytes."""
        return tracemalloc.get_tracemalloc_memory() if tracemalloc.is_tracing() else 0

    @property
    def live_bytes(self) -> int:
        """Traced bytes alive now: an upper bound on what leaked since ``start``."""
        return tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0

    def origin(self, obj: object) -> tuple[Location, ...]:
        """
        Return where *obj* was allocated, innermost first; () if before the burst.

        Touches only the object's address.
        """
        traceback = tracemalloc.get_object_traceback(obj)
        return () if traceback is None else _stack(traceback)

    def photograph(self) -> None:
        """
        Take down what is alive now. The burst ends here; ``origin`` still works until ``finish``.

        Cost: O(live traced blocks), under the GIL; a short burst keeps them few.
        """
        trace = self._trace  # made before the burst, so as not to be in the picture
        trace.foreign, trace.seconds = self.foreign, self.seconds
        if tracemalloc.is_tracing() and not self.is_lost:  # else the host ended it meanwhile
            trace.tracer_bytes = tracemalloc.get_tracemalloc_memory()
            trace.traced_bytes = tracemalloc.get_traced_memory()[0]
            if not self.foreign or self._before is not None:
                self._after = tracemalloc.take_snapshot()
        self.running = False

    def origin_of_block(self, size: int) -> tuple[Location, ...]:
        """
        Return where the block of about *size* bytes in the photograph was allocated, or ().

        For what a buffer holds: ``origin`` knows only where its object was made, and the block is a
        new one each time it grows. Meant for blocks so large that no two are of one size.
        """
        if self._after is None:
            return ()
        for trace in self._after.traces:
            if abs(trace.size - size) <= _BUFFER_HEADER:
                return _stack(trace.traceback)
        return ()

    def finish(self) -> Trace:
        """Return the sites of what was alive, and end the session unless it is someone else's."""
        try:
            self._end()
            if self._after is not None:
                before = self._before and self._before.filter_traces(_OWN)
                self._trace.sites = _by_line(stacks(self._after.filter_traces(_OWN), before))
            return self._trace
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End our session without looking at it. Idempotent."""
        self.running = False
        self._before = self._after = None
        self._end()

    def _end(self) -> None:
        if self.joined:
            self.joined = False
            session.leave(self._number)


class _Session:
    """
    The tracing session that memguard runs: its first user starts it, its last one stops it.

    tracemalloc has one session for the whole process and ignores a second start, so that the end of
    ours would end the host's. While ours runs, ``start`` and ``stop`` of the module therefore are
    stand-ins: what the host calls ends ours first. A function that the host has imported by name
    before cannot be seen; a session that was restarted by it is known by its frames and by what it
    does not know.

    A forked child ends its copy: it does not pay for its parent's tracing.
    """

    def __init__(self) -> None:
        self._lock = (
            locks.RLock()
        )  # a handler of the host may start tracing in the thread that joins
        self._users = 0
        self.number = 0
        """Counts the sessions of ours."""
        self._frames = 0
        self._mark: object = None
        self._real = (tracemalloc.start, tracemalloc.stop)
        self._stand_ins = (self._start_for_host, self._stop_for_host)

    def is_ours(self, number: int) -> bool:
        """Return whether the session of that number is still running."""
        return self._users > 0 and number == self.number

    def join(self, frames: int) -> Literal["ours", "shared", "foreign"]:
        """Begin a session (*ours*), or enter one that our own code (*shared*) or another runs."""
        call_in_child(self.after_fork_in_child)
        with self._lock:
            if self._users == 0:
                if tracemalloc.is_tracing():
                    return "foreign"
                self._begin(frames)
            self._users += 1
            return "ours" if self._users == 1 else "shared"

    def leave(self, number: int | None = None) -> None:
        """Undo one ``join`` that was not foreign; nothing where that session is over already."""
        with self._lock:
            if self._users == 0 or number not in (None, self.number):
                return
            self._users -= 1
            if self._users == 0:
                self._end()

    def _begin(self, frames: int) -> None:
        self._real = (tracemalloc.start, tracemalloc.stop)
        tracemalloc.start(frames)
        self.number += 1
        self._frames = frames
        self._mark = bytearray(1)
        tracemalloc.start, tracemalloc.stop = self._stand_ins

    def _end(self) -> None:
        """Stop tracing, if it is ours that is running."""
        start, stop = self._real
        if tracemalloc.start is self._stand_ins[0]:
            tracemalloc.start = start
        if tracemalloc.stop is self._stand_ins[1]:
            tracemalloc.stop = stop
        if (
            tracemalloc.is_tracing()
            and tracemalloc.get_traceback_limit() == self._frames
            and tracemalloc.get_object_traceback(self._mark) is not None
        ):
            stop()
        self._mark = None

    def _start_for_host(self, nframe: int = 1) -> None:
        with self._lock:
            if self._users:
                self._users = 0
                self._end()
            self._real[0](nframe)

    def _stop_for_host(self) -> None:
        with self._lock:
            if self._users:
                self._users = 0
                self._end()
            self._real[1]()

    def after_fork_in_child(self) -> None:
        """End the copy of a session of ours."""
        self._lock = locks.RLock()
        if self._users:
            self._users = 0
            self._end()


session = _Session()


Snapshot = tracemalloc.Snapshot
"""All traced memory at one moment, to be handed to `stacks`."""


def snapshot() -> Snapshot | None:
    """
    Return a copy of what the running session knows; None while nothing is traced.

    Cost: O(live traced blocks), under the GIL. A session that the host runs may know millions.
    """
    return tracemalloc.take_snapshot() if tracemalloc.is_tracing() else None


def stacks(after: Snapshot, before: Snapshot | None = None) -> list[Site]:
    """
    Return what each allocating stack has alive in *after*, or has gained since *before*.

    No stack is left out, memguard's neither; what a stack has freed since is negative.
    """
    if before is None:
        alive = after.statistics("traceback")
        found = [(entry.size, entry.count, entry.traceback) for entry in alive]
    else:
        changed = after.compare_to(before, "traceback")
        found = [(entry.size_diff, entry.count_diff, entry.traceback) for entry in changed]
    sites = []
    for size, count, traceback in found:
        if size or count:
            stack = _stack(traceback)
            sites.append(Site(stack[0], size, count, stack, size))
    return sites


def _stack(traceback: tracemalloc.Traceback) -> tuple[Location, ...]:
    """Return the lines of *traceback*, the allocating one first."""
    return tuple((frame.filename, frame.lineno) for frame in reversed(traceback))


def traced_memory() -> tuple[int, int]:
    """Return (now, peak) of what is traced, bytes; zeros while nothing is."""
    return tracemalloc.get_traced_memory()


def is_on() -> bool:
    """Return whether any session is running, ours or another's."""
    return tracemalloc.is_tracing()


def reset_peak() -> None:
    """Let the peak start over. In a session of ours only."""
    tracemalloc.reset_peak()


def _by_line(sites: Iterable[Site]) -> dict[Location, Site]:
    """Return *sites* that grew, summed by allocating line, with each line's heaviest stack."""
    lines: dict[Location, Site] = {}
    for site in sites:
        if site.bytes > 0:
            line = lines.setdefault(site.location, Site(site.location))
            line.bytes += site.bytes
            line.count += site.count
            if site.bytes > line.stack_bytes:
                line.stack, line.stack_bytes = site.stack, site.bytes
    return lines
