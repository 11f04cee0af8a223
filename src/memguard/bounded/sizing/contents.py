"""How many bytes is this value, with its contents? Bounded in time; a large one is estimated."""

from __future__ import annotations

import collections
import datetime as dt
import gc
import io
import sys
import types
from array import array
from itertools import islice
from typing import Any, Self

from memguard.bounded.options import check_positive_int
from memguard.bounded.sizing import libraries
from memguard.bounded.sizing.alone import (
    array_contents,
    data_of,
    is_known,
    is_made_by_a_call,
    numpy_array,
    plain_bytes,
    receiver_of,
)
from memguard.bounded.sizing.kinds import full_name, has_gc, package_of
from memguard.lifecycle.running import running_frames

DEFAULT_MAX_NODES = 10_000
"""About two milliseconds of walking."""
_ELEMENTS = 1_000
"""Of an array with more objects than may be looked at, so many are."""

# Types are compared by id or `is`: hashing a class may run code of its metaclass. Builtins live for
# ever, so that no other type gets their ids.
ATOMS = frozenset(
    map(
        id,
        (
            str, bytes, int, float, bool, complex, type(None), bytearray, range, array,
            dt.date, dt.datetime, dt.time, dt.timedelta,
            type(...), type(NotImplemented), object,
        ),
    )
)  # fmt: skip
"""Exact types without children of their own weight; ``sys.getsizeof`` knows all about them."""

_SEQUENCES = frozenset(map(id, (list, tuple, set, frozenset, collections.deque)))
_MAPPINGS = frozenset(
    map(id, (dict, collections.OrderedDict, collections.defaultdict, collections.Counter))
)

_SHARED = (
    type, types.ModuleType, types.CodeType, property, staticmethod, classmethod,
    types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType,
)  # fmt: skip
"""What a value refers to but does not own: code, classes and modules outlive it."""


class Size(int):
    """A number of bytes, counted or estimated."""

    estimated: bool
    """
    True when the walk was cut short and the rest extrapolated from what was seen; or where there is
    something *opaque*.
    """
    nodes: int
    """Objects looked at."""
    opaque: tuple[str, ...]
    """
    Types of what was met whose memory only their library knows, such as ``lxml.etree._Element``:
    then the number is what is known, and the truth may be many times that. At most eight.
    """

    def __new__(
        cls, count: float, *, estimated: bool = False, nodes: int = 1, opaque: tuple[str, ...] = ()
    ) -> Self:
        """Make a number that remembers how it was found."""
        size = super().__new__(cls, count)
        size.estimated = estimated
        size.nodes = nodes
        size.opaque = opaque
        return size

    @property
    def bytes(self) -> int:
        """The plain number."""
        return int(self)


def size_of(obj: object, *, max_nodes: int = DEFAULT_MAX_NODES) -> Size:
    """
    Return the bytes of *obj*, with the contents and attributes that it may be the only one to hold.

    Each object counts once, however often it is referred to. Classes, modules, running frames and
    functions that a name leads to count nothing; a closure counts what it has closed over, a
    generator or coroutine what its frame holds. An array, tensor, frame or image of a library that
    is known here counts its data, and a view all that it keeps alive; see ``docs/values.md``.

    Thread-safe; the containers may change meanwhile, and then the size is estimated.
    Cost: about 0.2 µs a node; more than *max_nodes* nodes are estimated from a sample.

    Args:
        obj: Anything.
        max_nodes: Objects to look at, at most; at least 1.

    Raises:
        TypeError: *max_nodes* is not an int.
        ConfigError: *max_nodes* is less than 1.
    """
    check_positive_int(max_nodes, "max_nodes", "; the default is 10000")
    if id(type(obj)) in ATOMS:
        return Size(sys.getsizeof(obj))
    walk = Walk(max_nodes)
    total = walk.measure([obj])
    return Size(total, estimated=walk.estimated, nodes=walk.nodes, opaque=walk.opaque_names())


def bytes_of(obj: object, max_nodes: int = DEFAULT_MAX_NODES) -> int:
    """Return ``int(size_of(obj))``, faster for atoms; for the hot path of byte-bounded caches."""
    kind = type(obj)
    if id(kind) in ATOMS:
        return sys.getsizeof(obj)
    reader = libraries.reader_of(kind)
    if reader is not None:
        found = libraries.read(obj, reader)
        if found is not None and found.how == libraries.SURE and not found.below and found.own >= 0:
            return found.own + found.data
    return int(Walk(max_nodes).measure([obj]))


