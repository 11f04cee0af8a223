"""
Bursts of tracing: short, ended once they have seen enough, deeper only if that is cheap.

While tracing is on, every allocation of the process pays for it. So the first burst records one
frame a block and lasts until the containers that grow have shown enough new entries. If that took
less than half of the time allowed, a second one records stacks; where entries come so slowly that
it would not, the first one does. A third records whole stacks where the user's own code was out of
sight, deep below a library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memguard.heap import walk
from memguard.heap.places import Place
from memguard.leaks.evidence import census, newest, tracing
from memguard.leaks.evidence.frames import is_user_code
from memguard.leaks.options import DetectorOptions

ENOUGH_ENTRIES = 4
"""New entries of a container that settle where they come from."""
WEIGHTY = 0.05
"""Share of the growth at which a candidate is waited for."""
BLIND = 0.25
"""Share of the time that is spent where no candidate can be expected to show anything."""
MIN_SECONDS = 0.03
DEEPEST = 100
"""Frames a block of a last burst, if all frames of the one before are in libraries."""
SITES = 3
"""Heaviest lines that are asked for a line of the user's if no container shows any."""
MAX_LEVELS = 4_000
"""Polls of a burst whose level is kept."""


@dataclass(slots=True)
class Candidate:
    """A growing container or buffer, held for the seconds of a burst. A buffer's entries: bytes."""

    obj: Any
    gained: int
    """Entries gained between the two looks."""
    now: int
    weight: float = 0.0
    """Bytes gained between the two looks: an estimate."""
    newborn: bool = False
    """True when the first look did not have it: a holder only if it goes on growing."""
    taken: int = 0
    """Entries; of a buffer the bytes of its block, which a new one replaces now and then."""
    at_start: int = 0
    """Likewise, when the burst began."""
    steady: bool = True
    """False once it has lost half of what it had gained: it is emptied now and then."""
    sample: newest.Sample = field(default_factory=newest.Sample)

    first: int = field(init=False)
    """Entries when it was first followed."""

    def __post_init__(self) -> None:
        self.first = self.now

    def measure(self) -> None:
        """Count the entries again."""
        if type(self.obj) is Place:
            count: Callable[[Any], int] | None = Place.amount
        else:
            count = walk.counter_of(type(self.obj))
        entries = count(self.obj) if count else self.now
        # A queue with a slow reader loses entries all the time, and grows for all that.
        self.steady = self.steady and entries >= self.first - self.gained / 2
        self.now = entries
        block = walk.block_of_buffer(type(self.obj))
        self.taken = block(self.obj) if block else entries

    @property
    def added(self) -> int:
        """Entries gained since the burst began; of a buffer what its new block has more."""
        return max(0, self.taken - self.at_start)


