"""`WeakTable`: entries that end with the object they refer to; what both weak containers share."""

from __future__ import annotations

import _weakref
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from memguard.bounded import callsite, inventory, options
from memguard.bounded.counter import Tally
from memguard.errors import LifecycleError
from memguard.lifecycle import locks

K = TypeVar("K")
V = TypeVar("V")

_MISSING: Any = object()
_MAX_SECOND_CHANCES = 64

# Looking first and deleting afterwards would delete what another thread stored in between, and a
# lock would be held while the `__eq__` of keys runs. The `weakref` module itself uses it for this.
_remove_if_dead: Callable[[dict[Any, Any], Any], None] = getattr(_weakref, "_remove_dead_weakref")  # noqa: B009 - reason: type checkers do not know it


class Entry(weakref.ref[Any]):
    """An object that is not kept alive, and what is filed with it. Its equality is not used."""

    __slots__ = ("key", "used", "value")

    key: Any
    value: Any
    used: bool
    """Whether it was asked for since eviction last passed it by."""


class WeakTable(ABC, Generic[K, V]):
    """
    A bounded dict whose entries end with the object they refer to; weakref callbacks only append.

    A subclass defines how an entry is made and found, and what a user gets of it.
    """

    _owner = "table"
    """What messages call it."""

    def __init__(self, maxsize: int, *, name: str | None = None) -> None:
        kind = type(self).__name__
        self.maxsize = options.check_positive_int(maxsize, "maxsize")
        self.name = callsite.name_for(kind, name)
        self._data: dict[Any, Entry] = {}
        self._dead: deque[Entry] = deque()
        self._hits, self._misses = Tally(), Tally()
        self._collected, self._evicted = Tally(), Tally()
        self._reading = locks.RLock()
        self._closed = False
        inventory.register(self, name=self.name, kind=kind, also=(self._data,))

    def _after_fork_in_child(self) -> None:
        self._reading = locks.RLock()

    # -- what a subclass defines --------------------------------------------------------------

    @abstractmethod
    def _make_entry(self, key: K, value: Any) -> Entry:
        """Return what to file under *key*."""

    @abstractmethod
    def _key_of(self, key: Any) -> Any:
        """Return the key in the dict."""

    @abstractmethod
    def _value_of(self, entry: Entry, referent: Any) -> Any:
        """Return what a user gets."""

    @abstractmethod
    def _key_error(self, key: Any) -> KeyError:
        """Return what is raised where there is nothing under *key*."""

    # -- the mapping --------------------------------------------------------------------------

    @abstractmethod
    def get(self, key: K, default: Any = None) -> Any:
        """Return what is filed under *key*, while the object of the entry lives, or *default*."""

    def __getitem__(self, key: K) -> V:
        value: V = self.get(key, _MISSING)
        if value is _MISSING:
            raise self._key_error(key)
        return value

    def __contains__(self, key: object) -> bool:
        entry = self._data.get(self._key_of(key))
        return entry is not None and entry() is not None

    def __setitem__(self, key: K, value: V) -> None:
        entry = self._make_entry(key, value)
        self._data[entry.key] = entry
        self._make_room()

    def setdefault(self, key: K, default: V) -> V:
        """
        Return what is filed under *key*, after filing *default* when there was nothing; atomic.

        Raises:
            TypeError: The object of the new entry cannot be weakly referenced.
        """
        new = self._make_entry(key, default)
        while True:
            entry = self._data.setdefault(new.key, new)
            if entry is new:
                self._misses.bump()
                self._make_room()
                return default
            referent = entry()
            if referent is not None:
                self._hits.bump()
                value: V = self._value_of(entry, referent)
                return value
            _remove_if_dead(self._data, new.key)

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """
        Remove the entry of *key* and return what was filed, or *default*.

        Raises:
            KeyError: There is no living entry, and no *default*.
        """
        entry = self._data.pop(self._key_of(key), None)
        referent = None if entry is None else entry()
        if entry is not None and referent is not None:
            return self._value_of(entry, referent)
        if default is _MISSING:
            raise self._key_error(key)
        return default

    def clear(self) -> None:
        """Remove every entry."""
        self._data.clear()

    def __len__(self) -> int:
        self._clean()
        return len(self._data)

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}(name={self.name!r}, items={len(self)}, maxsize={self.maxsize})"

    def _living(self) -> list[tuple[Entry, Any]]:
        """Return the entries and their objects; drop the list soon, it is strong."""
        pairs = ((entry, entry()) for entry in self._data.copy().values())
        return [(entry, referent) for entry, referent in pairs if referent is not None]

    def _refer(self, referent: object, key: Any, value: Any, advice: str) -> Entry:
        """Return an entry that ends with *referent*."""
        if self._closed:
            raise LifecycleError(f"weak {self._owner} {self.name!r} is closed; make a new one")
        try:
            entry = Entry(referent, self._dead.append)
        except TypeError:
            raise TypeError(
                f"{advice.format(type(referent).__name__)} add '__weakref__' to the __slots__ "
                f"of its class"
            ) from None
        entry.key = key
        entry.value = value
        entry.used = False
        return entry

    def _clean(self) -> None:
        """Remove entries of dead objects; a key that was filed again keeps its entry."""
        while self._dead:
            try:
                entry = self._dead.popleft()
            except IndexError:  # another thread took it
                return
            before = len(self._data)
            _remove_if_dead(self._data, entry.key)
            if len(self._data) < before:
                self._collected.bump()

    def _make_room(self) -> bool:
        """Keep within the bound; return whether a living entry had to go."""
        if self._dead:
            self._clean()
        evicted = False
        while len(self._data) > self.maxsize:
            evicted = self._evict_one() or evicted
        return evicted

    def _evict_one(self) -> bool:
        """Remove the oldest entry, except those in use since eviction last passed them by."""
        for chance in range(_MAX_SECOND_CHANCES):
            try:
                key = next(iter(self._data))
            except StopIteration:
                return False
            except RuntimeError:  # changed by another thread between these two steps
                continue
            entry = self._data.pop(key, None)
            if entry is None:
                continue
            if chance < _MAX_SECOND_CHANCES - 1 and entry.used and entry() is not None:
                entry.used = False
                self._data.setdefault(key, entry)
                continue
            self._evicted.bump()
            return True
        return False

    # -- looking, and giving memory back ------------------------------------------------------

    def footprint(self) -> inventory.Footprint:
        """Return the number of entries; their objects belong to others, so no bytes are counted."""
        return inventory.Footprint(items=len(self), bytes=None)

    def close(self) -> None:
        """Remove every entry and leave the inventory; idempotent. Storing then raises."""
        if not self._closed:
            self._closed = True
            inventory.unregister(self)
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
