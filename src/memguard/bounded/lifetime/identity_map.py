"""`WeakIdentityMap`: what is known about an object, for as long as the object lives."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memguard import log
from memguard.bounded import callsite, inventory, options
from memguard.bounded.atomic import remove_if_dead
from memguard.bounded.counter import Tally
from memguard.errors import ConfigError, LifecycleError

if TYPE_CHECKING:
    from typing_extensions import Self

V = TypeVar("V")

_MISSING: Any = object()
DEFAULT_MAXSIZE = 1_000_000


class _KeyRef(weakref.ref[Any]):
    """An object, not kept alive, and what is known about it. Its equality is not used."""

    __slots__ = ("key", "value")

    key: int
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakIdentityMapStatistics:
    """What a `WeakIdentityMap` holds, and what has happened since it was made. Counts."""

    name: str
    maxsize: int
    items: int
    dropped: int
    """Entries of living objects that went because the map was full."""


class WeakIdentityMap(Generic[V]):
    """
    Note something about any object, hashable or not, without keeping the object alive.

    Objects are told apart by identity; their ``__eq__`` and ``__hash__`` are never called. A new
    object at the address of a dead one has no entry.

    Bounded by: *maxsize* objects; the longest known is dropped, counted, and that is logged once.
    Locks: none around its entries, each step is one operation of a dict of ints; `statistics`
        has a mutex of its own.
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

    def __init__(self, maxsize: int = DEFAULT_MAXSIZE, *, name: str | None = None) -> None:
        self.maxsize = options.check_positive_int(maxsize, "maxsize")
        self.name = callsite.name_for("WeakIdentityMap", name)
        self._data: dict[int, _KeyRef] = {}
        # The callbacks of dead objects only append here.
        self._dead: deque[_KeyRef] = deque()
        self._dropped = Tally()
        self._reading = threading.RLock()
        self._told = self._closed = False
        inventory.register(self, name=self.name, kind="WeakIdentityMap", also=(self._data,))

    def _after_fork_in_child(self) -> None:
        self._reading = threading.RLock()

    def __setitem__(self, obj: object, value: V) -> None:
        entry = self._entry(obj, value)
        self._data[entry.key] = entry
        self._make_room()

    def setdefault(self, obj: object, default: V) -> V:
        """
        Return what is noted about *obj*, after noting *default* when there was nothing; atomic.

        Raises:
            TypeError: *obj* cannot be weakly referenced.
        """
        new = self._entry(obj, default)
        while True:
            entry = self._data.setdefault(new.key, new)
            if entry is new:
                self._make_room()
                return default
            if entry() is obj:
                value: V = entry.value
                return value
            remove_if_dead(self._data, new.key)

    def get(self, obj: object, default: Any = None) -> Any:
        """Return what is noted about *obj*, or *default*. Any object may be asked for."""
        entry = self._data.get(id(obj))
        return entry.value if entry is not None and entry() is obj else default

    def __getitem__(self, obj: object) -> V:
        value: V = self.get(obj, _MISSING)
        if value is _MISSING:
            raise KeyError(f"nothing is noted about this {type(obj).__name__}")
        return value

    def __contains__(self, obj: object) -> bool:
        return self.get(obj, _MISSING) is not _MISSING

    def pop(self, obj: object, default: Any = _MISSING) -> Any:
        """
        Forget *obj* and return what was noted about it, or *default*.

        Raises:
            KeyError: Nothing is noted, and there is no *default*.
        """
        # obj is alive, so that an entry under its id is its own or that of a dead object.
        entry = self._data.pop(id(obj), None)
        if entry is not None and entry() is obj:
            return entry.value
        if default is _MISSING:
            raise KeyError(f"nothing is noted about this {type(obj).__name__}")
        return default

    def __delitem__(self, obj: object) -> None:
        self.pop(obj)

    def clear(self) -> None:
        """Forget every object."""
        self._data.clear()

    def items(self) -> list[tuple[Any, V]]:
        """Return living objects and their values; drop the list soon, it is strong."""
        pairs = ((entry(), entry.value) for entry in self._data.copy().values())
        return [(obj, value) for obj, value in pairs if obj is not None]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over a snapshot of the living objects."""
        return iter([obj for obj, _ in self.items()])

    def __len__(self) -> int:
        self._clean()
        return len(self._data)

    def __repr__(self) -> str:
        return f"WeakIdentityMap(name={self.name!r}, items={len(self)}, maxsize={self.maxsize})"

    def _entry(self, obj: object, value: V) -> _KeyRef:
        if self._closed:
            raise LifecycleError(f"weak map {self.name!r} is closed; make a new one")
        if value is obj:
            raise ConfigError(
                f"the value is the object itself (got {type(obj).__name__}), which would keep it "
                f"alive for ever; note something else about it"
            )
        try:
            entry = _KeyRef(obj, self._dead.append)
        except TypeError:
            raise TypeError(
                f"an object must be weakly referenceable (got {type(obj).__name__}); "
                f"add '__weakref__' to the __slots__ of its class"
            ) from None
        entry.key = id(obj)
        entry.value = value
        return entry

    def _clean(self) -> None:
        while self._dead:
            try:
                entry = self._dead.popleft()
            except IndexError:  # another thread took it
                return
            # Unless the address belongs to a younger object with an entry of its own.
            remove_if_dead(self._data, entry.key)

    def _make_room(self) -> None:
        if self._dead:
            self._clean()
        while len(self._data) > self.maxsize and self._drop_oldest():
            if not self._told:
                self._told = True
                log.event(logging.WARNING, "weakmap.full", map=self.name, maxsize=self.maxsize)

    def _drop_oldest(self) -> bool:
        while True:
            try:
                key = next(iter(self._data))
            except StopIteration:
                return False
            except RuntimeError:  # changed by another thread between these two steps
                continue
            if self._data.pop(key, None) is not None:
                self._dropped.bump()
                return True

    # -- looking, and giving memory back ------------------------------------------------------

    def statistics(self) -> WeakIdentityMapStatistics:
        """Return counts since the map was made. Cost: O(objects that died)."""
        items = len(self)
        with self._reading:
            dropped = self._dropped.read()
        return WeakIdentityMapStatistics(
            name=self.name, maxsize=self.maxsize, items=items, dropped=dropped
        )

    def footprint(self) -> inventory.Footprint:
        """Return the objects that something is noted about; the notes are not weighed."""
        return inventory.Footprint(items=len(self), bytes=None)

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """
        Forget objects that are dead; what is noted about the living is not for us to drop.

        Args:
            fraction: Accepted for the sake of relief.
            to_bytes: Accepted for the sake of relief.
        """
        del fraction, to_bytes
        before = len(self._data)
        return inventory.Reclaimed(items=max(0, before - len(self)), bytes=None)

    def close(self) -> None:
        """Forget every object and leave the inventory; idempotent. Storing then raises."""
        if not self._closed:
            self._closed = True
            inventory.unregister(self)
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
