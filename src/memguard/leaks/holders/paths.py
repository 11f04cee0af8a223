"""
The shortest retaining path from a name in the program to an object. Only this uses objgraph.

The search goes from the object up, level by level, for all wanted objects at once. A level is one
walk over the heap in slices (``heap.live_slices``): ``gc.get_referrers`` would scan everything in
one call, under the GIL. It ends at an *anchor*, something a person can find: a module, a class, a
local of a running function, coroutine or generator, one of memguard's containers. On a heap that
is small enough for whole scans, objgraph gets the last word where the walk found nothing.
"""

from __future__ import annotations

import functools
import gc
import itertools
import re
import sys
import time
import types
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memguard.heap import naming, walk
from memguard.leaks.evidence import frames, garbage
from memguard.leaks.evidence.own_code import is_own_code
from memguard.leaks.holders import anchors, descent

MAX_LEVELS = 12
CLIMB = 0.6
"""Share of the time for climbing; the rest is for the way down from the modules."""
MAX_FRONTIER = 256
"""Holders followed from one level to the next, for all wanted objects together."""
MAX_HOLDERS = 1000
"""Holders of one wanted object that are entered at one level."""
_LRU_WRAPPER: type = type(functools.lru_cache(maxsize=1)(id))
_DEQUE_MAXLEN: Any = vars(deque)["maxlen"]
_NAMES = re.compile(
    r"_*(?:\w+?__)?(?:(?:pool_?)?max_?(?:size|len(?:gth)?|count|pool_?size|cached?|idle|"
    r"entries|items|elements|members|objects|keys|rows|records|messages|events|jobs|tasks|"
    r"conn(?:ection)?s?|clients|sessions|channels|sockets)|capacity|size_limit)",
    re.IGNORECASE,
)
"""
Public, private and mangled spellings: ``maxsize``, ``_capacity``, ``_Cache__maxsize``, and the most
of what a container holds: ``max_connections``, ``_maxcached``. Not what is no number of entries
(``max_age``, ``max_retries``), nor what may be the number now (``cache_size``).
"""
_ENDLESS = sys.maxsize >> 3
"""More entries than any list can have: who writes such a bound means none."""
_ABOVE = 3
"""Objects above a container that may be its owner: its instance, and the dict between them."""
_THROUGH = 8
"""Objects above a container whose types are kept."""
_HELD_BY_NOTHING = "held by nothing that Python can see"
OBJGRAPH_OBJECTS = 100_000
"""objgraph scans and collects the whole heap under the GIL at each step: small heaps only."""


@dataclass(slots=True)
class Retention:
    """One wanted object and how it is reached."""

    path: str
    anchored: bool
    depth: int
    inventory_name: str | None = None
    bound: int | None = None
    """Entries that its owner allows, where a bound was declared and is not yet reached."""
    in_user_code: bool = False
    """True where the name it is reached by is of the user's own code."""
    through: tuple[str, ...] = ()
    """The types on the way to it, the anchor's first; ``class`` for a class."""
    owner: tuple[str, ...] = ()
    """The type of the nearest object above it that is no plain dict, and its base types."""
    unseen: bool = False
    """True where no object of Python holds it, or what holds it."""


@dataclass(slots=True)
class _Node:
    """An object on the way up, and the object below it that it holds."""

    obj: Any
    below: _Node | None
    target: int
    depth: int

    def path(self) -> list[Any]:
        """Return the objects from this one down to the target."""
        objects, node = [], self
        while node is not None:
            objects.append(node.obj)
            node = node.below  # type: ignore[assignment] # reason: the loop ends on None
        return objects


@dataclass(slots=True)
class _Search:
    wanted: dict[int, Any]
    deadline: float
    ignore: set[int]
    roots: anchors.Anchors
    found: dict[int, list[tuple[anchors.Anchor, _Node]]] = field(default_factory=dict)
    seen: dict[tuple[int, int], _Node] = field(default_factory=dict)
    """By id of the holder and of the target."""
    cut_short: set[int] = field(default_factory=set)
    """Targets that have holders above the last level that was climbed."""

    @property
    def time_is_up(self) -> bool:
        return time.monotonic() > self.deadline

    @property
    def open_targets(self) -> set[int]:
        return self.wanted.keys() - self.found.keys()


