"""
Sample the newest entries of a growing container: their types, weights and allocation sites.

An entry that came in during a burst of tracing leads to the lines that allocated it: the link
between a holder and its allocation site, which neither of them shows alone. What an entry weighs
does not depend on tracing: it is what it alone keeps alive, see `memguard.bounded.sizing`.
"""

from __future__ import annotations

import builtins
import gc
import itertools
import math
import sys
import types
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memguard.bounded.sizing.alone import shallow_size
from memguard.bounded.sizing.retained import Weighing, Weight
from memguard.bounded.sizing.tables import bytes_per_entry
from memguard.heap import naming, walk
from memguard.heap.places import Place
from memguard.leaks.evidence.tracing import Location

MAX_ENTRIES = 64
"""Entries sampled in one container."""
MAX_NODES = 400
"""Objects below one entry whose origin is asked for."""
MAX_ORIGINS = 4_000
"""And below all entries of a container."""
MAX_OPENED = 10_000
"""Containers with more entries are not opened."""
MAX_OTHERS = 500_000
"""Entries of which each is known to be one, where they lead to one another: 15 ms."""
SET_SCAN = 4_000
"""A set has no newest end: this many of its members are looked at."""
LARGE = 4096
"""Bytes of a block that is known by its size alone."""
_POINTER = 8.0
"""Bytes of a tuple for each of its entries."""
ERRORS = 2
"""Standard errors by which a mean may be off: 19 times of 20 it is closer."""

Origin = Callable[[Any], tuple[Location, ...]]


@dataclass(slots=True)
class Sample:
    """What the newest entries of one container look like."""

    entries: int = 0
    bytes: float = 0
    squares: float = 0
    """Sum of the squares of the bytes of each entry: how much they differ."""
    types: Counter[str] = field(default_factory=Counter)
    lines: Counter[Location] = field(default_factory=Counter)
    """Bytes below the sampled entries that were allocated in the burst, by allocating line."""
    stacks: dict[Location, tuple[Location, ...]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    """The types of the sampled entries, their base types included, by entries."""
    keeps: Counter[str] = field(default_factory=Counter)
    """Likewise of what hangs below the entries: what they keep alive."""
    extends: bool = False
    """True where an object of an extension was met: more than its size may hang on it."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Objects whose memory only their library knows, by type: they weigh nothing here."""
    unknown_entries: int = 0
    """Entries in which there is nothing else."""
    alike: bool = False
    """True for objects of one type, of which one may hold the next, rather than entries."""
    made: set[int] = field(default_factory=set)
    """ids of objects below the entries that were allocated in the burst."""

    @property
    def bytes_per_entry(self) -> int | None:
        """Mean weight of an entry, bytes; None without entries whose weight is known."""
        known = self.entries - self.unknown_entries
        return round(self.bytes / known) if known > 0 else None

    @property
    def error_per_entry(self) -> int | None:
        """Bytes by which *bytes_per_entry* may be off, for entries differ; None where unknown."""
        known = self.entries - self.unknown_entries
        if known < ERRORS:
            return None
        variance = max(0.0, self.squares / known - (self.bytes / known) ** 2)
        return round(ERRORS * math.sqrt(variance / (known - 1)))

    def add(self, more: Sample) -> None:
        """Add what a later burst has sampled; its stacks are deeper, so they win."""
        self.entries += more.entries
        self.bytes += more.bytes
        self.squares += more.squares
        self.unknown_entries += more.unknown_entries
        self.unknown.update(more.unknown)
        self.extends = self.extends or more.extends
        self.types.update(more.types)
        self.kinds.update(more.kinds)
        self.keeps.update(more.keeps)
        self.lines.update(more.lines)
        self.stacks.update(more.stacks)
        self.made |= more.made

    def weigh(self, weight: Weight, slot: float = 0.0) -> None:
        """Take *weight* for its own, and *slot* bytes that the container itself has for each."""
        known = weight.entries - weight.unknown_entries
        self.entries, self.unknown_entries = weight.entries, weight.unknown_entries
        self.bytes = weight.bytes + slot * known
        self.squares = weight.squares + 2 * slot * weight.bytes + known * slot * slot
        self.unknown = Counter(naming.type_name(kind) for kind in weight.unknown)
        self.kinds, self.keeps = _count(weight.kinds), _count(weight.keeps)
        met = {id(kind): kind for kinds in (*weight.kinds, *weight.keeps) for kind in kinds}
        self.extends = any(map(naming.is_of_an_extension, met.values()))


def _count(entries: Iterable[Iterable[type]]) -> Counter[str]:
    """Return the names of types, their base types included, by the entries that have one."""
    names: dict[int, tuple[type, Iterable[str]]] = {}
    counted: Counter[str] = Counter()
    for kinds in entries:
        met: set[str] = set()
        for kind in kinds:
            if id(kind) not in names:
                names[id(kind)] = (kind, naming.base_names(kind))
            met.update(names[id(kind)][1])
        counted.update(met)
    return counted


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
        if issubclass(kind, tuple):
            return [(item,) for item in tuple.__getitem__(container, slice(-count, None))]
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
    container: Any,
    added: int,
    *,
    origin: Origin | None,
    held: Container[int] = frozenset(),
    most: int = MAX_ENTRIES,
) -> Sample:
    """
    Return a sample of the newest entries of *container*.

    Args:
        container: A dict, list, set or deque, or a subclass of them; or a buffer, whose entries are
            its bytes.
        added: Entries gained lately; no more than these are new.
        origin: Where an object was allocated, () if before the burst; None where nothing is traced.
        held: ids of objects that the caller refers to, too.
        most: Entries to look at.
    """
    if type(container) is Place:
        return _sample_value(container.value(), added, origin=origin, held=held, most=most)
    if walk.size_of_buffer(type(container)) is not None:
        return Sample(entries=added, bytes=added, squares=added)
    sample = Sample()
    entries = _chosen(container, min(added, most), origin)
    types = _types_of(entries)
    if origin is not None:
        _trace(entries, sample, origin)
    weighing = Weighing(_Program(), is_new=lambda obj: id(obj) in sample.made, held=held)
    others = _other_entries(container, entries) | {id(container)}
    sample.types.update(types[: weighing.add(entries, others=others)])
    (weight,) = weighing.finish()
    sample.weigh(weight, _slot(container))
    return sample


