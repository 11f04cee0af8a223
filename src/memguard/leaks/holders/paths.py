"""
The shortest readable path from a name in the program to an object. Only this uses objgraph.

The search goes from the object up, level by level, for all wanted objects at once. A level is one
walk over the heap in slices (``heap.live_slices``): ``gc.get_referrers`` would scan everything in
one call, under the GIL. It ends at an *anchor*, something a person can find: a module, a class, one
of memguard's containers, a local of a running function. What only passes objects on, a suspended
coroutine or the frame of an exception, is gone past: something must hold it in turn. Where nothing
does, reference counts tell garbage from what C code holds. On a heap that is small enough for whole
scans, objgraph gets the last word where the walk found nothing.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memguard.heap import naming, walk
from memguard.heap.places import Place
from memguard.leaks.evidence import frames, garbage
from memguard.leaks.evidence.own_code import is_own_code, is_own_module
from memguard.leaks.holders import anchors, descent, keepers, links, reachability
from memguard.leaks.holders.anchors import Anchor, Tier
from memguard.leaks.holders.bounds import bound_of

MAX_LEVELS = 12
PAST_LOCALS = 3
"""Levels that are climbed past a local of a running function, for a module or class above it."""
CLIMB = 0.6
"""Share of the time for climbing; the rest is for the way down from the modules."""
MAX_FRONTIER = 256
"""Holders followed from one level to the next, for all wanted objects together."""
MAX_HOLDERS = 1000
"""Holders of one wanted object that are entered at one level."""
MAX_ALIKE = 400
"""Those of them that are of one type: a thousand dead frames leave room for what holds them."""
_THROUGH = 8
"""Objects above a container whose types are kept."""
_HELD_BY_NOTHING = "held by nothing that Python can see"
_GARBAGE = "garbage in a reference cycle"
CONJECTURE = "; the code around it passes it to "
"""What begins the part of a path that is not certain: see `keepers`."""
_NOT_IN_TIME = "above it nothing was found in time"
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
    """True where no object of Python holds it, or what holds it; but it is no garbage."""
    is_garbage: bool = False
    """True where only a cycle holds it that nothing else holds."""
    is_own: bool = False
    """True for what is memguard's own: no holder of the program's."""


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
    found: dict[int, list[tuple[Anchor, _Node]]] = field(default_factory=dict)
    seen: dict[tuple[int, int], _Node] = field(default_factory=dict)
    """By id of the holder and of the target."""
    patience: dict[int, int] = field(default_factory=dict)
    """Levels that are still climbed for a target, once it was found in a running function."""
    cut_short: set[int] = field(default_factory=set)
    """Targets that have holders above the last level that was climbed."""

    @property
    def time_is_up(self) -> bool:
        return time.monotonic() > self.deadline

    def enter(self, anchor: Anchor, node: _Node) -> None:
        """Enter an anchor that was met."""
        self.found.setdefault(node.target, []).append((anchor, node))
        if anchor.tier is Tier.NAMED:
            self.patience[node.target] = 0
        elif anchor.tier is Tier.RUNNING:
            self.patience.setdefault(node.target, PAST_LOCALS + 1)

    def wants_more(self, target: int) -> bool:
        """Return whether to climb on for *target*."""
        return self.patience.get(target, 1) > 0

    def is_held(self, target: int) -> bool:
        """Return whether *target* hangs on an anchor that nothing needs to hold."""
        return target in self.patience

    def nodes_of(self, target: int) -> list[_Node]:
        """Return *target* and the holders that were met above it, the lowest first."""
        nodes = [node for (_, key), node in self.seen.items() if key == target]
        return sorted(nodes, key=lambda node: node.depth)

    def is_ours(self, obj: Any) -> bool:
        """Return True for what holds something only because it is being looked for."""
        kind = type(obj)
        if kind is types.FrameType:
            return is_own_code(obj.f_code.co_filename)
        if kind is types.GeneratorType:
            return is_own_code(obj.gi_code.co_filename)
        return id(obj) in self.ignore or naming.type_name(kind).startswith(
            ("memguard.leaks.", "memguard.heap.")
        )


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
        seconds: Time after which the search gives up; the path then ends in a note. With 0 the heap
            is not walked.
        containers: ``inventory.names()``: our own containers, which are anchors by name.
        ignore: ids of objects of the caller that also hold them.

    Cost: per level of depth one gentle walk of the heap, about 0.5 s of processor time for a
        million objects; typical paths have two to four levels. One more for what nothing holds.
    """
    search = _Search(
        wanted=dict(wanted),
        deadline=time.monotonic() + seconds * CLIMB,
        ignore=set(ignore),
        roots=anchors.Anchors(containers or {}),
    )
    search.ignore.update((id(wanted), id(search.wanted), id(search)))
    try:
        start = [_first_node(key, obj) for key, obj in search.wanted.items()]
        search.seen.update({(id(node.obj), node.target): node for node in start})
        frontier = _settle(search, start)
        for _ in range(MAX_LEVELS):
            if not frontier or search.time_is_up:
                break
            frontier = _settle(search, _one_level_up(search, frontier))
        search.cut_short.update(node.target for node in frontier)
        search.deadline += seconds * (1 - CLIMB)
        held = {key: found for key, found in search.found.items() if search.is_held(key)}
        # Half of what is left to read the names, the same time for each.
        each = max(0.0, search.deadline - time.monotonic()) / 2 / max(1, len(held))
        result = {key: _best(found, each) for key, found in held.items()}
        held.clear()
        result.update(_from_above(search))
        for key in search.wanted.keys() - result.keys():
            result[key] = _without_a_name(search, key)
        _add_likely_keepers(search, result)
        return result
    finally:
        # Nothing of the heap may stay reachable from here: frames outlive a call in tracebacks.
        search.wanted.clear()
        search.found.clear()
        search.seen.clear()
        search.roots.close()
        start = frontier = []


