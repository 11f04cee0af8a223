"""
Is what grows garbage in reference cycles? Reference counts say so, before any collection.

Of the youngest objects, those are alive that have more references than the others of them hold, and
what such objects lead to. The rest is unreachable: the same question that the collector asks of its
youngest generation. Nothing is freed and no code of the host's runs, so the question may be asked
of a process whose collector is switched off.

Source: CPython, InternalDocs/garbage_collector.md, "Identifying reference cycles".
"""

from __future__ import annotations

import gc
import importlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from memguard.bounded.sizing import shallow_size
from memguard.heap import naming, walk
from memguard.heap.naming import type_name
from memguard.leaks.holders import links
from memguard.lifecycle import locks

FEWEST = 4096
MOST = 20_000
"""Young objects that are looked at: cycles of leaked garbage are of one age."""
WEIGHED = 4096
"""Objects of the garbage that are weighed; the others count as these do."""
LEVELS = 4
"""Steps below the garbage to what only it holds: strings in a dict that is not tracked."""
CYCLE = 6
"""Longest cycle that is named."""
RAISED = 20_000
"""Threshold of the youngest generation that is worth a word; the default is 700 to 2,000."""
_INTERPRETERS = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
_DECIDES = 0.5
"""Share of a type's young instances that must be garbage for the type to count as garbage."""


@dataclass(frozen=True, slots=True)
class Collector:
    """How the host has set up the collector."""

    enabled: bool = True
    threshold: int = 700
    """New objects at which the youngest generation is collected; 0 is never."""

    @property
    def is_on(self) -> bool:
        """False where it never runs by itself."""
        return self.enabled and self.threshold > 0

    @property
    def is_soon(self) -> bool:
        """False where it never runs by itself, or where its threshold was raised by far."""
        return self.is_on and self.threshold < RAISED


def collector() -> Collector:
    """Return the settings of this interpreter's collector."""
    return Collector(gc.isenabled(), gc.get_threshold()[0])


def other_interpreters() -> int:
    """Return how many other interpreters there are in this process; 0 where that is unknown."""
    try:
        return len(importlib.import_module(_INTERPRETERS).list_all()) - 1
    except (ImportError, RuntimeError):
        return 0


def prepare() -> None:
    """Import what `other_interpreters` asks, now: see ``allocator.prepare``."""
    other_interpreters()


@dataclass(frozen=True, slots=True)
class Garbage:
    """What of the youngest objects was unreachable."""

    objects: int = 0
    """Unreachable ones."""
    bytes: int = 0
    """Of these, and of what only they hold."""
    types: tuple[tuple[str, int, int], ...] = ()
    """(type, young instances, unreachable ones of them), most unreachable first."""
    cycle: str | None = None
    """The shortest cycle of one of them: ``"shop.Node.parent.children[…]"``."""

    def share(self, name: str) -> float:
        """Return the share of the young instances of the type *name* that is garbage, 0 to 1."""
        return next((dead / young for kind, young, dead in self.types if kind == name), 0.0)

    def is_garbage(self, name: str) -> bool:
        """Return True where most young instances of the type *name* are garbage."""
        return self.share(name) >= _DECIDES


def find_garbage(newest: int) -> Garbage | None:
    """
    Return what of about *newest* of the youngest objects is unreachable; None where unknown.

    Without a GIL the collector does not know which objects are young: all are looked at, and it is
    unknown where that would be more than ``MOST``.

    Cost: 5 to 10 µs an object, in slices that let other threads run.
    """
    count = max(FEWEST, min(newest, MOST))
    young = _youngest(MOST + 1 if locks.FREE_THREADED else count)
    if len(young) > MOST:
        return None
    kinds = Counter(map(id, map(type, young)))
    opener = walk.Opener()
    young.extend(_tuples_below(young, opener))
    dead = _in_cycles(_unreachable(young, opener), opener)
    young.clear()
    if not dead:
        return Garbage()
    rows: dict[int, list[Any]] = {}
    for obj in dead.values():
        if type(obj) is not tuple:  # tuples were not counted among the young
            rows.setdefault(id(type(obj)), [type(obj), 0])[1] += 1
    types = tuple((type_name(kind), kinds[key], count) for key, (kind, count) in rows.items())
    return Garbage(
        objects=len(dead),
        bytes=_weigh(dead, opener),
        types=tuple(sorted(types, key=lambda row: -row[2])),
        cycle=_name_a_cycle(dead),
    )


def _youngest(count: int) -> list[Any]:
    young: dict[int, Any] = {}  # one that moves to an older generation meanwhile is met twice
    with walk.live_slices() as slices:
        for chunk in slices:
            for obj in itertools.islice(reversed(chunk), count - len(young)):
                young[id(obj)] = obj
            del chunk
            young.pop(id(young), None)  # it would hold all the others, and itself
            if len(young) >= count:
                break
    return list(young.values())