class Bursts:
    """
    One to three bursts of tracing over the same candidates.

    Bounded by: the options' ``trace_seconds`` and ``trace_bytes``.
    Locks: none; one thread calls it.
    Keeps alive: the tracer's names and numbers; the candidates belong to the caller.
    """

    def __init__(
        self,
        options: DetectorOptions,
        candidates: Sequence[Candidate],
        *,
        gap: float,
        sample_more: Callable[[tracing.Tracer], None],
        collect: bool = True,
    ) -> None:
        """
        Prepare bursts.

        Args:
            options: Time, bytes and frames.
            candidates: The containers that grew; their samples are filled.
            gap: Seconds between the looks that found them, for how fast they grow.
            sample_more: Called at the end of a burst, while origins can still be asked for.
            collect: Let young garbage go before what is alive is taken down. Not where garbage is
                what grows, and never where the host has switched the collector off.
        """
        self._options = options
        self._candidates = candidates
        self._gap = max(gap, 0.001)
        self._sample_more = sample_more
        self._collect = collect
        self._tracer: tracing.Tracer | None = None
        self._frames = 1
        self._traces: list[tracing.Trace] = []
        self._levels: list[tuple[float, int]] = []
        self._grown: list[tuple[float, float]] = []
        self.note: str | None = None
        """What went otherwise than planned."""
        self.collected_bytes: int | None = None
        """What collections of ours have freed; None where there was none."""

    @property
    def seconds(self) -> float:
        """Seconds that tracing of ours was on so far."""
        running = self._tracer.seconds if self._tracer and not self._tracer.foreign else 0.0
        return running + sum(trace.seconds for trace in self._traces if not trace.foreign)

    def start(self, frames: int | None = None) -> None:
        """Begin a burst of *frames* frames a block; by default one, more if none will follow."""
        if frames is None:
            frames = self._options.trace_frames if self._is_slow() else 1
        self._frames = frames
        for candidate in self._candidates:
            candidate.measure()
            candidate.at_start = candidate.taken
        self._levels = []
        self._tracer = tracing.Tracer()
        self._tracer.start(frames)
        if self._tracer.foreign:
            self.note = "another tracemalloc session was running: it was used as it is"

    def poll(self) -> bool:
        """Return True when the bursts are over; begin the deeper one where the first was cheap."""
        for candidate in self._candidates:
            candidate.measure()
        tracer, options = self._tracer, self._options
        if tracer is None:
            return True
        if tracer.is_lost:
            self.note = "tracing stopped early: the program started or stopped tracemalloc itself"
            self._levels = []
            self.end()
            return True
        if len(self._levels) < MAX_LEVELS:
            self._levels.append((tracer.seconds, tracer.live_bytes))
        # A foreign session costs nothing extra, but it must end, too.
        spent = tracer.seconds + sum(trace.seconds for trace in self._traces)
        full = tracer.own_bytes > options.trace_bytes and not tracer.foreign
        if full:
            self.note = "tracing stopped early: it reached trace_bytes"
        elif spent < options.trace_seconds and not self._seen_enough(tracer.seconds):
            return False
        may_go_on = options.trace_frames > 1 and not tracer.foreign and not full
        self.end()
        deeper = self._deeper(spent) if may_go_on else None
        if deeper is None:
            return True
        self.start(deeper)
        return False

    def _deeper(self, spent: float) -> int | None:
        """Return the frames of the next burst; None for no further one."""
        allowed, frames = self._options.trace_seconds, self._options.trace_frames
        if self._frames < frames:
            return frames if spent <= allowed / 2 else None
        # The stack may go on above what was recorded: pandas or an ORM fills eight frames alone.
        if self._frames < DEEPEST and spent <= allowed * 3 / 4:
            return None if self._user_code_was_reached() else DEEPEST
        return None

    def _user_code_was_reached(self) -> bool:
        """Return False if a line that matters fills all frames without one of the user's."""
        stacks = [_heaviest_stack(each.sample) for each in self._candidates if each.sample.lines]
        if not stacks:
            sites = sorted(self._traces[-1].sites.values(), key=lambda site: -site.bytes)
            stacks = [site.stack for site in sites[:SITES]]
        return not any(
            len(stack) >= self._options.trace_frames
            and not any(is_user_code(file) for file, _ in stack)
            for stack in stacks
        )

    def _is_slow(self) -> bool:
        """Return True if a first burst will take so long that there is no time for a second one."""
        seconds = self._options.trace_seconds / 2
        least = self._least
        rates = [each.gained / self._gap for each in self._candidates if each.weight >= least]
        return any(0 < rate * seconds < ENOUGH_ENTRIES for rate in rates)

    @property
    def _least(self) -> float:
        """What a candidate must weigh to be waited for."""
        return WEIGHTY * sum(candidate.weight for candidate in self._candidates)

    def _seen_enough(self, seconds: float) -> bool:
        """Return True when each weighty candidate has shown where its entries come from."""
        if seconds < MIN_SECONDS:
            return False
        allowed = self._options.trace_seconds
        least = self._least
        expected = [
            candidate
            for candidate in self._candidates
            if candidate.weight >= least
            and candidate.gained / self._gap * allowed >= ENOUGH_ENTRIES
            and (candidate.added or not candidate.newborn)
        ]
        if not expected:
            return seconds >= BLIND * allowed
        return all(candidate.added >= ENOUGH_ENTRIES for candidate in expected)

    def end(self) -> None:
        """End the burst under way: take down what is alive, and ask where new entries come from."""
        tracer = self._tracer
        if tracer is None:
            return
        try:
            if self._collect:  # young garbage looks alive; what leaks survives this
                freed = census.collect(1)
                if freed is not None:
                    self.collected_bytes = (self.collected_bytes or 0) + freed
            tracer.photograph()
            self._grown.append(_growth(self._levels))
            held = {id(candidate.obj) for candidate in self._candidates}
            for candidate in self._candidates:
                candidate.measure()
                if candidate.added:
                    more = newest.sample_container(
                        candidate.obj, candidate.added, origin=tracer.origin, held=held
                    )
                    if walk.size_of_buffer(type(candidate.obj)) is not None:
                        _trace_block(candidate.taken, tracer, more)
                    elif not more.lines and (size := newest.untraced_block(candidate.obj)):
                        _trace_block(size, tracer, more)
                    candidate.sample.add(more)
            self._sample_more(tracer)
            self._traces.append(tracer.finish())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End tracing without looking. Idempotent."""
        if self._tracer is not None:
            self._tracer.abandon()
            self._tracer = None

    def trace(self) -> tracing.Trace | None:
        """Return the bursts as one trace; None where there was none."""
        return _combined(self._traces) if self._traces else None

    def growth_per_minute(self) -> float | None:
        """Return the growth of what is alive while tracing, in bytes; None where too short."""
        seconds = sum(lasted for _, lasted in self._grown)
        return sum(grown for grown, _ in self._grown) / seconds * 60 if seconds > 0 else None


def _heaviest_stack(sample: newest.Sample) -> tuple[tracing.Location, ...]:
    line, _ = sample.lines.most_common(1)[0]
    return sample.stacks.get(line, ())


def _growth(levels: list[tuple[float, int]]) -> tuple[float, float]:
    """
    Return (bytes, seconds) by which what is alive has grown within a burst.

    The lowest level of the last third over that of the first: requests in flight are in both.
    """
    third = len(levels) // 3
    if third == 0:
        return 0.0, 0.0
    first = min(levels[:third], key=lambda level: level[1])
    last = min(levels[-third:], key=lambda level: level[1])
    return float(last[1] - first[1]), last[0] - first[0]


def _trace_block(size: int, tracer: tracing.Tracer, sample: newest.Sample) -> None:
    """Enter the line that allocated a block of *size* bytes last: for a buffer, to make it grow."""
    stack = tracer.origin_of_block(size)
    if stack:
        sample.lines[stack[0]] += round(sample.bytes)
        sample.stacks[stack[0]] = stack


def _combined(traces: list[tracing.Trace]) -> tracing.Trace:
    """Sum bursts into one trace; the deeper stacks of the later burst win."""
    total = tracing.Trace(foreign=traces[0].foreign)
    for trace in traces:
        total.seconds += trace.seconds
        total.traced_bytes += trace.traced_bytes
        total.tracer_bytes = max(total.tracer_bytes, trace.tracer_bytes)
        for location, site in trace.sites.items():
            known = total.sites.setdefault(location, tracing.Site(location))
            known.bytes += site.bytes
            known.count += site.count
            if len(site.stack) >= len(known.stack):
                known.stack = site.stack
    return total
