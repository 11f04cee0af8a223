"""`WeakIdentityMap`: notes about an object, for as long as the object lives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from memguard import log
from memguard.bounded import inventory
from memguard.bounded.lifetime.weak_table import Entry, WeakTable
from memguard.errors import ConfigError
from memguard.lifecycle import fork

V = TypeVar("V")

DEFAULT_MAXSIZE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakIdentityMapStatistics:
    """What a `WeakIdentityMap` holds, and what has happened since it was made. Counts."""

    name: str
    maxsize: int
    items: int
    dropped: int
    """Entries of living objects that went because the map was full."""


class WeakIdentityMap(WeakTable[object, V]):
    """
    Note something about any object, hashable or not, without keeping the object alive.

    Objects are distinguished by identity; their ``__eq__`` and ``__hash__`` are never called. A new
    object at the address of a dead one has no entry.

    Bounded by: *maxsize* objects; the oldest entry is dropped and counted, which is logged once.
    Locks: none around its entries, each step is one operation of a dict of ints; `statistics`
        takes a mutex. `setdefault` is atomic.
    Keeps alive: the values, until their object dies. A value that refers to its object keeps both
        alive: note numbers and strings, or refer back with `WeakAttribute`.

    Thread-safe. In a forked child it has the entries it had.

    Args:
        maxsize: Most objects.
        name: What reports call this map; the line that made it by default.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: *maxsize* is less than 1.

    >>> class Request: ...
    >>> seen: WeakIdentityMap[float] = WeakIdentityMap()
    >>> request = Request()
    >>> seen[request] = 12.5
    >>> seen[request]
    12.5
    >>> del request
    >>> len(seen)
    0
    """

    _owner = "map"

    def __init__(self, maxsize: int = DEFAULT_MAXSIZE, *, name: str | None = None) -> None:
        super().__init__(maxsize, name=name)
        self._overflow_logged = False

    def _make_entry(self, key: object, value: Any) -> Entry:
        if value is key:
            raise ConfigError(
                f"the value is the object itself (got {type(key).__name__}), which would keep it "
                f"alive forever; note something else about it"
            )
        return self._refer(key, id(key), value, "an object must be weakly referenceable (got {});")

    def _key_of(self, key: Any) -> Any:
        # The object is alive: a living entry under its id is its own.
        return id(key)

    def _value_of(self, entry: Entry, referent: Any) -> Any:
        del referent
        return entry.value

    def _key_error(self, key: Any) -> KeyError:
        return KeyError(f"nothing is noted about this {type(key).__name__}")

    def get(self, key: object, default: Any = None) -> Any:
        """Return what is noted about *key*, or *default*. Any object may be asked for."""
        entry = self._data.get(id(key))
        return entry.value if entry is not None and entry() is key else default

    def items(self) -> list[tuple[Any, V]]:
        """Return living objects and their values; drop the list soon, it is strong."""
        return [(referent, entry.value) for entry, referent in self._living()]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over a snapshot of the living objects."""
        return iter([referent for _, referent in self._living()])

    def _make_room(self) -> bool:
        dropped = super()._make_room()
        if dropped and not self._overflow_logged:
            self._overflow_logged = True
            log.event(log.WARNING, "weakmap.full", map=self.name, maxsize=self.maxsize)
        return dropped

    def statistics(self) -> WeakIdentityMapStatistics:
        """Return counts since the map was made. Thread-safe; cost: O(objects that died)."""
        items = len(self)
        fork.check()
        with self._reading:
            dropped = self._evicted.read()
        return WeakIdentityMapStatistics(
            name=self.name, maxsize=self.maxsize, items=items, dropped=dropped
        )

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """
        Forget dead objects; notes about live objects stay, however much is requested.

        Args:
            fraction: Has no effect here.
            to_bytes: Has no effect here.
        """
        del fraction, to_bytes
        before = len(self._data)
        return inventory.Reclaimed(items=max(0, before - len(self)), bytes=None)
