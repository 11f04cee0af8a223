"""The size of an entry: its weight, its bytes, and whether it is too large for the whole cache."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from memguard import log
from memguard.bounded.cache.entry import FullEntry
from memguard.bounded.sizing.contents import ATOMS, LARGE, bytes_of
from memguard.bounded.sizing.entries import OpaqueTypes, SharedBytes, sized, weigh
from memguard.errors import ConfigError, ValueTooLargeError
from memguard.lifecycle import locks

NUMBER_BYTES = sys.getsizeof(1.0)
"""A time, or a size: 24, and 40 without a GIL."""

DICT_BYTES = 40 + NUMBER_BYTES
"""What an entry costs besides itself: its share of a dict filled on average, and a time."""

TICKET_BYTES = 96 + 2 * NUMBER_BYTES
"""What an entry costs in the heap of deadlines: a list of three, its numbers, a place."""


class Measure:
    """
    Measures the entries of one cache. It runs user code: never under a lock.

    Bounded by: its options, and a few names of types.
    Locks: none.
    Keeps alive: *sizer*.
    """

    __slots__ = ("_oversized", "_sizer", "_ticket_bytes", "name", "opaque", "overhead")

    def __init__(
        self,
        kind: type,
        idle: Any,
        sizer: Callable[[Any], int] | None,
        oversized: str | None,
        name: str | int | None = None,
    ) -> None:
        self.name = name
        """The cache's, if it is to hold a number of bytes."""
        self.opaque = OpaqueTypes()
        """Types of values whose memory only their library knows, as far as they were met."""
        self._sizer = sizer
        self._oversized = oversized
        self.overhead = sys.getsizeof(kind()) + DICT_BYTES
        """Bookkeeping of an entry, in bytes."""
        # Its own size. CPython keeps one of each number up to 256: a full entry, or any without a
        # GIL, is mostly larger. From 3.15 on it keeps them up to 1024: above that, it is little.
        if (kind is FullEntry or locks.FREE_THREADED) and sys.version_info < (3, 15):
            self.overhead += NUMBER_BYTES
        self._ticket_bytes = TICKET_BYTES
        if idle is not None:  # each entry has its ticket anyway
            self.overhead += TICKET_BYTES
            self._ticket_bytes = 0

    @property
    def raises(self) -> bool:
        """Whether a value that is too large is an error wherever it is."""
        return self._oversized == "raise"

    def bytes_of(self, key: Any, value: Any, has_ticket: bool) -> int:  # noqa: FBT001 - reason: a hot path
        """Return the bytes of an entry; *has_ticket* if it has a lifetime of its own."""
        overhead = self.overhead + has_ticket * self._ticket_bytes
        if self._sizer is None:
            overhead += bytes_of(key)
            if id(type(value)) in ATOMS:
                size = sys.getsizeof(value)
                if size < LARGE:
                    return overhead + size
            size = weigh(value, self.note_counted)
            return size + overhead if type(size) is not SharedBytes else size.more(overhead)
        return overhead + bytes_of(key) + sized(value, self._sizer)

    def note_counted(self, names: tuple[str, ...]) -> None:
        """Remember opaque types in a cache that is to hold a number of bytes, and log the first."""
        if self.opaque.note(names) and self.name:
            log.event(
                log.WARNING,
                "cache.values_opaque",
                cache=self.name,
                types=", ".join(names),
                remedy="give sizer=",
            )

    def keeps_alone(self, given: Any, allowed: Any, unit: str, name: str) -> bool:
        """
        Return whether a value too large for the cache *name* is kept, as the only entry.

        Raises:
            ValueTooLargeError: As configured by *oversized*.
        """
        if self.raises or (self._oversized is None and unit == "maxsize"):
            raise ValueTooLargeError(
                f"value too large: it counts {given} of {unit}={allowed} in cache {name!r}; "
                f"raise the bound, or choose oversized='reject' or 'keep_one'"
            )
        return self._oversized == "keep_one"


def checked_weight(weight: Any) -> Any:
    """Return a finite weight > 0 for what getsizeof gave."""
    if not weight >= 0:
        raise ConfigError(f"getsizeof must give a number >= 0 (got {weight!r})")
    # Of infinities no sum could ever be made finite again.
    return min(weight, sys.maxsize) or 1
