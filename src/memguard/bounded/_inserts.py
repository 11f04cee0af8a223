"""
The state of a cache, and the ways to insert a new plain key into a direct one. See `_store`.

Each of these methods does the same four things under the lock, and each only what its kind of cache
needs: bring the order up to date, check that nothing has changed meanwhile, let the least recently
used go, link the new entry. They return False when the ledger has to do it.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from memguard.bounded._entry import Entry, RichEntry, SizedEntry
from memguard.bounded._expiry import ExpiryIndex
from memguard.bounded._order import Order
from memguard.bounded._tally import Tally
from memguard.bounded.sizing import bytes_of

_len = len  # the program may cache the built-in itself, and then must not meet it here

SAME_STAMP_SECONDS = 0.01
"""Entries written within this time share one float: 24 bytes less for each of them."""


class Inserts:
    """The state of one cache; see `_store` for the contract."""

    __slots__ = (
        "_async_flights",
        "_base_bytes",
        "_busy",
        "_bytes",
        "_count",
        "_direct",
        "_evictions",
        "_expiry",
        "_explicit",
        "_flights",
        "_foreign",
        "_idle",
        "_lock",
        "_log",
        "_map",
        "_maxbytes",
        "_maxsize",
        "_misses",
        "_order",
        "_replayed",
        "_rich",
        "_root",
        "_sizer",
        "_stamp",
        "_swift",
        "_timed",
        "_timer",
        "_ttl",
        "_updates",
    )

    _map: dict[Any, Entry]
    _foreign: dict[int, tuple[Entry, ...]]
    _flights: dict[Any, Any]
    _async_flights: Any
    _log: list[Entry]
    _lock: Any  # threading.RLock, which is a function to the type checker
    _order: Order
    _root: Any
    _expiry: ExpiryIndex
    _timer: Any
    _ttl: Any
    _idle: Any
    _maxsize: float
    _base_bytes: int
    """Bookkeeping of one entry, in bytes."""
    _sizer: Any
    _maxbytes: int | None
    _bytes: int
    _count: int
    _stamp: float
    _swift: bool
    _direct: bool
    _rich: bool
    _timed: bool
    _busy: bool
    _replayed: int
    _evictions: int
    _explicit: int
    _misses: Tally
    _updates: Tally

    def _insert_rich(self, key: Any, value: Any, kind: type) -> bool:
        """Insert a new plain key of type *kind* into a direct cache that does more than count."""
        if self._timed or self._maxbytes is None or self._sizer is not None:
            return self._insert_timed(key, value)
        size = self._base_bytes
        # Exact built-in types without a header for the collector: this is what getsizeof gives.
        size += key.__sizeof__() if kind is int or kind is str else bytes_of(key)
        kind = type(value)
        size += (
            value.__sizeof__() if kind is str or kind is bytes or kind is int else bytes_of(value)
        )
        most = self._maxbytes
        if size > most:
            return False
        entry = SizedEntry()
        entry.key = key
        entry.value = value
        entry.hits = 0
        entry.size = size
        entry.written = self._timer()
        settled = gone = None
        inside = done = False
        try:
            self._lock.acquire()  # not `with`: see Store.__setitem__
            try:
                inside = True
                if self._log:
                    settled = self._replay()
                root = self._root
                table = self._map
                short = self._bytes + size - most
                while short > 0 or self._count >= self._maxsize:
                    leaving = root.next
                    if leaving is root or not self._direct:
                        break
                    following = leaving.next
                    root.next = following
                    following.prev = root
                    leaving.prev = None
                    del table[leaving.key]
                    freed = leaving.size
                    self._bytes -= freed
                    self._count -= 1
                    self._evictions += 1
                    leaving.next = gone  # a chain of those who leave, dropped after unlocking
                    gone = leaving
                    short -= freed
                if self._direct and key not in table and self._bytes + size <= most:
                    last = root.prev
                    entry.prev = last
                    entry.next = root
                    last.next = root.prev = entry
                    self._count += 1
                    self._bytes += size
                    table[key] = entry
                    done = True
            finally:
                self._lock.release()
        except BaseException:
            self._interrupted(inside=inside)
            raise
        del settled, gone  # only now: their destructors are the user's code
        return done

    def _insert_timed(self, key: Any, value: Any) -> bool:
        """Insert a new plain key into a direct cache with one ttl, and perhaps a bound of bytes."""
        most = self._maxbytes
        size = 0 if most is None else self._entry_bytes(key, value)
        now = self._timer()
        entry = RichEntry()
        entry.key = key
        entry.value = value
        entry.hits = 0
        entry.size = size
        entry.older = entry.newer = entry.ticket = None
        ttl = self._ttl
        if ttl is None:
            entry.written = now
            entry.expires = entry.filed = None
        else:
            entry.written = None
            entry.expires = entry.filed = now + ttl
        settled = gone = None
        done = False
        with self._lock:
            if self._log:
                settled = self._replay()
            table = self._map
            ring = self._expiry.root
            first = ring.newer
            if (
                self._direct
                and (most is None or size <= most)
                and (not self._timed or first is ring or now < first.expires)
                and not self._expiry.heap
            ):
                root = self._root
                while self._count and (
                    self._count >= self._maxsize or (most is not None and self._bytes + size > most)
                ):
                    leaving = root.next
                    following = leaving.next
                    root.next = following
                    following.prev = root
                    leaving.prev = None
                    older = leaving.older
                    if older is not None:
                        newer = leaving.newer
                        older.newer = newer
                        newer.older = older
                        leaving.older = leaving.newer = None
                    del table[leaving.key]
                    self._count -= 1
                    self._bytes -= leaving.size
                    self._evictions += 1
                    leaving.next = gone  # a chain of those who leave, dropped after unlocking
                    gone = leaving
                if self._direct and key not in table:
                    last = root.prev
                    entry.prev = last
                    entry.next = root
                    last.next = root.prev = entry
                    if ttl is not None:
                        last = ring.older
                        entry.older = last
                        entry.newer = ring
                        last.newer = ring.older = entry
                    self._count += 1
                    self._bytes += size
                    table[key] = entry
                    done = True
        del settled, gone  # only now: their destructors are the user's code
        if done and ttl is not None:
            self._ensure_watched()
        return done

    def _insert_loaded(self, key: Any, value: Any, flight: Any) -> bool:
        """Insert a value that was just loaded into a direct, counting cache; as Store.__setitem__."""
        entry = Entry()
        entry.key = key
        entry.value = value
        entry.hits = 0
        entry.written = monotonic()
        settled = gone = None
        done = False
        with self._lock:
            if self._log:
                settled = self._replay()
            table = self._map
            if self._direct and not flight.disowned and key not in table:
                root = self._root
                if self._count >= self._maxsize:
                    gone = root.next
                    following = gone.next
                    root.next = following
                    following.prev = root
                    gone.prev = None
                    del table[gone.key]
                    self._evictions += 1
                else:
                    self._count += 1
                last = root.prev
                entry.prev = last
                entry.next = root
                last.next = root.prev = entry
                table[key] = entry
                done = True
        del settled, gone
        return done

    def _replay(self) -> list[Entry]:
        """
        Bring the order up to date with the log; under the lock.

        The batch is handed back for the caller to drop after unlocking: it may hold the last
        reference to an entry that has left meanwhile.
        """
        log = self._log
        length = _len(log)
        batch = log[:length]
        del log[:length]
        length = _len(batch)
        self._replayed += length
        self._order.touch(batch)
        if self._timed:
            self._expiry.refile(batch)
        return batch

    # What the ledger adds.

    def _find_foreign(self, key: Any) -> Entry | None:
        raise NotImplementedError

    def _has_lapsed(self, entry: Entry) -> bool:
        raise NotImplementedError

    def _is_due(self, entry: Entry, now: Any) -> bool:
        raise NotImplementedError

    def _expire_all(self) -> Any:
        raise NotImplementedError

    def _entry_bytes(self, key: Any, value: Any) -> int:
        raise NotImplementedError

    def _put(self, key: Any, value: Any) -> Any:
        raise NotImplementedError

    def _take(self, key: Any, default: Any) -> Any:
        raise NotImplementedError

    def _ensure_watched(self) -> None:
        raise NotImplementedError

    def _interrupted(self, *, inside: bool) -> None:
        raise NotImplementedError