LARGE = 16384
"""Bytes from which a part of an entry is counted once, however many entries share it."""
_MOST_NAMES = 8


class Walk:
    """One walk over an object graph, with what it has seen and may still spend."""

    __slots__ = (
        "budget", "estimated", "is_cyclic", "large", "nodes", "opaque", "parts", "root",
        "running", "seen", "signature",
    )  # fmt: skip

    def __init__(self, budget: int, *, parts: dict[int, int] | None = None) -> None:
        """
        Prepare a walk.

        Args:
            budget: Objects to look at, at most.
            parts: Takes the bytes of what is `LARGE`, by what names it; the sums are without those.
        """
        self.budget = budget
        self.nodes = 0
        self.estimated = False
        self.parts = parts
        self.large = sys.maxsize if parts is None else LARGE
        self.opaque: dict[int, type] | None = None
        """Types that were met whose memory only their library knows, by id."""
        self.root = 0
        self.is_cyclic = False
        """Whether what was met refers to the first object."""
        self.signature = 0
        """The sum of the ids of instances: of another set of them it is another one."""
        self.seen: set[int] = set()
        """ids of objects, and the names of data that objects share."""
        self.running: set[int] | None = None
        """ids of the frames that run, once one was met."""

    def measure(self, stack: list[Any]) -> float:
        """Return the bytes of everything on *stack* and below; empties it."""
        total: float = 0
        seen, getsizeof = self.seen, sys.getsizeof
        pop, extend = stack.pop, stack.extend
        nodes, budget, large = self.nodes, self.budget, self.large
        while stack:
            if nodes >= budget:
                self.nodes = nodes
                return total + self._rest(stack, total / nodes)
            obj = pop()
            ident = id(obj)
            if ident in seen:
                if ident == self.root:
                    self.is_cyclic = True
                continue
            seen.add(ident)
            nodes += 1
            kind = id(type(obj))
            if kind in ATOMS:
                size = getsizeof(obj)
                total += size if size < large else self._part(ident, size)
            elif kind in _SEQUENCES or kind in _MAPPINGS:
                total += getsizeof(obj)
                try:
                    if len(obj) > budget - nodes:
                        self.nodes = nodes
                        total += self._sample(obj, kind)
                        nodes = self.nodes
                    elif kind in _SEQUENCES:
                        extend(obj)
                    else:
                        extend(dict.keys(obj))
                        extend(dict.values(obj))
                except RuntimeError:  # it changed while it was read
                    self.estimated = True
            else:
                self.nodes = nodes
                total += self._open(obj, stack)
                nodes = self.nodes
        self.nodes = nodes
        return total

    def _rest(self, stack: list[Any], average: float) -> float:
        """Return an estimate of what the budget does not reach: one level, then the average."""
        self.estimated = True
        step = max(1, len(stack) // 1000)
        looked = stack[::step]
        total: float = 0
        for obj in looked:
            kind = id(type(obj))
            if kind in ATOMS:
                total += sys.getsizeof(obj)
            elif kind in _SEQUENCES:
                total += sys.getsizeof(obj) + len(obj) * average
            elif kind in _MAPPINGS:
                total += sys.getsizeof(obj) + 2 * len(obj) * average
            else:
                total += average
        rest = total * len(stack) / len(looked)
        stack.clear()
        return rest

    def _sample(self, container: Any, kind: int) -> float:
        """Return an estimate of the contents of a container too large to walk."""
        self.estimated = True
        length = len(container)
        taken = max(1, min(length, self.budget - self.nodes))
        items: Any
        if type(container) is list or type(container) is tuple:
            items = zip(container[:: length // taken])
        elif kind in _MAPPINGS:
            items = zip(dict.keys(container), dict.values(container), strict=False)
        else:
            items = zip(container)
        total: float = 0
        done = 0
        for item in islice(items, taken):
            if done and self.nodes >= self.budget:
                break
            total += self.measure(list(item))
            done += 1
        return total * length / done if done else 0.0

    def _open(self, obj: Any, stack: list[Any]) -> float:
        """Return the bytes of one object of any other type, and put what it owns on *stack*."""
        kind = type(obj)
        reader = libraries.reader_of(kind)
        if reader is not None:
            return self._read(obj, kind, reader, stack)
        if issubclass(kind, _SHARED) or self._is_code(obj, kind):
            return 0
        self.signature += id(obj)
        if not is_known(kind):
            if issubclass(kind, io.StringIO):
                text, is_all = _bytes_of_text(obj)
                if not is_all:
                    self._note_opaque(kind)
                return plain_bytes(obj, kind) + self._part(id(obj), text)
            self._note_opaque(kind)
            if has_gc(kind):
                stack += _of_others(obj, kind)
            return plain_bytes(obj, kind)
        if not has_gc(kind):
            return self._part(id(obj), plain_bytes(obj, kind))
        children = [child for child in data_of(obj, kind) if child is not kind]
        size = plain_bytes(obj, kind, len(children))
        if len(children) > self.budget - self.nodes:
            self.estimated = True
            del children[max(1, self.budget - self.nodes) :]
        stack += children
        return size

    def _read(self, obj: Any, kind: type, reader: libraries.Reader, stack: list[Any]) -> float:
        """Return the bytes of an object of a library, as that knows them."""
        found = libraries.read(obj, reader)
        if found is None:
            self._note_opaque(kind)
            return plain_bytes(obj, kind)
        own, key, data, below, how = found
        stack += below
        if own < 0:
            own = plain_bytes(obj, kind, len(gc.get_referents(obj)))
        size: float = self._part(id(obj), own)
        if key and key not in self.seen:
            self.seen.add(key)
            size += self._part(key, data)
        elif not key:
            size += data
        if how == libraries.OPAQUE:
            self._note_opaque(kind)
        elif how == libraries.ESTIMATED:
            self.estimated = True
        elif how == libraries.ELEMENTS:
            size += self._elements(obj, stack)
        return size

    def _elements(self, array: Any, stack: list[Any]) -> float:
        """Put the objects of an array on *stack*; of very many, estimate them from some."""
        ndarray = numpy_array()
        left = max(1, self.budget - self.nodes)
        count = int(ndarray.size.__get__(array))
        if count <= left or ndarray.dtype.__get__(array).kind != "O":
            children, complete = array_contents(ndarray, array, left)
            self.estimated = self.estimated or not complete
            stack += children
            return 0
        self.estimated = True
        some = ndarray.flat.__get__(array)[:: max(1, count // min(left, _ELEMENTS))].tolist()
        return self.measure(some[:]) * count / len(some)

    def _part(self, key: int, size: int) -> int:
        """Return *size* unless it is to be counted apart."""
        if size < self.large or self.parts is None:
            return size
        self.parts[key] = size
        return 0

    def _note_opaque(self, kind: type) -> None:
        self.estimated = True
        if self.opaque is None:
            self.opaque = {}
        if len(self.opaque) < _MOST_NAMES:
            self.opaque[id(kind)] = kind

    def opaque_names(self) -> tuple[str, ...]:
        """Return the names of the opaque types that were met."""
        if not self.opaque:
            return ()
        return tuple(sorted({full_name(kind) for kind in self.opaque.values()}))

    def _is_code(self, obj: Any, kind: type) -> bool:
        """Return True for a function that its name leads to, and for a frame that runs."""
        if kind is types.FunctionType:
            return not is_made_by_a_call(obj)
        if kind is types.BuiltinFunctionType:
            return receiver_of(obj) is None
        if kind is types.FrameType:
            if self.running is None:
                self.running = set(map(id, running_frames()))
            return id(obj) in self.running
        return False


_JOINS_ONCE = sys.version_info < (3, 12)
"""Until then a text that is written keeps its pieces, and is one object once it was asked for."""


def _bytes_of_text(text: Any) -> tuple[int, bool]:
    """
    Return what a ``StringIO`` keeps, and whether that is all; 0 for one that is closed.

    Cost: a copy of its text. From 3.12 on a text that is being written takes up to twice as much
    once it was asked for, so it is not: all that is known is its least size.
    """
    try:
        position = io.StringIO.tell(text)
        if position and not _JOINS_ONCE:
            return position, False
        value = io.StringIO.getvalue(text)
        if _JOINS_ONCE and io.StringIO.getvalue(text) is value:
            return sys.getsizeof(value), True
    except ValueError:
        return 0, True
    return 4 * len(value), True  # once it was read or moved in, or made from a text


def _of_others(obj: Any, kind: type) -> list[Any]:
    """
    Return what an opaque object refers to that is not of its own library.

    Such as the values of a record. What is of its library may be the tree that it is a part of.
    """
    package = package_of(kind)
    return [child for child in data_of(obj, kind) if package_of(type(child)) != package]
