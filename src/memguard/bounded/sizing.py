"""
How many bytes is this value? Bounded in time, and without running user code.

Sizes come from built-in types through their own methods: no ``__sizeof__``, ``__len__``,
``__class__`` or property of anybody else's class is called, and no ``__eq__`` or ``__hash__`` of
its metaclass. What an object refers to comes from ``gc.get_referents``, which asks C code alone.
"""

from __future__ import annotations

import collections
import datetime as dt
import gc
import io
import sys
import types
from array import array
from collections.abc import Callable
from itertools import islice
from typing import Any, Self

from memguard.bounded.options import check_positive_int

DEFAULT_MAX_NODES = 10_000
"""About two milliseconds of walking."""

# Types are compared by id or `is`: hashing a class may run code of its metaclass. Builtins live for
# ever, so that no other type gets their ids.
_ATOMS = frozenset(
    map(
        id,
        (
            str, bytes, int, float, bool, complex, type(None), bytearray, range, array,
            dt.date, dt.datetime, dt.time, dt.timedelta,
            memoryview, type(...), type(NotImplemented), object,
        ),
    )
)  # fmt: skip
"""Exact types without children of their own weight; ``sys.getsizeof`` knows all about them."""

_SEQUENCES = frozenset(map(id, (list, tuple, set, frozenset, collections.deque)))
_MAPPINGS = frozenset(
    map(id, (dict, collections.OrderedDict, collections.defaultdict, collections.Counter))
)

_SHARED = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType,
    types.FrameType, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
    property, staticmethod, classmethod,
)  # fmt: skip
"""What a value refers to but does not own: code, classes and modules outlive it."""

_SIZERS: tuple[tuple[type, Callable[[Any], int]], ...] = tuple(
    (base, base.__sizeof__)
    for base in (
        collections.OrderedDict, dict, list, tuple, set, frozenset, collections.deque,
        str, bytes, bytearray, array, int, io.BytesIO, io.StringIO,
        type, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
    )
)  # fmt: skip
"""Types whose instances are not all of one size, and the method that knows: first match counts."""

_FLAGS = type.__dict__["__flags__"].__get__
_BASICSIZE = type.__dict__["__basicsize__"].__get__
_HAS_GC = 1 << 14
_MANAGED_DICT = 1 << 4
_GC_HEADER = sys.getsizeof([]) - [].__sizeof__()
_POINTER = 8


class Size(int):
    """A number of bytes, counted or estimated."""

    estimated: bool
    """True when the walk was cut short and the rest extrapolated from what was seen."""
    nodes: int
    """Objects looked at."""

    def __new__(cls, count: float, *, estimated: bool = False, nodes: int = 1) -> Self:
        """Make a number that remembers how it was found."""
        size = super().__new__(cls, count)
        size.estimated = estimated
        size.nodes = nodes
        return size

    @property
    def bytes(self) -> int:
        """The plain number."""
        return int(self)


def size_of(obj: object, *, max_nodes: int = DEFAULT_MAX_NODES) -> Size:
    """
    Return the bytes of *obj*, with the contents and attributes that it may be the only one to hold.

    Each object counts once, however often it is referred to. Classes, functions, modules and
    running frames count nothing. A numpy array counts its data when it owns them; a view counts as
    its header alone, because a view is not a copy, unless it is an attribute of an object, which
    then counts the owner of the data as well.

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
    if id(type(obj)) in _ATOMS:
        return Size(sys.getsizeof(obj))
    walk = _Walk(max_nodes)
    total = walk.measure([obj])
    return Size(total, estimated=walk.estimated, nodes=walk.nodes)


def bytes_of(obj: object, max_nodes: int = DEFAULT_MAX_NODES) -> int:
    """Return ``int(size_of(obj))``, faster for atoms; for the hot path of byte-bounded caches."""
    if id(type(obj)) in _ATOMS:
        return sys.getsizeof(obj)
    return int(_Walk(max_nodes).measure([obj]))


def shallow_size(obj: object) -> int:
    """
    Return the bytes of *obj* alone, attributes in its own table included, contents not.

    For any object: classes, functions and generators weigh what they weigh, unlike in `size_of`.
    For an extension's object of varying size: what every instance of its type takes.

    Thread-safe; cost: about a microsecond, more with thousands of attributes.
    """
    kind = type(obj)
    if not _FLAGS(kind) & _MANAGED_DICT:
        return _own_bytes(obj, kind)
    return _own_bytes(obj, kind, sum(child is not kind for child in gc.get_referents(obj)))


def _own_bytes(obj: Any, kind: type, attributes: int = 0) -> int:
    ndarray = _ndarray()
    if ndarray is not None and issubclass(kind, ndarray):
        return int(ndarray.__sizeof__(obj))  # the data of an owner, only the header of a view
    flags = _FLAGS(kind)
    size: int = _GC_HEADER if flags & _HAS_GC else 0
    if flags & _MANAGED_DICT:
        # Attributes live in a table beside the object: its header and one slot for each.
        size += 2 * _POINTER + (attributes + 1) * _POINTER
    for base, sizeof in _SIZERS:
        if issubclass(kind, base):
            return size + sizeof(obj)
    # Not object.__sizeof__: it trusts a length that some types keep something else in.
    return size + int(_BASICSIZE(kind))


def _ndarray() -> Any:
    return getattr(sys.modules.get("numpy"), "ndarray", None)


class _Walk:
    """One walk over an object graph, with what it has seen and may still spend."""

    __slots__ = ("budget", "estimated", "nodes", "seen")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nodes = 0
        self.estimated = False
        self.seen: set[int] = set()

    def measure(self, stack: list[Any]) -> float:
        """Return the bytes of everything on *stack* and below; empties it."""
        total: float = 0
        seen, getsizeof = self.seen, sys.getsizeof
        pop, extend = stack.pop, stack.extend
        nodes, budget = self.nodes, self.budget
        while stack:
            if nodes >= budget:
                self.nodes = nodes
                return total + self._rest(stack, total / nodes)
            obj = pop()
            ident = id(obj)
            if ident in seen:
                continue
            seen.add(ident)
            nodes += 1
            kind = id(type(obj))
            if kind in _ATOMS:
                total += getsizeof(obj)
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
            if kind in _ATOMS:
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
        if issubclass(kind, _SHARED):
            return 0
        ndarray = _ndarray()
        if ndarray is not None and issubclass(kind, ndarray):
            if ndarray.dtype.__get__(obj).hasobject:
                self.estimated = True
            return _own_bytes(obj, kind)
        if not _FLAGS(kind) & _HAS_GC:
            return _own_bytes(obj, kind)
        children = [child for child in gc.get_referents(obj) if child is not kind]
        size = _own_bytes(obj, kind, len(children))
        if len(children) > self.budget - self.nodes:
            self.estimated = True
            del children[max(1, self.budget - self.nodes) :]
        stack += children
        if ndarray is not None:
            # A table's columns are views of an array that only the table holds.
            for held in [children, *[dict.values(c) for c in children if type(c) is dict]]:
                stack += [
                    child.base
                    for child in held
                    if type(child) is ndarray and child.base is not None
                ]
        return size