def _sample_value(
    value: Any, added: int, *, origin: Origin | None, held: Container[int], most: int
) -> Sample:
    """Return a sample of a large *value* that has replaced a smaller one."""
    if value is None:
        return Sample()
    if type(value) is tuple:
        return sample_container(value, added, origin=origin, held=held, most=most)
    sample = Sample(entries=added, bytes=added, squares=added)
    stack = origin(value) if origin is not None else ()
    if stack:
        sample.lines[stack[0]] += added
        sample.stacks[stack[0]] = stack
    return sample


def sample_objects(objects: Sequence[Any], *, origin: Origin) -> Sample:
    """Return a sample of *objects*, of one type, that no container holds; not their weight."""
    sample = Sample(entries=len(objects), alike=True)
    sample.types[naming.type_name(type(objects[0]))] += len(objects)
    _trace([(obj,) for obj in objects], sample, origin)
    return sample


def weigh_together(
    groups: Iterable[tuple[Any, int, Sample]], *, held: Container[int] = frozenset()
) -> list[float]:
    """
    Weigh the newest entries of some containers: what two of them hold counts for the first.

    Args:
        groups: The nearest to a name first: a container, or a list of objects that no container
            holds; how many entries it has gained; its sample, which gets the weight.
        held: ids of objects that the caller refers to, too.

    Returns:
        For each the share of its entries that came with an earlier one.
    """
    known = list(groups)
    made: set[int] = set()
    for _, _, sample in known:
        made |= sample.made
    weighing = Weighing(_Program(), is_new=lambda obj: id(obj) in made, held=held)
    above: set[int] = set()  # an entry may lead back to its container: that is not below it
    for container, added, sample in known:
        above.add(id(container))
        entries = _chosen(container, added, None, made)
        types = _types_of(entries)
        until = type(entries[0][-1]) if entries and sample.alike else None
        others = _other_entries(container, entries) | above
        if weighed := weighing.add(entries, until=until, others=others):
            sample.types = Counter(types[:weighed])
    claimed = []
    for (container, _, sample), weight in zip(known, weighing.finish(), strict=True):
        if weight.entries:
            sample.weigh(weight, _slot(container))
        claimed.append(weight.first_claimed / max(1, weight.entries))
    return claimed


def origin_of(obj: Any, origin: Origin) -> tuple[Location, ...]:
    """
    Return where *obj*, or else something in it, was allocated; () if before the burst.

    Tuples are second-hand often, and CPython 3.11 does not know where an instance with attributes
    was made.
    """
    if stack := origin(obj):
        return stack
    if naming.is_type(obj) or belongs_to_the_program(obj):
        return ()
    if not 0 <= walk.Opener().entries(obj) <= MAX_ENTRIES:
        return ()
    return next(filter(None, map(origin, gc.get_referents(obj))), ())


def _chosen(
    container: Any, added: int, origin: Origin | None, made: set[int] | None = None
) -> list[tuple[Any, ...]]:
    """Return the entries to look at: the newest, where it shows which those are."""
    count = min(added, MAX_ENTRIES)
    entries = newest_entries(container, count)
    if issubclass(type(container), set | deque):  # anywhere in a set, at either end of a deque
        if origin is not None:
            new = [entry for entry in entries if origin_of(entry[0], origin)]
        else:
            new = [entry for entry in entries if id(entry[0]) in (made or ())]
        entries = new or entries
    return entries[:count]