def find_paths(
    wanted: Mapping[int, Any],
    *,
    seconds: float,
    containers: Mapping[int, tuple[str, str]] | None = None,
    ignore: Iterable[int] = (),
) -> dict[int, Retention]:
    """
    Return how each of the *wanted* objects (by id) is reached.

    Args:
        wanted: The objects; strong references are dropped before this returns.
        seconds: Time after which the search gives up; the path then ends in a note.
        containers: ``inventory.names()``: our own containers, which are anchors by name.
        ignore: ids of objects of the caller that also hold them.

    Cost: per level of depth one gentle walk of the heap, about 0.5 s of processor time for a
        million objects; typical paths have two to four levels.
    """
    search = _Search(
        wanted=dict(wanted),
        deadline=time.monotonic() + seconds * CLIMB,
        ignore=set(ignore),
        roots=anchors.Anchors(containers or {}),
    )
    search.ignore.update((id(wanted), id(search.wanted), id(search)))
    try:
        start = [_Node(obj, None, key, 0) for key, obj in search.wanted.items()]
        search.seen.update(
            {(key, key): node for key, node in zip(search.wanted, start, strict=True)}
        )
        frontier = _settle(search, start)
        for _ in range(MAX_LEVELS):
            if not frontier or search.time_is_up:
                break
            frontier = _settle(search, _one_level_up(search, frontier))
        search.cut_short.update(node.target for node in frontier)
        if search.open_targets:
            _settle(search, _held_by_locals(search))
        result = {key: _best(nodes) for key, nodes in search.found.items()}
        search.deadline += seconds * (1 - CLIMB)
        result.update(_from_above(search))
        for key in search.open_targets - result.keys():
            result[key] = (
                _second_opinion(search, key) or _lost_class(search, key) or _unanchored(search, key)
            )
        return result
    finally:
        # Nothing of the heap may stay reachable from here: frames outlive a call in tracebacks.
        search.wanted.clear()
        search.found.clear()
        search.seen.clear()
        search.roots.close()
        start = frontier = []


def _from_above(search: _Search) -> dict[int, Retention]:
    """Walk down from the modules to the targets that climbing did not settle."""
    still_open = search.open_targets
    if not still_open or search.time_is_up:
        return {}

    wanted = {key: search.wanted[key] for key in still_open}
    links = descent.links_of(wanted.values())

    def name(path: list[Any]) -> Retention | None:
        # A chain is named by its head: a thousand links help no reader.
        heads = (at for at, obj in enumerate(path) if id(type(obj)) in links)
        head = next(heads, len(path))
        path = path[: head + 1] if len(path) - head > MAX_LEVELS else path
        # A class on the way is a name of its own: its attribute is clearer than the way to it.
        last_class = max((at for at, obj in enumerate(path) if naming.is_type(obj)), default=0)
        for start in (last_class, 0):
            anchor = search.roots.of(path[start:])
            if anchor is not None:
                return _retention(anchor, path[start:])
        return None

    named = descent.find_from_above(wanted, name, deadline=search.deadline)
    wanted.clear()
    return {key: found for key, found in named.items() if found is not None}


def _settle(search: _Search, nodes: list[_Node]) -> list[_Node]:
    """Settle the targets whose node is an anchor; return the nodes to climb on from."""
    climb: list[_Node] = []
    for node in nodes:
        anchor = search.roots.of(node.path())
        if anchor is None:
            climb.append(node)
        else:
            search.found.setdefault(node.target, []).append((anchor, node))
    return _fair_share(climb, search.open_targets)


def _fair_share(nodes: list[_Node], still_open: set[int]) -> list[_Node]:
    """Return up to ``MAX_FRONTIER`` of the *nodes*, so that no target crowds out another."""
    by_target: dict[int, list[_Node]] = {}
    for node in nodes:
        if node.target in still_open:
            by_target.setdefault(node.target, []).append(node)
    rounds = itertools.zip_longest(*by_target.values())
    return [node for row in rounds for node in row if node is not None][:MAX_FRONTIER]


def _held_by_locals(search: _Search) -> list[_Node]:
    """Return a node for each running function whose local is a node of a target without anchor."""
    still_open = search.open_targets
    by_id: dict[int, list[_Node]] = {}
    for (key, target), node in search.seen.items():
        if target in still_open:
            by_id.setdefault(key, []).append(node)
    return [
        _Node(local, node, node.target, node.depth + 1)
        for local, key in search.roots.locals_holding(by_id)
        for node in by_id[key]
    ]


