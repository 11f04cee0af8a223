"""
Take evidence, step by step, between the ticks of a detector: looks, bursts of tracing, paths.

The order keeps the cost down. Two looks at the whole heap find the containers that grow. Only those
few are followed while tracing is on, and tracing ends as soon as enough of their new entries have
shown where they come from. The way to their holders is searched when tracing is over.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memguard.leaks import census, frames, heap, naming, retention, sampling, tracing
from memguard.leaks.evidence import Evidence, HolderEvidence
from memguard.leaks.options import DetectorOptions
from memguard.observe.allocator import AllocatorState, read_allocator

CANDIDATES = 48
"""Growing containers that are followed."""
HOLDERS = 12
"""Holders whose path is searched."""
ENOUGH_ENTRIES = 8
"""New entries of a container that settle where they come from."""
MIN_BURST_SECONDS = 0.03
POLL_SECONDS = 0.02
"""Between polls during a burst: it is over as soon as it has seen enough."""
TYPES = 10


@dataclass(frozen=True, slots=True)
class Before:
    """What the heap was like before the growth in question: numbers only."""

    look: census.Look
    allocator: AllocatorState
    blocks: int


@dataclass(slots=True)
class _Candidate:
    """A growing container, held for the seconds of a burst."""

    obj: Any
    gained: int
    at_start: int
    now: int
    steady: bool = True
    sample: sampling.Sample = field(default_factory=sampling.Sample)

    def measure(self) -> None:
        length = heap.length_of(type(self.obj))
        entries = length(self.obj) if length else self.now
        self.steady = self.steady and entries >= self.now
        self.now = entries

    @property
    def added(self) -> int:
        return max(0, self.now - self.at_start)


class Investigation:
    """
    One taking of evidence.

    Bounded by: the options' seconds and bytes, ``CANDIDATES`` containers, names and numbers.
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
        before: Before | None = None,
    ) -> None:
        self._options = options
        self._containers = containers
        self._headroom = headroom
        self._trace_wanted = trace
        self._before = before
        self._after: Before | None = None
        self._candidates: list[_Candidate] = []
        self._instances: dict[str, list[Any]] = {}
        self._tracer: tracing.Tracer | None = None
        self._traces: list[tracing.Trace] = []
        self._notes: list[str] = []
        self._census_seconds = 0.0

    @property
    def looked(self) -> bool:
        """True once there was a first look."""
        return self._before is not None

    @property
    def after(self) -> Before | None:
        """The second look: the first one of an investigation to come."""
        return self._after

    @property
    def traced_seconds(self) -> float:
        """Seconds of tracing so far."""
        running = self._tracer.seconds if self._tracer else 0.0
        return running + sum(trace.seconds for trace in self._traces if not trace.foreign)

    def look(self, at: float) -> None:
        """Take the first look: what the heap was like before the growth in question."""
        self._before = self._look(at)

    def _look(self, at: float) -> Before | None:
        if not self._census_allowed():
            return None
        # The state first: what the question itself imports is no growth of the program.
        allocator, blocks = read_allocator(), sys.getallocatedblocks()
        look = census.take_look(at)
        self._census_seconds += look.seconds
        return Before(look, allocator, blocks)

    def begin(self, at: float) -> None:
        """Take the second look, follow what grew, and start the first burst of tracing."""
        self._after = self._look(at)
        if self._before is not None and self._after is not None:
            self._follow(self._before.look, self._after.look)
        refused = tracing.unsupported() or self._no_room_to_trace()
        if not self._trace_wanted:
            return
        if refused:
            self._notes.append(refused)
        else:
            self._burst(1)

    def poll(self) -> bool:
        """Look at the followed containers; return True when the evidence is complete."""
        for candidate in self._candidates:
            candidate.measure()
        if self._tracer is None:
            return True
        options, tracer = self._options, self._tracer
        spent = self.traced_seconds
        if tracer.own_bytes > options.trace_bytes:
            self._notes.append("tracing stopped early: it reached trace_bytes")
        elif spent < options.trace_seconds and not self._seen_enough(tracer.seconds):
            return False
        deeper = not self._traces and options.trace_frames > 1 and not tracer.foreign
        affordable = spent <= options.trace_seconds / 2 and tracer.own_bytes <= options.trace_bytes
        self._end_burst()
        if deeper and affordable:
            # One frame came cheap: pay for stacks.
            self._burst(options.trace_frames)
            return False
        return True

    def finish(self) -> Evidence:
        """Search the holders' paths and return the evidence. Nothing of the heap is kept."""
        try:
            if self._tracer is not None:
                self._end_burst()
            return self._collect()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Drop everything and end our tracing. Idempotent."""
        if self._tracer is not None:
            self._tracer.abandon()
            self._tracer = None
        self._candidates.clear()
        self._instances.clear()

    # -- looks

    def _census_allowed(self) -> bool:
        blocks = heap.too_large(self._options.max_objects)
        if blocks is not None:
            self._note_once(f"no census: {blocks:,} blocks are more than max_objects")
            return False
        need = sys.getallocatedblocks() * 16
        if self._headroom is not None and self._headroom < need:
            self._note_once("no census: too little memory is left below the limit for it")
            return False
        return True

    def _note_once(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _follow(self, first: census.Look, second: census.Look) -> None:
        gained = census.grown_containers(first, second, limit=CANDIDATES)
        ours = {id(first.lengths), id(second.lengths), id(first.types), id(second.types)}
        found = census.find_containers(gained.keys() - ours)
        self._candidates = [
            _Candidate(obj, gained[key], second.lengths[key], second.lengths[key])
            for key, obj in found.items()
        ]
        self._candidates.sort(key=lambda candidate: -candidate.gained)

    # -- bursts

    def _no_room_to_trace(self) -> str | None:
        if self._headroom is not None and self._headroom < 2 * self._options.trace_bytes:
            return "no tracing: too little memory is left below the limit for it"
        return None

    def _burst(self, frame_count: int) -> None:
        for candidate in self._candidates:
            candidate.measure()
            candidate.at_start = candidate.now
        self._tracer = tracing.Tracer()
        self._tracer.start(frame_count)
        if self._tracer.foreign:
            self._note_once("another tracemalloc session was running: it was used as it is")

    def _seen_enough(self, seconds: float) -> bool:
        """Return True when three in four of the followed containers have shown enough."""
        if seconds < MIN_BURST_SECONDS or self._before is None or self._after is None:
            return False
        gap = max(self._after.look.at - self._before.look.at, 0.001)
        per_burst = self._options.trace_seconds / 2 / gap
        expected = [c for c in self._candidates if c.gained * per_burst >= ENOUGH_ENTRIES]
        settled = sum(candidate.added >= ENOUGH_ENTRIES for candidate in expected)
        return bool(expected) and settled >= 0.75 * len(expected)

    def _end_burst(self) -> None:
        tracer = self._tracer
        if tracer is None:
            return
        try:
            if gc.isenabled():
                gc.collect(1)  # young garbage looks alive; what leaks survives this
            tracer.photograph()
            seen: set[int] = {id(self._candidates)}
            for candidate in self._candidates:
                candidate.measure()
                if candidate.added:
                    sample = sampling.sample_container(
                        candidate.obj, candidate.added, origin=tracer.origin, seen=seen
                    )
                    _merge(candidate.sample, sample)
            if not any(candidate.sample.lines for candidate in self._candidates):
                self._sample_types(tracer)
            self._traces.append(tracer.finish())
        finally:
            tracer.abandon()
            self._tracer = None

    def _sample_types(self, tracer: tracing.Tracer) -> None:
        """No container grew: keep a few new instances of the types that did."""
        if self._before is None or self._after is None:
            return
        grown = census.grown_types(self._before.look, self._after.look, limit=3)
        names = [name for name, _, gained in grown if gained >= census.MIN_ENTRIES]
        found = census.newest_instances(names, per_type=50, scan=200_000) if names else {}
        for name, instances in found.items():
            self._instances[name] = [obj for obj in instances if tracer.origin(obj)][-2:]

    # -- the end

    def _collect(self) -> Evidence:
        evidence = Evidence(notes=self._notes, collector_enabled=gc.isenabled())
        evidence.census_seconds = self._census_seconds
        evidence.trace = _combined(self._traces) if self._traces else None
        before, after = self._before, self._after
        if before is not None and after is not None:
            evidence.gap_seconds = after.look.at - before.look.at
            grown = census.grown_types(before.look, after.look, limit=2 * TYPES)
            own = __name__.rpartition(".")[0]  # what watching itself keeps is no news
            evidence.types = [row for row in grown if not row[0].startswith(own)][:TYPES]
            evidence.blocks_growth = after.blocks - before.blocks
            _compare_allocators(evidence, before.allocator, after.allocator)
            if after.look.dropped:
                self._note_once(
                    f"{after.look.dropped:,} containers were not followed (bound reached)"
                )
        started = time.perf_counter()
        self._find_holders(evidence)
        self._name_functions(evidence)
        evidence.retention_seconds = time.perf_counter() - started
        return evidence

    def _find_holders(self, evidence: Evidence) -> None:
        gap = evidence.gap_seconds
        for candidate in self._candidates:
            if not candidate.sample.entries:
                candidate.sample = sampling.sample_container(
                    candidate.obj, candidate.gained, origin=None, seen=set()
                )
        weighty = sorted(
            self._candidates,
            key=lambda c: -(c.gained * (c.sample.bytes_per_entry or 0)),
        )[:HOLDERS]
        wanted = {id(candidate.obj): candidate.obj for candidate in weighty}
        for instances in self._instances.values():
            wanted.update((id(obj), obj) for obj in instances[-1:])
        paths = retention.find_paths(
            wanted,
            seconds=self._options.retention_seconds,
            containers=self._containers(),
            ignore=[id(self._candidates), *map(id, self._instances.values()), id(self._instances)],
        )
        wanted.clear()
        for candidate in weighty:
            found = paths[id(candidate.obj)]
            evidence.holders.append(
                HolderEvidence(
                    type=naming.type_name(type(candidate.obj)),
                    path=found.path,
                    anchored=found.anchored,
                    inventory_name=found.inventory_name,
                    bound=found.bound,
                    entries=candidate.now,
                    entries_added=candidate.gained,
                    entries_per_minute=candidate.gained / gap * 60 if gap > 0 else 0.0,
                    sample=candidate.sample,
                    steady=candidate.steady,
                )
            )
        self._hold_instances(evidence, paths)

    def _hold_instances(self, evidence: Evidence, paths: Mapping[int, retention.Retention]) -> None:
        gained = {name: (count, more) for name, count, more in evidence.types}
        gap = evidence.gap_seconds
        for name, instances in self._instances.items():
            for obj in instances[-1:]:
                found = paths[id(obj)]
                count, more = gained.get(name, (0, 0))
                evidence.holders.append(
                    HolderEvidence(
                        type=name,
                        path=found.path,
                        anchored=found.anchored,
                        inventory_name=found.inventory_name,
                        bound=None,
                        entries=count,
                        entries_added=more,
                        entries_per_minute=more / gap * 60 if gap > 0 else 0.0,
                        sample=sampling.weigh_object(obj, origin=None, seen=set()),
                        steady=True,
                    )
                )

    def _name_functions(self, evidence: Evidence) -> None:
        wanted: set[tracing.Location] = set()
        for holder in evidence.holders:
            for line, stack in holder.sample.stacks.items():
                wanted.update((line, *stack))
        if evidence.trace is not None:
            heaviest = sorted(evidence.trace.sites.values(), key=lambda site: -site.bytes)[:20]
            for site in heaviest:
                wanted.update((site.location, *site.stack))
        evidence.functions = frames.functions_at(wanted)
        for location in wanted:
            text = frames.source_line(*location)
            if text is not None:
                evidence.sources[location] = text


def _compare_allocators(evidence: Evidence, before: AllocatorState, after: AllocatorState) -> None:
    if before.in_use is not None and after.in_use is not None:
        evidence.heap_in_use_growth = after.in_use - before.in_use
        evidence.heap_free_growth = (after.free or 0) - (before.free or 0)


def _merge(into: sampling.Sample, more: sampling.Sample) -> None:
    """Add a later burst's sample; its stacks are deeper, so they win."""
    into.entries += more.entries
    into.bytes += more.bytes
    into.types.update(more.types)
    into.lines.update(more.lines)
    into.stacks.update(more.stacks)


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
