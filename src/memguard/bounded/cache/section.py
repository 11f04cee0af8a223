"""
Changing a cache as a whole or not at all: sections, what breaks into them, and repair.

Two things can break into a section, both on the same thread: a finalizer or signal handler that
uses this very cache (its change is put off until the section is over), and an exception raised by a
signal handler (the next section then rebuilds order, deadlines and totals from the entries).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain as concatenate
from itertools import islice
from typing import Any

from memguard.bounded.cache.entry import Cause, Entry, FullEntry
from memguard.bounded.cache.store import Store

_len = len  # the program may cache the built-in itself, and then must not meet it here

PUT_OFF: Any = object()
"""The section could not run now; it was asked for from inside another one."""
LOOK_AGAIN: Any = object()
"""What was found without the lock is no longer so."""


class Section(Store):
    """The store plus the one way to change it that is not the hot path."""

    __slots__ = (
        "_causes",
        "_closed",
        "_deferred",
        "_draining",
        "_simple",
        "_torn",
        "_weighs",
        "_weight",
    )

    _causes: dict[Cause, int]
    _closed: bool
    _deferred: deque[Callable[[], Any]]
    _draining: bool
    _simple: bool
    """What `_direct` goes back to between sections, as long as there are no foreign keys."""
    _torn: bool
    _weighs: bool
    _weight: Any

    def _section(self, work: Callable[..., Any], *args: Any) -> Any:
        """
        Return ``work(*args)``, run under the lock with the order up to date.

        *work* must not drop the last reference to a key or value, nor call code of the user's.
        """
        settled = None  # outlives the lock: it may hold the last reference to an entry
        with self._lock:
            if self._busy:
                return PUT_OFF
            self._busy = True
            self._direct = False
            try:
                if self._torn:
                    settled = self._repair()
                elif self._log:
                    settled = self._replay()
                result = work(*args)
            except BaseException:
                self._torn = True
                raise
            finally:
                self._busy = False  # first: nothing may come between
                self._direct = self._simple and not self._foreign and not self._torn
        del settled
        if self._deferred and not self._draining:
            self._drain()
        return result

    def _drain(self) -> None:
        """Run what was put off; one thread at a time, and not from inside itself."""
        self._draining = True
        try:
            while self._deferred:
                try:
                    put_off = self._deferred.popleft()
                except IndexError:  # another thread took it
                    return
                put_off()
        finally:
            self._draining = False

    def _later(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Run *call* when the section that this thread is in is over."""
        self._deferred.append(partial(call, *args, **options))

    # -- finding ------------------------------------------------------------------------------

    def _seek(self, key: Any, foreign_hash: int | None) -> tuple[Entry | None, Any]:
        """Return the entry of *key* and the foreign entries seen; ``__eq__`` runs unlocked."""
        entry = self._map.get(key)
        if entry is not None or (foreign_hash is None and not self._foreign):
            return entry, None
        chain = self._foreign.get(hash(key) if foreign_hash is None else foreign_hash)
        if chain is not None:
            for candidate in chain:
                if candidate.key is key or candidate.key == key:
                    return candidate, chain
        return None, chain

    def _find_foreign(self, key: Any) -> Entry | None:
        for candidate in self._foreign.get(hash(key), ()):
            if candidate.key is key or candidate.key == key:
                return candidate
        return None

    def _confirm(self, key: Any, foreign_hash: int | None, entry: Entry | None, chain: Any) -> Any:
        """Return what `_seek` found, or LOOK_AGAIN when it is out of date; inside a section."""
        if entry is not None:
            return LOOK_AGAIN if entry.prev is None else entry
        if self._foreign or chain is not None:
            # A plain key is hashed by the interpreter alone, so this is allowed under the lock.
            hashed = hash(key) if foreign_hash is None else foreign_hash
            if self._foreign.get(hashed) is not chain:
                return LOOK_AGAIN
        return self._map.get(key) if foreign_hash is None else None

    def _entries(self) -> Iterator[Entry]:
        """Yield every entry in the cache; inside a section, or under the lock."""
        return concatenate(self._map.values(), concatenate.from_iterable(self._foreign.values()))

    def _is_due(self, entry: Entry, now: Any) -> bool:
        expires = entry.expires
        if expires is not None and not now < expires:
            return True
        return self._idle is not None and not now < entry.used + self._idle

    def _has_lapsed(self, entry: Entry) -> bool:
        """Return whether *entry* is past its time; when it is not, this is an access to it."""
        now = self._timer()
        if self._is_due(entry, now):
            return True
        if self._idle is not None:
            entry.used = now
        return False

    # -- linking ------------------------------------------------------------------------------

    def _link(self, entry: FullEntry) -> None:
        self._order.add(entry)
        self._count += 1
        self._weight += entry.weight
        self._bytes += entry.size
        if entry.hash is None:
            self._map[entry.key] = entry
        else:
            self._foreign[entry.hash] = (*self._foreign.get(entry.hash, ()), entry)

    def _unlink(self, entry: Any, *, evicted: bool = False) -> None:
        if entry.prev is not None:
            self._order.remove(entry, evicted=evicted)
        if entry.filed is not None or entry.ticket is not None:
            self._expiry.forget(entry)
        self._count -= 1
        self._weight -= entry.weight
        self._bytes -= entry.size
        if entry.hash is None:
            del self._map[entry.key]
        else:
            left = tuple(other for other in self._foreign[entry.hash] if other is not entry)
            if left:
                self._foreign[entry.hash] = left
            else:
                del self._foreign[entry.hash]

    def _drop(self, entry: Entry, cause: Cause, removed: list[tuple[Any, Any, Cause]]) -> None:
        """Take *entry* out for *cause*; the caller tells and destroys it after the section."""
        removed.append((entry.key, entry.value, cause))
        self._causes[cause] += 1
        self._unlink(entry, evicted=cause == "size")

    # -- repair -------------------------------------------------------------------------------

    def _repair(self) -> list[Entry]:
        """Rebuild order, deadlines and totals from the entries; O(entries)."""
        stray = self._log[:]
        del self._log[: _len(stray)]
        self._replayed += _len(stray)
        entries = self._in_order_if_known(list(self._entries()))
        self._order.clear()
        self._count = self._bytes = self._weight = 0
        for entry in entries:
            self._order.add(entry)
            self._count += 1
            self._weight += entry.weight
            self._bytes += entry.size
        self._order.touch(stray)
        if self._timed:
            self._expiry.rebuild(entries)
        self._torn = False
        return stray

    def _in_order_if_known(self, entries: list[Entry]) -> list[Entry]:
        """Sort *entries* by the order as far as its links can be followed, the rest at the end."""
        missing = {id(entry): entry for entry in entries}
        ordered = []
        with contextlib.suppress(AttributeError):  # a link may lead nowhere
            for entry in islice(self._order, _len(entries)):
                if missing.pop(id(entry), None) is not None:
                    ordered.append(entry)  # noqa: PERF401 - reason: what was found must survive
        return ordered + list(missing.values())

    def _interrupted(self, *, inside: bool) -> None:
        """
        Clean up after an exception out of nowhere: a signal handler's, or want of memory.

        Between a successful ``acquire()`` and the ``try`` after it, CPython may run a signal
        handler that raises; the lock would then be held for ever.
        """
        if inside:
            self._torn = True
            self._direct = False
            return
        # An acquire() that had to wait was not inside one of our sections, and one that did not
        # wait cannot fail; so if the lock is ours now, the call succeeded and none will release it.
        if self._lock._is_owned():  # noqa: SLF001 - reason: threading.Condition relies on it as well
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        """Replace a lock that a vanished thread holds, and mend what it may have left half done."""
        self._flights.clear()
        self._async_flights.clear()
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return
        self._lock = threading.RLock()
        self._deferred.clear()
        self._busy = False
        self._direct = False
        self._torn = True
        self._section(lambda: None)
