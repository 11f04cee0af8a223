"""
Where a large value is that cannot grow, so that a larger one takes its place: ``log = log + line``.

Neither the value lasts, which is a new object each time, nor does its holder get longer. What lasts
is the place: an entry of a dict or list, an attribute, a cell.
"""

from __future__ import annotations

import gc
import itertools
import operator
import types
from collections.abc import Callable, Iterator
from typing import Any

from memguard.bounded.sizing import numpy_array
from memguard.heap import naming

LARGE_BYTES = 64 * 1024
"""Of a text, bytes or an array of numpy that is worth it."""
LARGE_ENTRIES = 256
"""Of a tuple that is worth it: it refers to what is in it, which weighs more."""
SCAN = 1_000
"""Entries of a dict that are looked through for a key that is no text or number."""
_HASHABLE = (str, int, bytes, float)
"""Keys that may be asked for: nobody else's ``__hash__`` runs."""
_FIXED: tuple[tuple[type, Callable[[Any], int], int], ...] = (
    (str, str.__len__, LARGE_BYTES // 4),
    (bytes, bytes.__len__, LARGE_BYTES),
    (tuple, tuple.__len__, LARGE_ENTRIES),
)
"""A type, its C function for a number that is quick to have, and where it begins to be large."""

_PLAIN = (dict, list, types.CellType)
"""Types whose instances have no attributes."""
Key = tuple[int, int, int]
"""A place as numbers: the ids of the holder, of the key or name there, and of the type of value."""


class Place(naming.StandsFor):
    """
    An entry or attribute, standing for the value that is there now.

    Bounded by: itself.
    Locks: none.
    Keeps alive: the holder; not the value.
    """

    __slots__ = ("_get", "holder", "kind")

    def __init__(self, holder: Any, key: Any, kind: type, get: Callable[[Any, Any], Any]) -> None:
        super().__init__(key, is_attribute=get is _attribute or get is _slot)
        self.holder = holder
        self.kind = kind
        """Of the value."""
        self._get = get

    def value(self) -> Any:
        """Return what is there now; None where there is nothing, or nothing of that type."""
        try:
            value = self._get(self.holder, self.key)
        except (LookupError, AttributeError, ValueError, RuntimeError):
            return None
        return value if type(value) is self.kind else None

    def amount(self) -> int:
        """Return the bytes that are there now, of a tuple its entries; 0 where there is nothing."""
        value = self.value()
        return 0 if value is None else amount_of(value)

    @property
    def counts_entries(self) -> bool:
        """True for a tuple."""
        return self.kind is tuple


def amount_of(value: Any) -> int:
    """Return the bytes of a text, of bytes, or of what an array keeps; the entries of a tuple."""
    kind = type(value)
    if kind is tuple:
        return tuple.__len__(value)
    if kind is str:
        return str.__sizeof__(value)
    return bytes.__len__(value) if kind is bytes else _array_bytes(value)


def _array_bytes(array: Any) -> int:
    ndarray = numpy_array()
    owner = ndarray.base.__get__(array)
    kept = owner if type(owner) is ndarray else array
    return int(ndarray.nbytes.__get__(kept))


def _is_large(value: Any, ndarray: Any) -> bool:
    """Return True for a value of the types looked at that is worth to be followed."""
    kind = type(value)
    if kind is tuple:
        return tuple.__len__(value) >= LARGE_ENTRIES
    if kind is str or kind is bytes or kind is ndarray:
        return amount_of(value) >= LARGE_BYTES
    return False


def has_large(objects: list[Any], kinds: list[type], present: set[int]) -> bool:
    """
    Return True where a large value may be among *objects*.

    Args:
        objects: Values of any kind.
        kinds: Their types.
        present: The ids of those.

    Cost: about 30 ns an object.
    """
    for kind, length, least in (*_FIXED, (numpy_array(), _array_bytes, LARGE_BYTES)):
        if id(kind) in present and kind is not None:
            same = itertools.compress(objects, map(operator.is_, kinds, itertools.repeat(kind)))
            if max(map(length, same), default=0) >= least:
                return True
    return False


def holders_of_large(part: list[Any]) -> list[Any]:
    """Return those in *part* that hold a large value."""
    ndarray = numpy_array()
    return [
        holder
        for holder in part
        if any(map(_is_large, gc.get_referents(holder), itertools.repeat(ndarray)))
    ]


def places_in(holder: Any) -> Iterator[tuple[Key, Place, int]]:
    """
    Yield the places of *holder* with a large value: as numbers, themselves, and how much.

    An attribute is numbered by the dict of its instance, which CPython may make for this question:
    from then on it is met as a holder of its own.
    """
    home, ndarray = holder, numpy_array()
    for key, value, get in _all_places(holder):
        if _is_large(value, ndarray):
            if get is _attribute:
                home = naming.instance_dict(holder)
            where = key if get is _item else id(key)
            yield (
                (id(home), where, id(type(value))),
                Place(holder, key, type(value), get),
                amount_of(value),
            )
        del value


def _all_places(holder: Any) -> Iterator[tuple[Any, Any, Callable[[Any, Any], Any]]]:
    kind = type(holder)
    try:
        if issubclass(kind, dict):
            for key, value in list(dict.items(holder)):
                yield key, value, _entry
        elif issubclass(kind, list):
            for index, value in enumerate(list.copy(holder)):
                yield index, value, _item
        elif kind is types.CellType:
            yield None, holder.cell_contents, _contents
        if not (_is_plain(kind) or naming.is_type(holder) or naming.is_module(holder)):
            for name, value in list((naming.instance_dict(holder) or {}).items()):
                yield name, value, _attribute
            for name, value in naming.slots_of(holder):
                yield name, value, _slot
    except (RuntimeError, ValueError):  # it changed meanwhile, or a cell is empty
        return


def _is_plain(kind: type) -> bool:
    return any(kind is each for each in _PLAIN)


def _entry(holder: Any, key: Any) -> Any:
    if type(key) in _HASHABLE:
        return dict.get(holder, key)
    items = itertools.islice(dict.items(holder), SCAN)
    return next((value for each, value in items if each is key), None)


def _item(holder: Any, index: int) -> Any:
    return list.__getitem__(holder, index)


def _contents(holder: types.CellType, _: None) -> Any:
    return holder.cell_contents


def _attribute(holder: Any, name: str) -> Any:
    return (naming.instance_dict(holder) or {}).get(name)


def _slot(holder: Any, name: str) -> Any:
    return next((value for each, value in naming.slots_of(holder) if each is name), None)
