"""`BoundedCache`: a thread-safe mapping that cannot grow past its bound."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from memguard import log
from memguard.bounded import inventory, janitor
from memguard.errors import ConfigError

K = TypeVar("K")
V = TypeVar("V")

Cause = Literal["explicit", "replaced", "size", "expired", "pressure", "closed"]
_MISSING: Any = object()


class _Node:
    __slots__ = ("expires", "key", "next", "prev", "value")

    def __init__(self, key: Any, value: Any, expires: float | None) -> None:
        self.key = key
        self.value = value
        self.expires = expires
        self.prev: _Node = self
        self.next: _Node = self


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a `BoundedCache` has done since it was made."""

    name: str
    items: int
    maxsize: float
    hits: int
    misses: int
    removals: dict[str, int] = field(default_factory=dict)
    """Entries removed, by cause."""
    callback_errors: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits per look-up, 0 to 1; 0 before the first."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else 0.0


class BoundedCache(MutableMapping[K, V]):
    """
    Keep at most *maxsize* entries, the most recently used ones, each for at most *ttl* seconds.

    Bounded by: *maxsize* entries.
    Locks: one re-entrant mutex; *on_removal* and the destructors of values run outside it.
    Keeps alive: the keys and values of entries that are neither evicted nor expired.
    """

    def __init__(
        self,
        maxsize: int,
        *,
        ttl: float | None = None,
        name: str | None = None,
        on_removal: Callable[[K, V, Cause], object] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be an int (got {type(maxsize).__name__})")
        if maxsize < 1:
            raise ConfigError(f"maxsize must be >= 1 (got {maxsize}): an unbounded cache is a leak")
        if ttl is not None and not ttl > 0:
            raise ConfigError(f"ttl must be > 0 seconds (got {ttl}); leave it out for no expiry")
        self._maxsize = maxsize
        self._ttl = ttl
        self._timer = timer
        self._on_removal = on_removal
        self._lock = threading.RLock()
        self._map: dict[K, _Node] = {}
        self._root = _Node(None, None, None)
        self._hits = 0
        self._misses = 0
        self._removals: dict[str, int] = {}
        self._callback_errors = 0
        self._watched = False
        self.name = name if name is not None else f"BoundedCache@{inventory.creation_site()}"
        inventory.register(self, name=self.name, kind="BoundedCache")

    def __getitem__(self, key: K) -> V:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value  # type: ignore[no-any-return]

    def get(self, key: K, default: Any = None) -> Any:
        """Return the live value of *key*, or *default*."""
        with self._lock:
            node = self._map.get(key)
            if node is not None and not self._is_expired(node):
                self._hits += 1
                _unlink(node)
                self._link(node)
                return node.value
            self._misses += 1
            return default

    def __setitem__(self, key: K, value: V) -> None:
        expires = None if self._ttl is None else self._timer() + self._ttl
        gone: list[tuple[_Node, Cause]] = []
        with self._lock:
            node = self._map.get(key)
            if node is not None:
                gone.append((node, "replaced"))
                _unlink(node)
            self._map[key] = fresh = _Node(node.key if node is not None else key, value, expires)
            self._link(fresh)
            self._drop_expired(gone)
            while len(self._map) > self._maxsize:
                oldest = self._root.next
                _unlink(oldest)
                del self._map[oldest.key]
                gone.append((oldest, "size"))
        if expires is not None and not self._watched:
            self._watched = janitor.watch(self)
        self._tell(gone)

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove *key* and return its live value; *default*, or KeyError, when there is none."""
        gone: list[tuple[_Node, Cause]] = []
        value = default
        with self._lock:
            node = self._map.pop(key, None)
            if node is not None:
                _unlink(node)
                expired = self._is_expired(node)
                gone.append((node, "expired" if expired else "explicit"))
                value = default if expired else node.value
        self._tell(gone)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def clear(self) -> None:
        """Remove every entry."""
        gone: list[tuple[_Node, Cause]] = []
        with self._lock:
            gone.extend((node, "explicit") for node in self._map.values())
            self._map = {}
            self._root.prev = self._root.next = self._root
        self._tell(gone)

    def expire(self) -> int:
        """Remove what has expired and return how many entries that was."""
        gone: list[tuple[_Node, Cause]] = []
        with self._lock:
            self._drop_expired(gone)
        self._tell(gone)
        return len(gone)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            node = self._map.get(key)  # type: ignore[arg-type]  # reason: any object may be asked for
            return node is not None and not self._is_expired(node)

    def __iter__(self) -> Iterator[K]:
        with self._lock:
            nodes = [node for node in self._map.values() if not self._is_expired(node)]
        return iter([node.key for node in nodes])

    def __len__(self) -> int:
        self.expire()
        return len(self._map)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, maxsize={self._maxsize})"

    @property
    def maxsize(self) -> int:
        """The largest number of entries."""
        return self._maxsize

    @property
    def currsize(self) -> int:
        """The number of live entries."""
        return len(self)

    def statistics(self) -> CacheStatistics:
        """Return the counts since the cache was made."""
        return CacheStatistics(
            name=self.name,
            items=len(self),
            maxsize=self._maxsize,
            hits=self._hits,
            misses=self._misses,
            removals=dict(self._removals),
            callback_errors=self._callback_errors,
        )

    def footprint(self) -> inventory.Footprint:
        """Return what the cache holds now."""
        return inventory.Footprint(items=len(self), bytes=None)

    def _is_expired(self, node: _Node) -> bool:
        return node.expires is not None and self._timer() >= node.expires

    def _drop_expired(self, gone: list[tuple[_Node, Cause]]) -> None:
        if self._ttl is None:
            return
        now = self._timer()
        for node in list(self._map.values()):
            # Every set re-inserts at the end of the dict only when the key is new; scan them all.
            if node.expires is not None and now >= node.expires:
                _unlink(node)
                del self._map[node.key]
                gone.append((node, "expired"))

    def _link(self, node: _Node) -> None:
        last = self._root.prev
        last.next = self._root.prev = node
        node.prev, node.next = last, self._root

    def _tell(self, gone: list[tuple[_Node, Cause]]) -> None:
        for node, cause in gone:
            self._removals[cause] = self._removals.get(cause, 0) + 1
            if self._on_removal is not None:
                try:
                    self._on_removal(node.key, node.value, cause)
                except Exception as error:  # noqa: BLE001 - reason: a callback must not break set()
                    self._callback_errors += 1
                    if self._callback_errors == 1:
                        log.event(
                            logging.WARNING,
                            "cache.on_removal_failed",
                            cache=self.name,
                            error=type(error).__name__,
                        )

    def _sweep(self) -> float | None:
        self.expire()
        if not self._map:
            self._watched = False
            return None
        return min(1.0, self._ttl / 4) if self._ttl is not None else None

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._watched = False


def _unlink(node: _Node) -> None:
    node.prev.next, node.next.prev = node.next, node.prev
