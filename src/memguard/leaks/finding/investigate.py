"""
Take evidence, step by step, between the ticks of a detector: looks, bursts of tracing, paths.

The order keeps the cost down. Two looks at the whole heap find the containers that grow. Only those
few are followed while tracing is on, and tracing ends as soon as enough of their new entries have
shown where they come from. The way to their holders is searched when tracing is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from memguard.leaks.evidence import calls, census, frames, garbage, resources, tracing
from memguard.leaks.evidence.bursts import Bursts
from memguard.leaks.evidence.calls import Calls
from memguard.leaks.evidence.census import HeapState
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding.followed import Followed
from memguard.leaks.finding.judge import is_explained
from memguard.leaks.options import DetectorOptions
from memguard.observe.readings import read_memory

POLL_SECONDS = 0.02
"""Between polls during a burst: it is over as soon as it has seen enough."""
TYPES = 10
SITES = 20
CALLS_SECONDS = 1.0
"""For which it is watched who calls C code; half of ``trace_seconds`` where that is less."""
GARBAGE_SECONDS = 1.0
"""For the paths of holders where garbage is what grows: what is garbage has none to be found."""


class Investigation:
    """
    One taking of evidence: `look`, `begin`, `poll` until it returns True, `finish`.

    Bounded by: the options' seconds and bytes, and what `Followed` holds.
    Locks: none; the detector calls it from one thread at a time.
    Keeps alive: growing containers, from ``begin`` to ``finish`` only.
    """

    def __init__(
        self,
        options: DetectorOptions,
        *,
        containers: Callable[[], Mapping[int, tuple[str, str]]],
        headroom: int | None = None,
        trace: bool = True,
        before: HeapState | None = None,
        growth_per_minute: float = 0.0,
    ) -> None:
        """
        Prepare an investigation.

        Args:
            options: Time, bytes and bounds.
            containers: ``inventory.names``.
            headroom: Bytes left below the limit; evidence is not taken where it would not fit.
            trace: False to do with looks alone: the lines are known.
            before: A first look taken earlier.
            growth_per_minute: Of the readings, bytes: what is to be explained.
        """
        self._options = options
        self._containers = containers
        self.headroom = headroom
        self._trace = trace
        self._before = before
        self.growth_per_minute = growth_per_minute
        self._after: HeapState | None = None
        self._bursts: Bursts | None = None
        self._bursts_are_over = False
        self._calls: Calls | None = None
        self._followed = Followed()
        self._evidence = Evidence()
        self._first_resources = None if before is None else before.resources

    @property
    def looked(self) -> bool:
        """True once there was a first look."""
        return self._before is not None

    @property
    def after(self) -> HeapState | None:
        """The second look: the first one of an investigation to come."""
        return self._after

    @property
    def traced_seconds(self) -> float:
        """Seconds that tracing of ours was on so far, the watching of calls included."""
        watched = self._calls.seconds if self._calls else 0.0
        return watched + (self._bursts.seconds if self._bursts else 0.0)

    def look(self, at: float) -> None:
        """Take the first look: what the heap was like before the growth in question."""
        self._before = self._look(at)

    def _may_walk(self) -> bool:
        """Return whether the heap may be walked now; enter in the evidence why not."""
        refused = census.refusal(self._options, self.headroom)
        self._evidence.note(refused)
        return refused is None

    def _look(self, at: float) -> HeapState | None:
        found = census.read_state(at) if self._may_walk() else None
        if found is not None:
            self._evidence.census_seconds += found.look.seconds
        held = resources.take_look(at, None if found is None else found.look.types)
        if self._first_resources is None:
            self._first_resources = held
        else:
            self._evidence.resources = resources.compare(self._first_resources, held)
            self._evidence.gap_seconds = held.at - self._first_resources.at
        return None if found is None else replace(found, resources=held)

    def begin(self, at: float, *, own: AbstractSet[int] = frozenset()) -> None:
        """
        Take the second look, follow what grew, and start the first burst of tracing.

        Args:
            at: The time, on the detector's clock.
            own: ids of growing containers that are the detector's.
        """
        self._after = self._look(at)
        if self._before is not None and self._after is not None:
            _compare(self._evidence, self._before, self._after)
            _find_garbage(self._evidence)
            self._followed.begin(self._before.look, self._after.look, own)
        if not self._trace:
            return
        refused = tracing.unsupported() or self._no_room_to_trace()
        self._evidence.note(refused)
        if refused is None:
            self._bursts = Bursts(
                self._options,
                self._followed.containers,
                gap=self._evidence.gap_seconds,
                sample_more=self._sample_types,
                collect=not _is_garbage_growing(self._evidence),
            )
            self._bursts.start()

    def _no_room_to_trace(self) -> str | None:
        if self.headroom is not None and self.headroom < 2 * self._options.trace_bytes:
            return "no tracing: too little memory is left below the limit for it"
        return None

    def poll(self) -> bool:
        """Look at the followed containers; return True when the evidence is complete."""
        if self._bursts is None:
            return True
        if not self._bursts_are_over:
            self._bursts_are_over = self._bursts.poll()
            if not self._bursts_are_over:
                return False
            self._watch_calls()
        return self._calls is None or self._calls.seconds >= min(
            CALLS_SECONDS, self._options.trace_seconds / 2
        )

    def _watch_calls(self) -> None:
        """See who calls C code where too little of the growth is Python's."""
        traced = (self._bursts and self._bursts.growth_per_minute()) or 0.0
        growth = self.growth_per_minute
        is_known = self._is_explained() or is_explained(max(traced, self._garbage_rate()), growth)
        if growth <= 0 or is_known:
            return
        refused = calls.unsupported()
        if refused is None:
            watched = Calls()
            refused = watched.start()
            self._calls = None if refused else watched
        self._evidence.note(refused)

    def _sample_types(self, tracer: tracing.Tracer) -> None:
        if self._before is None or self._after is None or self._followed.has_instances():
            return
        if not self._is_explained() and self._may_walk():
            self._followed.sample_types(self._before.look, self._after.look, tracer)

    def _is_explained(self) -> bool:
        """Return True where the growing containers account for enough of the growth."""
        gap = self._evidence.gap_seconds
        if self.growth_per_minute <= 0 or gap <= 0:
            return self._followed.were_traced()
        held = self._followed.bytes_gained() / gap * 60
        return is_explained(held, self.growth_per_minute)

    def finish(self) -> Evidence:
        """Search the holders' paths and return the evidence. Nothing of the heap is kept."""
        try:
            if self._calls is not None:
                self._evidence.traced_seconds += self._calls.seconds
                self._evidence.calls = self._calls.end()
            if self._bursts is not None:
                self._bursts.end()
            return self._gather()
        finally:
            self.abandon()

    def _retention_seconds(self) -> float:
        """Return the time for the search, which would take all of it for what has no holder."""
        allowed, growth = self._options.retention_seconds, self.growth_per_minute
        is_garbage = growth > 0 and is_explained(self._garbage_rate(), growth)
        return min(allowed, GARBAGE_SECONDS) if is_garbage else allowed

    def _garbage_rate(self) -> float:
        """Return the bytes of garbage that are added in a minute."""
        gap = self._evidence.gap_seconds
        return self._evidence.garbage_growth / gap * 60 if gap > 0 else 0.0

    def abandon(self) -> None:
        """Drop everything and end our tracing. Idempotent."""
        if self._calls is not None:
            self._calls.abandon()
        if self._bursts is not None:
            self._bursts.abandon()
        self._followed.clear()

    def _gather(self) -> Evidence:
        evidence, followed = self._evidence, self._followed
        if self._bursts is not None:
            evidence.note(self._bursts.note)
            evidence.trace = self._bursts.trace()
            evidence.traced_seconds += self._bursts.seconds
            evidence.traced_growth_per_minute = self._bursts.growth_per_minute()
            evidence.collected_bytes = self._bursts.collected_bytes
        started = time.perf_counter()
        followed.settle()
        if self._is_explained():
            followed.drop_instances()
        may_walk = self._may_walk()
        followed.find_holders(
            evidence,
            seconds=self._retention_seconds() if may_walk else 0.0,
            names=self._containers(),
        )
        _name_functions(evidence, may_walk=may_walk)
        evidence.retention_seconds = time.perf_counter() - started
        evidence.private_bytes = read_memory().private
        if not followed.were_traced():
            # Nothing is held by a container that grew: is it garbage that waits?
            collected = census.collect()
            if collected is not None:
                evidence.collected_bytes = (evidence.collected_bytes or 0) + collected
        return evidence


