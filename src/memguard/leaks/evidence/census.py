"""
A census of live objects: counts by type, lengths of containers, and what both allocators hold.

Objects are touched by ``type()``, ``id()`` and the base type's own length slot, and nothing else.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from memguard.heap import places, variables, walk
from memguard.heap.naming import type_name
from memguard.leaks.evidence.garbage import collector
from memguard.leaks.evidence.own_code import is_own_code
from memguard.leaks.evidence.resources import ResourceLook
from memguard.leaks.options import DetectorOptions
from memguard.observe.allocator import AllocatorState, read_allocator
from memguard.observe.readings import read_memory

_K = TypeVar("_K")
MIN_ENTRIES = 16
"""Shorter containers are not recorded; one that grows past it counts from zero."""
MIN_BUFFER_BYTES = 64 * 1024
"""Smaller buffers are not recorded."""
MAX_CONTAINERS = 200_000
"""Containers recorded in one look."""
MEAN_BLOCK_BYTES = 64
"""About the mean small block of CPython; the order of magnitude is what counts."""
MAX_PLACES = 10_000
"""Large values recorded in one look."""
COLLECT_BLOCKS = 1_000_000
"""Heaps with more blocks are not collected to see what it gives: that would be the stall."""
OWN_TYPES = (
    "memguard.leaks.",
    "memguard.heap.",
    "memguard.observe.",
    "memguard.bounded.sizing.",
)
"""What watching itself keeps is no news."""


@dataclass(slots=True)
class Look:
    """The heap at one time, as numbers."""

    at: float
    objects: int = 0
    types: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    """Entries by ``id`` of the container."""
    buffers: dict[int, int] = field(default_factory=dict)
    """Bytes by ``id`` of the buffer: a bytearray, an array, a BytesIO."""
    values: dict[places.Key, int] = field(default_factory=dict)
    """How much there is in the places of large values, which are replaced where they grow."""
    seconds: float = 0.0
    dropped: int = 0
    """Containers not recorded, for the bound."""

    @property
    def ids(self) -> set[int]:
        """The ids of its own containers, which grow as it is taken."""
        return {id(self.types), id(self.lengths), id(self.buffers), id(self.values)}

    def record(self, container: Any, entries: int, skip: set[int]) -> None:
        """Enter the length of *container*, unless it is in *skip* or the bound is reached."""
        key = id(container)
        if key in self.lengths or len(self.lengths) < MAX_CONTAINERS:
            if key not in skip:
                self.lengths[key] = entries
        else:
            self.dropped += 1

    def measure(self, buffer: Any, size: Callable[[Any], int], skip: set[int]) -> None:
        """Enter the size of *buffer*, likewise, where it is worth it."""
        if (taken := size(buffer)) >= MIN_BUFFER_BYTES and id(buffer) not in skip:
            if len(self.buffers) < MAX_CONTAINERS:
                self.buffers[id(buffer)] = taken
            else:
                self.dropped += 1

    def find_values(self, holders: list[Any]) -> None:
        """Enter the large values in *holders*, and let go of those."""
        for holder in holders:
            for where, _, amount in places.places_in(holder):
                if len(self.values) < MAX_PLACES:
                    self.values[where] = amount
                else:
                    self.dropped += 1
        holders.clear()


def take_look(at: float, ignore: Iterable[int] = ()) -> Look:
    """
    Return the live objects by type and the containers by length.

    Args:
        at: The time to stamp it with, seconds on the caller's clock.
        ignore: ids of containers to leave out: our own.

    Cost: about 0.4 s of processor time for a million objects, in slices of some 0.1 ms.
    """
    started = time.perf_counter()
    look = Look(at)
    skip = set(ignore)
    large: list[Any] = []
    opener = walk.Opener(large)
    lengths: dict[int, Callable[[Any], int]] = {}
    sizes: dict[int, Callable[[Any], int]] = {}
    kinds: dict[int, type] = {}  # held, so that no other type gets the id of one that died
    counts: Counter[int] = Counter()
    with walk.live_slices() as slices:
        for chunk in slices:
            present = Counter(map(id, map(type, chunk)))
            if not present.keys() <= kinds.keys():
                _learn(chunk, kinds, lengths, sizes)
            counts.update(present)
            look.objects += len(chunk)
            for obj in chunk:
                length = lengths.get(id(type(obj)))
                if length is not None and (entries := length(obj)) >= MIN_ENTRIES:
                    look.record(obj, entries, skip)
            if not present.keys().isdisjoint(sizes):
                _measure(look, [obj for obj in chunk if id(type(obj)) in sizes], skip)
            _measure(look, opener.untracked(chunk), skip)
            look.find_values(large)
            del chunk
    for untracked in _in_running_functions():
        _measure(look, untracked, skip)
        del untracked
    for key, count in counts.items():
        name = type_name(kinds[key])
        look.types[name] = look.types.get(name, 0) + count
    look.seconds = time.perf_counter() - started
    return look


def _in_running_functions() -> Iterator[list[Any]]:
    """Yield the dicts and buffers that only a local of a running function may lead to."""
    for _, found in variables.running_locals(is_own_code):
        yield walk.untracked_among([value for _, value in found])
        found.clear()


def _measure(look: Look, found: list[Any], skip: set[int]) -> None:
    """Enter dicts that are not tracked, and buffers."""
    for obj in found:
        if type(obj) is dict:  # nearly all of them are: asked first
            if len(obj) >= MIN_ENTRIES:
                look.record(obj, len(obj), skip)
        elif (size := walk.size_of_buffer(type(obj))) is not None:
            look.measure(obj, size, skip)


def _learn(
    chunk: list[Any],
    kinds: dict[int, type],
    lengths: dict[int, Callable[[Any], int]],
    sizes: dict[int, Callable[[Any], int]],
) -> None:
    for obj in chunk:
        kind = type(obj)
        if id(kind) not in kinds:
            kinds[id(kind)] = kind
            length = walk.length_of(kind)
            if length is not None:
                lengths[id(kind)] = length
            size = walk.size_of_buffer(kind)
            if size is not None:
                sizes[id(kind)] = size


def grown_containers(first: Look, second: Look, *, limit: int) -> dict[int, int]:
    """Return {id: entries gained} of the containers in both looks that gained most."""
    return _grown(first.lengths, second.lengths, limit)


def grown_buffers(first: Look, second: Look, *, limit: int) -> dict[int, int]:
    """Return {id: bytes gained} of the buffers in both looks that gained most."""
    return _grown(first.buffers, second.buffers, limit)


def grown_values(first: Look, second: Look, *, limit: int) -> dict[places.Key, int]:
    """Return {place: gained} of the large values that gained most where there was one before."""
    before = {where: had for where, had in first.values.items() if where in second.values}
    after = {where: second.values[where] for where in before}
    return _grown(before, after, limit)


def _grown(before: Mapping[_K, int], after: Mapping[_K, int], limit: int) -> dict[_K, int]:
    grown = Counter(
        {key: gained for key, size in after.items() if (gained := size - before.get(key, size)) > 0}
    )
    return dict(grown.most_common(limit))


def new_containers(first: Look, second: Look, *, limit: int) -> dict[int, int]:
    """
    Return {id: entries} of the longest containers that the first look does not have.

    Most are what leaks, not what holds it: a new list in each entry of a growing dict. One of them
    may be a holder that was shorter than ``MIN_ENTRIES`` then; it gives itself away by growing on.
    """
    new = Counter(
        {key: entries for key, entries in second.lengths.items() if key not in first.lengths}
    )
    return dict(new.most_common(limit))


def types_to_follow(first: Look, second: Look, *, limit: int) -> list[str]:
    """Return the names of the types that gained most, classes of the program before builtins."""
    grown = [
        row
        for row in grown_types(first, second, limit=200)
        if row[2] >= MIN_ENTRIES and not row[0].startswith(OWN_TYPES)
    ]
    grown.sort(key=lambda row: ("." not in row[0], -row[2]))
    return [name for name, _, _ in grown[:limit]]


def grown_types(first: Look, second: Look, *, limit: int) -> list[tuple[str, int, int]]:
    """Return (type name, count now, gained) of the types that gained most instances."""
    grown = [
        (name, count, count - first.types.get(name, 0))
        for name, count in second.types.items()
        if count > first.types.get(name, 0)
    ]
    return sorted(grown, key=lambda row: -row[2])[:limit]


def find_places(wanted: Container[places.Key]) -> dict[places.Key, tuple[places.Place, int]]:
    """Return the *wanted* places, with how much is there now; to be held for seconds."""
    found: dict[places.Key, tuple[places.Place, int]] = {}
    large: list[Any] = []
    opener = walk.Opener(large)
    with walk.live_slices() as slices:
        for chunk in slices:
            opener.untracked(chunk)
            for holder in large:
                for where, place, amount in places.places_in(holder):
                    # Of an instance and its dict the instance: not everything that it holds, such
                    # as its dict, is shown by it.
                    if where in wanted and (where not in found or place.is_attribute):
                        found[where] = (place, amount)
            large.clear()
            del chunk
    return found


def find_containers(wanted: Iterable[int]) -> dict[int, Any]:
    """Return the live containers and buffers whose ids are in *wanted*; to be held for seconds."""
    missing = set(wanted)
    found: dict[int, Any] = {}
    opener = walk.Opener()

    def enter(objects: list[Any]) -> None:
        if not missing.isdisjoint(map(id, objects)):
            for obj in objects:
                if id(obj) in missing and walk.counter_of(type(obj)) is not None:
                    missing.discard(id(obj))
                    found[id(obj)] = obj

    with walk.live_slices() as slices:
        for chunk in slices:
            enter(chunk)
            enter(opener.untracked(chunk))
            del chunk
            if not missing:
                return found
    for untracked in _in_running_functions():
        enter(untracked)
        del untracked
    return found


def newest_instances(names: Iterable[str], *, per_type: int, scan: int) -> dict[str, list[Any]]:
    """
    Return up to *per_type* of the youngest live instances of each named type.

    Args:
        names: As in ``Look.types``.
        per_type: Instances of each.
        scan: Objects to look at before giving up.
    """
    wanted = set(names)
    kinds: dict[int, tuple[type, str]] = {}  # the type is held, so that its id stays its own
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    seen = 0
    with walk.live_slices() as slices:
        for chunk in slices:
            for obj in reversed(chunk):
                kind = type(obj)
                if id(kind) not in kinds:
                    kinds[id(kind)] = (kind, type_name(kind))
                name = kinds[id(kind)][1]
                if name in wanted and len(found[name]) < per_type:
                    found[name].append(obj)
            seen += len(chunk)
            if seen >= scan or all(len(instances) >= per_type for instances in found.values()):
                break
    return found


@dataclass(frozen=True, slots=True)
class HeapState:
    """What the heap was like: numbers only."""

    look: Look
    allocator: AllocatorState
    blocks: int
    modules: int
    """Modules imported so far: code that is loaded grows the heap, too."""
    private: int | None = None
    """Memory that only this process holds, bytes."""
    data: int | None = None
    """Address space it may write to, bytes, touched or not."""
    resources: ResourceLook | None = None
    """Threads, tasks, sockets and files."""


def refusal(options: DetectorOptions, headroom: int | None) -> str | None:
    """Return why the heap should not be walked, or None."""
    blocks = walk.too_large(options.max_objects)
    if blocks is not None:
        return f"no census: {blocks:,} blocks are more than max_objects"
    if headroom is not None and headroom < sys.getallocatedblocks() * 16:
        return "no census: too little memory is left below the limit for it"
    return None


def read_state(at: float) -> HeapState:
    """Return the state of the heap, stamped *at*. Cost: see `take_look`."""
    # The allocators first: what the question itself imports is no growth of the program.
    allocator, blocks = read_allocator(), sys.getallocatedblocks()
    modules, row = len(sys.modules), read_memory()
    return HeapState(take_look(at), allocator, blocks, modules, row.private, row.data)


def collect(generation: int = 2) -> int | None:
    """
    Collect garbage and return about how many bytes that freed; None where it was not done.

    Not done where the collector is off, which is the host's decision, or the heap is large.

    Args:
        generation: The oldest that is collected; 2 is everything.
    """
    blocks = sys.getallocatedblocks()
    if not collector().is_on or (generation == 2 and blocks > COLLECT_BLOCKS):
        return None
    in_use = read_allocator().in_use
    gc.collect(generation)
    small = (blocks - sys.getallocatedblocks()) * MEAN_BLOCK_BYTES
    after = read_allocator().in_use
    large = 0 if in_use is None or after is None else in_use - after
    return max(0, small) + max(0, large)