def _one_level_up(search: _Search, frontier: list[_Node]) -> list[_Node]:
    """Return a node for each new holder of a node of the *frontier*."""
    level = _Level(search, frontier)
    opener = walk.Opener()
    for chunk in walk.live_slices():
        level.search_among(chunk, opener)
        # Before the next list of the heap is made: this chunk would be in it, as a holder.
        del chunk
        if search.time_is_up:
            break
    return level.up


class _Level:
    """
    The holders of one level of the search.

    Bounded by: ``MAX_HOLDERS`` for each wanted object.
    """

    __slots__ = ("_by_id", "_count", "_own", "search", "up")

    def __init__(self, search: _Search, frontier: list[_Node]) -> None:
        self.search = search
        self.up: list[_Node] = []
        self._by_id: dict[int, list[_Node]] = {}
        self._count: Counter[int] = Counter()
        for node in frontier:
            self._by_id.setdefault(id(node.obj), []).append(node)
        self._own = {id(frontier), id(self.up), *map(id, self._by_id.values())}

    def search_among(self, chunk: list[Any], opener: walk.Opener) -> None:
        """Enter the holders in *chunk*, those of the tuples below it, and the huge ones."""
        for part in opener.parts(chunk):
            if self.search.time_is_up:
                return
            for tuples in opener.tuples(self.look_below(part)):
                self.look_below(tuples)
        for holder in opener.huge(chunk):
            for piece in walk.pieces(holder):
                if self.search.time_is_up:
                    return
                self.enter(holder, piece)

    def look_below(self, holders: list[Any]) -> list[Any]:
        """Enter those of *holders* that hold a node of the frontier; return all they hold."""
        below = gc.get_referents(*holders)  # which the caller had from Opener.parts
        if not self._by_id.keys().isdisjoint(map(id, below)):
            for holder in holders:
                self.enter(holder, gc.get_referents(holder))
        return below

    def enter(self, holder: Any, held: list[Any]) -> None:
        """Enter *holder* if a node of the frontier is among what it has *held*."""
        keys = self._by_id.keys() & set(map(id, held))
        if not keys or self._is_ours(holder):
            return
        search = self.search
        for node in (node for key in keys for node in self._by_id[key]):
            mark = (id(holder), node.target)
            if mark not in search.seen and self._count[node.target] < MAX_HOLDERS:
                self._count[node.target] += 1
                search.seen[mark] = _Node(holder, node, node.target, node.depth + 1)
                self.up.append(search.seen[mark])

    def _is_ours(self, obj: Any) -> bool:
        """Return True for what holds something only because it is being looked for."""
        kind = type(obj)
        if kind is types.FrameType:
            return is_own_code(obj.f_code.co_filename)
        if kind is types.GeneratorType:
            return is_own_code(obj.gi_code.co_filename)
        return (
            id(obj) in self._own
            or id(obj) in self.search.ignore
            or naming.type_name(kind).startswith(("memguard.leaks.", "memguard.heap."))
        )


def _best(found: list[tuple[anchors.Anchor, _Node]]) -> Retention:
    """Return the path to look at first: the user's own code, then the shortest."""
    anchor, node = min(found, key=lambda pair: (pair[0].rank, pair[1].depth))
    return _retention(anchor, node.path())


def _retention(anchor: anchors.Anchor, path: list[Any]) -> Retention:
    return Retention(
        path=anchor.name + naming.links(path[anchor.named :]),
        anchored=True,
        depth=len(path) - 1,
        inventory_name=anchor.inventory_name,
        bound=_bound(path),
        in_user_code=anchor.rank == 0,
        through=tuple(
            "class" if naming.is_type(obj) else naming.type_name(type(obj))
            for obj in path[:-1][-_THROUGH:]
        ),
        owner=_owner(path),
    )


def _owner(path: list[Any]) -> tuple[str, ...]:
    above = (type(obj) for obj in reversed(path[:-1]))
    kind = next((kind for kind in above if kind is not dict and kind is not types.CellType), dict)
    return naming.base_names(kind)


def _bound(path: list[Any]) -> int | None:
    length = walk.length_of(type(path[-1]))
    return None if length is None else declared_bound(path, length(path[-1]))


