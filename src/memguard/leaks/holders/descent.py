"""
Search top-down, from modules and running functions, when the search upwards has failed.

A container that the program replaces again and again (copy, add, assign) is gone before a climb
reaches what holds it. On the way down each step reads what is there now.
"""

from __future__ import annotations

import gc
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from memguard.bounded.sizing import data_of
from memguard.heap import naming, walk
from memguard.leaks.evidence.frames import is_user_module

T = TypeVar("T")
Running = Callable[..., Iterator[tuple[Any, Any]]]
MAX_NODES = 200_000
"""Objects visited below the user's modules, and again below the others; nearest ones first."""
MAX_DEPTH = 8
NEXT_LINKS = 32
"""Steps from the head of a chain in which a link is looked for that was the head a moment ago."""
_SLICE = 2_000


def find_from_above(
    wanted: Mapping[int, Any],
    name: Callable[[list[Any]], T],
    *,
    deadline: float,
    running: Running | None = None,
) -> dict[int, T]:
    """
    Return what *name* returns for the path from a name down to each of the *wanted* objects met.

    The user's modules are walked first, to their full depth, then what the user's functions that
    run now have in their locals; those of libraries after them. Of a function its closure, its
    defaults and its attributes are looked at, code and modules are not: what leaks hangs on data.
    Links of a chain, of the type of something wanted, are no step deeper: one that grows at its
    head carries its links away from their name faster than anybody can climb.

    Args:
        wanted: Live objects by id.
        name: Called at once with each path, which may not be true for long: from a module's
            namespace, or the stand-in of a local, down to the object.
        deadline: ``time.monotonic()`` at which to give up.
        running: Called with *user*, True or False: yields a stand-in holder and what it stands for,
            for each local of the running functions of the user's code, or of libraries.

    Cost: about 1 µs an object, in slices that let other threads run; 100 bytes an object meanwhile.
    """
    missing = set(wanted)
    found: dict[int, T] = {}
    links = links_of(wanted.values())
    # The user's modules to their full depth before any other: what is wanted may be moving away.
    modules = _modules()
    for user in (True, False):
        _walk(_Nodes(modules[user]), missing, found, name, links=links, deadline=deadline)
        if running is not None and missing:
            nodes = _Nodes([])
            for local, value in running(user=user):
                nodes.add_local(local, value)
                del value
            _walk(nodes, missing, found, name, links=links, deadline=deadline)
    return found


class _Nodes:
    """
    What was met on the way down, and from where.

    Bounded by: ``MAX_NODES``.
    """

    __slots__ = ("met", "seen", "todo")

    def __init__(self, spaces: list[dict[str, Any]]) -> None:
        self.met: list[tuple[Any, int, int]] = [(space, -1, 0) for space in spaces]
        """Each with the index of what it was met below, and its depth."""
        self.seen = set(map(id, spaces))
        self.todo = deque(range(len(spaces)))

    def add_local(self, local: Any, value: Any) -> None:
        """Begin at *value*, for which *local* stands."""
        if id(value) not in self.seen and _is_open(value):
            self.seen.add(id(value))
            self.met += [(local, -1, 0), (value, len(self.met), 0)]
            self.todo.append(len(self.met) - 1)

    def path(self, at: int) -> list[Any]:
        """Return the objects from the beginning down to the one at index *at*."""
        path = []
        while at >= 0:
            obj, at, _ = self.met[at]
            path.append(obj)
        path.reverse()
        return path


def links_of(wanted: Iterable[Any]) -> set[int]:
    """
    Return the ids of the types whose instances may be links of a chain that leads to *wanted*.

    Not of containers: everything holds those, and the walk would lose itself in them.
    """
    return {id(type(obj)) for obj in wanted if walk.counter_of(type(obj)) is None}


