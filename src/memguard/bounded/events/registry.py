"""`ListenerRegistry`: events whose listeners end with whoever registered them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, NamedTuple, Self, TypeVar, overload

from memguard.bounded import callsite, inventory, options
from memguard.bounded.events import subscription as subscriptions
from memguard.bounded.events.attachment import attach
from memguard.bounded.events.emit import Emission, Emitting
from memguard.bounded.events.subscription import Entry, SpecialEntry, Subscription, Weak
from memguard.bounded.inventory import Footprint, Reclaimed
from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.callables import CO_COROUTINE

__all__ = ["Emission", "ListenerRegistry", "ListenerRegistryStatistics", "Subscription", "attach"]

_frame = sys._getframe  # noqa: SLF001 - reason: the documented way to the caller's frame
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ListenerRegistryStatistics:
    """What a registry holds and what became of its listeners."""

    name: str
    closed: bool
    events: int
    """Events that somebody listens to."""
    listeners: int
    maxsize: int
    registered: int
    """Registrations so far."""
    died: int
    """Listeners that ended because their object was collected."""
    died_at_once: int
    """Those that were collected on the line that registered them: ``on("x", Handler().method)``."""
    errors: int
    """Calls of listeners and of *until* that raised."""
    warnings: int
    """Events that had more than *max_listeners* listeners at some time."""


class _Wanted(NamedTuple):
    """What a caller of `ListenerRegistry.on` asked for."""

    owner: Any
    once: bool
    until: Any
    weak: Weak
    priority: int
    unique: bool


class ListenerRegistry(Emitting):
    """
    Call everybody who listens to an event, and forget listeners when their time is over.

    A bound method is held weakly and ends with its object. A function or lambda is kept alive, and
    ends with its *owner* where it has one. Listeners are called in the order of registration; an
    emit calls those who were registered when it began. One who raises does not stop the rest. See
    ``docs/listeners.md``.

    Thread-safe: yes, also from destructors and signal handlers. A forked child keeps the listeners.
    A copied or pickled registry comes out empty: listeners belong to the original.

    Bounded by: *maxsize* listeners; every event with more than *max_listeners* is warned of.
    Locks: one re-entrant mutex around changes, none around calls. Listeners, their destructors and
        *until* never run under it.
    Keeps alive: functions, lambdas and callable objects until they end; events while somebody
        listens. Neither owners nor objects of bound methods.

    Args:
        max_listeners: More listeners than this for one event are logged as a warning, once, with
            the places that registered them.
        maxsize: Most listeners of all events.
        on_error: ``"log"`` counts and logs what listeners raise; ``"raise"`` raises the first such
            exception when all have been called.
        name: What reports call it; the line that made it by default.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        *,
        max_listeners: int = 100,
        maxsize: int = 100_000,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
    ) -> None:
        options.check_positive_int(max_listeners, "max_listeners")
        options.check_positive_int(maxsize, "maxsize")
        self._on_error: str = options.check_choice(on_error, options.ON_ERROR, "on_error")
        self._given_name = options.check_name(name)
        self.name = self._given_name or f"{type(self).__name__}@{callsite.shown(callsite.caller())}"
        """What reports call it."""
        self._set_up(max_listeners, maxsize)
        inventory.register(self, name=self.name, kind=type(self).__name__)

    # -- registering ----------------------------------------------------------------------------

    @overload
    def on(
        self,
        event: Hashable,
        fn: Callable[..., Any],
        *,
        owner: Any = None,
        once: bool = False,
        until: Any = None,
        weak: Weak = "auto",
        priority: int = 0,
        unique: bool = True,
    ) -> Subscription: ...

    @overload
    def on(
        self,
        event: Hashable,
        fn: None = None,
        *,
        owner: Any = None,
        once: bool = False,
        until: Any = None,
        weak: Weak = "auto",
        priority: int = 0,
        unique: bool = True,
    ) -> Callable[[F], F]: ...

    def on(
        self,
        event: Hashable,
        fn: Callable[..., Any] | None = None,
        *,
        owner: Any = None,
        once: bool = False,
        until: Any = None,
        weak: Weak = "auto",
        priority: int = 0,
        unique: bool = True,
    ) -> Subscription | Callable[[F], F]:
        """
        Call *fn* at each emit of *event*; without *fn*, a decorator that does so.

        Args:
            event: A string, number, enum member, class or any object compared by identity, or a
                tuple of these.
            fn: A function, bound method, partial, coroutine function or callable object.
            owner: An object, or a `Scope`, whose end ends the registration. It is not kept alive.
            once: Call it once only, also when several threads emit at the same time.
            until: An event, as a string, whose emit ends the registration; or a callable without
                arguments, asked before each call, that ends it by returning true.
            weak: Hold *fn* weakly or not; ``"auto"`` holds bound methods, and partials of them,
                weakly, and everything else strongly.
            priority: Those with a higher one are called earlier.
            unique: Registering the same target with the same owner and options again gives back
                the registration that exists.

        Returns:
            A handle with ``.close()``, also for a ``with``; the function itself as a decorator.

        Raises:
            TypeError: *fn* is not callable or cannot be held weakly as asked, *owner* cannot be
                weakly referenced, *event* has an equality of its own.
            ConfigError: *fn* is a dead weak reference, or holds *owner* so that neither could end.
            CapacityError: The registry is full, or the scope is.
            LifecycleError: The registry is closed, or the scope has ended.
        """
        frame = _frame(1)
        if (
            type(event) is str
            and weak == "auto"
            and owner is until is None
            and not (once or priority)
        ):  # by far the most frequent case, made fast
            serial = next(owners.serials)
            site = frame.f_code, frame.f_lasti
            entry: Entry | None
            if type(fn) is FunctionType and not fn.__code__.co_flags & CO_COROUTINE:
                entry = Entry(serial, event, id(fn), fn, site)
            else:
                entry = subscriptions.method_entry(fn, event, serial, site, self._on_death)
            if entry is not None:
                return Subscription(self._me, self._register(entry, unique), event)
        subscriptions.check(event, until, weak, priority)
        terms = _Wanted(owner, bool(once), until, weak, priority, unique)
        if fn is None:
            return functools.partial(self._decorate, event, terms)
        return self._listen(event, fn, terms)

    def once(self, event: Hashable, fn: Callable[..., Any], *, owner: Any = None) -> Subscription:
        """Call *fn* at the next emit of *event* and never again: short for ``on(once=True)``."""
        subscriptions.check(event, None, "auto", 0)
        return self._listen(event, fn, _Wanted(owner, True, None, "auto", 0, True))

    def _decorate(self, event: Hashable, wanted: _Wanted, fn: F) -> F:
        self._listen(event, fn, wanted)
        return fn

    def _listen(self, event: Hashable, fn: Any, wanted: _Wanted) -> Subscription:
        site = callsite.caller(2)
        serial = next(owners.serials)
        entry = subscriptions.make_entry(fn, event, wanted.weak, serial, site, self._on_death)
        if wanted.once or wanted.until is not None or wanted.priority:
            subscriptions.set_terms(
                entry, once=wanted.once, until=wanted.until, priority=wanted.priority
            )
        if wanted.owner is None:
            return Subscription(self._me, self._register(entry, wanted.unique), event)
        owners.refuse_immortal(wanted.owner, entry.kept())
        entry.owner = id(wanted.owner)
        known = self._register(entry, wanted.unique)
        subscription = Subscription(self._me, known, event)
        if known == serial:
            self._bind(entry, wanted.owner, subscription)
        return subscription

    def _bind(self, entry: SpecialEntry, owner: Any, subscription: Subscription) -> None:
        try:
            entry.estate = owners.adopt(owner, subscription, entry.serial)
        except BaseException:
            self._end(entry.serial)
            raise
        if entry.serial not in self._entries:
            entry.estate.release(entry.serial)  # it ended before the owner knew of it

    def off(self, event: Hashable, fn: Callable[..., Any]) -> bool:
        """
        End all registrations of *fn* for *event*, whoever owns them; False when there are none.

        A bound method ends registrations of an equal bound method. Cost: O(1).
        """
        if self._dead or self._changes or self._orphans:
            self._settle()
        bucket = self._events.get(event)
        if bucket is None:
            return False
        if type(fn) is FunctionType and not bucket.twins:
            alone = bucket.entries.get(id(fn))
            if alone is not None:
                return self._end(alone.serial)
        keys, kept = subscriptions.keys_of(fn)
        entries = [entry for key in keys for entry in bucket.all_of(key)]
        del kept  # not before: the keys are ids of what it holds
        return sum([self._end(entry.serial) for entry in entries]) > 0

    def end(self, owner: Any) -> int:
        """End all registrations in the name of *owner* here, the youngest first; say how many."""
        estate = owners.estate_of(owner)
        if estate is None:
            return 0
        ended = 0
        for thing in reversed(list(estate.things.copy().values())):
            if type(thing) is Subscription and thing.belongs_to(self):
                ended += self._end(thing.serial)
        return ended

    def clear(self, event: Hashable = None) -> int:
        """End all registrations, or those of *event*; return how many."""
        self._settle()
        if event is None:
            serials = list(self._entries.copy())
        else:
            bucket = self._events.get(event)
            entries = {} if bucket is None else bucket.entries.copy()
            serials = [entry.serial for entry in entries.values()]
        return sum(map(self._end, serials))

    # -- asking ---------------------------------------------------------------------------------

    def has_listeners(self, event: Hashable) -> bool:
        """Return whether somebody may listen: perhaps a dead one still, but never a false no."""
        return event in self._events or bool(self._changes)

    def count(self, event: Hashable = None) -> int:
        """Return how many live listeners *event* has, or all events together. Exact."""
        self._settle()
        if event is None:
            return len(self._entries)
        bucket = self._events.get(event)
        return 0 if bucket is None else len(bucket.entries)

    def events(self) -> list[Hashable]:
        """Return the events that somebody listens to, the oldest first."""
        self._settle()
        return list(self._events.copy())

    def sites(self, event: Hashable) -> dict[str, int]:
        """Return the places that registered the listeners of *event*, and how many each has."""
        self._settle()
        bucket = self._events.get(event)
        entries = [] if bucket is None else list(bucket.entries.copy().values())
        return dict(callsite.counted(entry.site for entry in entries).most_common())

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    def statistics(self) -> ListenerRegistryStatistics:
        """Return what it holds and what became of its listeners. Thread-safe, O(1)."""
        self._settle()
        return ListenerRegistryStatistics(
            name=self.name,
            closed=self._closed,
            events=len(self._events),
            listeners=len(self._entries),
            maxsize=self._maxsize,
            registered=self._registered,
            died=self._died,
            died_at_once=self._died_at_once,
            errors=self._errors,
            warnings=self._warnings,
        )

    def footprint(self) -> Footprint:
        """Return how many listeners it holds; it weighs no bytes. Never raises."""
        return Footprint(items=self.count(), bytes=None)

    def reclaim(
        self,
        *,
        fraction: float | None = None,  # noqa: ARG002 - reason: the protocol's
        to_bytes: int | None = None,  # noqa: ARG002 - reason: the protocol's
    ) -> Reclaimed:
        """Forget who died. A listener that lives is wanted: none is taken for want of memory."""
        before = len(self._entries)
        return Reclaimed(items=max(0, before - self.count()), bytes=None)

    # -- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End all registrations and take no more; emits are then heard by nobody. Idempotent."""
        self._closed = True
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a registry with the same options and no listeners."""
        given: dict[str, Any] = {
            "max_listeners": self._max_listeners,
            "maxsize": self._maxsize,
            "on_error": self._on_error,
            "name": self._given_name,
        }
        return functools.partial(type(self), **given), ()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name={self.name!r}, events={len(self._events)}, "
            f"listeners={len(self._entries)})"
        )
