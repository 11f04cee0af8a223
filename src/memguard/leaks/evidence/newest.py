"""
Sample the newest entries of a growing container: their types, sizes and allocation sites.

An entry that came in during a burst of tracing leads to the lines that allocated it: the link
between a holder and its allocation site, which neither of them shows alone.
"""

from __future__ import annotations

import builtins
import gc
import itertools
import types
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from memguard.bounded.sizing import shallow_size
from memguard.heap import naming, walk
from memguard.leaks.evidence.tracing import Location

MAX_ENTRIES = 32
"""Entries sampled in one container."""
MAX_NODES = 400
"""Objects visited below one entry."""
MAX_OPENED = 10_000
"""Containers with more entries are weighed but not opened."""
SET_SCAN = 4_000
"""A set has no newest end: the origin of this many of its members is looked up."""

Origin = Callable[[Any], tuple[Location, ...]]


@dataclass(slots=True)
class Sample:
    """What the newest entries of one container look like."""

    entries: int = 0
    bytes: int = 0
    types: Counter[str] = field(default_factory=Counter)
    lines: Counter[Location] = field(default_factory=Counter)
    """Bytes below the sampled entries, by allocating line."""
    stacks: dict[Location, tuple[Location, ...]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    """The types of the sampled entries, their base types included, by entries."""
    keeps: Counter[str] = field(default_factory=Counter)
    """Likewise of what hangs below the entries: what they keep alive."""
    extends: bool = False
    """True where an object of an extension was met: more than its size may hang on it."""

    @property
    def bytes_per_entry(self) -> int | None:
        """Mean weight of an entry, bytes; None without entries."""
        return round(self.bytes / self.entries) if self.entries else None


def newest_entries(container: Any, count: int) -> list[tuple[Any, ...]]:
    """
    Return up to *count* of the entries that came last, each as a tuple of its objects.

    Only the base type's own methods are used. Sets are not ordered: some members are returned.
    """
    kind = type(container)
    try:
        if issubclass(kind, dict):
            return list(itertools.islice(reversed(dict.items(container)), count))
        if issubclass(kind, list):
            return [(item,) for item in list.__getitem__(container, slice(-count, None))]
        if issubclass(kind, deque):
            length = deque.__len__(container)
            ends = {*range(min(count, length)), *range(max(0, length - count), length)}
            return [(deque.__getitem__(container, index),) for index in sorted(ends)]
        if issubclass(kind, set):
            return [(item,) for item in itertools.islice(set.__iter__(container), SET_SCAN)]
    except (RuntimeError, IndexError):
        pass  # it changed under us; the next burst sees it again
    return []


def sample_container(
    container: Any, added: int, *, origin: Origin | None, seen: set[int]
) -> Sample:
    """
    Return a sample of the newest entries of *container*.

    Args:
        container: A dict, list, set or deque, or a subclass of them; or a buffer, whose entries are
            its bytes.
        added: Entries gained lately; no more than these are new.
        origin: Where an object was allocated, () if before the burst; None where nothing is traced,
            then everything below an entry counts.
        seen: ids already weighed: what two containers share counts for the first.
    """
    if walk.size_of_buffer(type(container)) is not None:
        return Sample(entries=added, bytes=added)
    sample = Sample()
    entries = newest_entries(container, min(added, MAX_ENTRIES))
    if origin is not None and issubclass(type(container), set | deque):
        entries = [entry for entry in entries if _is_new(entry[0], origin)][:MAX_ENTRIES]
    seen.add(id(container))
    for entry in entries:
        sample.entries += 1
        sample.types[naming.type_name(type(entry[-1]))] += 1
        sample.bytes += _ENTRY_BYTES[_base_of(container)]
        for item in entry:
            _weigh(item, sample, origin, seen)
    return sample


def _is_new(item: Any, origin: Origin) -> bool:
    """Return True where *item* was allocated lately, or what is in it: tuples are second-hand."""
    if origin(item):
        return True
    opener = walk.Opener()
    if not 0 < opener.entries(item) <= MAX_ENTRIES:
        return False
    return any(origin(below) for below in gc.get_referents(item))


def sample_object(obj: Any, *, origin: Origin | None, seen: set[int]) -> Sample:
    """Return a sample of a single object that no container holds."""
    sample = Sample(entries=1)
    sample.types[naming.type_name(type(obj))] += 1
    _weigh(obj, sample, origin, seen)
    return sample


def _weigh(root: Any, sample: Sample, origin: Origin | None, seen: set[int]) -> None:
    """Add what hangs below *root* to *sample*: with tracing, only what was allocated meanwhile."""
    opener = walk.Opener()
    todo: list[tuple[Any, int]] = [(root, 0)]
    asked: set[int] = set()  # types, which live on meanwhile: their instances do
    for _ in range(MAX_NODES):
        if not todo:
            break
        obj, depth = todo.pop()
        if id(obj) in seen or _belongs_to_the_program(obj):
            continue
        if naming.is_type(obj) and not _is_data(obj, depth, traced=origin is not None):
            continue
        seen.add(id(obj))
        stack = origin(obj) if origin is not None else ()
        if stack or origin is None:
            size = shallow_size(obj)
            sample.bytes += size
            sample.extends = sample.extends or (
                id(type(obj)) not in asked and naming.is_of_an_extension(type(obj))
            )
            if stack:
                sample.lines[stack[0]] += size
                sample.stacks.setdefault(stack[0], stack)
        elif depth > 1:
            continue  # older than the burst: shared with the rest of the program
        if id(type(obj)) not in asked:
            asked.add(id(type(obj)))
            (sample.keeps if depth else sample.kinds).update(naming.base_names(type(obj)))
        if 0 <= opener.entries(obj) <= MAX_OPENED:
            todo.extend((below, depth + 1) for below in gc.get_referents(obj))


def _belongs_to_the_program(obj: Any) -> bool:
    """Return True for what is not data: modules, code and what runs it."""
    kind = type(obj)
    return (
        kind is types.FrameType
        or kind is types.CodeType
        or (kind is types.BuiltinFunctionType and not _is_bound_to_data(obj))
        or obj is None
        or naming.is_module(obj)
        or obj is _BUILTINS
        or (kind is dict and dict.__contains__(obj, "__builtins__"))  # a function's globals
    )


def _is_bound_to_data(function: types.BuiltinFunctionType) -> bool:
    """Return True for ``buffer.clear``, which keeps its buffer; not for ``len`` of a module."""
    owner = function.__self__
    return owner is not None and not naming.is_module(owner)


def _is_data(kind: type, depth: int, *, traced: bool) -> bool:
    """
    Return True for a class made by a call, which nothing but its holders can find.

    Without tracing it is unknown whether the class of an entry is new: only an entry itself counts.
    """
    return (traced or depth == 0) and naming.is_lost(kind)


_BUILTINS = vars(builtins)
_ENTRY_BYTES: dict[type, int] = {dict: 100, set: 48, list: 9, deque: 8}
"""What a container itself needs for an entry, in the mean over its growth."""


def _base_of(container: Any) -> type:
    return next(base for base in _ENTRY_BYTES if issubclass(type(container), base))
