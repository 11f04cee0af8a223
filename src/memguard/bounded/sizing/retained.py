"""
What do entries of a container keep alive, which nothing else does? By counts of references.

An object below an entry belongs to it where all references to it come from there: then it would die
with it. It is what the collector does to find garbage (Bacon and Rajan 2001, doi
10.1007/3-540-45337-7_12: trial deletion), over a few entries only. What the rest of the program
refers to, too, such as its configuration or the application of a request, weighs nothing here.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from memguard.bounded.sizing.alone import (
    array_contents,
    data_of,
    is_known,
    numpy_array,
    own_and_shared,
    own_bytes,
)
from memguard.bounded.sizing.contents import Walk
from memguard.bounded.sizing.kinds import has_gc

GROUP_NODES = 4_000
"""Objects looked at below the entries of one container; no further entry is begun then."""
LEAST = 3
"""Entries that are looked at whatever they take: one alone does not show how they differ."""
ENTRY_NODES = 10_000
"""Objects looked at below one entry; what is left is estimated."""
HUGE = 10_000
"""Containers with more entries are estimated from some of them."""
SOME = 64
"""Entries of a huge container, or objects that were not reached, that are looked at."""
SLACK = 8
"""References to an entry itself from elsewhere: it is handed around, and another one holds it."""
MANY = 64
"""References from elsewhere to what is the program's most likely, such as the application."""
HUB_NODES = 2_000
"""Objects below it that are looked at to see whether they are what refers to it."""


@dataclass(slots=True)
class Weight:
    """What the entries of one container weigh."""

    entries: int = 0
    """Entries looked at."""
    bytes: float = 0.0
    """Of all of them."""
    squares: float = 0.0
    """Sum of the squares of their bytes."""
    first_claimed: int = 0
    """Entries that an earlier group keeps alive already: they weigh nothing here."""
    kinds: list[list[type]] = field(default_factory=list)
    """For each entry the types of the objects that it is."""
    keeps: list[list[type]] = field(default_factory=list)
    """For each entry the types of what hangs below it, each once."""
    unknown: list[type] = field(default_factory=list)
    """Of each object whose memory only its library knows: those weigh nothing."""
    unknown_entries: int = 0
    """Entries in which there is nothing else."""


