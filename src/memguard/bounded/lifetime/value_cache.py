"""`WeakValueCache`: values that may be collected at any time."""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

from memguard.bounded import inventory, options
from memguard.bounded.lifetime.weak_table import Entry, WeakTable
from memguard.lifecycle import fork

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakValueCacheStatistics:
    """What a `WeakValueCache` holds, and what has happened since it was made. Counts."""

    name: str
    maxsize: int
    items: int
    hits: int
    misses: int
    collected: int
    """Entries that went because their value was collected."""
    evicted: int
    """Entries that went because the cache was full, or under pressure."""


class WeakValueCache(WeakTable[K, V], MutableMapping[K, V]):
    """
    Find objects that are alive anyway, by key, without keeping them alive.

    An entry ends with its value. When the cache is full, entries of dead values are removed first;
    then the oldest one is evicted that was not asked for since eviction last passed it by.

    Bounded by: *maxsize* entries; each thread that is storing may add one for a moment.
    Locks: none around its entries, each step is one operation of a dict; `statistics` takes a
        mutex. `setdefault` is atomic: all threads get the same object of a key.
    Keeps alive: the keys of its entries. Never a value.

    Thread-safe. In a forked child it has the entries it had.

    Args:
        maxsize: Most entries.
        name: What reports call this cache; the line that made it by default.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: *maxsize* is less than 1.

    >>> class Page: ...
    >>> cache: WeakValueCache[str, Page] = WeakValueCache(100)
    >>> page = cache.setdefault("/home", Page())
    >>> cache["/home"] is page
    True
    >>> del page
    >>> "/home" in cache
    False
    """

    _owner = "cache"

    def _make_entry(self, key: K, value: Any) -> Entry:
        advice = "a value must be weakly referenceable (got {}); use BoundedCache for it, or"
        return self._refer(value, key, None, advice)

    def _key_of(self, key: Any) -> Any:
        return key

    def _value_of(self, entry: Entry, referent: Any) -> Any:
        entry.used = True
        return referent

    def _key_error(self, key: Any) -> KeyError:
        return KeyError(key)

    def get(self, key: K, default: Any = None) -> Any:
        """Return the living value of *key*, or *default*."""
        entry = self._data.get(key)
        value = None if entry is None else entry()
        if entry is None or value is None:
            self._misses.bump()
            if self._dead:
                self._clean()
            return default
        entry.used = True
        self._hits.bump()
        return value

    def __iter__(self) -> Iterator[K]:
        """Iterate over a snapshot of the keys whose values are alive."""
        return iter([entry.key for entry, _ in self._living()])

    def statistics(self) -> WeakValueCacheStatistics:
        """Return counts since the cache was made. Thread-safe; cost: O(values that died)."""
        items = len(self)
        fork.check()
        with self._reading:
            return WeakValueCacheStatistics(
                name=self.name,
                maxsize=self.maxsize,
                items=items,
                hits=self._hits.read(),
                misses=self._misses.read(),
                collected=self._collected.read(),
                evicted=self._evicted.read(),
            )

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """
        Remove entries; only the memory of their keys is freed.

        Args:
            fraction: This share of the entries; all of them by default.
            to_bytes: All entries go, whatever it is: a weak cache does not count bytes.

        Raises:
            ConfigError: *fraction* is not from 0 to 1.
        """
        share = 1.0 if fraction is None else options.check_share(fraction, "fraction")
        before = len(self)
        for _ in range(math.ceil(before * (share if to_bytes is None else 1.0))):
            self._evict_one()
        return inventory.Reclaimed(items=max(0, before - len(self._data)), bytes=None)
