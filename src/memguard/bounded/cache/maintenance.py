"""What a cache does besides holding: expiry, inspection, giving memory back, closing, pickling."""

from __future__ import annotations

import copyreg
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from memguard.bounded import inventory, options
from memguard.bounded.cache.entry import MISSING, Cause, Entry
from memguard.bounded.cache.inspection import Inspection
from memguard.bounded.cache.removal_listener import Removed
from memguard.bounded.cache.section import PUT_OFF
from memguard.bounded.inventory import SAMPLE, TRUSTED_SECONDS, Measured
from memguard.errors import ConfigError
from memguard.lifecycle import janitor
from memguard.units import parse_bytes

_BATCH = 256
"""Entries removed at a time, so that nobody waits long for the lock."""

_UNWATCHED = -1

_POLL_SECONDS = 0.5
"""How often the janitor looks at a cache whose timer does not count seconds."""


class Upkeep(Inspection):
    """The slow public half of a cache."""

    __slots__ = ("__dict__", "__weakref__", "_average", "_held", "_options", "_watched", "name")

    _options: dict[str, Any]
    _watched: int
    """The janitor's epoch in which this cache asked to be swept."""
    _held: int
    _average: Measured | None
    """What an entry takes, as last measured."""

    if TYPE_CHECKING:  # what the cache brings

        def _set_up(self, given: Any) -> None: ...

        def _estimated_bytes(self, entry: Entry) -> int: ...

    # -- expiry -------------------------------------------------------------------------------

    def expire(self, time: Any = None) -> list[tuple[Any, Any]]:
        """
        Remove what has expired, now or at *time* on the cache's timer, and return its pairs.

        Calling it is never needed for correctness: expired entries are not found, not counted, and
        leave by themselves. Cost: O(expired).
        """
        removed = self._expire_all(MISSING if time is None else time)
        return [(key, value) for key, value, _ in removed]

    def _ensure_watched(self) -> None:
        if self._watched != janitor.epoch:
            self._watched = janitor.epoch
            seconds = self._options["timer"] is time.monotonic
            janitor.watch(self, after=0.1 if seconds else _POLL_SECONDS)

    def _sweep(self) -> float | None:
        self._watched = _UNWATCHED
        self._expire_all()
        with self._lock:
            deadline = None if self._closed else self._expiry.next_deadline()
        if deadline is None:
            return None
        self._watched = janitor.epoch
        if self._options["timer"] is time.monotonic:
            return float(deadline - time.monotonic())
        return _POLL_SECONDS

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._watched = _UNWATCHED

    def _hold_time(self, clock: Callable[[], Any] | None) -> None:
        """Read *clock* instead of the timer until as many calls with None have come."""
        with self._lock:
            if clock is not None:
                self._held += 1
                self._timer = clock
            else:
                self._held -= 1
                if not self._held:
                    self._timer = self._options["timer"]

    # -- removing many ------------------------------------------------------------------------

    def invalidate(self, predicate: Callable[[Any, Any], bool]) -> int:
        """
        Remove every entry for which ``predicate(key, value)`` is true and return their number.

        The predicate runs outside the lock, on a snapshot; an entry whose value was replaced
        meanwhile is left alone. Loads under way are not stored, for they cannot be asked.
        """
        options.check_callable(predicate, "predicate", optional=False)
        self._disown_all()
        return self._remove_where(predicate)

    def _remove_where(self, predicate: Callable[[Any, Any], bool]) -> int:
        chosen = [
            (entry, value)
            for entry, value in [(entry, entry.value) for entry in self._snapshot()]
            if predicate(entry.key, value)
        ]
        total = 0
        for start in range(0, len(chosen), _BATCH):
            removed: Removed = []
            self._section(_drop_unchanged, self, chosen[start : start + _BATCH], removed)
            self._teller.tell(removed)
            total += len(removed)
        return total

    def _snapshot(self) -> list[Entry]:
        """Return the live entries, without touching them."""
        # Copies, for a finalizer may change the originals even while this thread holds the lock.
        entries = list(self._map.copy().values())
        for chain in list(self._foreign.copy().values()):
            entries += chain
        if self._timed:
            now = self._timer()
            entries = [entry for entry in entries if not self._is_due(entry, now)]
        return entries

    def _remove_all(self, cause: Cause, *, closing: bool = False) -> None:
        self._disown_all()
        if self._timed:
            self._expire_all()
        entries: list[Entry] = []  # keeps what leaves alive until after the lock
        removed: Removed = []
        tell = self._options["on_removal"] is not None

        def work() -> None:
            if closing:
                self._closed = True
                self._simple = self._swift = False
            entries.extend(self._entries())
            self._map, self._foreign = {}, {}
            for entry in entries:
                entry.prev = None
                if entry.older is not None:
                    entry.older = entry.newer = None
                if tell:
                    removed.append((entry.key, entry.value, cause))
            self._order.clear()
            self._expiry.clear()
            self._causes[cause] += len(entries)
            self._count = self._bytes = self._weight = 0

        if self._section(work) is PUT_OFF:
            self._later(self._remove_all, cause, closing=closing)
        self._teller.tell(removed)

    def close(self) -> None:
        """
        Remove every entry for the cause ``"closed"`` and leave the inventory; idempotent.

        Afterwards the cache finds nothing, and storing raises LifecycleError.
        """
        if not self._closed:
            self._remove_all("closed", closing=True)
            inventory.unregister(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- giving memory back ---------------------------------------------------------------------

    def resize(self, maxsize: float | None = None, *, maxbytes: int | str | None = None) -> None:
        """
        Change the bounds that are given, and evict at once what no longer fits.

        Raises:
            ConfigError: A bound is out of range, or the cache was not made with that kind of bound.
        """
        new_maxsize = options.check_maxsize(maxsize)
        new_maxbytes = options.check_maxbytes(maxbytes)
        options.check_bounded(new_maxsize, new_maxbytes, "resize")
        if new_maxbytes is not None and self._maxbytes is None:
            raise ConfigError(
                "resize: this cache does not count bytes; make it with maxbytes to bound them"
            )

        def work() -> None:
            if new_maxsize is not None:
                self._maxsize = self._options["maxsize"] = new_maxsize
            if new_maxbytes is not None:
                self._maxbytes = self._options["maxbytes"] = new_maxbytes
            self._simple = self._simple and self._maxsize >= 1

        self._section(work)
        self._evict_while(self._is_over, "size")

    def shrink(
        self, *, to_bytes: int | str | None = None, fraction: float | None = None
    ) -> inventory.Reclaimed:
        """
        Give memory back: remove the entries that would leave next, for the cause ``"pressure"``.

        In batches, so that other threads never wait long. Exactly one goal must be given.

        Args:
            to_bytes: Keep at most this many bytes. A cache that does not count bytes goes by the
                average of a few entries.
            fraction: Remove this share of the entries, 0 to 1.

        Raises:
            TypeError: None or both are given, or one is of the wrong kind.
            ConfigError: One is out of range.
        """
        if (to_bytes is None) == (fraction is None):
            raise TypeError("shrink needs exactly one of to_bytes= and fraction=")
        average = 0.0
        if fraction is not None:
            share = options.check_share(fraction, "fraction")
            keep = len(self) - math.ceil(len(self) * share)
            is_over = lambda: self._count > keep  # noqa: E731 - reason: one of three goals
        else:
            goal = parse_bytes(to_bytes or 0, name="to_bytes")
            if self._maxbytes is not None:
                is_over = lambda: self._bytes > goal  # noqa: E731 - reason: one of three goals
            else:
                average = self._average_bytes()
                keep = int(goal / average) if average else 0
                is_over = lambda: self._count > keep  # noqa: E731 - reason: one of three goals
        average = average or self._average_bytes()
        items, counted = self._evict_while(is_over, "pressure")
        freed = counted if self._maxbytes is not None else int(items * average)
        return inventory.Reclaimed(items=items, bytes=freed)

    def reclaim(
        self, *, fraction: float | None = None, to_bytes: int | None = None
    ) -> inventory.Reclaimed:
        """Drop what has expired, then `shrink`: what relief calls under memory pressure."""
        if self._timed:
            self._expire_all()
        return self.shrink(fraction=fraction, to_bytes=to_bytes)

    def footprint(self) -> inventory.Footprint:
        """Return live entries and their bytes, estimated where the cache does not count them."""
        items = self._live_count()
        size = self._bytes if self._maxbytes is not None else int(self._average_bytes() * items)
        return inventory.Footprint(items=items, bytes=size)

    def _evict_while(self, is_over: Callable[[], bool], cause: Cause) -> tuple[int, int]:
        """Evict in batches as long as it is too much; return entries and counted bytes."""
        items = freed = 0

        def pick() -> Entry | None:
            nonlocal freed
            victim = self._order.victim() if is_over() else None
            freed += 0 if victim is None else victim.size
            return victim

        while True:
            removed: Removed = []
            outcome = self._purge(pick, cause, _BATCH, removed)
            self._teller.tell(removed)
            items += len(removed)
            if outcome is PUT_OFF or len(removed) < _BATCH:
                return items, freed

    # -- what loading needs ----------------------------------------------------------------------

    if TYPE_CHECKING:  # what the loading half of the cache brings
        _MADE_ANEW: frozenset[str]

        def _disown_all(self) -> None: ...

    def _age_of(self, key: Any) -> Any:
        entry = self._map.get(key) or (self._find_foreign(key) if self._foreign else None)
        return None if entry is None else self._age(entry, self._timer())

    def _peek(self, key: Any) -> Any:
        """Return the live value of *key* or MISSING; counts and touches nothing."""
        entry = self._map.get(key)
        if entry is None and self._foreign:
            entry = self._find_foreign(key)
        if entry is None or (self._timed and self._is_due(entry, self._timer())):
            return MISSING
        return entry.value

    def _lifetime(self, ttl: Any) -> Any:
        if ttl is MISSING:
            return ttl
        lifetime = options.check_duration(ttl, self._options["timer"], "ttl")
        return None if lifetime == math.inf else lifetime

    def _live_count(self) -> int:
        if self._timed:
            self._expire_all()
        return self._count

    def _average_bytes(self) -> float:
        """Return the bytes of an entry; measured anew when an eighth of the entries has changed."""
        with self._lock:
            count = self._count
            removed = sum(self._causes.values()) + self._evictions + self._explicit
            changes = count + 2 * (removed + self._updates.read())
        return self._average_after(changes, count)

    def _average_after(self, changes: int, count: int) -> float:
        # Whoever asks for items, bytes and statistics, every few seconds and of a hundred caches,
        # must not pay for walking the same values again.
        now = time.monotonic()
        known = self._average
        if known is not None:
            average, then, _, at = known
            if 0 <= changes - then <= count // 8 and now - at < TRUSTED_SECONDS:
                return average
            if known.will_do(changes, count, now):
                return average
        average = self._measured_average()
        self._average = Measured(average, changes, count, now)
        return average

    def _measured_average(self) -> float:
        sample: list[Entry] = []

        def take() -> None:
            sample.extend(islice(self._order, SAMPLE))
            sample.extend(islice(reversed(self._map.values()), SAMPLE))

        self._section(take)
        if not sample:
            return 0.0
        sizes = [self._estimated_bytes(entry) for entry in sample]
        return sum(sizes) / len(sizes)

    # -- pickling ---------------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle options and live entries with the time they have left; counts start anew."""
        entries: list[Entry] = []
        if self._section(lambda: entries.extend(self._order)) is PUT_OFF:
            entries = self._snapshot()
        now = self._timer()
        rows = []
        for entry in entries:
            if self._timed and self._is_due(entry, now):
                continue
            left = None if entry.expires is None else entry.expires - now
            rows.append((entry.key, entry.value, left))
        own = {name: value for name, value in self.__dict__.items() if name not in self._MADE_ANEW}
        return copyreg.__newobj__, (type(self),), (self._options, rows, own)  # type: ignore[attr-defined]  # reason: what pickle itself uses

    def __setstate__(self, state: Any) -> None:
        given, rows, attributes = state
        self.__dict__.update(attributes)
        self._set_up(given)
        for key, value, left in rows:
            if left is None:
                self._put(key, value)
            else:
                self._put(key, value, ttl=left)


def _drop_unchanged(store: Upkeep, chosen: list[tuple[Entry, Any]], removed: Removed) -> None:
    for entry, value in chosen:
        if entry.prev is not None and entry.value is value:
            store._drop(entry, "explicit", removed)  # noqa: SLF001 - reason: a section of this room
