"""What a cache says of itself: one entry, and all that happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memguard.bounded.cache.entry import Entry
from memguard.bounded.cache.ledger import Ledger
from memguard.bounded.cache.stats import CacheStatistics, EntryInfo


class Inspection(Ledger):
    """Questions that change nothing."""

    __slots__ = ()

    if TYPE_CHECKING:  # what the other halves of the cache bring
        name: str
        _options: dict[str, Any]

        _loads: int
        _load_failures: int
        _load_seconds: float
        _refreshes: int

        def _average_after(self, changes: int, count: int) -> float: ...

        def _estimated_bytes(self, entry: Entry) -> int: ...

    def info(self, key: Any) -> EntryInfo:
        """
        Return what is known about the live entry of *key*, without touching it.

        Raises:
            KeyError: There is no live entry.
        """
        with self._lock:
            settled = None if self._busy else self._replay()
        del settled
        entry = self._map.get(key) or (self._find_foreign(key) if self._foreign else None)
        now = self._timer()
        if entry is None or self._is_due(entry, now):
            raise KeyError(key)
        deadline = None
        if entry.expires is not None or self._idle is not None:
            deadline = self._expiry.deadline(entry)
        return EntryInfo(
            age=self._age(entry, now),
            expires_in=None if deadline is None else deadline - now,
            hits=entry.hits,
            bytes=entry.size or self._entry_bytes(entry.key, entry.value),
            weight=entry.weight,
        )

    def _age(self, entry: Entry, now: Any) -> Any:
        written = entry.written
        return now - (entry.expires - self._ttl if written is None else written)

    def statistics(self) -> CacheStatistics:
        """Return the counts since the cache was made. Cost: O(1), and a few entries measured."""
        if self._timed:
            self._expire_all()
        with self._lock:
            count = self._count
            held = self._weight if self._weighs else count
            total = self._bytes
            updates = self._updates.read()
            hits = max(0, self._replayed + len(self._log) - updates)
            misses = self._misses.read()
            removals: dict[Any, int] = self._causes.copy()
            removals["size"] += self._evictions
            removals["explicit"] += self._explicit
        removals["replaced"] += updates
        is_estimated = self._maxbytes is None
        if is_estimated:
            changes = count + 2 * sum(removals.values())
            total = int(self._average_after(changes, count) * count)
        return CacheStatistics.of(
            {
                "name": self.name,
                "policy": self._options["policy"],
                "implementation": "python",
                "items": count,
                "maxsize": self._options["maxsize"],
                "currsize": held,
                "maxbytes": self._maxbytes,
                "bytes": total,
                "bytes_estimated": is_estimated and count > 0,
                "hits": hits,
                "misses": misses,
                "loads": self._loads,
                "load_failures": self._load_failures,
                "load_seconds": self._load_seconds,
                "refreshes": self._refreshes,
                "removals": removals,
                "refused": self._refused,
                "callback_errors": self._teller.errors,
            }
        )

    def _lookups(self) -> tuple[int, int]:
        with self._lock:
            hits = self._replayed + len(self._log) - self._updates.read()
            return max(0, hits), self._misses.read()
