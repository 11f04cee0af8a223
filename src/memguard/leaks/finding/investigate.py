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
from collections.abc import Set as AbstractSet
from typing import Any

from memguard.heap import naming
from memguard.leaks.evidence import census, frames, heap_state, newest, tracing
from memguard.leaks.evidence.bursts import Bursts, Candidate
from memguard.leaks.evidence.heap_state import HeapState
from memguard.leaks.finding.evidence import Evidence, HolderEvidence
from memguard.leaks.holders import paths as retention
from memguard.leaks.options import DetectorOptions
from memguard.observe.readings import read_memory

CANDIDATES = 48
"""Growing containers that are followed."""
BUFFERS = 8
"""Growing buffers that are followed."""
NEWBORN = 1_000
"""Containers that are followed because they are new: static entries of a leak, mostly."""
HOLDERS = 12
"""Holders whose path is searched."""
POLL_SECONDS = 0.02
"""Between polls during a burst: it is over as soon as it has seen enough."""
TYPES = 10
INSTANCES = 6
"""Growing types of which an instance is followed to its holder."""
ENOUGH = 0.5
"""Share of the growth that containers must explain to look no further."""
SITES = 20


class Investigation:
    """
    One taking of evidence.

    Bounded by: the options' seconds and bytes, ``CANDIDATES`` and ``NEWBORN`` containers.
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
        self._headroom = headroom
        self._trace = trace
        self._before = before
        self.growth_per_minute = growth_per_minute
        self._after: HeapState | None = None
        self._bursts: Bursts | None = None
        self._candidates: list[Candidate] = []
        self._instances: dict[str, tuple[Any, newest.Sample]] = {}
        self._notes: list[str] = []
        self._census_seconds = 0.0

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

    def _look(self, at: float) -> HeapState | None:
        refused = heap_state.refusal(self._options, self._headroom)
        if refused is not None:
            self._note(refused)
            return None
        found = heap_state.read_state(at)
        self._census_seconds += found.look.seconds
        return found

    def _note(self, note: str | None) -> None:
        if note is not None and note not in self._notes:
            self._notes.append(note)

    def begin(self, at: float, *, own: AbstractSet[int] = frozenset()) -> None:
        """
        Take the second look, follow what grew, and start the first burst of tracing.

        Args:
            at: The time, on the detector's clock.
            own: ids of growing containers that are the detector's.
        """
        self._after = self._look(at)
        gap = 0.0
        if self._before is not None and self._after is not None:
            gap = self._after.look.at - self._before.look.at
            self._follow(self._before.look, self._after.look, own)
        if not self._trace:
            return
        refused = tracing.unsupported() or self._no_room_to_trace()
        self._note(refused)
        if refused is None:
            self._bursts = Bursts(
                self._options, self._candidates, gap=gap, sample_more=self._sample_types
            )
            self._bursts.start()

    def _no_room_to_trace(self) -> str | None:
        if self._headroom is not None and self._headroom < 2 * self._options.trace_bytes:
            return "no tracing: too little memory is left below the limit for it"
        return None

    def _follow(self, first: census.Look, second: census.Look, own: AbstractSet[int]) -> None:
        gained = census.grown_containers(first, second, limit=CANDIDATES)
        new = census.new_containers(first, second, limit=NEWBORN)
        buffers = census.grown_buffers(first, second, limit=BUFFERS)
        looks = (first.lengths, second.lengths, first.types, second.types)
        ours = {*map(id, looks), id(first.buffers), id(second.buffers)}
        found = census.find_containers((gained.keys() | new.keys() | buffers.keys()) - ours - own)
        now = second.lengths | second.buffers
        gained |= buffers
        self._candidates.extend(
            Candidate(obj, gained.get(key) or new[key], now[key], newborn=key not in gained)
            for key, obj in found.items()
        )
        for candidate in self._candidates:
            if not candidate.newborn:
                sample = newest.sample_container(
                    candidate.obj, candidate.gained, origin=None, seen=set()
                )
                candidate.weight = candidate.gained * (sample.bytes_per_entry or 0)
        self._candidates.sort(key=lambda candidate: -candidate.weight)

    def poll(self) -> bool:
        """Look at the followed containers; return True when the evidence is complete."""
        return self._bursts is None or self._bursts.poll()

    def _sample_types(self, tracer: tracing.Tracer) -> None:
        """Keep a new instance of each telling type: what no container explains may lead further."""
        if self._before is None or self._after is None or self._instances:
            return
        if self._explained(self._after.look.at - self._before.look.at) >= ENOUGH:
            return
        names = census.telling_types(self._before.look, self._after.look, limit=INSTANCES)
        found = census.newest_instances(names, per_type=50, scan=200_000) if names else {}
        seen: set[int] = set()
        for name in names:
            new = [obj for obj in found.get(name, ()) if _is_news(tracer.origin(obj))]
            if new:
                sample = newest.weigh_object(new[-1], origin=tracer.origin, seen=seen)
                self._instances[name] = (new[-1], sample)
        found.clear()

    def finish(self) -> Evidence:
        """Search the holders' paths and return the evidence. Nothing of the heap is kept."""
        try:
            if self._bursts is not None:
                self._bursts.end()
            return self._collect()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Drop everything and end our tracing. Idempotent."""
        if self._bursts is not None:
            self._bursts.abandon()
        self._candidates.clear()
        self._instances.clear()

    def _collect(self) -> Evidence:
        evidence = Evidence(notes=self._notes, collector_enabled=gc.isenabled())
        evidence.census_seconds = self._census_seconds
        if self._bursts is not None:
            self._note(self._bursts.note)
            evidence.trace = self._bursts.trace()
            evidence.traced_growth_per_minute = self._bursts.growth_per_minute()
        if self._before is not None and self._after is not None:
            self._compare(evidence, self._before, self._after)
        started = time.perf_counter()
        self._find_holders(evidence)
        self._name_functions(evidence)
        evidence.retention_seconds = time.perf_counter() - started
        evidence.private_bytes = read_memory().private
        if not any(candidate.sample.lines for candidate in self._candidates):
            # Nothing is held by a container that grew: is it garbage that waits?
            evidence.collected_bytes = heap_state.collect()
        return evidence

    def _compare(self, evidence: Evidence, before: HeapState, after: HeapState) -> None:
        evidence.gap_seconds = after.look.at - before.look.at
        grown = census.grown_types(before.look, after.look, limit=200)
        evidence.all_types = grown
        evidence.modules_imported = max(0, after.modules - before.modules)
        least = max(census.MIN_ENTRIES, grown[0][2] // 100) if grown else 0
        evidence.types = [
            row for row in grown if row[2] >= least and not row[0].startswith(census.OWN_TYPES)
        ][:TYPES]
        evidence.blocks_growth = after.blocks - before.blocks
        old, new = before.allocator, after.allocator
        evidence.heap_free_bytes = new.free
        if old.in_use is not None and new.in_use is not None:
            evidence.heap_in_use_growth = new.in_use - old.in_use
            evidence.heap_free_growth = (new.free or 0) - (old.free or 0)
        if before.private is not None and after.private is not None:
            evidence.private_growth = after.private - before.private
        if before.data is not None and after.data is not None:
            evidence.data_growth = after.data - before.data
        if after.look.dropped:
            self._note(f"{after.look.dropped:,} containers were not followed (bound reached)")

    def _find_holders(self, evidence: Evidence) -> None:
        # In place: the list is known to the walk as one of ours. Two references are the candidate's
        # and the question's: what has no other has died, and only we have kept it.
        self._candidates[:] = [
            candidate
            for candidate in self._candidates
            if sys.getrefcount(candidate.obj) > 2
            and (candidate.now > candidate.first or not candidate.newborn)
        ]
        for candidate in self._candidates:
            if not candidate.sample.entries:
                candidate.sample = newest.sample_container(
                    candidate.obj, candidate.gained, origin=None, seen=set()
                )
        # One that was emptied weighs what it did: that it was, is evidence, too.
        self._candidates.sort(
            key=lambda c: -max(c.gained * (c.sample.bytes_per_entry or 0), c.weight)
        )
        del self._candidates[HOLDERS:]
        if self._explained(evidence.gap_seconds) >= ENOUGH:
            self._instances.clear()
        wanted = {id(candidate.obj): candidate.obj for candidate in self._candidates}
        wanted.update((id(obj), obj) for obj, _ in self._instances.values())
        paths = retention.find_paths(
            wanted,
            seconds=self._options.retention_seconds,
            containers=self._containers(),
            ignore=[id(self._candidates), id(self._instances)]
            + [id(kept) for kept in self._instances.values()],
        )
        wanted.clear()
        for candidate in self._candidates:
            kind = naming.type_name(type(candidate.obj))
            evidence.holders.append(_container_evidence(candidate, kind, paths, evidence))
        gained = {name: (count, more) for name, count, more in evidence.all_types}
        for name, (obj, sample) in self._instances.items():
            count, more = gained.get(name, (0, 0))
            evidence.holders.append(
                _holder(
                    paths[id(obj)],
                    name,
                    entries=count,
                    gained=more,
                    gap_seconds=evidence.gap_seconds,
                    sample=sample,
                )
            )

    def _explained(self, gap_seconds: float) -> float:
        """Return the share of the growth that the growing containers account for."""
        if self.growth_per_minute <= 0 or gap_seconds <= 0:
            return 1.0 if any(candidate.sample.lines for candidate in self._candidates) else 0.0
        held = sum(c.gained * (c.sample.bytes_per_entry or 0) for c in self._candidates)
        return held / gap_seconds * 60 / self.growth_per_minute

    def _name_functions(self, evidence: Evidence) -> None:
        wanted: set[tracing.Location] = set()
        for holder in evidence.holders:
            for line, stack in holder.sample.stacks.items():
                wanted.update((line, *stack))
        if evidence.trace is not None:
            heaviest = sorted(evidence.trace.sites.values(), key=lambda site: -site.bytes)
            for site in heaviest[:SITES]:
                wanted.update((site.location, *site.stack))
        evidence.functions = frames.functions_at(wanted)
        for location in wanted:
            text = frames.source_line(*location)
            if text is not None:
                evidence.sources[location] = text


def _is_news(origin: tuple[tracing.Location, ...]) -> bool:
    """Return True for what was allocated during the burst, and not by us."""
    return bool(origin) and not frames.is_own_code(origin[0][0])


def _container_evidence(
    candidate: Candidate,
    kind: str,
    paths: Mapping[int, retention.Retention],
    evidence: Evidence,
) -> HolderEvidence:
    holder = _holder(
        paths[id(candidate.obj)],
        kind,
        entries=candidate.now,
        gained=candidate.gained,
        gap_seconds=evidence.gap_seconds,
        sample=candidate.sample,
    )
    holder.steady = candidate.steady
    holder.bytes_added = candidate.weight
    return holder


def _holder(
    found: retention.Retention,
    kind: str,
    *,
    entries: int,
    gained: int,
    gap_seconds: float,
    sample: newest.Sample,
) -> HolderEvidence:
    return HolderEvidence(
        type=kind,
        path=found.path,
        anchored=found.anchored,
        inventory_name=found.inventory_name,
        bound=found.bound,
        entries=entries,
        entries_added=gained,
        entries_per_minute=gained / gap_seconds * 60 if gap_seconds > 0 else 0.0,
        sample=sample,
        steady=True,
    )