def _compare(evidence: Evidence, before: HeapState, after: HeapState) -> None:
    """Enter what changed between two looks."""
    evidence.gap_seconds = after.look.at - before.look.at
    grown = census.grown_types(before.look, after.look, limit=200)
    evidence.all_types = grown
    least = max(census.MIN_ENTRIES, grown[0][2] // 100) if grown else 0
    evidence.types = [
        row for row in grown if row[2] >= least and not row[0].startswith(census.OWN_TYPES)
    ][:TYPES]
    evidence.objects_growth = after.look.objects - before.look.objects
    evidence.modules_imported = max(0, after.modules - before.modules)
    evidence.blocks_growth = after.blocks - before.blocks
    old, new = before.allocator, after.allocator
    evidence.heap_free_bytes = new.free
    evidence.heap_in_use_growth = _difference(old.in_use, new.in_use)
    if evidence.heap_in_use_growth is not None:
        evidence.heap_free_growth = (new.free or 0) - (old.free or 0)
    evidence.private_growth = _difference(before.private, after.private)
    evidence.data_growth = _difference(before.data, after.data)
    if after.look.dropped:
        evidence.note(f"{after.look.dropped:,} containers were not followed (bound reached)")


def _find_garbage(evidence: Evidence) -> None:
    """Look for garbage among what is new, before anything is collected."""
    evidence.collector = garbage.collector()
    evidence.interpreters = garbage.other_interpreters()
    gained = {name: more for name, _, more in evidence.all_types}
    found = evidence.garbage = garbage.find_garbage(sum(gained.values()))
    if found is None:
        evidence.note("garbage was not looked for: the heap is too large without generations")
    elif found.objects:
        new = sum(gained.get(name, 0) * dead / young for name, young, dead in found.types)
        evidence.garbage_growth = new * found.bytes / found.objects


def _is_garbage_growing(evidence: Evidence) -> bool:
    """Return True where the lines that make garbage are what is asked for."""
    return evidence.garbage is not None and evidence.garbage_growth > 0


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _name_functions(evidence: Evidence, *, may_walk: bool) -> None:
    """Find the functions and the text of the lines that a report may show."""
    wanted: set[tracing.Location] = set()
    for holder in evidence.holders:
        for line, stack in holder.sample.stacks.items():
            wanted.update((line, *stack))
    if evidence.trace is not None:
        heaviest = sorted(evidence.trace.sites.values(), key=lambda site: -site.bytes)
        for site in heaviest[:SITES]:
            wanted.update((site.location, *site.stack))
    for call in evidence.calls[: calls.SHOWN]:
        wanted.update(call.stack)
    evidence.qualified = frames.qualified_at(wanted, may_walk=may_walk)
    evidence.functions = {
        place: frames.unqualified(name) for place, name in evidence.qualified.items()
    }
    for location in wanted:
        text = frames.source_line(*location)
        if text is not None:
            evidence.sources[location] = text