def declared_bound(path: Sequence[Any], entries: int) -> int | None:
    """
    Return the bound that was declared for a container and is not yet reached, or None.

    Such a container is filling up, not leaking. Structure decides, not the library: a deque with a
    ``maxlen``, an ``lru_cache`` with a ``maxsize``, or an owner with an attribute of such a name
    that is a number.

    Args:
        path: From the anchor down to the container, which is last.
        entries: Entries of the container now; a smaller number elsewhere does not bound it.
    """
    for obj in reversed(path[-_ABOVE:]):
        bound = _bound_of(obj)
        if bound is not None and bound >= entries:
            return bound
    return None


def _bound_of(obj: Any) -> int | None:
    kind = type(obj)
    if issubclass(kind, deque):
        return _whole(_DEQUE_MAXLEN.__get__(obj))
    if kind is _LRU_WRAPPER:
        return _whole(obj.cache_info().maxsize)
    namespace = naming.instance_dict(obj)
    named = list(namespace.items()) if namespace is not None else []
    for name, value in (*named, *naming.slots_of(obj)):
        if type(name) is str and _NAMES.fullmatch(name):
            bound = _whole(value)
            if bound is not None:
                return bound
    return None


def _whole(value: Any) -> int | None:
    """Return *value* as an int when it is a positive number of a builtin type, and not endless."""
    kind = type(value)
    if (kind is int or kind is float) and 0 < value < _ENDLESS:
        return int(value)
    return None


def _lost_class(search: _Search, key: int) -> Retention | None:
    """Fall back on a class that cannot be found by its name: better than no name at all."""
    for node in sorted(
        (node for (_, target), node in search.seen.items() if target == key),
        key=lambda node: node.depth,
    ):
        path = node.path()
        anchor = anchors.class_anchor(path[0], path, lost=True) if naming.is_type(path[0]) else None
        if anchor is not None:
            return _retention(anchor, path)
    return None


def _unanchored(search: _Search, key: int) -> Retention:
    """Describe how far the search came: the highest holder met, or that Python holds nothing."""
    highest = max(
        (node for (_, target), node in search.seen.items() if target == key),
        key=lambda node: node.depth,
    )
    path = highest.path()
    name = naming.type_name(type(path[0]))
    top = path[0]
    if type(top) is types.MethodType:  # what holds it calls it back: its name is the clue
        name = (
            f"method {naming.type_name(type(top.__self__))}.{naming.clean(top.__func__.__name__)}"
        )
    text = name if len(path) == 1 else f"<{name}>{naming.links(path)}"
    # Garbage in a cycle, or held by C; or the search ended before its holders.
    ended = search.time_is_up or key in search.cut_short
    seen = "above it nothing was found in time" if ended else _HELD_BY_NOTHING
    return Retention(f"{text}, {seen}", anchored=False, depth=highest.depth, unseen=not ended)


def prepare() -> None:
    """Import what the search may need, now: see ``allocator.prepare``."""
    import heapq  # noqa: F401, PLC0415 - reason: `Counter.most_common` imports it when it is called

    import objgraph  # noqa: F401, PLC0415 - reason: a fork must not meet this import half done

    frames.prepare()


class _BudgetSpentError(Exception):
    """Raised inside objgraph's search, through its predicate, when time is up."""


def _second_opinion(search: _Search, key: int) -> Retention | None:
    """Ask objgraph, where the heap is small and time is left."""
    if search.time_is_up or walk.too_large(OBJGRAPH_OBJECTS) is not None:
        return None
    if not garbage.collector().is_on:  # objgraph collects, and that is the host's decision
        return None
    import objgraph  # noqa: PLC0415 - reason: needed here only, and a megabyte of modules

    def is_anchor(obj: Any) -> bool:
        if search.time_is_up:
            raise _BudgetSpentError
        return (type(obj) is dict and search.roots.is_module_dict(obj)) or (
            naming.is_type(obj) and obj is not type and not naming.is_lost(obj)
        )

    mine = [id(search), id(search.wanted), id(search.seen), *map(id, search.seen.values())]
    frame = sys._getframe()  # noqa: SLF001 - reason: objgraph ignores by id, frames included
    mine += [id(frame), id(frame.f_back)]
    chain: list[Any] = []
    try:
        chain = objgraph.find_backref_chain(
            search.wanted[key],
            is_anchor,
            max_depth=MAX_LEVELS,
            extra_ignore=[*mine, *search.ignore],
        )
        anchor = search.roots.of(chain) if len(chain) > 1 else None
        return None if anchor is None else _retention(anchor, chain)
    except _BudgetSpentError:
        return None
    finally:
        chain.clear()
        del frame
