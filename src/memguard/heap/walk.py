"""
Walk the live heap in slices that let other threads run. Shared by census and holders.

``gc.get_objects`` is one call under the GIL; everything after it is done a slice at a time, and a
slice is dropped as soon as it was seen, so that an object which dies during the walk is not kept
alive by it for long.

What the collector's own list must not, or does not, show is found through its holders instead:

- Tuples. One that ``tuple(generator)`` is still filling is in the collector's list already, and a
  second reference to it, held while the generator runs on, makes the filling thread fail with a
  SystemError (python/cpython#59313). So no tuple of that list is ever held while the GIL may change
  hands; a finished one hangs below its holder.
- Dicts of strings and numbers, which are untracked up to CPython 3.13. Caches often are such dicts.
- Objects that ``gc.freeze`` has put away, as servers do before they fork.

Modules are never opened by ``gc.get_referents``: it takes references to whatever the C code behind
a module shows the collector, and ``_asyncio`` of CPython 3.12, until August 2024, shows its list of
dead objects, which is a ring afterwards: the next collection runs round it forever
(python/cpython#122695). Their namespaces are dicts that hang in the collector's list themselves.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import operator
import sys
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from memguard.heap import naming, places
from memguard.lifecycle import locks

SLICE = 4096
OPENED = 50_000
"""Entries that are copied in one call to see what a slice holds."""
HUGE = 100_000
"""Containers with more entries are not opened at once, but piece by piece where it is needed."""
_NEVER = -1
"""Entries of what must not be opened."""
NESTED = 4
"""Tuples in tuples that are followed."""
PAUSE_SECONDS = 0.0002
"""Sleep between slices: long enough to hand the GIL over, short enough to finish."""

_LENGTHS: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (OrderedDict, OrderedDict.__len__),
    (dict, dict.__len__),
    (list, list.__len__),
    (set, set.__len__),
    (deque, deque.__len__),
)
_ITEM_SIZE: Any = vars(array)["itemsize"].__get__


def _array_bytes(obj: array[Any]) -> int:
    return array.__len__(obj) * int(_ITEM_SIZE(obj))


# What is in it, and what it has taken: a buffer grows by blocks with room for more, of which the
# system gives pages as they are filled.
_BUFFERS: tuple[tuple[type, Callable[[Any], int], Callable[[Any], int]], ...] = (
    (bytearray, bytearray.__len__, bytearray.__sizeof__),
    (array, _array_bytes, array.__sizeof__),
    (io.BytesIO, io.BytesIO.__sizeof__, io.BytesIO.__sizeof__),
)
_FIXED_LENGTHS: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (tuple, tuple.__len__),
    (frozenset, frozenset.__len__),
)


def length_of(kind: type) -> Callable[[Any], int] | None:
    """
    Return the C function that counts the entries of a container of type *kind*, or None.

    The base type's own slot, never an override: no code of the host's runs.
    """
    return next((length for base, length in _LENGTHS if issubclass(kind, base)), None)


def size_of_buffer(kind: type) -> Callable[[Any], int] | None:
    """Return the function that gives the bytes in a buffer of type *kind*; None if it is none."""
    return next((size for base, size, _ in _BUFFERS if issubclass(kind, base)), None)


def block_of_buffer(kind: type) -> Callable[[Any], int] | None:
    """Return the C function that gives the bytes a buffer of type *kind* has taken, or None."""
    return next((block for base, _, block in _BUFFERS if issubclass(kind, base)), None)


def counter_of(kind: type) -> Callable[[Any], int] | None:
    """Return the function that returns how much is in a container or buffer, or None."""
    return length_of(kind) or size_of_buffer(kind)


def live_slices(
    *, pause: float = PAUSE_SECONDS
) -> contextlib.AbstractContextManager[Iterator[list[Any]]]:
    """
    Return the objects that the collector tracks, but tuples, a slice at a time, the youngest first.

    Walk in a ``with`` block, however the walk ends: it is itself among the objects that are left,
    which it would keep alive until the collector finds that circle.

    Generation by generation, so that the young ones, of which many will be dead in a moment, are
    let go of early. An object that moves to an older generation meanwhile is seen twice.

    Args:
        pause: Seconds to sleep between slices.

    Cost: one call under the GIL for each generation, about 0.15 s per million objects (3.11; up to
        0.3 s on a slow machine), then slices of a millisecond; 8 bytes an object while the walk
        lasts, 70 where objects are frozen.
    """
    return contextlib.closing(_slices(pause))


def _slices(pause: float) -> Generator[list[Any]]:
    frozen = gc.get_freeze_count()
    known: set[int] = set()
    for generation in _generations():
        objects = _tracked(generation)
        while objects:
            chunk = [obj for obj in objects[-SLICE:] if obj is not None]
            del objects[-SLICE:]
            if frozen:
                known.update(map(id, chunk))
            yield chunk
            del chunk
            if pause and objects:
                time.sleep(pause)
    if frozen:
        yield from _frozen_slices(known, frozen, pause)


def _generations() -> list[int | None]:
    # None is all of them at once. From 3.14.0 to 3.14.4 the numbers mean something else; without a
    # GIL there are no generations, and each number means all objects.
    whole = locks.FREE_THREADED or (3, 14) <= sys.version_info[:3] < (3, 14, 5)
    return [None] if whole else [0, 1, 2]


def _tracked(generation: int | None) -> list[Any]:
    """
    Return the objects of *generation*, None in place of each tuple, in one call that keeps the GIL.

    The last line but one is that call: it fills *fetched* with the collector's list and lets go of
    the tuples. No bytecode runs in between, hence no other thread; nothing that the collector
    tracks is made, hence no collection. The list that is returned is not in itself: what would be
    there holds everything.
    """
    fetched: list[list[Any]] = []
    fetch = map(fetched.append, map(gc.get_objects, (generation,)))
    kinds = map(type, itertools.chain.from_iterable(fetched))
    are_tuples = map(operator.is_, kinds, itertools.repeat(tuple))
    places = itertools.compress(itertools.count(), are_tuples)
    let_go = map(operator.setitem, itertools.cycle(fetched), places, itertools.repeat(None))
    deque(itertools.chain(fetch, let_go), maxlen=0)
    return fetched.pop()


def _frozen_slices(known: set[int], count: int, pause: float) -> Iterator[list[Any]]:
    """Yield up to *count* tracked objects below the modules whose ids are not *known*."""
    opener = Opener()
    todo: list[Any] = [
        namespace
        for module in list(sys.modules.values())
        if naming.is_module(module) and id(namespace := naming.module_dict(module)) not in known
    ]
    known.update(map(id, todo))
    left = count
    while todo and left > 0:
        chunk = todo[-SLICE:]
        del todo[-SLICE:]
        left -= len(chunk)
        yield [obj for obj in chunk if type(obj) is not tuple]
        for part in opener.parts(chunk):
            below = gc.get_referents(*part)
            for obj in itertools.compress(below, map(gc.is_tracked, below)):
                if id(obj) not in known:
                    known.add(id(obj))
                    todo.append(obj)
        del chunk
        if pause:
            time.sleep(pause)


class Opener:
    """
    Look below objects, never at too much at once.

    Bounded by: the types of the program.
    Locks: none; one thread.
    Keeps alive: the types met, so that their ids stay theirs; drop it after a walk.
    """

    __slots__ = ("_known", "large")

    def __init__(self, large: list[Any] | None = None) -> None:
        """
        Prepare to look.

        Args:
            large: Where `untracked` enters the holders of large values that it comes by, which the
                caller takes out; see `memguard.heap.places`. None leaves them out.
        """
        self._known: dict[int, tuple[type, Callable[[Any], int] | None]] = {}
        self.large = large

    def entries(self, obj: Any) -> int:
        """Return how many entries *obj* has: 0 for what is no container, -1 for a module."""
        kind = type(obj)
        known = self._known.get(id(kind))
        if known is None:
            known = self._known[id(kind)] = (kind, _entries_of(kind))
        count = known[1]
        return 0 if count is None else count(obj)

    def parts(self, chunk: Iterable[Any]) -> Iterator[list[Any]]:
        """
        Yield *chunk* in lists with at most ``OPENED`` entries or so: fit for ``gc.get_referents``.

        Modules are left out, and the huge.
        """
        part: list[Any] = []
        left = OPENED
        for obj in chunk:
            entries = self.entries(obj)
            if entries > HUGE or entries == _NEVER:
                continue
            if entries > left and part:
                yield part
                part, left = [], OPENED
            part.append(obj)
            left -= entries
        if part:
            yield part

    def huge(self, chunk: Iterable[Any]) -> list[Any]:
        """Return what `parts` leaves out."""
        return [obj for obj in chunk if self.entries(obj) > HUGE]

    def untracked(self, chunk: Iterable[Any]) -> list[Any]:
        """
        Return the dicts and buffers below *chunk* that the collector does not track.

        Those in tuples below it, too, as defaults are; buffers only in those of functions.

        Cost: about 50 ns a reference.
        """
        found: list[Any] = []
        chunk = list(chunk)
        tuples = self._untracked_below(chunk, found)
        # An instance's own dict, where it holds nothing that is tracked, is one of those. A dict
        # keeps its tuple tracked, a buffer does not: those are opened where defaults are.
        tuples += _of_type(tuple, gc.get_referents(*_of_type(FunctionType, chunk)))
        dicts = [obj for obj in found if type(obj) is dict]
        self._untracked_below(dicts, found)
        self._untracked_below(tuples, found)
        return found

    def _untracked_below(self, chunk: Iterable[Any], found: list[Any]) -> list[Any]:
        """Enter in *found* what is below *chunk*; return the tracked tuples that are there."""
        tuples: list[Any] = []
        for part in self.parts(chunk):
            below = gc.get_referents(*part)
            kinds = list(map(type, below))
            # By id: hashing a class may run code of its metaclass.
            present = set(map(id, kinds))
            if self.large is not None and places.has_large(below, kinds, present):
                self.large.extend(places.holders_of_large(part))
            for key in _UNTRACKED.keys() & present:
                found.extend(untracked_of(_UNTRACKED[key], below))
            if id(tuple) in present:
                kept = _of_type(tuple, below)
                tuples.extend(itertools.compress(kept, map(gc.is_tracked, kept)))
        return tuples

    def tuples(self, below: list[Any]) -> Iterator[list[Any]]:
        """Yield the tuples among *below*, then those in them, and so on, in bounded lists."""
        level = _of_type(tuple, below)
        for _ in range(NESTED):
            deeper: list[Any] = []
            for part in self.parts(level):
                yield part
                deeper.extend(_of_type(tuple, gc.get_referents(*part)))
            level = deeper


# Every dict is tracked from 3.14 on (python/cpython#127010).
_UNTRACKED: dict[int, type] = {id(bytearray): bytearray, id(array): array}
if sys.version_info < (3, 14):
    _UNTRACKED[id(dict)] = dict


def _entries_of(kind: type) -> Callable[[Any], int] | None:
    if issubclass(kind, ModuleType):
        return _never
    fixed = (length for base, length in _FIXED_LENGTHS if issubclass(kind, base))
    return length_of(kind) or next(fixed, None)


def _never(_: Any) -> int:
    return _NEVER


def untracked_of(kind: type, objects: list[Any]) -> list[Any]:
    """Return those of *objects*, of exactly this type, that the collector does not track."""
    kept = _of_type(kind, objects)
    return list(itertools.compress(kept, map(operator.not_, map(gc.is_tracked, kept))))


def untracked_among(objects: list[Any]) -> list[Any]:
    """Return the dicts and buffers among *objects* that the collector does not track."""
    return [obj for kind in _UNTRACKED.values() for obj in untracked_of(kind, objects)]


def _of_type(kind: type, objects: list[Any]) -> list[Any]:
    return list(
        itertools.compress(objects, map(operator.is_, map(type, objects), itertools.repeat(kind)))
    )


def pieces(container: Any, size: int = OPENED) -> Iterator[list[Any]]:
    """Yield what *container* holds, *size* objects at a time; ends early where it changes."""
    kind = type(container)
    try:
        for entries in _iterators(kind, container):
            while piece := list(itertools.islice(entries, size)):
                yield piece
    except RuntimeError:  # its size changed meanwhile
        return


def _iterators(kind: type, container: Any) -> list[Iterator[Any]]:
    if issubclass(kind, dict):
        return [iter(dict.values(container)), dict.__iter__(container)]
    bases: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
    return [base.__iter__(container) for base in bases if issubclass(kind, base)]


def too_large(max_objects: int) -> int | None:
    """Return the number of blocks when there are too many to walk, else None."""
    blocks = sys.getallocatedblocks()
    return blocks if blocks > max_objects else None
