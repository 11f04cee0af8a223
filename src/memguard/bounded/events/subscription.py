"""A registration of a listener, and the handle that the caller gets."""

from __future__ import annotations

import enum
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias

from memguard.bounded import callsite
from memguard.bounded.lifetime import callables
from memguard.bounded.lifetime.callables import WeakTarget
from memguard.bounded.lifetime.owners import Owned
from memguard.errors import ConfigError

# Comparing and hashing these runs no user code, so they may be keys of our dicts.
_PLAIN_EQUALITY: tuple[Any, ...] = (object.__eq__, str.__eq__, int.__eq__, bytes.__eq__)
_PLAIN_HASH: tuple[Any, ...] = (
    object.__hash__,
    str.__hash__,
    int.__hash__,
    bytes.__hash__,
    enum.Enum.__hash__,
)

Weak: TypeAlias = Literal["auto", True, False]
Key: TypeAlias = int | tuple[Any, ...]
OnDeath: TypeAlias = Callable[[Any], object]


class Terms(NamedTuple):
    """How long a listener listens, and in which order it is called."""

    once: bool = False
    until: Any = None
    priority: int = 0
    unique: bool = True

    def end_like(self, other: Terms) -> bool:
        """Return whether *other* ends by the same rules; runs no code of the host."""
        same = self.until is other.until or (
            type(self.until) is str and type(other.until) is str and self.until == other.until
        )
        return same and self.once == other.once


USUAL = Terms()


class Entry:
    """
    One listener.

    Keeps alive: the listener when it is held strongly, and the event.
    """

    __slots__ = (
        "event",
        "fn",
        "held",
        "is_async",
        "key",
        "owned",
        "owner",
        "serial",
        "site",
        "terms",
    )

    def __init__(  # noqa: PLR0917 - reason: keywords would cost a third of a registration
        self,
        serial: int,
        event: Hashable,
        site: callsite.Site,
        held: Any,
        key: Key,
        terms: Terms,
        fn: Callable[..., Any] | None = None,
    ) -> None:
        self.serial = serial
        self.event = event
        self.site = site
        self.held = held
        """The listener, or a `WeakTarget` of it."""
        self.key = key
        """Distinguishes targets: ids of objects that this entry keeps, so they stay unique."""
        self.terms = terms
        self.is_async = False
        """Whether calling it makes a coroutine."""
        self.fn = fn
        """The listener if calling it is all there is to do."""
        self.owner = 0
        """The id of the owner, 0 without."""
        self.owned: Owned | None = None
        """What the owner owns; the subscription is in it by its serial."""

    def resolve(self) -> Callable[..., Any] | None:
        """Return the listener, strong; None when it is dead."""
        held = self.held
        return held.resolve() if isinstance(held, WeakTarget) else held

    def kept(self) -> Callable[..., Any] | None:
        """Return what the entry keeps alive."""
        return None if isinstance(self.held, WeakTarget) else self.held

    def equals(self, other: Entry) -> bool:
        """Return whether *other*, of the same target, has the same owner and ends like this one."""
        return self.owner == other.owner and self.terms.end_like(other.terms)


def make_entry(  # noqa: PLR0917 - reason: as above
    serial: int,
    event: Hashable,
    site: callsite.Site,
    fn: Any,
    weak: Weak,
    terms: Terms,
    on_death: OnDeath,
) -> Entry:
    """
    Return an entry that holds *fn* in the way that *weak* asks for.

    If *fn* is held weakly, the collector calls *on_death* at its death, with a `Lifeline` whose
    mark is the serial and the site.

    Raises:
        TypeError: *fn* is not callable, or must be held weakly and cannot be.
        ConfigError: It is a weak reference, and dead.
    """
    kind = type(fn)
    is_bound = kind is types.MethodType
    if not is_bound:
        fn = callables.referent(fn)
    if weak is True or (weak == "auto" and (is_bound or callables.is_method(fn))):
        target = callables.weak_target(fn, on_death, (serial, site))
        entry = Entry(serial, event, site, target, target.key, terms)
    else:
        entry = Entry(serial, event, site, fn, strong_key(fn), terms)
        if not (terms.once or terms.until is not None):
            entry.fn = fn
    if callables.is_coroutine_function(fn.__func__ if is_bound else fn):
        entry.is_async, entry.fn = True, None
    return entry