def _first_node(key: int, obj: Any) -> _Node:
    """Return where to climb from: the object itself; of a place, the holder that it is in."""
    node = _Node(obj, None, key, 0)
    return _Node(obj.holder, node, key, 1) if type(obj) is Place else node


def _from_above(search: _Search) -> dict[int, Retention]:
    """Walk down from the modules to the targets that climbing did not settle."""
    still_open = {key for key in search.wanted if not search.is_held(key)}
    if not still_open or search.time_is_up:
        return {}

    wanted = {key: search.wanted[key] for key in still_open}
    chains = descent.links_of(wanted.values())

    def name(path: list[Any]) -> Retention | None:
        # A chain is named by its head: a thousand links help no reader.
        heads = (at for at, obj in enumerate(path) if id(type(obj)) in chains)
        head = next(heads, len(path))
        path = path[: head + 1] if len(path) - head > MAX_LEVELS else path
        # A class on the way is a name of its own: its attribute is clearer than the way to it.
        last_class = max((at for at, obj in enumerate(path) if naming.is_type(obj)), default=0)
        for start in (last_class, 0):
            anchor = search.roots.of(path[start:])
            if anchor is not None:
                return _retention(anchor, path[start:])
        return None

    def running(*, user: bool) -> Iterator[tuple[Any, Any]]:
        for local, value in search.roots.running_locals(user=user):
            if not search.is_ours(value):
                yield local, value
            del value

    named = descent.find_from_above(wanted, name, deadline=search.deadline, running=running)
    wanted.clear()
    return {key: found for key, found in named.items() if found is not None}


