"""How many bytes is this value, with its contents? Bounded in time; a large one is estimated."""

from __future__ import annotations

import collections
import datetime as dt
import sys
import types
from array import array
from itertools import islice
from typing import Any, Self

from memguard.bounded.options import check_positive_int
from memguard.bounded.sizing.alone import (
    array_contents,
    data_of,
    has_gc,
    is_known,
    is_made_by_a_call,
    numpy_array,
    own_bytes,
    receiver_of,
)
from memguard.lifecycle.running import running_frames

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
    True when the walk was cut short and the rest extrapolated from what was seen; or when a value
    of a library was met that has memory of its own, which is not counted.
    """
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

    Each object counts once, however often it is referred to. Classes, modules, running frames and
    functions that a name leads to count nothing; a closure counts what it has closed over, a
    generator or coroutine what its frame holds. A numpy array counts its data when it owns them; a
    view counts the owner, which it keeps alive.

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
    walk = Walk(max_nodes)
    total = walk.measure([obj])
    return Size(total, estimated=walk.estimated, nodes=walk.nodes)


def bytes_of(obj: object, max_nodes: int = DEFAULT_MAX_NODES) -> int:
    """Return ``int(size_of(obj))``, faster for atoms; for the hot path of byte-bounded caches."""
    if id(type(obj)) in _ATOMS:
        return sys.getsizeof(obj)
    return int(Walk(max_nodes).measure([obj]))


class Walk:
    """One walk over an object graph, with what it has seen and may still spend."""

    __slots__ = ("budget", "estimated", "kinds", "nodes", "running", "seen")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nodes = 0
        self.estimated = False
        self.seen: set[int] = set()
        self.kinds: dict[int, tuple[type, bool]] = {}
        """Types met, by id, and whether their weight is known."""
        self.running: set[int] = set()
        """ids of the frames that run, once one was met."""

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
        if issubclass(kind, _SHARED) or self._is_code(obj, kind):
            return 0
        ndarray = numpy_array()
        if ndarray is not None and issubclass(kind, ndarray):
            children, complete = array_contents(ndarray, obj, max(1, self.budget - self.nodes))
            self.estimated = self.estimated or not complete
            stack += children
            return own_bytes(obj, kind)
        if not self._knows(kind):
            self.estimated = True
        if not has_gc(kind):
            return own_bytes(obj, kind)
        children = [child for child in data_of(obj, kind) if child is not kind]
        size = own_bytes(obj, kind, len(children))
        if len(children) > self.budget - self.nodes:
            self.estimated = True
            del children[max(1, self.budget - self.nodes) :]
        stack += children
        return size

    def _knows(self, kind: type) -> bool:
        known = self.kinds.get(id(kind))
        if known is None:
            known = self.kinds[id(kind)] = (kind, is_known(kind))
        return known[1]

    def _is_code(self, obj: Any, kind: type) -> bool:
        """Return True for a function that its name leads to, and for a frame that runs."""
        if kind is types.FunctionType:
            return not is_made_by_a_call(obj)
        if kind is types.BuiltinFunctionType:
            return receiver_of(obj) is None
        if kind is types.FrameType:
            if not self.running:
                self.running = set(map(id, running_frames()))
            return id(obj) in self.running
        return False
