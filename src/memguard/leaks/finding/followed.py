"""What grew between two looks, held for the seconds of an investigation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from memguard.heap import naming, walk
from memguard.heap.places import Place
from memguard.leaks.evidence import census, newest
from memguard.leaks.evidence.bursts import Candidate
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence, joined
from memguard.leaks.evidence.own_code import is_own_code
from memguard.leaks.evidence.tracing import Tracer
from memguard.leaks.holders.paths import Retention, find_paths

CANDIDATES = 48
"""Growing containers that are followed."""
BUFFERS = 8
"""Growing buffers that are followed, and places where a larger value replaces the one before."""
NEWBORN = 1_000
"""Containers that are followed because they are new: static entries of a leak, mostly."""
HOLDERS = 12
"""Holders whose path is searched, and those that have a share of `ALIKE`."""
ALIKE = 0.01
INSTANCES = 6
"""Growing types of which an instance is followed to its holder."""
YOUNGEST = 400
"""Of each that are asked first where they come from: not all of them are new, and some are ours."""
YOUNG = 8_000
"""Of each that are asked if none of those was new: a collection leaves no order among the young."""
WEIGHED = 16
"""Instances of each that are weighed."""
CLAIMED = 0.5
"""Share of them that came with a container's entries at which their type is no finding."""
GLANCE = 8
"""Entries of each candidate that are weighed to tell the heavy ones."""


@dataclass(slots=True)
class Instances:
    """Some new objects of a growing type: what no container explains may lead further."""

    objects: list[Any]
    """The first one is followed to its holder; all of them are weighed."""
    sample: newest.Sample


class Followed:
    """
    The containers that grew, and instances of the types that did.

    Bounded by: ``CANDIDATES``, ``NEWBORN`` and twice ``BUFFERS`` containers, ``INSTANCES`` times
        ``WEIGHED`` instances.
    Locks: none; one thread.
    Keeps alive: them, until `clear`.
    """

    def __init__(self) -> None:
        self.containers: list[Candidate] = []
        """Heaviest first. The list stays the same: walks of the heap know it as ours."""
        self._instances: dict[str, Instances] = {}

    def clear(self) -> None:
        """Let go of everything. Idempotent."""
        self.containers.clear()
        self._instances.clear()

    def begin(self, first: census.Look, second: census.Look, own: AbstractSet[int]) -> None:
        """
        Find the containers that gained most between two looks, and take hold of them.

        Args:
            first: The heap before.
            second: The heap now.
            own: ids of growing containers that are ours.
        """
        gained = census.grown_containers(first, second, limit=CANDIDATES)
        new = census.new_containers(first, second, limit=NEWBORN)
        gained |= census.grown_buffers(first, second, limit=BUFFERS)
        values = census.grown_values(first, second, limit=BUFFERS)
        found = census.find_containers((gained.keys() | new.keys()) - own - first.ids - second.ids)
        now = second.lengths | second.buffers
        self.containers.extend(
            Candidate(obj, gained.get(key) or new[key], now[key], newborn=key not in gained)
            for key, obj in found.items()
        )
        found.clear()
        if values:
            self.containers.extend(
                Candidate(place, values[where], amount)
                for where, (place, amount) in census.find_places(values).items()
            )
        for candidate in self.containers:
            if not candidate.newborn:
                sample = self._untraced(candidate, most=GLANCE)
                candidate.weight = candidate.gained * (sample.bytes_per_entry or 0)
        self.containers.sort(key=lambda candidate: -candidate.weight)

    def sample_types(self, first: census.Look, second: census.Look, tracer: Tracer) -> None:
        """Keep new instances of the types that grew most, while *tracer* knows their origin."""
        names = census.types_to_follow(first, second, limit=INSTANCES)
        found = census.newest_instances(names, per_type=YOUNG, scan=200_000) if names else {}
        for name in names:
            young = found.pop(name, [])
            new = _new_ones(reversed(young[:YOUNGEST]), tracer)
            new = new or _new_ones(young[YOUNGEST:], tracer)
            young.clear()
            if new:
                sample = newest.sample_objects(new, origin=tracer.origin)
                self._instances[name] = Instances(new, sample)

    def bytes_gained(self) -> int:
        """Return what the containers gained between the looks, by the weight of their entries."""
        return sum(c.gained * (c.sample.bytes_per_entry or 0) for c in self.containers)

    def were_traced(self) -> bool:
        """Return True where new entries have shown where they come from."""
        return any(candidate.sample.lines for candidate in self.containers)

    def has_instances(self) -> bool:
        """Return True once `sample_types` kept any."""
        return bool(self._instances)

    def drop_instances(self) -> None:
        """Let go of the instances: containers explain enough."""
        self._instances.clear()

    def settle(self) -> None:
        """Drop what has died, or was born and grew no further; keep the heaviest."""
        self.containers[:] = [
            candidate
            for candidate in self.containers
            if _is_referred_to(candidate)
            and (candidate.now > candidate.first or not candidate.newborn)
        ]
        for candidate in self.containers:
            if not candidate.sample.entries:
                candidate.sample = self._untraced(candidate)
        # One that was emptied weighs what it did: that it was, is evidence, too.
        self.containers.sort(
            key=lambda c: -max(c.gained * (c.sample.bytes_per_entry or 0), c.weight)
        )
        # Many that grow alike, such as the lists in one dict, are the growth together.
        weights = [c.gained * (c.sample.bytes_per_entry or 0) for c in self.containers]
        least = ALIKE * sum(weights)
        heavy = sum(weight >= least for weight in weights[:CANDIDATES])
        del self.containers[max(HOLDERS, heavy) :]

    def find_holders(
        self, evidence: Evidence, *, seconds: float, names: Mapping[int, tuple[str, str]]
    ) -> None:
        """
        Search the way to each of them and enter it in *evidence*.

        Args:
            evidence: With the length of time and the types that grew.
            seconds: For all of them together.
            names: ``inventory.names()``.
        """
        wanted = {id(candidate.obj): candidate.obj for candidate in self.containers}
        for each in self._instances.values():
            wanted[id(each.objects[0])] = each.objects[0]
        paths = find_paths(
            wanted,
            seconds=seconds,
            containers=names,
            ignore=[
                id(self.containers),
                id(self._instances),
                *(id(each.objects) for each in self._instances.values()),
            ],
        )
        wanted.clear()
        self._weigh(paths)
        gap = evidence.gap_seconds
        is_garbage = evidence.garbage.is_garbage if evidence.garbage else _never
        for candidate in self.containers:
            kind = naming.type_name(_kind(candidate.obj))
            found = paths[id(candidate.obj)]
            if found.is_own or _is_dead(found, is_garbage(kind)):
                continue
            holder = _holder(
                found, kind, candidate.sample, candidate.gained, gap, entries=candidate.now
            )
            holder.steady = candidate.steady
            holder.bytes_added = candidate.weight
            if _counts_bytes(candidate.obj):
                holder.unit = "bytes"
            evidence.holders.append(holder)
        evidence.holders[:] = joined(evidence.holders)
        gained = {name: (count, more) for name, count, more in evidence.all_types}
        for name, each in self._instances.items():
            count, more = gained.get(name, (0, 0))
            found = paths[id(each.objects[0])]
            if found.is_own or _is_dead(found, is_garbage(name)):
                continue
            holder = _holder(found, name, each.sample, more, gap, entries=count)
            holder.unit = "instances"
            evidence.holders.append(holder)

    def _weigh(self, paths: Mapping[int, Retention]) -> None:
        """
        Weigh what was found, each byte once: for the holder that is nearest to a name.

        Instances come last. A type of which most came with the entries of a container is dropped:
        the container is what holds them.
        """
        groups = [
            (_entries_in(candidate.obj), candidate.gained, candidate.sample)
            for candidate in sorted(self.containers, key=lambda c: _distance(paths[id(c.obj)]))
            if not _counts_bytes(candidate.obj)
        ]
        types = list(self._instances)
        for name in types:
            each = self._instances[name]
            groups.append((each.objects, len(each.objects), each.sample))
        claimed = newest.weigh_together(groups, held=self._ids())
        groups.clear()
        for name, share in zip(types, claimed[len(claimed) - len(types) :], strict=True):
            if share >= CLAIMED:
                del self._instances[name]

    def _ids(self) -> set[int]:
        return {id(candidate.obj) for candidate in self.containers}

    def _untraced(self, candidate: Candidate, most: int = newest.MAX_ENTRIES) -> newest.Sample:
        return newest.sample_container(
            candidate.obj, candidate.gained, origin=None, held=self._ids(), most=most
        )