def _settle(search: _Search, nodes: list[_Node]) -> list[_Node]:
    """Enter the nodes that are anchors; return the nodes to climb on from."""
    climb: list[_Node] = []
    by_id: dict[int, list[_Node]] = {}
    for node in nodes:
        anchor = search.roots.of(node.path())
        if anchor is not None:
            search.enter(anchor, node)
        if anchor is None or anchor.tier is Tier.PASSING:
            climb.append(node)
            by_id.setdefault(id(node.obj), []).append(node)
    for local, key in search.roots.locals_holding(by_id.keys()):
        for node in by_id[key]:
            holder = _Node(local, node, node.target, node.depth + 1)
            anchor = search.roots.of(holder.path())
            if anchor is not None:
                search.enter(anchor, holder)
    for target, levels in search.patience.items():
        search.patience[target] = max(0, levels - 1)
    return _fair_share(search, climb)


def _fair_share(search: _Search, nodes: list[_Node]) -> list[_Node]:
    """Return up to ``MAX_FRONTIER`` of the *nodes*: no target or type crowds out another."""
    alike: dict[tuple[int, int], list[_Node]] = {}
    for node in nodes:
        if search.wants_more(node.target):
            alike.setdefault((node.target, id(type(node.obj))), []).append(node)
    rounds = itertools.zip_longest(*alike.values())
    shared = [node for row in rounds for node in row if node is not None]
    search.cut_short.update(node.target for node in shared[MAX_FRONTIER:])
    return shared[:MAX_FRONTIER]


def _one_level_up(search: _Search, frontier: list[_Node]) -> list[_Node]:
    """Return a node for each new holder of a node of the *frontier*."""
    level = _Level(search, frontier)
    opener = walk.Opener()
    with walk.live_slices() as slices:
        for chunk in slices:
            level.search_among(chunk, opener)
            # Before the next list of the heap is made: this chunk would be in it, as a holder.
            del chunk
            if search.time_is_up:
                search.cut_short.update(node.target for node in frontier)
                break
    return level.up


class _Level:
    """
    The holders of one level of the search.

    Bounded by: ``MAX_HOLDERS`` for each wanted object.
    """

    __slots__ = ("_alike", "_by_id", "_count", "_has_leaves", "_own", "search", "up")

    def __init__(self, search: _Search, frontier: list[_Node]) -> None:
        self.search = search
        self.up: list[_Node] = []
        self._by_id: dict[int, list[_Node]] = {}
        self._count: Counter[int] = Counter()
        self._alike: Counter[tuple[int, int]] = Counter()
        for node in frontier:
            self._by_id.setdefault(id(node.obj), []).append(node)
        # Only what the collector does not track hangs in a dict that it does not track.
        self._has_leaves = not all(gc.is_tracked(node.obj) for node in frontier)
        self._own = {id(frontier), id(self.up), *map(id, self._by_id.values())}

    def search_among(self, chunk: list[Any], opener: walk.Opener) -> None:
        """Enter the holders in *chunk*, those of the tuples below it, and the huge ones."""
        for part in opener.parts(chunk):
            if self.search.time_is_up:
                return
            below = self.look_below(part)
            for tuples in opener.tuples(below):
                self.look_below(tuples)
            if self._has_leaves:
                self.look_below(walk.untracked_of(dict, below))
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
        if not keys or id(holder) in self._own or self.search.is_ours(holder):
            return
        search = self.search
        is_module = search.roots.is_module_dict(holder)
        for node in (node for key in keys for node in self._by_id[key]):
            mark = (id(holder), node.target)
            if mark in search.seen:
                continue
            kind = (node.target, id(type(holder)))
            is_full = self._count[node.target] >= MAX_HOLDERS or self._alike[kind] >= MAX_ALIKE
            if is_full and not is_module:  # a name is what is looked for
                search.cut_short.add(node.target)
                continue
            self._count[node.target] += 1
            self._alike[kind] += 1
            search.seen[mark] = _Node(holder, node, node.target, node.depth + 1)
            self.up.append(search.seen[mark])