def _walk(
    nodes: _Nodes,
    missing: set[int],
    found: dict[int, T],
    name: Callable[[list[Any]], T],
    *,
    links: set[int],
    deadline: float,
) -> None:
    met, seen, todo = nodes.met, nodes.seen, nodes.todo
    own = {id(nodes), id(met), id(seen), id(todo), id(missing), id(links), id(found)}
    opener = walk.Opener()
    visited = 0
    while todo and missing and len(met) < MAX_NODES:
        at = todo.popleft()
        obj, _, depth = met[at]
        for below in _below(obj, opener):
            key = id(below)
            if key in missing:
                missing.discard(key)
                found[key] = name(repair([*nodes.path(at), below]))
            if key not in seen and key not in own and _is_open(below):
                seen.add(key)
                deeper = 0 if id(type(below)) in links else depth + 1
                met.append((below, at, deeper))
                if deeper < MAX_DEPTH:
                    todo.append(len(met) - 1)
        visited += 1
        if visited % _SLICE == 0:
            if time.monotonic() > deadline:
                break
            time.sleep(walk.PAUSE_SECONDS)
    met.clear()


def repair(path: list[Any]) -> list[Any]:
    """
    Return *path* with each link that was cut meanwhile replaced by what is there now.

    A container that was exchanged for a copy since it was seen hangs nowhere any more; the copy
    hangs on the same owner, and holds the same things.
    """
    for at in range(1, len(path) - 1):
        owner, held, below = path[at - 1 : at + 2]
        namespace = owner if at == 1 and type(owner) is dict else naming.instance_dict(owner)
        if namespace is None or namespace is held:
            continue
        values = list(namespace.values())
        if any(value is held for value in values) or naming.attribute_link(owner, held) is not None:
            continue
        opener = walk.Opener()
        for value in values:
            if type(value) is type(held) and (
                any(one is below for one in _below(value, opener)) or _leads_to(value, held, opener)
            ):
                path[at] = value
                break
    return path


def _leads_to(head: Any, link: Any, opener: walk.Opener) -> bool:
    """Return whether *link* is one of the next few links of the chain that begins with *head*."""
    seen = {id(head)}
    level = [head]
    for _ in range(NEXT_LINKS):
        level = [
            below
            for obj in level
            for below in _below(obj, opener)
            if id(below) not in seen and _is_between(below, link)
        ][:NEXT_LINKS]
        if any(below is link for below in level):
            return True
        seen.update(map(id, level))
    return False


def _is_between(obj: Any, link: Any) -> bool:
    """Return True for a link of the same chain, and for what may stand between two links."""
    kind = type(obj)
    return (
        kind is type(link)
        or kind is tuple
        or kind is types.CellType
        or (kind is dict and len(obj) <= NEXT_LINKS)
    )


def _modules() -> dict[bool, list[dict[str, Any]]]:
    """Return the namespaces of the user's modules, True, and those of all others, False."""
    spaces = [
        naming.module_dict(module)
        for module in list(sys.modules.values())
        if naming.is_module(module)
    ]
    return {user: [s for s in spaces if is_user_module(s) is user] for user in (True, False)}


def _below(obj: Any, opener: walk.Opener) -> list[Any]:
    entries = opener.entries(obj)
    if entries > walk.HUGE or entries < 0:
        return []
    # A function's code and what surrounds it, its globals first of all, are not below it.
    kind = type(obj)
    return data_of(obj, kind) if kind is types.FunctionType else gc.get_referents(obj)


def _is_open(obj: Any) -> bool:
    """Return True for what may hold data: no code, no module, no leaf."""
    kind = type(obj)
    if kind is types.FunctionType:
        with_data = obj.__closure__ is not None or obj.__defaults__ is not None
        return with_data or any(type(each) is dict for each in data_of(obj, kind))
    return not (
        kind is types.CodeType
        or kind is types.BuiltinFunctionType
        or kind is types.FrameType
        or naming.is_module(obj)
        or (kind is not dict and kind is not tuple and not gc.is_tracked(obj))
    )
