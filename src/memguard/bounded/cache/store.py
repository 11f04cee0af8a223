"""
The hot path of `BoundedCache`: ``get [] []= in pop del len``, and nothing else.

This class is one half of the cache; the other half, `_ledger.Ledger`, does everything that may take
its time. The line between them is a contract, so that a twin in C can take this half's place:

* ``_map`` maps plain keys (see `_entry.is_plain`) to entries. It is only changed under ``_lock``,
  and because its keys are plain, no look-up in it under the lock runs code of the user's.
  Entries with foreign keys hang in ``_foreign``, by hash; `_find_foreign` compares unlocked.
* A hit takes no lock: it appends the entry to ``_log``. `_replay` brings the order up to date,
  under the lock and before every decision about order, so the order is exactly that of accesses.
* An entry is in the cache exactly while ``entry.prev`` is not None. It is unlinked and taken out of
  ``_map`` in one go; whoever finds it between the two reads the value that was there a moment ago.
* ``_swift`` says that a value may be replaced without the lock: nothing is weighed, nobody is told.
  ``_direct`` says that entries may be added and taken here: LRU, plain keys, nobody is told.
  ``_rich`` says that they carry bytes or a deadline. Whenever ``_direct`` is False, or anything is
  unusual, the ledger's `_put` and `_take` do the work.
* Between two points at which CPython may run a signal handler, a finalizer or another thread, the
  structure is whole. These points are calls, allocations of containers, backward jumps and, in
  Python 3.10, conditional jumps that are taken. Statements that belong together therefore stand
  together, and what they rely on is tested or fetched last, in a branch that is fallen into.

Source of the access log: Ding, Jiang, Zhang, "BP-Wrapper", ICDE 2009, doi 10.1109/ICDE.2009.96.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from memguard.bounded.cache.entry import MISSING, Entry, is_plain
from memguard.bounded.cache.inserts import SAME_STAMP_SECONDS, Inserts

_len = len  # the program may cache the built-in itself, and then must not meet it here

LOG_LENGTH = 255
"""Accesses that may wait for replay; each waiting one costs eight bytes."""


class Store(Inserts):
    """The fast operations of one cache; see the module for the contract."""

    __slots__ = ()

    def get(self, key: Any, default: Any = None) -> Any:
        """
        Return the live value of *key*, or *default*. Counts as an access; takes no lock.

        Raises:
            TypeError: *key* is not hashable.
        """
        entry = self._map.get(key)
        if entry is None:
            entry = self._find_foreign(key) if self._foreign else None
            if entry is None:
                self._misses.bump()
                return default
        if self._timed and self._has_lapsed(entry):
            self._misses.bump()
            return default
        log = self._log
        log.append(entry)
        if _len(log) > LOG_LENGTH:
            self._settle()
        return entry.value

    def __getitem__(self, key: Any) -> Any:
        entry = self._map.get(key)
        if entry is None:
            entry = self._find_foreign(key) if self._foreign else None
            if entry is None:
                self._misses.bump()
                return self.__missing__(key)
        if self._timed and self._has_lapsed(entry):
            self._misses.bump()
            return self.__missing__(key)
        log = self._log
        log.append(entry)
        if _len(log) > LOG_LENGTH:
            self._settle()
        return entry.value

    def __missing__(self, key: Any) -> Any:
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        entry = self._map.get(key)
        if entry is None:
            if not self._foreign:
                return False
            entry = self._find_foreign(key)
            if entry is None:
                return False
        return not self._timed or not self._is_due(entry, self._timer())

    def __len__(self) -> int:
        if self._timed:
            self._expire_all()
        return self._count

    def __setitem__(  # noqa: C901, PLR0912, PLR0915 - reason: the hot path, in one frame
        self, key: Any, value: Any
    ) -> None:
        entry = self._map.get(key)
        if entry is not None:
            # Replace the value without the lock. A reader that sees the new deadline sees the new
            # value too. A removal that overlaps leaves its mark on the entry, and one that went by
            # the old deadline looks again after marking.
            if self._swift:
                now = self._timer()
                if not self._timed:
                    entry.value = value
                    entry.written = now
                else:
                    expires = entry.expires
                    if expires is None or entry.ticket is not None or not now < expires:
                        self._put(key, value)
                        return
                    renewed = now + self._ttl
                    entry.value = value
                    entry.expires = renewed
                self._updates.bump()
                entry.hits -= 1  # the log will count this access as a hit
                log = self._log
                log.append(entry)
                if _len(log) > LOG_LENGTH:
                    self._settle()
                if entry.prev is not None:
                    return
            self._put(key, value)
            return
        kind = type(key)
        if not self._direct or (kind is not int and kind is not str and not is_plain(key)):
            self._put(key, value)
            return
        if self._rich:
            if not (
                self._insert_sized(key, value, kind)
                if self._ttl is None
                else self._insert_timed(key, value)
            ):
                self._put(key, value)
            return
        entry = Entry()
        entry.key = key
        entry.value = value
        entry.hits = 0
        now = monotonic()
        if now - self._stamp > SAME_STAMP_SECONDS:
            self._stamp = now
        entry.written = self._stamp
        settled = gone = None
        inside = done = False
        try:
            # `with` has no gap between acquiring and entering the block, but costs 50 ns more; the
            # gap is closed by _interrupted instead.
            self._lock.acquire()
            try:
                inside = True
                if self._log:
                    settled = self._replay()
                table = self._map
                if self._direct and key not in table:
                    root = self._root
                    if self._count >= self._maxsize:
                        gone = root.next
                        following = gone.next
                        root.next = following
                        following.prev = root
                        gone.prev = None
                        del table[gone.key]
                        self._evictions += 1
                        last = root.prev
                        entry.prev = last
                        entry.next = root
                        last.next = root.prev = entry
                        table[key] = entry
                        done = True
                    elif key not in table:  # the branch to here may have let a handler in
                        last = root.prev
                        entry.prev = last
                        entry.next = root
                        last.next = root.prev = entry
                        table[key] = entry
                        self._count += 1
                        done = True
            finally:
                self._lock.release()
        except BaseException:
            self._interrupted(inside=inside)
            raise
        del settled, gone  # only now: their destructors are the user's code
        if not done:  # another thread was here first, or the cache just changed its ways
            self._put(key, value)

    def __delitem__(self, key: Any) -> None:
        # As pop, which would be one call more.
        entry = self._map.get(key)
        if (
            entry is not None
            and self._direct
            and not (self._rich or self._flights or self._async_flights)
        ):
            settled = None
            with self._lock:
                if self._log:
                    settled = self._replay()
                prev = entry.prev
                if self._direct and prev is not None:
                    following = entry.next
                    prev.next = following
                    following.prev = prev
                    entry.prev = None
                    del self._map[entry.key]
                    self._count -= 1
                    self._explicit += 1
                    return
            del settled
        self._take(key, MISSING)

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """
        Remove *key* and return its live value.

        Raises:
            KeyError: There is no live value, and no *default* was given.
            TypeError: *key* is not hashable.
        """
        entry = self._map.get(key)
        if entry is None or self._rich or not self._direct or self._flights or self._async_flights:
            return self._take(key, default)
        settled = None
        done = False
        with self._lock:
            if self._log:
                settled = self._replay()
            prev = entry.prev
            if self._direct and prev is not None:
                following = entry.next
                prev.next = following
                following.prev = prev
                entry.prev = None
                del self._map[entry.key]
                self._count -= 1
                self._explicit += 1
                done = True
        del settled
        return entry.value if done else self._take(key, default)

    def _settle(self) -> None:
        settled = None  # lives until after the lock
        with self._lock:
            if not self._busy:
                settled = self._replay()
        del settled