def _best(found: list[tuple[Anchor, _Node]], seconds: float) -> Retention:
    """
    Return the path to look at first, of those that were read in so many *seconds*: one at least.

    What a module or class of the user's own names comes first, then what is easiest to read. A
    coroutine of the user's is a better name than the library which runs it, once that is known to
    hold it.
    """
    deadline = time.monotonic() + seconds
    passing = {id(node.obj): (anchor, node) for anchor, node in found if anchor.tier is _PASSING}
    choices: list[tuple[int, Anchor, _Node]] = []
    for anchor, node in _without_reexports([each for each in found if each[0].tier < _PASSING]):
        order = _ORDER[anchor.rank, anchor.tier]
        if anchor.rank:
            below = [passing[id(obj)] for obj in node.path() if id(obj) in passing]
            users = [(_BELOW_LIBRARY, *each) for each in below if each[0].rank == 0]
            choices += users
            order = max(order, _BELOW_LIBRARY) if users else order
        choices.append((order, anchor, node))
    first = min(order for order, _, _ in choices)
    nearest = sorted(
        ((anchor, node) for order, anchor, node in choices if order == first),
        key=lambda choice: choice[1].depth,
    )
    ranked = []
    for anchor, node in nearest:
        retention = _retention(anchor, node.path())
        detour = _DETOUR if anchor.rank else 0
        ranked.append(((links.cost(retention.path) + detour, node.depth), retention))
        if time.monotonic() > deadline:
            break
    return min(ranked, key=lambda each: each[0])[1]


_PASSING = Tier.PASSING
_ORDER = {
    (0, Tier.NAMED): 0,
    (0, Tier.RUNNING): 1,
    (1, Tier.NAMED): 1,
    (1, Tier.RUNNING): 3,
}
"""Of anchors: the first that there are any of are compared by how readable their paths are."""
_BELOW_LIBRARY = 2
_DETOUR = 20
"""Characters by which a path from the user's own code may be longer than one from a library."""


def _without_reexports(
    found: list[tuple[Anchor, _Node]],
) -> list[tuple[Anchor, _Node]]:
    """Leave out the name by which a package hands on what one of its modules defines."""
    homes: dict[str, set[str]] = {}
    for anchor, _ in found:
        module, _, attribute = anchor.name.rpartition(".")
        homes.setdefault(attribute, set()).add(module)
    kept = []
    for anchor, node in found:
        module, _, attribute = anchor.name.rpartition(".")
        if not any(home.startswith(module + ".") for home in homes[attribute]):
            kept.append((anchor, node))
    return kept


def _retention(anchor: Anchor, path: list[Any]) -> Retention:
    return Retention(
        path=anchor.name + links.links(path[anchor.named :]),
        anchored=True,
        depth=len(path) - 1,
        inventory_name=anchor.inventory_name,
        bound=bound_of(path),
        in_user_code=anchor.rank == 0 and not anchor.is_well_known,
        through=tuple(
            "class" if naming.is_type(obj) else naming.type_name(type(obj))
            for obj in path[:-1][-_THROUGH:]
        ),
        owner=_owner(path),
        is_own=anchor.tier is Tier.OWN or _is_kept_by_us(path),
    )


def _owner(path: list[Any]) -> tuple[str, ...]:
    above = (type(obj) for obj in reversed(path[:-1]))
    kind = next((kind for kind in above if kind is not dict and kind is not types.CellType), dict)
    return naming.base_names(kind)


def _is_kept_by_us(path: list[Any]) -> bool:
    """Return True where the nearest instance above the target is memguard's, and no container."""
    for obj in reversed(path[:-1]):
        kind = type(obj)
        if kind is anchors.Local or kind is types.FunctionType or naming.is_type(obj):
            return False
        module = naming.dict_of_type(kind).get("__module__")
        if type(module) is str:
            return is_own_module(module) and not module.startswith("memguard.bounded.")
    return False