def _other_entries(container: Any, entries: Iterable[tuple[Any, ...]]) -> set[int]:
    """
    Return the ids of all values of *container*, where they may lead to one another.

    As the nodes of a ring do, in which a cache keeps its entries by last use: each is weighed
    alone.
    """
    kind, first = type(container), next(iter(entries), None)
    if first is None or naming.type_name(type(first[-1])) in vars(builtins):
        return set()
    try:
        if issubclass(kind, dict) and dict.__len__(container) <= MAX_OTHERS:
            return set(map(id, dict.values(container)))
        if issubclass(kind, list) and list.__len__(container) <= MAX_OTHERS:
            return set(map(id, list.__iter__(container)))
    except RuntimeError:  # it changed meanwhile
        pass
    return set()


def _types_of(entries: Iterable[tuple[Any, ...]]) -> list[str]:
    return [naming.type_name(type(entry[-1])) for entry in entries]


def _slot(container: Any) -> float:
    """Return what *container* itself needs for an entry, bytes, in the mean over its growth."""
    if issubclass(type(container), tuple):
        return _POINTER
    length = walk.length_of(type(container))
    return bytes_per_entry(container, length(container)) if length is not None else 0.0


def _trace(entries: Iterable[tuple[Any, ...]], sample: Sample, origin: Origin) -> None:
    """Enter the lines that allocated what hangs below *entries*."""
    opener = walk.Opener()
    seen: set[int] = set()
    left = MAX_ORIGINS
    for entry in entries:
        todo = [(obj, 0, True) for obj in entry]  # and whether what it is held by is new
        for _ in range(min(left, MAX_NODES)):
            if not todo:
                break
            obj, depth, held_by_new = todo.pop()
            if id(obj) in seen or belongs_to_the_program(obj):
                continue
            seen.add(id(obj))
            left -= 1
            kind, stack = type(obj), origin(obj)
            unknown = _has_no_origin(kind) or (held_by_new and _is_recycled(kind))
            if stack:
                sample.made.add(id(obj))
                sample.lines[stack[0]] += shallow_size(obj)
                sample.stacks.setdefault(stack[0], stack)
            elif depth > 1 and not unknown:
                continue  # older than the burst: shared with the rest of the program
            if 0 <= opener.entries(obj) <= MAX_OPENED:
                is_new = bool(stack) or _has_no_origin(kind)
                todo.extend((below, depth + 1, is_new) for below in gc.get_referents(obj))


def untraced_block(container: Any) -> int | None:
    """Return the size of the newest entry whose block the tracer knows by its size alone."""
    for entry in newest_entries(container, 1):
        size = shallow_size(entry[-1])
        if _has_no_origin(type(entry[-1])) and size >= LARGE:
            return size
    return None


def _is_recycled(kind: type) -> bool:
    """Return True for what CPython keeps to use again: its block may be older than the object."""
    return kind is list or kind is tuple or kind is dict


def _has_no_origin(kind: type) -> bool:
    """Return True for instances with attributes on CPython 3.11: it looks for the wrong block."""
    return sys.version_info < (3, 12) and bool(_FLAGS(kind) & _MANAGED_DICT)


_FLAGS = vars(type)["__flags__"].__get__
_MANAGED_DICT = 1 << 4


def belongs_to_the_program(obj: Any) -> bool:
    """Return True for what is not data: modules, code, and classes that a name leads to."""
    kind = type(obj)
    return (
        obj is None
        or kind is types.CodeType
        or (kind is types.BuiltinFunctionType and not _is_bound_to_data(obj))
        or (naming.is_type(obj) and not naming.is_lost(obj))
        or naming.is_module(obj)
        or obj is _BUILTINS
        or (kind is dict and dict.__contains__(obj, "__builtins__"))  # a function's globals
    )


class _Program:
    """`belongs_to_the_program`, which asks once for each class. It keeps the classes alive."""

    def __init__(self) -> None:
        self._classes: dict[int, tuple[type, bool]] = {}

    def __call__(self, obj: Any) -> bool:
        if not naming.is_type(obj):
            return belongs_to_the_program(obj)
        known = self._classes.get(id(obj))
        if known is None:
            known = self._classes[id(obj)] = (obj, belongs_to_the_program(obj))
        return known[1]


def _is_bound_to_data(function: types.BuiltinFunctionType) -> bool:
    """Return True for ``buffer.clear``, which keeps its buffer; not for ``len`` of a module."""
    owner = function.__self__
    return owner is not None and not naming.is_module(owner)


_BUILTINS = vars(builtins)