def _new_ones(objects: Iterable[Any], tracer: Tracer) -> list[Any]:
    """Return the first of *objects* that *tracer* has seen being made, by code that is not ours."""
    new: list[Any] = []
    for obj in objects:
        origin = newest.origin_of(obj, tracer.origin)
        if origin and not is_own_code(origin[0][0]):
            new.append(obj)
            if len(new) >= WEIGHED:
                break
    return new


def _kind(followed: Any) -> type:
    return followed.kind if type(followed) is Place else type(followed)


def _counts_bytes(followed: Any) -> bool:
    """Return True for a buffer, or a place of texts, bytes or arrays."""
    if type(followed) is Place:
        return not followed.counts_entries
    return walk.size_of_buffer(type(followed)) is not None


def _entries_in(followed: Any) -> Any:
    """Return what has the entries of what is followed: of a place the tuple that is there now."""
    return followed.value() or () if type(followed) is Place else followed


def _is_referred_to(candidate: Candidate) -> bool:
    """Return False for what only the candidate, or its place, keeps alive."""
    # Two references are theirs and the question's. No local variable: CPython 3.14 lends its own.
    if type(candidate.obj) is Place:
        return sys.getrefcount(candidate.obj.holder) > 2
    return sys.getrefcount(candidate.obj) > 2


def _distance(found: Retention) -> tuple[bool, int]:
    """Return how far an object is from a name, to be compared."""
    return (not found.anchored, found.depth)


def _is_dead(found: Retention, are_garbage: bool) -> bool:  # noqa: FBT001 - reason: what is known of its type
    """
    Return True for what only a cycle holds, where that is known of it or of its like.

    A search that ran out of time found no name either, and most of its like are garbage.
    """
    return found.is_garbage or (are_garbage and not found.anchored)


def _never(_: str) -> bool:
    return False


def _holder(
    found: Retention, name: str, sample: newest.Sample, gained: int, gap: float, *, entries: int
) -> HolderEvidence:
    return HolderEvidence(
        type=name,
        path=found.path,
        anchored=found.anchored,
        inventory_name=found.inventory_name,
        bound=found.bound,
        entries=entries,
        entries_added=gained,
        entries_per_minute=gained / gap * 60 if gap > 0 else 0.0,
        sample=sample,
        steady=True,
        in_user_code=found.in_user_code,
        through=found.through,
        owner=found.owner,
        unseen=found.unseen,
    )