def _without_a_name(search: _Search, key: int) -> Retention:
    """Describe what hangs on no name: garbage, held by C code, or not found in time."""
    found = search.found.get(key, [])
    if any(anchor.tier is Tier.OWN for anchor, _ in found):
        return Retention("memguard", anchored=False, depth=0, is_own=True)
    nodes = search.nodes_of(key)
    ended = search.time_is_up or key in search.cut_short
    if not ended and _is_garbage(search, nodes):
        why = _GARBAGE if len(nodes) > 1 else _HELD_BY_NOTHING
        text = f"{_description(nodes[-1])}, {why}"
        return Retention(text, anchored=False, depth=nodes[-1].depth, is_garbage=True)
    passing = [(anchor, node) for anchor, node in found if anchor.tier is Tier.PASSING]
    if passing:  # the stack of a running function holds it, or C code: invisible, but alive
        anchor, node = min(passing, key=lambda pair: (pair[0].rank, pair[1].depth))
        return _retention(anchor, node.path())
    return (
        _second_opinion(search, key)
        or _lost_class(nodes)
        or Retention(
            f"{_description(nodes[-1])}, {_NOT_IN_TIME if ended else _HELD_BY_NOTHING}",
            anchored=False,
            depth=nodes[-1].depth,
            unseen=not ended,
            is_own=_is_kept_by_us(nodes[-1].path()),
        )
    )


def _add_likely_keepers(search: _Search, result: dict[int, Retention]) -> None:
    """Say of functions that C code holds which object it may be; the first one's code is asked."""
    made = {
        key: function
        for key, found in result.items()
        if found.unseen and (function := _function_above(search, key)) is not None
    }
    first = next(iter(made.values()), None)
    if first is None or search.time_is_up:
        return
    found = keepers.keepers_of(first, is_over=lambda: search.time_is_up)
    if found is None:
        return
    where = f"a {found.kind}" if found.count == 1 else f"one of several {found.kind}"
    if found.only is not None:
        home = find_paths(
            {id(found.only): found.only},
            seconds=search.deadline - time.monotonic(),
            ignore=search.ignore,
        ).popitem()[1]
        if home.anchored:
            where = f"{home.path} ({found.kind})"
    for key, function in made.items():
        if function.__code__ is first.__code__:
            text = f"{CONJECTURE}{found.method}(): perhaps {where} keeps it"
            result[key].path += text


def _function_above(search: _Search, key: int) -> types.FunctionType | None:
    """Return the highest holder of a target that is a function made in another one."""
    functions = (
        node.obj for node in reversed(search.nodes_of(key)) if type(node.obj) is types.FunctionType
    )
    return next((each for each in functions if "<locals>" in each.__qualname__), None)


def _is_garbage(search: _Search, nodes: list[_Node]) -> bool:
    return reachability.is_garbage(
        [node.obj for node in nodes], is_ours=search.is_ours, is_over=lambda: search.time_is_up
    )


def _lost_class(nodes: list[_Node]) -> Retention | None:
    """Fall back on a class that cannot be found by its name: better than no name at all."""
    for node in nodes:
        path = node.path()
        anchor = anchors.class_anchor(path[0], path, lost=True) if naming.is_type(path[0]) else None
        if anchor is not None:
            return _retention(anchor, path)
    return None


def _description(highest: _Node) -> str:
    """Describe how far the search came."""
    path = highest.path()
    top = path[0]
    name = naming.type_name(type(top))
    if type(top) is types.MethodType:  # what holds it calls it back: its name is the clue
        name = (
            f"method {naming.type_name(type(top.__self__))}.{naming.clean(top.__func__.__name__)}"
        )
    return name if len(path) == 1 else f"<{name}>{links.links(path)}"


def prepare() -> None:
    """Import what the search may need, now: see ``allocator.prepare``."""
    import ast  # noqa: F401, PLC0415 - reason: `keepers` asks it for the calls of a function
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
