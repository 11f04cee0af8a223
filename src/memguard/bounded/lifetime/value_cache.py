"""`WeakValueCache`: values that may be collected at any time."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memguard.bounded import callsite, inventory, options
from memguard.bounded.atomic import remove_if_dead
from memguard.bounded.counter import Tally
from memguard.errors import LifecycleError

if TYPE_CHECKING:
    from typing_extensions import Self

K = TypeVar("K")
V = TypeVar("V")

_MISSING: Any = object()
_MOST_SECOND_CHANCES = 64


class _ValueRef(weakref.ref[Any]):
    """A value, not kept alive, and the key it is filed under. Its equality is not used."""

    __slots__ = ("key", "used")

    key: Any
    used: bool


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


class WeakValueCache(MutableMapping[K, V], Generic[K, V]):
    """
    Find objects that are alive anyway, by key, without keeping them alive.

    An entry ends with its value; lookups and insertions clean up after the dead. When the cache is
    full, one that was not asked for since it was last looked at for that purpose makes room.

    Bounded by: *maxsize* entries; each thread that is storing may add one for a moment.
    Locks: none around its entries, each step is one operation of a dict; `statistics` has a mutex
        of its own. `setdefault` is atomic, so that all threads get the same object of a key.
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

    def __init__(self, maxsize: int, *, name: str | None = None) -> None:
        self.maxsize = options.check_positive_int(maxsize, "maxsize")
        self.name = callsite.name_for("WeakValueCache", name)
        self._data: dict[K, _ValueRef] = {}
        # The callbacks of dead values only append here.
        self._dead: deque[_ValueRef] = deque()
        self._hits, self._misses = Tally(), Tally()
        self._collected, self._evicted = Tally(), Tally()
        self._reading = threading.RLock()
        self._closed = False
        inventory.register(self, name=self.name, kind="WeakValueCache", also=(self._data,))

    def _after_fork_in_child(self) -> None:
        self._reading = threading.RLock()

    # -- the mapping --------------------------------------------------------------------------

    def get(self, key: K, default: Any = None) -> Any:
        """Return the living value of *key*, or *default*."""
        ref = self._data.get(key)
        value = None if ref is None else ref()
        if value is None:
            self._misses.bump()
            if self._dead:
                self._clean()
            return default
        ref.used = True  # type: ignore[union-attr]  # reason: it has a value, so it is one
        self._hits.bump()
        return value

    def __getitem__(self, key: K) -> V:
        value: V = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        ref = self._data.get(key)  # type: ignore[arg-type]  # reason: any object may be asked for
        return ref is not None and ref() is not None

    def __setitem__(self, key: K, value: V) -> None:
        ref = self._reference(key, value)
        self._data[key] = ref
        self._make_room()

    def setdefault(self, key: K, default: V) -> V:
        """
        Return the living value of *key*, after storing *default* when there was none; atomic.

        Raises:
            TypeError: *default* cannot be weakly referenced.
        """
        new = self._reference(key, default)
        while True:
            ref = self._data.setdefault(key, new)
            if ref is new:
                self._misses.bump()
                self._make_room()
                return default
            value: V | None = ref()
            if value is not None:
                ref.used = True
                self._hits.bump()
                return value
            remove_if_dead(self._data, key)

    def __delitem__(self, key: K) -> None:
        self.pop(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """
        Remove *key* and return its living value, or *default*.

        Raises:
            KeyError: There is none, and no *default*.
        """
        ref = self._data.pop(key, None)
        value = None if ref is None else ref()
        if value is not None:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def clear(self) -> None:
        """Remove every entry."""
        self._data.clear()

    def __iter__(self) -> Iterator[K]:
        """Iterate over a snapshot of the keys whose values are alive."""
        return iter([key for key, ref in self._data.copy().items() if ref() is not None])

    def __len__(self) -> int:
        self._clean()
        return len(self._data)

    def __repr__(self) -> str:
        return f"WeakValueCache(name={self.name!r}, items={len(self)}, maxsize={self.maxsize})"

    def _reference(self, key: K, value: V) -> _ValueRef:
        if self._closed:
            raise LifecycleError(f"weak cache {self.name!r} is closed; make a new one")
        try:
            ref = _ValueRef(value, self._dead.append)
        except TypeError:
            raise TypeError(
                f"a value must be weakly referenceable (got {type(value).__name__}); use "
                f"BoundedCache for it, or add '__weakref__' to the __slots__ of its class"
            ) from None
        ref.key = key
        ref.used = False
        return ref

    def _clean(self) -> None:
        """Remove entries of dead values; a key that was given a new value keeps it."""
        while self._dead:
            try:
                ref = self._dead.popleft()
            except IndexError:  # another thread took it
                return
            before = len(self._data)
            remove_if_dead(self._data, ref.key)
            if len(self._data) < before:
                self._collected.bump()

    def _make_room(self) -> None:
        if self._dead:
            self._clean()
        while len(self._data) > self.maxsize:
            self._evict_one()

    def _evict_one(self) -> None:
        """Remove the entry stored first, but for those in use since they were last looked at."""
        for chance in range(_MOST_SECOND_CHANCES):
            try:
                key = next(iter(self._data))
            except StopIteration:
                return
            except RuntimeError:  # changed by another thread between these two steps
                continue
            ref = self._data.pop(key, None)
            if ref is None:
                continue
            if chance < _MOST_SECOND_CHANCES - 1 and ref.used and ref() is not None:
                ref.used = False
                self._data.setdefault(key, ref)
                continue
            self._evicted.bump()
            return

    # -- looking, and giving memory back ------------------------------------------------------

    def statistics(self) -> WeakValueCacheStatistics:
        """Return counts since the cache was made. Thread-safe; cost: O(values that died)."""
        items = len(self)
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

    def footprint(self) -> inventory.Footprint:
        """Return the entries; their values belong to somebody else, so no bytes are counted."""
        return inventory.Footprint(items=len(self), bytes=None)

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """
        Remove entries; memory is given back as far as keys go.

        Args:
            fraction: This share of the entries; all of them by default.
            to_bytes: Accepted for the sake of relief: all entries go.

        Raises:
            ConfigError: *fraction* is not from 0 to 1.
        """
        share = 1.0 if fraction is None else options.check_share(fraction, "fraction")
        if to_bytes is not None:
            share = 1.0
        before = len(self)
        for _ in range(math.ceil(before * share)):
            self._evict_one()
        return inventory.Reclaimed(items=max(0, before - len(self._data)), bytes=None)

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