class Weighing:
    """
    Weigh the entries of some containers together: what two of them hold counts for the first.

        weighing = Weighing(belongs_to_the_program)
        for container in nearest_to_a_name_first:
            weighing.add(newest_entries(container))
        weights = weighing.finish()

    Bounded by: `GROUP_NODES` objects a group, or `LEAST` times `ENTRY_NODES` where entries are
        large.
    Locks: none; one thread uses it. Others may change what is weighed meanwhile.
    Keeps alive: what it has looked at, until `finish`.
    """

    def __init__(
        self,
        is_program: Callable[[Any], bool],
        *,
        is_new: Callable[[Any], bool] | None = None,
        held: Container[int] = frozenset(),
    ) -> None:
        """
        Prepare to weigh.

        Args:
            is_program: True for what is no data: it is not looked into and weighs nothing.
            is_new: True for what is known to have been made lately: it counts whoever else
                refers to it.
            held: ids of objects that the caller refers to, too.
        """
        self._is_program = is_program
        self._is_new = is_new or (lambda _: False)
        self._held = held
        self._index: dict[int, int] = {}
        self._objects: list[Any] = []
        self._found: list[int] = []
        """References to each that were met."""
        self._below: list[list[int] | None] = []
        """What each refers to; None where it was not opened."""
        self._depth: list[int] = []
        self._owner: list[int] = []
        """The entry that led to each first."""
        self._huge: set[int] = set()
        self._until: type | None = None
        self._others: Container[int] = frozenset()
        self._apart = 0
        """Objects below what turned out to be the program's."""
        self._cut: list[int] = []
        """What was not opened for want of nodes."""
        self._kinds: dict[int, tuple[type, bool]] = {}
        self._groups: list[list[int]] = []
        """The entries of each group."""
        self._roots: list[list[int]] = []
        """The objects of each entry that came in with it."""

    def add(
        self,
        entries: list[tuple[Any, ...]],
        *,
        until: type | None = None,
        others: Container[int] = frozenset(),
    ) -> int:
        """
        Look below *entries*, of which each is one or more objects, and return how many it took.

        It does not look into objects of type *until*: of a chain of nodes, each is weighed alone.
        Nor into those whose ids are in *others*, where entries of one container lead to the next.

        They are taken out of the list, first to last, so that the list no longer refers to them;
        each object must be referred to by its container, or by something else of ours, once.
        """
        group: list[int] = []
        self._groups.append(group)
        self._until, self._others = until, others
        entries.reverse()
        begun, apart = len(self._objects), self._apart
        while entries:
            spent = len(self._objects) - begun - (self._apart - apart)
            if spent >= GROUP_NODES and len(group) >= LEAST:
                break
            owner = len(self._roots)
            group.append(owner)
            self._roots.append([])
            self._begin(entries.pop(), owner)
            self._explore(owner)
        entries.clear()
        return len(group)

    def _begin(self, entry: tuple[Any, ...], owner: int) -> None:
        for obj in entry:
            if not self._is_program(obj):
                node = self._met(obj, owner, 0)
                self._roots[owner].append(node)

    def _met(self, obj: Any, owner: int, depth: int) -> int:
        node = self._index.get(id(obj))
        if node is None:
            node = self._index[id(obj)] = len(self._objects)
            self._objects.append(obj)
            self._found.append(0)
            self._below.append(None)
            self._depth.append(depth)
            self._owner.append(owner)
        self._found[node] += 1
        return node

    def _explore(self, owner: int) -> None:
        """Open what the entry *owner* leads to, the nearest first, hubs last."""
        roots = [node for node in self._roots[owner] if self._below[node] is None]
        hubs = self._open_all(roots, owner, ENTRY_NODES)
        for hub in hubs:
            if self._below[hub] is not None:
                continue
            known = len(self._objects)
            self._open(hub, owner)
            self._open_all(range(known, len(self._objects)), owner, HUB_NODES)
            if self._is_hub(hub):
                self._apart += len(self._objects) - known

    def _open_all(self, nodes: Iterable[int], owner: int, most: int) -> list[int]:
        """Open *nodes* and what is below them, up to *most*; return the hubs, which are not."""
        todo = deque(nodes)
        hubs: list[int] = []
        begun = len(self._objects)
        while todo:
            node = todo.popleft()
            if self._below[node] is not None:
                continue
            if len(self._objects) - begun > most:
                self._cut.append(node)
                continue
            if self._depth[node] and self._is_hub(node):
                hubs.append(node)
                continue
            # Also what was met below a hub, and not opened there for want of nodes.
            todo.extend(each for each in self._open(node, owner) if self._below[each] is None)
        return hubs

    def _is_hub(self, node: int) -> bool:
        """Return True where very many refer to it that were not met."""
        return sys.getrefcount(self._objects[node]) - self._found[node] > MANY

    def _open(self, node: int, owner: int) -> list[int]:
        obj, depth = self._objects[node], self._depth[node]
        below: list[int] = []
        self._below[node] = below
        below.extend(
            self._met(child, owner, depth + 1)
            for child in self._contents(obj, node)
            if type(child) is not self._until
            and id(child) not in self._others
            and not self._is_program(child)
        )
        return below

    def _contents(self, obj: Any, node: int) -> list[Any]:
        kind = type(obj)
        ndarray = numpy_array()
        if ndarray is not None and issubclass(kind, ndarray):
            contents, complete = array_contents(ndarray, obj, HUGE)
        elif not has_gc(kind):
            return []
        else:
            contents, complete = [], length_of(obj, kind) <= HUGE
            if complete:
                contents = data_of(obj, kind)
        if complete:
            return contents
        self._huge.add(node)
        return []

    def finish(self) -> list[Weight]:
        """Return the weight of each group, in the order they were added, and let go of it all."""
        self._join_callers()
        shared = self._shared()
        weights: list[float] = [0.0] * len(self._roots)
        unknown: list[list[type]] = [[] for _ in self._roots]
        keeps: list[dict[int, type]] = [{} for _ in self._roots]
        counted: set[int] = set()
        for node, obj in enumerate(self._objects):
            kind, owner = type(obj), self._owner[node]
            if self._depth[node] == 1 or (self._depth[node] and not shared[node]):
                keeps[owner][id(kind)] = kind
            if shared[node]:
                continue
            if not self._knows(kind):
                unknown[owner].append(kind)
                continue
            below = self._below[node]
            own, key, data = own_and_shared(obj, kind, len(below or ()))
            weights[owner] += own if key in counted else own + data
            if key:
                counted.add(key)
            if node in self._huge:
                weights[owner] += _estimate(obj, kind)
        self._add_what_was_cut(weights, shared)
        result = [self._weight(group, weights, unknown) for group in self._groups]
        for weight, group in zip(result, self._groups, strict=True):
            for owner in group:
                weight.kinds.append([type(self._objects[node]) for node in self._roots[owner]])
                weight.keeps.append(list(keeps[owner].values()))
        return result

    def _weight(self, group: list[int], weights: list[float], unknown: list[list[type]]) -> Weight:
        result = Weight(entries=len(group))
        for owner in group:
            roots = self._roots[owner]
            result.bytes += weights[owner]
            result.squares += weights[owner] ** 2
            result.first_claimed += bool(roots) and self._owner[roots[-1]] < group[0]
            result.unknown += unknown[owner]
            result.unknown_entries += bool(unknown[owner]) and not weights[owner]
        return result

    def _knows(self, kind: type) -> bool:
        known = self._kinds.get(id(kind))
        if known is None:
            known = self._kinds[id(kind)] = (kind, is_known(kind))
        return known[1]

    def _join_callers(self) -> None:
        """
        Count the references that frames have to the frames that called them.

        Those lead to what called, which is no data; but of a traceback that is kept, each frame is
        called by the one before it, and all of them would die with it.
        """
        for node, below in enumerate(self._below):
            obj = self._objects[node]
            if below is None or type(obj) is not types.FrameType:
                continue
            caller = self._index.get(id(obj.f_back))  # None is in no index: it is the program's
            if caller is not None:
                self._found[caller] += 1
                below.append(caller)

    def _shared(self) -> bytearray:
        """Return a true byte for each object that something else keeps alive, too."""
        self._objects.append(object())  # of which we know that nobody else refers to it
        counts = list(map(sys.getrefcount, self._objects))
        self._objects.pop()
        ours = counts.pop()
        count = len(self._objects)
        shared, safe = bytearray(count), bytearray(count)
        roots = set(itertools.chain.from_iterable(self._roots))
        todo = []
        for node in range(count):
            outside = counts[node] - ours - self._found[node]
            if node in roots and outside <= SLACK:
                safe[node] = 1
            # The caller's own references are like any other: there, what leads to it decides.
            elif outside > (SLACK if id(self._objects[node]) in self._held else 0):
                if self._is_new(self._objects[node]):
                    safe[node] = 1
                else:
                    shared[node] = 1
                    todo.append(node)
        while todo:  # what those refer to lives on with them
            for node in self._below[todo.pop()] or ():
                if not shared[node] and not safe[node]:
                    if self._is_new(self._objects[node]):
                        safe[node] = 1
                    else:
                        shared[node] = 1
                        todo.append(node)
        self._claim(shared)
        return shared

    def _claim(self, shared: bytearray) -> None:
        """
        Find the entry that each object belongs to: the first that leads to it, not by shared ones.

        What only shared objects lead to is shared, new or not.
        """
        reached = bytearray(len(shared))
        for owner, roots in enumerate(self._roots):
            todo = list(roots)
            while todo:
                node = todo.pop()
                if not reached[node] and not shared[node]:
                    reached[node] = 1
                    self._owner[node] = owner
                    todo.extend(self._below[node] or ())
        for node, is_reached in enumerate(reached):
            if not is_reached:
                shared[node] = 1

    def _add_what_was_cut(self, weights: list[float], shared: bytearray) -> None:
        """Estimate what hangs below objects that were not opened."""
        cut: dict[int, list[int]] = {}
        for node in self._cut:
            if self._below[node] is None and not shared[node] and has_gc(type(self._objects[node])):
                cut.setdefault(self._owner[node], []).append(node)
        for owner, nodes in cut.items():
            some = nodes[:: max(1, len(nodes) // SOME)]
            walk = Walk(SOME * len(some))
            looked = 0.0
            for node in some:
                obj = self._objects[node]
                looked += max(0.0, walk.measure([obj]) - own_bytes(obj, type(obj)))
            weights[owner] += looked * len(nodes) / len(some)


def length_of(obj: Any, kind: type) -> int:
    """Return the entries of a container of a built-in type, 0 for anything else."""
    for base, length in _LENGTHS:
        if issubclass(kind, base):
            return length(obj)
    return 0


_LENGTHS: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (dict, dict.__len__),
    (list, list.__len__),
    (tuple, tuple.__len__),
    (set, set.__len__),
    (frozenset, frozenset.__len__),
    (deque, deque.__len__),
)


def _estimate(container: Any, kind: type) -> float:
    """Return about what is in a container that is too large to be opened."""
    ndarray = numpy_array()
    if ndarray is not None and issubclass(kind, ndarray):
        contents, _ = array_contents(ndarray, container, SOME)
        count = int(ndarray.size.__get__(container))
    else:
        contents, count = _some_of(container, kind), length_of(container, kind)
    if not contents:
        return 0.0
    some = len(contents) / (2 if issubclass(kind, dict) else 1)
    return Walk(SOME * SOME).measure(contents) * count / some


def _some_of(container: Any, kind: type) -> list[Any]:
    """Return some of what is in a container, keys and values of a dict; [] where it changes."""
    try:
        if issubclass(kind, list | tuple):
            base: Any = list if issubclass(kind, list) else tuple
            step = max(1, base.__len__(container) // SOME)
            return list(base.__getitem__(container, slice(None, None, step)))
        entries: Iterable[Any]
        if issubclass(kind, dict):
            pairs = zip(dict.keys(container), dict.values(container), strict=False)
            return list(itertools.chain.from_iterable(itertools.islice(pairs, SOME)))
        base = next(base for base, _ in _LENGTHS if issubclass(kind, base))
        entries = base.__iter__(container)
        return list(itertools.islice(entries, SOME))
    except RuntimeError:  # it changed meanwhile
        return []