def keys_of(fn: Any) -> tuple[list[Key], Any]:
    """Return the keys that entries of *fn* have, and what must be kept while they are used."""
    fn = callables.referent(fn)
    try:
        target = callables.weak_target(fn)
    except TypeError:
        return [strong_key(fn)], fn
    return [strong_key(fn), target.key], (fn, target)


def strong_key(fn: Any) -> Key:
    """Return what distinguishes *fn* from others while it lives; equal for equal bound methods."""
    kind = type(fn)
    if kind is types.FunctionType:
        return id(fn)
    if kind is types.MethodType:
        return id(fn.__self__), id(fn.__func__)
    if kind is types.BuiltinMethodType or kind is types.MethodWrapperType:
        return id(fn.__self__), fn.__name__
    return id(fn)


class Ending(Protocol):
    """The registry's table, as a handle sees it."""

    def end(self, serial: int) -> bool:
        """End one registration; False when it has ended already."""

    def has(self, serial: int) -> bool:
        """Return whether it has not ended."""


class Subscription:
    """
    One registration: close it, or use it in a ``with``, to end it.

    Two handles of the same registration are equal.

    Bounded by: one registration.
    Locks: none of its own.
    Keeps alive: the event's name; neither the registry nor the listener.
    """

    __slots__ = ("_table", "event", "serial")

    is_ours = True

    def __init__(self, table: weakref.ref[Any], serial: int, event: Hashable) -> None:
        self._table: weakref.ref[Ending] = table
        self.serial = serial
        """Its number in the registry; never used again."""
        self.event = event
        """What it listens to."""

    def close(self) -> None:
        """End the registration; idempotent. An emit that is under way still calls it."""
        table = self._table()
        if table is not None:
            table.end(self.serial)

    @property
    def closed(self) -> bool:
        """Whether it has ended: closed, its target or owner collected, or its one call made."""
        table = self._table()
        return table is None or not table.has(self.serial)

    def belongs_to(self, table: Ending) -> bool:
        """Return whether the registry of *table* made it."""
        return self._table() is table

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Subscription):
            return NotImplemented
        return self.serial == other.serial and self._table is other._table

    def __hash__(self) -> int:
        return self.serial

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Subscription({label(self.event)!r}, {'closed' if self.closed else 'open'})"


def check(event: Any, until: Any, weak: Any, priority: Any) -> None:
    """Refuse what a registration cannot be made with."""
    if type(event) is not str and (event is None or not is_plain(event)):
        raise TypeError(
            f"event must be compared by identity, or be a string, number or tuple of these "
            f"(got {type(event).__name__}); an equality of its own would run inside the registry"
        )
    if weak is not True and weak is not False and weak != "auto":
        raise ConfigError(f"weak must be True, False or 'auto' (got {weak!r})")
    if until is not None and type(until) is not str and not callable(until):
        raise TypeError(
            f"until must be the name of an event, or a callable (got {type(until).__name__})"
        )
    if type(priority) is not int:
        raise TypeError(f"priority must be an int (got {type(priority).__name__})")


def is_plain(event: Any) -> bool:
    """Return whether comparing and hashing *event* runs no code of the host."""
    kind = type(event)
    if kind is str:
        return True
    if kind is tuple:
        return all(map(is_plain, event))
    return kind.__eq__ in _PLAIN_EQUALITY and kind.__hash__ in _PLAIN_HASH


def label(event: Hashable) -> str:
    """Return *event* as a short word for a log line; runs no code of the host."""
    if isinstance(event, enum.Enum):
        return f"{type(event).__name__}.{event._name_}"
    if issubclass(type(event), str):
        return str.__str__(event)[:80]
    if issubclass(type(event), int):
        return int.__repr__(event)[:80]
    kind = event if isinstance(event, type) else type(event)
    return kind.__qualname__
