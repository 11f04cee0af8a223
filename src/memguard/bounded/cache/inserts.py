"""
The ways to insert a new plain key into a direct cache. See `_store`.

Each of these methods does the same four things under the lock, and each only what its kind of cache
needs: bring the order up to date, check that nothing has changed meanwhile, let the least recently
used go, link the new entry. They return False when the ledger has to do it.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from memguard.bounded.cache.entry import Entry, RichEntry, SizedEntry
from memguard.bounded.cache.state import State
from memguard.bounded.sizing import bytes_of

_len = len  # the program may cache the built-in itself, and then must not meet it here

_NOWHERE = RichEntry()
"""Stands for the neighbours of an entry that has none."""

SAME_STAMP_SECONDS = 0.01
"""Entries written within this time share one float: 24 bytes less for each of them."""


class Inserts(State):
    """The ways to insert a new plain key into a direct cache."""

    __slots__ = ()

    def _insert_sized(  # noqa: C901, PLR0912, PLR0915 - reason: the hot path, in one frame
        self, key: Any, value: Any, kind: type
    ) -> bool:
        """Insert a new plain key of type *kind* into a direct cache without a ttl of its own."""
        most: Any = self._maxbytes
        if self._plainly_sized:
            # Exact built-in types without a header for the collector: this is what getsizeof gives.
            size = self._base_bytes
            size += key.__sizeof__() if kind is int or kind is str else bytes_of(key)
            kind = type(value)
            if kind is str or kind is bytes or kind is int:
                size += value.__sizeof__()
            else:
                size += bytes_of(value)
        elif self._timed and self._expiry.heap:
            return False  # single entries have deadlines: those that are due leave first
        elif most is None:
            size, most = 0, sys.maxsize
        else:
            size = self._entry_bytes(key, value)
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
                if (
                    (short > 0 or self._count >= self._maxsize)
                    and self._direct
                    and key not in table
                    and root.next.size >= short
                    and self._count
                ):  # one for one
                    gone = root.next
                    following = gone.next
                    root.next = following
                    following.prev = root
                    gone.prev = None
                    del table[gone.key]
                    last = root.prev
                    entry.prev = last
                    entry.next = root
                    last.next = root.prev = entry
                    self._bytes += size - gone.size
                    self._evictions += 1
                    table[key] = entry
                    done = True
                else:
                    if key not in table and (short > 0 or self._count >= self._maxsize):
                        gone = self._evict_more(size, most)
                    if (
                        self._bytes + size <= most
                        and self._count < self._maxsize
                        and self._direct
                        and key not in table
                    ):
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

    def _insert_timed(  # noqa: PLR0915 - reason: the hot path, in one frame
        self, key: Any, value: Any
    ) -> bool:
        """Insert a new plain key into a direct cache with one ttl, and perhaps a bound of bytes."""
        most = self._maxbytes
        if most is None:
            size, most = 0, sys.maxsize
        else:
            size = self._entry_bytes(key, value)
        if size > most:
            return False
        now = self._timer()
        entry = RichEntry()
        entry.key = key
        entry.value = value
        entry.hits = 0
        entry.size = size
        entry.written = entry.ticket = None
        entry.expires = entry.filed = now + self._ttl
        settled = gone = None
        done = False
        with self._lock:
            if self._log:
                settled = self._replay()
            table = self._map
            ring = self._expiry.root
            first = ring.newer
            if (first is ring or now < first.expires) and not self._expiry.heap:
                root = self._root
                short = self._bytes + size - most
                if (
                    (short > 0 or self._count >= self._maxsize)
                    and self._direct
                    and key not in table
                    and root.next.size >= short
                    and self._count
                ):  # one for one
                    gone = root.next
                    older = gone.older or _NOWHERE  # one that never expires is in no ring
                    newer = gone.newer or _NOWHERE
                    following = gone.next
                    root.next = following
                    following.prev = root
                    gone.prev = None
                    older.newer = newer
                    newer.older = older
                    del table[gone.key]
                    last = root.prev
                    entry.prev = last
                    entry.next = root
                    last.next = root.prev = entry
                    last = ring.older
                    entry.older = last
                    entry.newer = ring
                    last.newer = ring.older = entry
                    self._bytes += size - gone.size
                    self._evictions += 1
                    table[key] = entry
                    done = True
                else:
                    if key not in table and (short > 0 or self._count >= self._maxsize):
                        gone = self._evict_more(size, most)
                    if (
                        self._bytes + size <= most
                        and self._count < self._maxsize
                        and self._direct
                        and key not in table
                    ):
                        last = root.prev
                        entry.prev = last
                        entry.next = root
                        last.next = root.prev = entry
                        last = ring.older
                        entry.older = last
                        entry.newer = ring
                        last.newer = ring.older = entry
                        self._count += 1
                        self._bytes += size
                        table[key] = entry
                        done = True
        del settled, gone  # only now: their destructors are the user's code
        if done:
            self._ensure_watched()
        return done

    def _evict_more(self, size: int, most: int) -> Entry | None:
        """
        Evict until one entry of *size* bytes more fits; under the lock, in a direct cache.

        Returns the evicted as a chain by their ``next``, for the caller to drop after unlocking. A
        function of its own, for a loop must not stand directly in a locked block: see
        ``tests/unit/test_locked_blocks.py``.
        """
        root = self._root
        table = self._map
        gone: Any = None
        while (
            (self._count >= self._maxsize or self._bytes + size > most)
            and self._count
            and self._direct
        ):
            leaving = root.next
            older = leaving.older or _NOWHERE  # one that never expires is in no ring
            newer = leaving.newer or _NOWHERE
            following = leaving.next
            root.next = following
            following.prev = root
            leaving.prev = None
            older.newer = newer
            newer.older = older
            del table[leaving.key]
            self._count -= 1
            self._bytes -= leaving.size
            self._evictions += 1
            leaving.next = gone
            gone = leaving
        return gone  # type: ignore[no-any-return]  # reason: links are untyped

    def _insert_loaded(self, key: Any, value: Any, flight: Any) -> bool:
        """Insert a value that was just loaded into a direct, counting cache, as `Store` does."""
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
            root = self._root
            if self._count >= self._maxsize and self._direct and key not in table:
                gone = root.next
                following = gone.next
                root.next = following
                following.prev = root
                gone.prev = None
                del table[gone.key]
                self._count -= 1
                self._evictions += 1
            if (
                self._count < self._maxsize
                and not flight.disowned
                and self._direct
                and key not in table
            ):
                last = root.prev
                entry.prev = last
                entry.next = root
                last.next = root.prev = entry
                self._count += 1
                table[key] = entry
                done = True
        del settled, gone  # only now: their destructors are the user's code
        return done

    def _replay(self) -> list[Entry]:
        """
        Bring the order up to date with the log; under the lock.

        The batch is handed back for the caller to drop after unlocking: it may hold the last
        reference to an entry that has left meanwhile.
        """
        if self._replaying:
            return []  # asked by a finalizer that the next lines let in
        self._replaying = True
        try:
            # Slicing allocates, before Python 3.12 that may run the collector, and a finalizer that
            # shortened this very list meanwhile would crash the interpreter: hence the flag.
            log = self._log
            length = _len(log)
            batch = log[:length]
            del log[:length]
        finally:
            self._replaying = False
        length = _len(batch)
        self._replayed += length
        self._order.touch(batch)
        if self._timed:
            self._expiry.refile(batch)
        return batch
