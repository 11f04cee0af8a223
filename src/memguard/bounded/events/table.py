"""
The listeners of a registry, by serial and by event: writes under one lock, reads without it.

What counts is `Table.entries`; the buckets are an index of it. A destructor or a signal handler may
call the registry in the middle of a change, in the same thread: such a call changes the entries
only. After it, or after a change that an exception interrupted, the next call rebuilds the index.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Hashable

from memguard import log
from memguard.bounded import callsite
from memguard.bounded.events import subscription
from memguard.bounded.events.subscription import USUAL, Entry, Key
from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.callables import Lifeline
from memguard.bounded.lifetime.registrations import Bounds
from memguard.lifecycle import fork, locks
from memguard.lifecycle.queues import drain


class Bucket:
    """The listeners of one event."""

    __slots__ = ("entries", "event", "row", "twins", "warned")

    def __init__(self, event: Hashable = None) -> None:
        self.event = event
        self.entries: dict[Key, Entry] = {}
        """By key, in the order of registration."""
        self.twins: dict[Key, tuple[Key, ...]] = {}
        """The keys of further registrations of a target, if it has several."""
        self.row: tuple[Entry, ...] | None = None
        """The listeners in the order of their calls; None after a change."""
        self.warned = False

    def all_of(self, key: Key) -> list[Entry]:
        """Return every entry of the target that has this key."""
        keys = (key, *self.twins.get(key, ()))
        return [entry for entry in map(self.entries.get, keys) if entry is not None]

    def add_twin(self, entry: Entry) -> None:
        """Add *entry* under a key of its own, for that of its target is taken."""
        key = entry.key
        entry.key = ("twin", entry.serial, key)
        self.twins[key] = (*self.twins.get(key, ()), entry.key)
        self.entries[entry.key] = entry

    def forget_twins(self) -> None:
        """Forget the keys of twins that are no longer there."""
        left = {
            key: tuple(twin for twin in twins if twin in self.entries)
            for key, twins in self.twins.items()
        }
        self.twins = {key: twins for key, twins in left.items() if twins}

    def equal_to(self, entry: Entry) -> Entry | None:
        """Return the registration that is the same as *entry* would be."""
        for one in self.all_of(entry.key):
            if one is not entry and one.equals(entry):
                return one
        return None

    def line_up(self) -> tuple[Entry, ...]:
        """Return the listeners in the order of their calls."""
        row = tuple(self.entries.copy().values())
        if any(entry.terms.priority for entry in row):
            row = tuple(sorted(row, key=lambda entry: -entry.terms.priority))
        return row


class Table:
    """
    Who listens to what.

    Bounded by: the registry's *maxsize*.
    Locks: one re-entrant mutex around changes. What a change drops is kept until it is released,
        so no destructor runs under it.
    Keeps alive: entries, and with them listeners that are held strongly.
    """

    def __init__(self, bounds: Bounds, max_listeners: int) -> None:
        self.me = weakref.ref(self)
        self.entries: dict[int, Entry] = {}
        """Who is registered, by serial."""
        self.buckets: dict[Hashable, Bucket] = {}
        self.endings: dict[Hashable, dict[int, None]] = {}
        """The serials that end with an event."""
        self.registered = self.died = self.died_at_once = self.warnings = 0
        self._bounds = bounds
        self._room = bounds.maxsize
        self.max_listeners = max_listeners
        self.lock = locks.RLock()
        # Whether a change is under way, was interrupted, or was put off: see above.
        self._changing = self._torn = self._put_off = False
        # What death callbacks queued: (serial, whether it died where it was registered).
        self._dead: deque[tuple[int, bool]] = deque()
        self.on_death = _note_in(self._dead)

    # -- changes --------------------------------------------------------------------------------

    def add(self, entry: Entry) -> int:
        """
        Register *entry* and return its serial, or that of the equal one that was there before.

        Raises:
            LifecycleError: The registry is closed.
            CapacityError: It is full.
        """
        fork.check()  # a thread of the parent may hold the lock in a child
        if self._dead or self._torn or self._put_off or owners.collected:
            self.settle()
        with self.lock:
            bucket = self.buckets.get(entry.event)
            if bucket is not None and (bucket.twins or entry.key in bucket.entries):
                known = bucket.equal_to(entry) if entry.terms.unique else None
                if known is not None and known.serial in self.entries:
                    return known.serial
            if len(self.entries) >= self._room:
                self._bounds.admit(len(self.entries))  # which refuses it
            self.registered += 1
            if self._changing or self._torn:
                self._put_off = True
                self.entries[entry.serial] = entry
                return entry.serial
            try:
                self._changing = self._torn = True
                self.entries[entry.serial] = entry
                bucket = self.buckets.get(entry.event)  # a destructor may have ended the others
                if bucket is None:
                    bucket = self.buckets[entry.event] = Bucket(entry.event)
                if entry.terms is USUAL and entry.key not in bucket.entries:
                    bucket.entries[entry.key] = entry  # by far the most frequent, made fast
                    bucket.row = None
                else:
                    self._put_in(bucket, entry, self.endings)
                self._torn = False
            except BaseException:
                self.entries.pop(entry.serial, None)  # the caller gets no handle to end it
                raise
            finally:
                self._changing = False
        if len(bucket.entries) > self.max_listeners and not bucket.warned:
            self._warn_of(bucket)
        return entry.serial

    def end(self, serial: int, *, died: bool = False) -> bool:
        """Take one out; True for the one caller who did. From any thread, at any time."""
        fork.check()
        emptied = None
        with self.lock:
            if self._changing or self._torn:
                self._put_off = True
                entry = self.entries.pop(serial, None)
            else:
                try:
                    self._changing = self._torn = True
                    entry = self.entries.pop(serial, None)
                    if entry is not None:
                        emptied = self._take_out(entry)
                    self._torn = False
                finally:
                    self._changing = False
            if entry is None:
                return False
            if died:
                self.died += 1
        del emptied  # outside of the lock: it keeps the event
        if entry.owned is not None:
            entry.owned.release(serial)
        return True

    def _take_out(self, entry: Entry) -> Bucket | None:
        """Take *entry* out of the index; return its bucket when that is empty now."""
        emptied = None
        bucket = self.buckets.get(entry.event)
        if bucket is not None:
            bucket.entries.pop(entry.key, None)
            bucket.row = None
            if bucket.twins:
                bucket.forget_twins()
            if not bucket.entries:
                emptied = self.buckets.pop(entry.event)
        if self.endings:
            self._forget_ending(entry)
        return emptied

    def close(self) -> None:
        """Take no more listeners."""
        self._bounds.closed = True
        self._room = 0

    def settle(self) -> None:
        """Bring the table up to date with deaths and with changes that were put off."""
        fork.check()
        if self._dead:
            self._end_dead()
        if owners.collected:
            owners.end_collected()
        if self._torn or self._put_off:
            dropped = None
            with self.lock:
                # Checked again: `_torn` may have been a change of another thread, now complete.
                if (self._torn or self._put_off) and not self._changing:
                    dropped = self._index_anew()
            del dropped

    def _index_anew(self) -> list[object]:
        """Make the index from the entries; return the old one, to be dropped outside the lock."""
        old = self.buckets
        dropped: list[object] = [old]
        # Readers take no lock: they see the old index until the new one is whole.
        buckets: dict[Hashable, Bucket] = {}
        endings: dict[Hashable, dict[int, None]] = {}
        try:
            self._changing = self._torn = True
            self._put_off = False  # first: what is put off from here on is for the next call
            for serial, entry in self.entries.copy().items():
                bucket = buckets.setdefault(entry.event, Bucket(entry.event))
                if type(entry.key) is tuple and entry.key[0] == "twin":
                    entry.key = entry.key[2]
                if entry.terms.unique and bucket.equal_to(entry) is not None:
                    dropped.append(self.entries.pop(serial, None))
                    continue
                self._put_in(bucket, entry, endings)
                bucket.warned = entry.event in old and old[entry.event].warned
            self.buckets, self.endings = buckets, endings
            self._torn = False
        finally:
            self._changing = False
        return dropped

    def _put_in(
        self, bucket: Bucket, entry: Entry, endings: dict[Hashable, dict[int, None]]
    ) -> None:
        if entry.key in bucket.entries:
            bucket.add_twin(entry)
        else:
            bucket.entries[entry.key] = entry
        bucket.row = None
        if type(entry.terms.until) is str:
            endings.setdefault(entry.terms.until, {})[entry.serial] = None

    def _forget_ending(self, entry: Entry) -> None:
        until = entry.terms.until
        if type(until) is str and until in self.endings:
            self.endings[until].pop(entry.serial, None)
            if not self.endings[until]:
                del self.endings[until]

    def _end_dead(self) -> None:
        for serial, at_once in drain(self._dead):
            entry = self.entries.get(serial)
            if entry is not None and self.end(serial, died=True) and at_once:
                self.died_at_once += 1
                site = callsite.shown(entry.site)
                self._bounds.warn_once(
                    "listeners.died_at_once",
                    site,
                    registered_at=site,
                    advice="its object was a temporary one: keep the object, or weak=False",
                )

    def _warn_of(self, bucket: Bucket) -> None:
        bucket.warned = True
        self.warnings += 1
        sites = [entry.site for entry in bucket.line_up()]
        log.event(
            log.WARNING,
            "listeners.many",
            registry=self._bounds.name,
            listens_to=subscription.label(bucket.event),
            listeners=len(sites),
            max_listeners=self.max_listeners,
            registered_at=callsite.grouped(sites),
        )

    # -- reads ----------------------------------------------------------------------------------

    def row(self, event: Hashable) -> tuple[Entry, ...]:
        """Return the listeners of *event* in the order of their calls."""
        if self._dead or self._torn or self._put_off or owners.collected:
            self.settle()
        bucket = self.buckets.get(event)
        if bucket is None:
            return ()
        row = bucket.row
        if row is None:
            fork.check()
            with self.lock:
                if self._changing:
                    return bucket.line_up()
                try:
                    self._changing = True  # what a destructor changes meanwhile is put off
                    row = bucket.row = bucket.line_up()
                finally:
                    self._changing = False
        return row

    def bucket(self, event: Hashable) -> Bucket:
        """Return the listeners of *event*, up to date; an empty bucket when there are none."""
        self.settle()
        return self.buckets.get(event) or Bucket()

    def may_have(self, event: Hashable) -> bool:
        """Return whether *event* has listeners, or changes wait that may give it some."""
        return event in self.buckets or self._torn or self._put_off

    def has(self, serial: int) -> bool:
        """Return whether the registration has not ended."""
        self.settle()
        return serial in self.entries

    def reset_lock(self) -> None:
        """In a forked child: the thread that held it, maybe within a change, is gone."""
        self.lock = locks.RLock()
        self._changing = False


def _note_in(dead: deque[tuple[int, bool]]) -> subscription.OnDeath:
    """
    Return a death callback that queues a serial, and whether it died where it was registered.

    An object that dies on the very line that registered its method was a temporary one.
    """

    def note(line: Lifeline) -> None:
        serial, site = line.mark
        dead.append((serial, callsite.is_same_line(callsite.caller(), site)))

    return note