def _tuples_below(objects: list[Any], opener: walk.Opener) -> list[Any]:
    """Return the tuples that hang below *objects*: they can be links of a cycle, too."""
    found: dict[int, Any] = {}
    for part in opener.parts(objects):
        for tuples in opener.tuples(gc.get_referents(*part)):
            found.update((id(each), each) for each in tuples if gc.is_tracked(each))
    return list(found.values())


def _unreachable(objects: list[Any], opener: walk.Opener) -> dict[int, Any]:
    """Return those of *objects*, by id, that no reference from outside leads to."""
    objects.append([])  # it has the references that all of them have from being looked at
    counts = list(map(sys.getrefcount, objects))
    inside = _references_within(objects, opener)
    # Counted twice, as the program goes on; what is unreachable no longer changes.
    counts = list(map(max, counts, map(sys.getrefcount, objects)))
    objects.pop()
    ours = counts.pop()
    unknown: dict[int, Any] = {}
    alive: list[Any] = []
    for obj, count in zip(objects, counts, strict=True):
        if count - ours > inside[id(obj)]:
            alive.append(obj)
        else:
            unknown[id(obj)] = obj
    del inside
    while alive and unknown:
        reached: set[int] = set()
        for part in opener.parts(alive):
            reached |= unknown.keys() & set(map(id, gc.get_referents(*part)))
        alive = [unknown.pop(key) for key in reached]
    return unknown


def _references_within(objects: Iterable[Any], opener: walk.Opener) -> Counter[int]:
    """Return how often *objects* refer to each object, by its id."""
    held: Counter[int] = Counter()
    for part in opener.parts(objects):
        held.update(map(id, gc.get_referents(*part)))
    return held


def _in_cycles(dead: dict[int, Any], opener: walk.Opener) -> dict[int, Any]:
    """Return *dead* without what has died of itself meanwhile, and only we have kept."""
    inside = _references_within(dead.values(), opener)
    gone = [obj for key, obj in dead.items() if not inside[key]]
    while gone:
        for obj in gone:
            del dead[id(obj)]
        below = _references_within(gone, opener)
        gone = []
        for key in dead.keys() & below.keys():
            inside[key] -= below[key]
            if inside[key] <= 0:
                gone.append(dead[key])
    return dead


def _weigh(dead: dict[int, Any], opener: walk.Opener) -> int:
    """Return the bytes of *dead* and of what they alone hold, those of many by a sample."""
    known = set(dead)
    level = list(itertools.islice(dead.values(), WEIGHED))
    share = len(level) / len(dead)
    total = sum(map(shallow_size, level))
    for _ in range(LEVELS):
        leaves = _leaves_below(level, known, opener)
        held = _references_within(level, opener)
        leaves[0] = object()  # like the others, nobody has it but this dict and who else holds it
        counts = list(map(sys.getrefcount, leaves.values()))
        ours = counts.pop()
        del leaves[0]
        counted = zip(leaves.items(), counts, strict=True)
        level = [leaf for (key, leaf), count in counted if count - ours <= held[key]]
        known.update(map(id, level))
        total += sum(map(shallow_size, level))
    return round(total / share)


def _leaves_below(level: list[Any], known: set[int], opener: walk.Opener) -> dict[int, Any]:
    """Return what *level* refers to and the collector does not track, by id."""
    return {
        id(leaf): leaf
        for part in opener.parts(level)
        for leaf in gc.get_referents(*part)
        if id(leaf) not in known and _is_leaf(leaf)
    }


def _is_leaf(obj: Any) -> bool:
    """Return True for what holds nothing that the collector tracks."""
    return not gc.is_tracked(obj) and not naming.is_type(obj)


def _name_a_cycle(dead: dict[int, Any]) -> str | None:
    """Return a cycle, shortest first, of the program's own classes where there is one."""
    for root in _candidates(dead):
        level: list[list[Any]] = [[root]]
        seen = {id(root)}
        for _ in range(CYCLE):
            deeper: list[list[Any]] = []
            for path in level:
                for below in gc.get_referents(path[-1]):
                    if below is root:
                        return type_name(type(root)) + links.links([*path, below])
                    if id(below) in dead and id(below) not in seen and len(seen) < FEWEST:
                        seen.add(id(below))
                        deeper.append([*path, below])
            level = deeper
    return None


def _candidates(dead: dict[int, Any]) -> Iterator[Any]:
    """Yield an object of each type of the garbage: classes of the program and libraries first."""
    kinds: dict[int, Any] = {}
    for obj in dead.values():
        kinds.setdefault(id(type(obj)), obj)
    yield from sorted(kinds.values(), key=lambda obj: "." not in type_name(type(obj)))
