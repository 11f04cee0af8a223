"""
What do the entries of one container weigh together? What they share counts once.

A thousand dicts that refer to one array are a thousand entries and one array. Each entry remembers
which large parts it has; the container counts a part while any of its entries does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from memguard.bounded.sizing import libraries
from memguard.bounded.sizing.contents import (
    ATOMS,
    DEFAULT_MAX_NODES,
    LARGE,
    Walk,
    bytes_of,
)
from memguard.errors import ConfigError

Part = tuple[int, int]
"""What names a part, and its bytes."""

_PART_BYTES = 250
"""What it costs an entry to remember a part, and its container to count it."""

MOST_OPAQUE = 8
"""Names of opaque types that a container remembers."""

_nowhere: Callable[[tuple[str, ...]], object] = lambda _: None  # noqa: E731 - reason: a default


class SharedBytes(int):
    """The bytes of an entry, of which some belong to parts that others may have, too."""

    parts: tuple[Part, ...]

    def more(self, size: int) -> SharedBytes:
        """Return a sum that has the same parts."""
        return _with_parts(self + size, self.parts)


def _with_parts(size: int, parts: tuple[Part, ...]) -> SharedBytes:
    result = SharedBytes(size)
    result.parts = parts
    return result


def weigh(
    value: Any,
    note: Callable[[tuple[str, ...]], object] = _nowhere,
    max_nodes: int = DEFAULT_MAX_NODES,
) -> int:
    """
    Return the bytes of *value*, as `SharedBytes` where a part of it is large.

    Args:
        value: Anything.
        note: Called with the names of the opaque types that were met, if any were.
        max_nodes: Objects to look at, at most.
    """
    kind = type(value)
    if id(kind) in ATOMS:
        size = sys.getsizeof(value)
        if size < LARGE:
            return size
        return _with_parts(size + _PART_BYTES, ((id(value), size),))
    reader = libraries.reader_of(kind)
    if reader is not None:
        found = libraries.read(value, reader)
        if found is not None and found.how == libraries.SURE and not found.below and found.own >= 0:
            own, key, data, _, _ = found
            size = own + data
            if size < LARGE:
                return size
            # Its data, where others may have them, else itself.
            part = (key, data) if key else (id(value), own)
            return _with_parts(size + _PART_BYTES, (part,))
    return _walked(value, note, max_nodes)


def _walked(value: Any, note: Callable[[tuple[str, ...]], object], max_nodes: int) -> int:
    parts: dict[int, int] = {}
    walk = Walk(max_nodes, parts=parts)
    walk.root = id(value)
    own = int(walk.measure([value]))
    if walk.opaque:
        note(walk.opaque_names())
    if walk.is_cyclic and own >= LARGE and not walk.estimated:
        # What leads back to it is the same for all that are in the circle: an element of a tree
        # that knows its parent, and its neighbour. All that it leads to is one part.
        parts[-walk.signature] = own
        own = 0
    if not parts:
        return own
    total = own + sum(parts.values()) + _PART_BYTES * len(parts)
    return _with_parts(total, tuple(parts.items()))


def sized(value: Any, sizer: Callable[[Any], int]) -> int:
    """
    Return the bytes that the user's *sizer* gives for *value*.

    Raises:
        TypeError: It gave something else than a whole number.
        ConfigError: It gave a negative one.
    """
    size = sizer(value)
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"sizer must give a whole number of bytes (got {type(size).__name__})")
    if size < 0:
        raise ConfigError(f"sizer must give a number of bytes >= 0 (got {size})")
    return size


class OpaqueTypes:
    """
    The types of values in one container whose memory only their library knows.

    Bounded by: `MOST_OPAQUE` names.
    Locks: none: of two names that are noted at once, one may be missing.
    Keeps alive: strings.
    """

    __slots__ = ("names",)

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names)

    def note(self, names: tuple[str, ...]) -> bool:
        """Remember *names*, as far as there is room; return whether they are the first."""
        is_first = not self.names
        if not set(names) <= set(self.names) and len(self.names) < MOST_OPAQUE:
            self.names = tuple(sorted({*self.names, *names}))[:MOST_OPAQUE]
        return is_first


class Parts:
    """
    Counts the parts that the entries of one container have.

    Bounded by: the large parts of its entries.
    Locks: none; the container's.
    Keeps alive: nothing, for it knows them by number. A part that dies while an entry still counts
        it, for the value was changed, may lend its number to one of the same size: then one of the
        two counts, as one of the two is there.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[Part, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, size: int) -> int:
        """Count the parts of an entry of *size* bytes; return by how many the container grows."""
        if type(size) is not SharedBytes:
            return size
        entries, more = self._entries, int(size)
        for part in size.parts:
            count = entries.get(part, 0)
            entries[part] = count + 1
            if count:
                more -= part[1]
        return more

    def drop(self, size: int) -> int:
        """Stop counting the parts of an entry; return by how many bytes the container shrinks."""
        if type(size) is not SharedBytes:
            return size
        entries, less = self._entries, int(size)
        for part in size.parts:
            count = entries.get(part, 1)
            if count > 1:
                entries[part] = count - 1
                less -= part[1]
            else:
                entries.pop(part, None)
        return less

    def added_by(self, size: int) -> int:
        """Return what `take` would, and change nothing."""
        if type(size) is not SharedBytes:
            return size
        return int(size) - sum(part[1] for part in size.parts if part in self._entries)

    def freed_by(self, size: int) -> int:
        """Return what `drop` would, and change nothing."""
        if type(size) is not SharedBytes:
            return size
        entries = self._entries
        return int(size) - sum(part[1] for part in size.parts if entries.get(part, 1) > 1)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()


def average_bytes(
    sample: Iterable[tuple[Any, Any]],
    bookkeeping: int,
    count: int,
    max_nodes: int,
    note: Callable[[tuple[str, ...]], object] = _nowhere,
) -> float:
    """
    Return the bytes of an entry, on the average of some of a container's; 0 without any.

    Args:
        sample: Keys and values.
        bookkeeping: What each entry takes besides.
        count: Entries of the container: what most of the sample share, all of them do.
        max_nodes: Objects to look at in one key or value.
        note: As for `weigh`.
    """
    entries, total = 0, 0
    met: dict[Part, int] = {}
    for key, value in sample:
        size = weigh(value, note, max_nodes)
        entries += 1
        total += bookkeeping + bytes_of(key, max_nodes) + size
        if type(size) is SharedBytes:
            for part in size.parts:
                met[part] = met.get(part, 0) + 1
                total -= part[1]
    if not entries:
        return 0.0
    average = total / entries
    for (_, size), times in met.items():
        is_everywhere = times > 1 and times * 2 > entries
        average += size / max(entries, count if is_everywhere else 0)
    return average
