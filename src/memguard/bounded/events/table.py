"""
The structure below `ListenerRegistry`: who listens to what, changed safely from anywhere.

A destructor or a signal handler may call the registry in the middle of a change to it, in the same
thread. So every change is first queued; whoever is in the section works off the queue, and who
comes from within leaves it to them. Nothing that could run a destructor is dropped in the section.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from memguard import log
from memguard.bounded import callsite
from memguard.bounded.events import subscription as subscriptions
from memguard.bounded.events.mute import Quiet
from memguard.bounded.events.subscription import Bucket, Entry
from memguard.bounded.lifetime import owners
from memguard.errors import CapacityError, LifecycleError

if TYPE_CHECKING:
    from memguard.bounded.events.registry import ListenerRegistry

_MOST_LOGGED = 100
_ADD, _ADD_UNIQUE, _REMOVE = "add", "add unique", "remove"


class Roster:
    """Entries by serial and by event, each in or out as a whole."""

    name: str

    def _set_up(self, max_listeners: int, maxsize: int) -> None:
        self._max_listeners = max_listeners
        self._maxsize = maxsize
        self._me: weakref.ref[ListenerRegistry] = weakref.ref(self)  # type: ignore[arg-type]  # reason: the only subclass
        self._lock = threading.RLock()
        self._busy = self._closed = False
        self._entries: dict[int, Entry] = {}
        self._events: dict[Hashable, Bucket] = {}
        self._ends: dict[Hashable, dict[int, None]] = {}
        # What waits for the section: (action, entry).
        self._changes: deque[tuple[str, Entry]] = deque()
        # What death callbacks queued: (serial, whether it died where it was registered).
        self._dead: deque[tuple[int, bool]] = deque()
        self._orphans = owners.orphans()
        self._quiet = Quiet()
        self._on_death = subscriptions.mourner(self._dead)
        self._registered = self._died = self._died_at_once = self._errors = self._warnings = 0
        self._logged: set[tuple[str, Any]] = set()

    # -- changes --------------------------------------------------------------------------------

    def _register(self, entry: Entry, unique: bool) -> int:  # noqa: FBT001 - reason: a keyword costs time here
        """File *entry* and return its serial, or that of the equal one that was there before."""
        if self._dead or self._changes or self._orphans:
            self._settle()
        dropped: Any = None
        event = entry.event
        with self._lock:
            if self._busy:
                return self._register_from_within(entry, unique=unique)
            self._busy = True
            try:
                bucket = self._events.get(event)
                if (
                    bucket is None
                    or self._changes
                    or bucket.twins
                    or entry.key in bucket.entries
                    or entry.terms is not None
                    or self._closed
                    or len(self._entries) >= self._maxsize
                ):
                    dropped = self._work_off()
                    bucket = self._events.get(event)
                    known = self._find_equal(bucket, entry) if unique else None
                    if known is not None:
                        return known
                    self._refuse_when_full()
                    dropped.append(self._put_in(bucket, entry))
                else:  # by far the most frequent case, made fast
                    bucket.entries[entry.key] = entry
                    dropped = bucket.row
                    bucket.row = None
                    self._registered += 1
                self._entries[entry.serial] = entry
            except BaseException:  # refused, out of a signal handler, or want of memory
                self._changes.append((_REMOVE, entry))
                raise
            finally:
                self._busy = False
        del dropped  # not inside the section: it may hold the last reference
        if bucket is not None and len(bucket.entries) > self._max_listeners and not bucket.warned:
            self._warn_of(event)
        return entry.serial

    def _register_from_within(self, entry: Entry, *, unique: bool) -> int:
        """Put off what a destructor registers in the middle of a section."""
        known = self._find_equal(self._events.get(entry.event), entry) if unique else None
        if known is not None:
            return known
        self._entries[entry.serial] = entry
        self._changes.append((_ADD_UNIQUE if unique else _ADD, entry))
        return entry.serial

    def _put_in(self, bucket: Bucket | None, entry: Entry) -> Any:
        """Add *entry* to its event; return what to drop outside the section. Idempotent."""
        if bucket is None:
            bucket = self._events[entry.event] = Bucket()
        if bucket.entries.setdefault(entry.key, entry) is not entry:
            bucket.add_twin(entry)
        self._registered += 1
        terms = entry.terms
        if terms is not None and type(terms.until) is str:
            self._ends.setdefault(terms.until, {})[entry.serial] = None
        row, bucket.row = bucket.row, None
        return row

    def _take_out(self, entry: Entry) -> Any:
        """Take *entry* out of its event; return what to drop outside the section. Idempotent."""
        bucket = self._events.get(entry.event)
        if bucket is None:
            return None
        if bucket.entries.get(entry.key) is entry:
            del bucket.entries[entry.key]
        if bucket.twins:
            bucket.forget_twins()
        if not bucket.entries:
            self._events.pop(entry.event, None)
        terms = entry.terms
        if terms is not None and type(terms.until) is str:
            ending = self._ends.get(terms.until, {})
            ending.pop(entry.serial, None)
            if not ending:
                self._ends.pop(terms.until, None)
        row, bucket.row = bucket.row, None
        return row

    def _find_equal(self, bucket: Bucket | None, entry: Entry) -> int | None:
        if bucket is None:
            return None
        for other in bucket.all_of(entry.key):
            if other is entry or other.owner != entry.owner or other.serial not in self._entries:
                continue
            if other.terms is None or entry.terms is None:
                if other.terms is entry.terms:
                    return other.serial
            elif other.terms.ends_like(entry.terms):
                return other.serial
        return None

    def _refuse_when_full(self) -> None:
        if self._closed:
            raise LifecycleError(f"{self.name} is closed and takes no more listeners")
        if len(self._entries) >= self._maxsize:
            raise CapacityError(
                f"{self.name} is full: it holds maxsize={self._maxsize} listeners; "
                f"give them owners that end, or the registry a larger maxsize"
            )

    def _end(self, serial: int, *, died: bool = False) -> bool:
        """Take the entry out; True for the one caller who did. From any thread, at any time."""
        entry = self._entries.pop(serial, None)
        if entry is None:
            return False
        if entry.estate is not None:
            entry.estate.release(serial)
        dropped: Any = None
        with self._lock:
            self._died += died
            if self._busy:
                self._changes.append((_REMOVE, entry))
                return True
            self._busy = True
            try:
                bucket = self._events.get(entry.event)
                if (
                    bucket is None
                    or self._changes
                    or bucket.twins
                    or entry.terms is not None
                    or len(bucket.entries) == 1
                ):
                    dropped = self._work_off()
                    dropped.append(self._take_out(entry))
                else:  # by far the most frequent case, made fast
                    bucket.entries.pop(entry.key, None)
                    dropped = bucket.row
                    bucket.row = None
            except BaseException:  # out of a signal handler, or want of memory
                self._changes.append((_REMOVE, entry))
                raise
            finally:
                self._busy = False
        del dropped  # not inside the section, as above
        return True

    def _has(self, serial: int) -> bool:
        self._settle()
        return serial in self._entries

    def _settle(self) -> None:
        """Bring the structure up to date with deaths and queued changes."""
        if self._dead:
            self._bury()
        if self._orphans:
            owners.wind_up()
        if not self._changes:
            return
        dropped: Any = None
        with self._lock:
            if self._busy:
                return  # the section that this call interrupted, or the next one, does it
            self._busy = True
            try:
                dropped = self._work_off()
            finally:
                self._busy = False
        del dropped

    def _work_off(self) -> list[Any]:
        """Apply the queued changes; return what must be dropped outside the section."""
        dropped: list[Any] = []
        for _ in range(len(self._changes)):  # what destructors add meanwhile is for the next
            # Taken off when done: an exception out of a signal handler loses nothing.
            action, entry = self._changes[0]
            bucket = self._events.get(entry.event)
            if action == _REMOVE:
                dropped.append(self._take_out(entry))
            elif action == _ADD_UNIQUE and self._find_equal(bucket, entry):
                self._entries.pop(entry.serial, None)  # its handle is closed: the other one stands
            elif entry.serial in self._entries:
                dropped.append(self._put_in(bucket, entry))
            dropped.append(self._changes.popleft())
        return dropped

    def _line_up(self, bucket: Bucket) -> tuple[Entry, ...]:
        with self._lock:
            if self._busy:  # called from a destructor inside a section: what stands, stands
                return tuple(bucket.entries.copy().values())
            self._busy = True
            try:
                return bucket.row or bucket.line_up()
            finally:
                self._busy = False

    def _bury(self) -> None:
        while self._dead:
            try:
                serial, at_once = self._dead.popleft()
            except IndexError:  # another thread was faster
                return
            entry = self._entries.get(serial)
            if entry is not None and self._end(serial, died=True) and at_once:
                self._died_at_once += 1
                self._log_once(
                    "listeners.died_at_once",
                    callsite.shown(entry.site),
                    registered_at=callsite.shown(entry.site),
                    advice="its object was a temporary one: keep the object, or weak=False",
                )

    # -- telling --------------------------------------------------------------------------------

    def _warn_of(self, event: Hashable) -> None:
        with self._lock:
            bucket = self._events.get(event)
            if bucket is None or bucket.warned:
                return
            bucket.warned = True
            self._warnings += 1
            sites = [entry.site for entry in bucket.entries.copy().values()]
        log.event(
            logging.WARNING,
            "listeners.many",
            registry=self.name,
            listens_to=subscriptions.label(event),
            listeners=len(sites),
            max_listeners=self._max_listeners,
            registered_at=callsite.grouped(sites),
        )

    def _log_once(self, name: str, about: Any, **keys: Any) -> None:
        """Log a warning, once for what it is *about*; not under the lock."""
        if (name, about) not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add((name, about))
            log.event(logging.WARNING, name, registry=self.name, **keys)

    def _failed(self, entry: Entry, error: Exception) -> Exception:
        """Count and log what a listener raised; return it without the frame that called it."""
        with self._lock:
            self._errors += 1
        kind = type(error).__name__
        self._log_once(
            "listeners.listener_failed",
            (callsite.shown(entry.site), kind),
            listens_to=subscriptions.label(entry.event),
            registered_at=callsite.shown(entry.site),
            error=kind,
        )
        trace = error.__traceback__
        # Our frame holds the list that holds the error: a circle, for the collector to find.
        return error.with_traceback(None if trace is None else trace.tb_next)

    # -- calling --------------------------------------------------------------------------------

    def _ready(self, entry: Entry, *, sync: bool = True) -> Callable[..., Any] | None:
        """Return what to call for *entry*, None when it is not to be called any more."""
        terms = entry.terms
        if terms is not None:
            if sync and terms.is_async:
                raise LifecycleError("the listener is a coroutine function: use emit_async")
            if callable(terms.until) and self._asked_to_end(entry, terms.until):
                self._end(entry.serial)
                return None
        fn = entry.resolve()
        if fn is None:
            self._end(entry.serial, died=True)
        elif terms is not None and terms.once and not self._end(entry.serial):
            return None  # another emit was faster
        return fn

    def _asked_to_end(self, entry: Entry, until: Callable[[], Any]) -> bool:
        try:
            return bool(until())
        except Exception as error:  # noqa: BLE001 - reason: an unanswered question ends nothing
            self._failed(entry, error)
            return False

    def _after_fork_in_child(self) -> None:
        # The listeners stay: they are code of the child as much as of the parent.
        self._lock = threading.RLock()
        self._busy = False
        self._quiet.forget_other_threads()
