"""
What a container itself needs for one of its entries, in the mean over the phases of its table.

A hash table has room for up to twice or four times its entries just after it has grown, and is full
just before it grows again: bytes divided by entries go up and down by as much. What a container
that goes on growing takes for an entry is the mean of that.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from typing import Any

from memguard.bounded.sizing.alone import shallow_size

_FEW = 1_000
"""Entries below which a container weighs what it does now: light ones that leak are more."""
_SPAN = 4
"""The mean is taken since there was so much less in it: one growth of a set, or two of a dict."""
_DICT_BASE = {}.__sizeof__()
_DICT_ENTRY = (16.0, 38.0)
"""Bytes of a table for each entry it has room for: keys that are str, others, its indices."""
_POINTER = 8
_SET_BASE = set().__sizeof__()
_SET_ENTRY = 16
_LARGE_SET = 50_000
"""Entries above which a set doubles its table; below, it makes one four times as large."""
_SMALLEST = 8


def bytes_per_entry(container: Any, entries: int) -> float:
    """
    Return the bytes that *container* itself needs for each of its *entries*; 0 where it has none.

    Of a large dict or set in the mean since it had a quarter of them, evenly in the logarithm; of
    one that was larger before, and of all others, what there is now.

    Args:
        container: A container or buffer of a built-in type, or a subclass of one.
        entries: What is in it now.

    Cost: some microseconds.
    """
    if entries <= 0:
        return 0.0
    whole, kind = shallow_size(container), type(container)
    if entries < _FEW or not issubclass(kind, dict | set):
        return whole / entries
    if issubclass(kind, dict):
        table, tables = dict.__sizeof__(container) - _DICT_BASE, list(_dicts(entries))
        is_as_grown = _DICT_ENTRY[0] <= table / tables[-1][1] <= _DICT_ENTRY[1]
    else:
        table, tables = set.__sizeof__(container) - _SET_BASE, list(_sets(entries))
        is_as_grown = table == tables[-1][0] * _SET_ENTRY
    if not is_as_grown:
        return whole / entries
    slots = tables[-1][0]
    if issubclass(kind, collections.OrderedDict):
        table += slots * _POINTER  # and where each of its nodes is
    return _mean(tables, entries) * table / slots + (whole - table) / entries


def _mean(tables: list[tuple[int, int]], entries: int) -> float:
    """Return the slots for an entry while there came to be *entries*, by the growing *tables*."""
    least, total = entries / _SPAN, 0.0
    for slots, room in tables:
        most = min(room, entries)
        if most > least:
            total += slots * (1 / least - 1 / most)
            least = most
    return total / math.log(_SPAN)


def _dicts(entries: int) -> Iterator[tuple[int, int]]:
    """Yield (slots, entries there is room for) of the tables of a dict that grows to *entries*."""
    slots = _SMALLEST
    while (room := slots * 2 // 3) < entries:
        yield slots, room
        slots *= 2
    yield slots, room


def _sets(entries: int) -> Iterator[tuple[int, int]]:
    """Yield likewise those of a set: it grows once it holds three of five."""
    slots = _SMALLEST
    while (room := (slots - 1) * 3 // 5) < entries:
        yield slots, room
        slots *= 2 if room >= _LARGE_SET else 4
    yield slots, room
