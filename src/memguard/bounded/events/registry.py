"""`ListenerRegistry`: events whose listeners end with their objects or owners."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, Self, TypeVar, overload

from memguard.bounded import callsite, options
from memguard.bounded.events import subscription
from memguard.bounded.events.attachment import attach
from memguard.bounded.events.emit import Emission, Emitter
from memguard.bounded.events.mute import Merge, Mute
from memguard.bounded.events.subscription import (
    USUAL,
    Entry,
    Subscription,
    Terms,
    Weak,
    make_entry,
)
from memguard.bounded.events.table import Table
from memguard.bounded.lifetime import owners, registrations
from memguard.bounded.lifetime.callables import CO_COROUTINE
from memguard.bounded.lifetime.registrations import Bounds

__all__ = ["Emission", "ListenerRegistry", "ListenerRegistryStatistics", "Subscription", "attach"]

_frame = sys._getframe  # noqa: SLF001 - reason: the documented way to the caller's frame
_REPEATED = Terms(unique=False)
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ListenerRegistryStatistics:
    """What a registry holds and has done."""

    name: str
    closed: bool
    events: int
    """Events that have listeners."""
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


class ListenerRegistry:
    """
    Call the listeners of an event, and remove them when their object or owner ends.

    A bound method is held weakly and ends with its object. A function or lambda is kept alive, and
    ends with its *owner* if it has one. Listeners are called in the order of registration; an
    emit calls those that were registered when it began. One that raises does not stop the rest. See
    ``docs/listeners.md``.

    Thread-safe: yes, also from destructors and signal handlers. A forked child keeps the listeners.
    A copied or pickled registry is empty: listeners belong to the original.

    Bounded by: *maxsize* listeners; every event with more than *max_listeners* is warned of.
    Locks: one re-entrant mutex around changes, none around calls. Listeners, their destructors and
        *until* never run under it.
    Keeps alive: functions, lambdas and callable objects until they end; events while they have
        listeners. Neither owners nor objects of bound methods.

    Args:
        max_listeners: More listeners than this for one event are logged as a warning, once, with
            the lines that registered them.
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
        self._on_error = options.check_choice(on_error, options.ON_ERROR, "on_error")
        self._given_name = name
        self._bounds = Bounds(
            self,
            name,
            maxsize,
            "listeners",
            "give them owners that end, or the registry a larger maxsize",
        )
        self.name = self._bounds.name
        """What reports call it."""
        self._table = Table(self._bounds, max_listeners)
        self._emitter = Emitter(self._table, self._bounds, raises=on_error == "raise")

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
                arguments, called before each call, that ends it by returning true.
            weak: Hold *fn* weakly or not; ``"auto"`` holds bound methods, and partials of them,
                weakly, and everything else strongly.
            priority: Those with a higher one are called earlier.
            unique: Registering the same target with the same owner and options again returns the
                registration that exists.

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
            fn is not None
            and type(event) is str
            and weak == "auto"
            and owner is until is None
            and not (once or priority)
        ):  # by far the most frequent case, made fast
            table, serial, site = self._table, next(owners.serials), (frame.f_code, frame.f_lasti)
            terms = USUAL if unique else _REPEATED
            if type(fn) is FunctionType and not fn.__code__.co_flags & CO_COROUTINE:
                entry = Entry(serial, event, site, fn, id(fn), terms, fn)
            else:
                entry = make_entry(serial, event, site, fn, weak, terms, table.on_death)
            return Subscription(table.me, table.add(entry), event)
        subscription.check(event, until, weak, priority)
        terms = Terms(bool(once), until, priority, bool(unique))
        if fn is not None:
            return self._register(event, fn, callsite.caller(), owner, weak, terms)

        def decorate(fn: F) -> F:
            self._register(event, fn, callsite.caller(), owner, weak, terms)
            return fn

        return decorate

    def once(self, event: Hashable, fn: Callable[..., Any], *, owner: Any = None) -> Subscription:
        """Call *fn* at the next emit of *event* and never again: short for ``on(once=True)``."""
        return self.on(event, fn, owner=owner, once=True)

    def _register(  # noqa: PLR0917 - reason: keywords would cost time at each registration
        self,
        event: Hashable,
        fn: Any,
        site: callsite.Site,
        owner: Any,
        weak: Weak,
        terms: Terms,
    ) -> Subscription:
        table = self._table
        entry = make_entry(next(owners.serials), event, site, fn, weak, terms, table.on_death)
        if owner is not None:
            owners.refuse_cycle(owner, entry.kept())
            entry.owner = id(owner)
        handle = Subscription(table.me, table.add(entry), event)
        if owner is not None and handle.serial == entry.serial:
            self._bind(entry, owner, handle)
        return handle

    def _bind(self, entry: Entry, owner: Any, handle: Subscription) -> None:
        try:
            entry.owned = owners.adopt(owner, handle, entry.serial)
        except BaseException:
            self._table.end(entry.serial)
            raise
        if entry.serial not in self._table.entries:
            entry.owned.release(entry.serial)  # it ended before the owner knew of it

    def off(self, event: Hashable, fn: Callable[..., Any]) -> bool:
        """
        End all registrations of *fn* for *event*, of any owner; False when there are none.

        A bound method ends registrations of an equal bound method. Cost: O(1).
        """
        bucket = self._table.bucket(event)
        keys, kept = subscription.keys_of(fn)
        entries = [entry for key in keys for entry in bucket.all_of(key)]
        del kept  # not before: the keys are ids of what it holds
        return sum([self._table.end(entry.serial) for entry in entries]) > 0

    def end(self, owner: Any) -> int:
        """End all registrations of *owner* here, the youngest first; return how many."""
        owned = owners.owned_by(owner)
        if owned is None:
            return 0
        table = self._table
        return sum(
            table.end(one.serial)
            for one in reversed(list(owned.registrations.copy().values()))
            if type(one) is Subscription and one.belongs_to(table)
        )

    def clear(self, event: Hashable = None) -> int:
        """End all registrations, or those of *event*; return how many."""
        table = self._table
        if event is None:
            table.settle()
            return sum(map(table.end, list(table.entries.copy())))
        return sum(table.end(entry.serial) for entry in table.bucket(event).line_up())

    # -- emitting -------------------------------------------------------------------------------

    def emit(self, event: Hashable, /, *args: Any, **kwargs: Any) -> Emission:
        """
        Call the listeners of *event* with the arguments, and collect what comes back.

        An emit within a listener runs at once, before the rest of the outer one. Cost: a fraction
        of a microsecond, and a fraction more for each listener.

        Raises:
            Exception: With ``on_error="raise"``, what the first failing listener raised, when all
                have been called.
            RecursionError: Listeners that emit to one another without end; never collected.
        """
        return self._emitter.emit(event, args, kwargs)

    async def emit_async(self, event: Hashable, /, *args: Any, **kwargs: Any) -> Emission:
        """
        Call the listeners of *event* one after another, and await what is awaitable.

        As `emit`, for coroutine functions and functions alike. A cancellation stops it.
        """
        return await self._emitter.emit_async(event, args, kwargs)

    def muted(self, *events: Hashable) -> contextlib.AbstractContextManager[None]:
        """Drop emits of *events*, or of all events without any, until the block ends; nests."""
        return Mute(self._emitter.mutes, events)

    def held(
        self, *events: Hashable, merge: Merge | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """
        Deliver emits of *events*, or of all events, at the end of the block, merged into one each.

        Args:
            events: Which; all without any.
            merge: Called as ``merge(earlier_args, later_args)``; returns the arguments to deliver.
                Without it, the last emit stands for all. Keyword arguments are the last ones.
        """
        return Mute(self._emitter.mutes, events, self.emit, merge)

    # -- asking ---------------------------------------------------------------------------------

    def has_listeners(self, event: Hashable) -> bool:
        """Return whether *event* may have listeners: maybe only dead ones, but never a false no."""
        return self._table.may_have(event)

    def count(self, event: Hashable = None) -> int:
        """Return how many live listeners *event* has, or all events together. Exact."""
        self._table.settle()
        if event is None:
            return len(self._table.entries)
        return len(self._table.bucket(event).entries)

    def events(self) -> list[Hashable]:
        """Return the events that have listeners, the oldest first."""
        self._table.settle()
        return list(self._table.buckets.copy())

    def sites(self, event: Hashable) -> dict[str, int]:
        """Return where the listeners of *event* were registered, and how many at each line."""
        row = self._table.bucket(event).line_up()
        return dict(callsite.counted(entry.site for entry in row).most_common())

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # an empty registry is a registry

    def statistics(self) -> ListenerRegistryStatistics:
        """Return what it holds and has done. Thread-safe, O(1)."""
        table = self._table
        table.settle()
        with table.lock:
            return ListenerRegistryStatistics(
                name=self.name,
                closed=self._bounds.closed,
                events=len(table.buckets),
                listeners=len(table.entries),
                maxsize=self._bounds.maxsize,
                registered=table.registered,
                died=table.died,
                died_at_once=table.died_at_once,
                errors=self._emitter.errors.read(),
                warnings=table.warnings,
            )

    footprint = registrations.footprint
    reclaim = registrations.reclaim

    def _count_all(self) -> int:
        return len(self._table.entries)

    # -- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End all registrations and take no more; emits then call nothing. Idempotent."""
        self._table.close()
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a registry with the same options and no listeners."""
        given: dict[str, Any] = {
            "max_listeners": self._table.max_listeners,
            "maxsize": self._bounds.maxsize,
            "on_error": self._on_error,
            "name": self._given_name,
        }
        return functools.partial(type(self), **given), ()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name={self.name!r}, events={len(self._table.buckets)}, "
            f"listeners={len(self._table.entries)})"
        )

    def _after_fork_in_child(self) -> None:
        # The listeners stay: they are code of the child as much as of the parent.
        self._table.reset_lock()
        self._emitter.mutes.forget_other_threads()
