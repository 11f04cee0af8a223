"""
The bound that was declared for a container, as far as its structure shows one.

A container that is filling up to a bound is doing its work.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from memguard.heap import naming, walk

_LRU_WRAPPER: Any = type(functools.lru_cache(maxsize=1)(id))
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
_OWN = ("_contents", "memguard.bounded.cache.contents.Contents")
"""Where a cache of ours keeps its bound, which may lie far beyond the memory there is."""
_ENDLESS = sys.maxsize >> 3
"""More entries than any list can have: who writes such a bound means none."""
_ABOVE = 3
"""Objects above a container that may be its owner: its instance, and the dict between them."""


def bound_of(path: Sequence[Any]) -> int | None:
    """Return `declared_bound` for what *path* leads to, None where that is no container."""
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
        return _whole(_LRU_WRAPPER.cache_info(obj).maxsize)
    namespace = naming.instance_dict(obj)
    named = list(namespace.items()) if namespace is not None else []
    for name, value in (*named, *naming.slots_of(obj)):
        if type(name) is not str:
            continue
        if name == _OWN[0] and naming.type_name(type(value)) == _OWN[1]:
            return _bound_of(value)
        if _NAMES.fullmatch(name):
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
