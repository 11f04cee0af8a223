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

from memguard.leaks.evidence import census, frames, garbage, resources, tracing
from memguard.leaks.evidence.bursts import Bursts
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
        """Seconds that tracing of ours was on so far."""
        return self._bursts.seconds if self._bursts else 0.0

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
        return self._bursts is None or self._bursts.poll()

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
            if self._bursts is not None:
                self._bursts.end()
            return self._gather()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Drop everything and end our tracing. Idempotent."""
        if self._bursts is not None:
            self._bursts.abandon()
        self._followed.clear()

    def _gather(self) -> Evidence:
        evidence, followed = self._evidence, self._followed
        if self._bursts is not None:
            evidence.note(self._bursts.note)
            evidence.trace = self._bursts.trace()
            evidence.traced_seconds = self._bursts.seconds
            evidence.traced_growth_per_minute = self._bursts.growth_per_minute()
            evidence.collected_bytes = self._bursts.collected_bytes
        started = time.perf_counter()
        followed.settle()
        if self._is_explained():
            followed.drop_instances()
        may_walk = self._may_walk()
        followed.find_holders(
            evidence,
            seconds=self._options.retention_seconds if may_walk else 0.0,
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
    evidence.qualified = frames.qualified_at(wanted, may_walk=may_walk)
    evidence.functions = {
        place: frames.unqualified(name) for place, name in evidence.qualified.items()
    }
    for location in wanted:
        text = frames.source_line(*location)
        if text is not None:
            evidence.sources[location] = text
