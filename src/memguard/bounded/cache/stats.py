"""Statistics of a cache: frozen rows of strings and numbers, never live entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

_new = object.__new__
_set = object.__setattr__


@dataclass(frozen=True, kw_only=True)
class CacheStatistics:
    """What a cache has done since it was made, and what it holds now."""

    has_footprint: ClassVar[bool] = True
    """Items and bytes here are those of its footprint; the inventory need not ask for both."""

    name: str
    policy: str
    implementation: Literal["python", "wrapped"]
    """Which code runs the hot path."""
    items: int
    """Live entries."""
    maxsize: float | None
    currsize: float
    """Their number, or their weight if the cache has a getsizeof."""
    maxbytes: int | None
    bytes: int
    """Bytes of keys, values and bookkeeping."""
    bytes_estimated: bool
    """True when the cache does not count bytes; they are then estimated from a few entries."""
    opaque: tuple[str, ...]
    """
    Types of values whose memory only their library knows, as far as they were met, at most eight:
    *bytes* are then what is known of them, which may be next to nothing. Give ``sizer=``.
    """
    hits: int
    misses: int
    loads: int
    """Loads that gave a value."""
    load_failures: int
    load_seconds: float
    """Time spent in loaders, failed ones too."""
    refreshes: int
    """Background loads that replaced a stale value."""
    removals: Mapping[str, int]
    """Entries removed, by cause."""
    refused: int
    """Values not kept because they were larger than the whole cache."""
    callback_errors: int
    """Exceptions of on_removal."""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """
        Return the row that has *fields*, which it keeps: all of them, by name.

        In a third of the time that the constructor takes, which sets each one by a call: metrics
        ask for a hundred rows at once.
        """
        row = _new(cls)
        _set(row, "__dict__", fields)
        return row

    @property
    def hit_rate(self) -> float:
        """Hits per look-up, 0 to 1; 0 before the first."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else 0.0

    @property
    def evictions(self) -> int:
        """Entries that were evicted."""
        return self.removals.get("size", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryInfo:
    """What a cache knows about one entry."""

    age: Any
    """Time since the value was written: seconds, or what the cache's timer counts in."""
    expires_in: Any
    """Time until it expires, by age or by idleness; None when it does not."""
    hits: int
    """Look-ups that found this key since it was inserted."""
    bytes: int
    """Bytes of key, value and bookkeeping."""
    weight: float
    """What it counts of maxsize."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmReport:
    """What `warm` did."""

    loaded: int
    present: int
    """Keys that were in the cache already."""
    failed: tuple[tuple[Any, Exception], ...]
    """The keys whose loader raised, each with its error, without a traceback."""
