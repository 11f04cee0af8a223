"""What a listener registry keeps of each listener, and the handle that its owner gets."""

from __future__ import annotations

import enum
import types
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from memguard.bounded import callsite
from memguard.bounded.lifetime import callables as targets
from memguard.bounded.lifetime.callables import Lifeline
from memguard.bounded.lifetime.owners import Estate
from memguard.errors import ConfigError

if TYPE_CHECKING:
    from memguard.bounded.events.registry import ListenerRegistry

# Comparing and hashing these runs no code of a stranger, so it is allowed inside a section.
_PLAIN_EQUALITY: tuple[Any, ...] = (object.__eq__, str.__eq__, int.__eq__, bytes.__eq__)
_PLAIN_HASH: tuple[Any, ...] = (
    object.__hash__,
    str.__hash__,
    int.__hash__,
    bytes.__hash__,
    enum.Enum.__hash__,
)

Weak: TypeAlias = Literal["auto", True, False]
Key: TypeAlias = int | tuple[int | str, ...]
OnDeath: TypeAlias = Callable[[Any], object]


class Terms:
    """What is not usual about an entry."""

    __slots__ = ("is_async", "once", "priority", "strong", "target", "until")

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.once = False
        self.until: Any = None
        self.priority = 0
        self.strong: Callable[..., Any] | None = None
        """A listener that is kept alive, but must not be called without a look at the terms."""
        self.target: targets.WeakTarget | None = None
        """A listener that is held weakly, but for methods, which have entries of their own."""

    def ends_like(self, other: Terms) -> bool:
        """Return whether *other* ends by the same rules."""
        same = self.until is other.until or (
            type(self.until) is str and type(other.until) is str and self.until == other.until
        )
        return same and self.once == other.once


class Entry:
    """One listener: a function that is kept alive, by itself, on the usual terms."""

    __slots__ = ("event", "fn", "key", "serial", "site")

    owner = 0
    """The id of the owner, 0 without."""
    estate: Estate | None = None
    """Of the owner: where the subscription is known by its serial."""
    terms: Terms | None = None

    def __init__(
        self,
        serial: int,
        event: Hashable,
        key: Key,
        fn: Callable[..., Any] | None,
        site: callsite.Site,
    ) -> None:
        self.serial = serial
        self.event = event
        self.key = key
        """Tells targets apart: ids of objects that this entry keeps, so they stay its own."""
        self.fn = fn
        """The listener where calling it is all there is to do; else None."""
        self.site = site

    def resolve(self) -> Callable[..., Any] | None:
        """Return the callable, strong; None when it is dead."""
        return self.fn

    def kept(self) -> Callable[..., Any] | None:
        """Return what the entry keeps alive."""
        return self.fn


class SpecialEntry(Entry):
    """A listener with an owner or with terms, and the base of those that are held weakly."""

    __slots__ = ("estate", "owner", "terms")

    estate: Estate | None
    owner: int
    terms: Terms | None

    def resolve(self) -> Callable[..., Any] | None:
        """Return the callable, strong; None when it is dead."""
        if self.terms is None:
            return self.fn
        if self.terms.target is not None:
            return self.terms.target.resolve()
        return self.terms.strong

    def kept(self) -> Callable[..., Any] | None:
        """Return what the entry keeps alive."""
        return self.fn if self.terms is None else self.terms.strong


class MethodEntry(SpecialEntry):
    """A bound method that is held weakly."""

    __slots__ = ("func", "line", "ref")

    ref: weakref.ref[Any]
    func: Callable[[], Any]
    line: Lifeline

    def resolve(self) -> Callable[..., Any] | None:
        """Return the method, strong; None when its object or its function is dead."""
        obj, func = self.ref(), self.func()
        return None if obj is None or func is None else types.MethodType(func, obj)


class Bucket:
    """The listeners of one event, and the row in which they are called."""

    __slots__ = ("entries", "row", "twins", "warned")

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        """By key, in the order of registration."""
        self.twins: dict[Key, tuple[Key, ...]] = {}
        """The keys of further registrations of a target, where it has several."""
        self.row: tuple[Entry, ...] | None = None
        self.warned = False

    def all_of(self, key: Key) -> list[Entry]:
        """Return every entry of the target that has this key."""
        keys = (key, *self.twins.get(key, ()))
        return [entry for entry in map(self.entries.get, keys) if entry is not None]

    def add_twin(self, entry: Entry) -> None:
        """Add *entry* under another key, for its own is taken."""
        key = entry.key
        entry.key = ("twin", entry.serial)
        self.twins[key] = (*self.twins.get(key, ()), entry.key)
        self.entries[entry.key] = entry

    def forget_twins(self) -> None:
        """Forget the keys of twins that are no longer there."""
        for key, twins in list(self.twins.items()):
            left = tuple(twin for twin in twins if twin in self.entries)
            if left:
                self.twins[key] = left
            else:
                del self.twins[key]

    def line_up(self) -> tuple[Entry, ...]:
        """Return the listeners in the order of their calls, and remember it until a change."""
        row = tuple(self.entries.values())
        if any(entry.terms is not None and entry.terms.priority for entry in row):
            row = tuple(sorted(row, key=_precedence))
        self.row = row
        return row


class Subscription:
    """
    One registration: close it, or use it in a ``with``, to end it.

    Two handles of the same registration are equal.

    Bounded by: one registration.
    Locks: none of its own.
    Keeps alive: the event's name; neither the registry nor the listener.
    """

    __slots__ = ("_registry", "event", "serial")

    is_ours = True

    def __init__(
        self, registry: weakref.ref[ListenerRegistry], serial: int, event: Hashable
    ) -> None:
        self._registry = registry
        self.serial = serial
        """Its number in the registry; never used again."""
        self.event = event
        """What it listens to."""

    def close(self) -> None:
        """End the registration; idempotent. An emit that is under way still calls it."""
        registry = self._registry()
        if registry is not None:
            registry._end(self.serial)  # noqa: SLF001 - reason: the other half of the registry

    @property
    def closed(self) -> bool:
        """Whether it has ended: closed, its target or owner collected, or its one call made."""
        registry = self._registry()
        return registry is None or not registry._has(self.serial)  # noqa: SLF001 - reason: the other half of the registry

    def belongs_to(self, registry: object) -> bool:
        """Return whether *registry* made it."""
        return self._registry() is registry

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Subscription):
            return NotImplemented
        return self.serial == other.serial and self._registry is other._registry

    def __hash__(self) -> int:
        return self.serial

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Subscription({label(self.event)!r}, {'closed' if self.closed else 'open'})"


def method_entry(
    fn: Any, event: Hashable, serial: int, site: callsite.Site, on_death: OnDeath
) -> MethodEntry | None:
    """Return an entry of a method on the usual terms; None for what is rarer."""
    if type(fn) is types.MethodType:
        function = fn.__func__
        if (
            type(function) is types.FunctionType
            and not function.__code__.co_flags & targets.CO_COROUTINE
            and type(fn.__self__).__weakrefoffset__  # 0 where instances cannot be referenced
        ):
            return _method_entry(fn, event, serial, site, on_death)
    return None


def make_entry(  # noqa: PLR0917 - reason: the fields of an entry
    fn: Any, event: Hashable, weak: Weak, serial: int, site: callsite.Site, on_death: OnDeath
) -> SpecialEntry:
    """
    Return an entry that holds *fn* in the way that *weak* asks for.

    Raises:
        TypeError: *fn* is not callable, or must be held weakly and cannot be.
        ConfigError: It is a weak reference, and dead.
    """
    if (
        type(fn) is types.MethodType
        and weak is not False
        and type(fn.__self__).__weakrefoffset__  # 0 where instances cannot be referenced
    ):
        return _method_entry(fn, event, serial, site, on_death)
    fn = targets.referent(fn)
    terms = Terms(is_async=targets.is_coroutine_function(fn))
    key: Key
    if weak is True or (weak == "auto" and targets.is_method(fn)):
        terms.target = targets.weak_target(fn, on_death, (serial, site))
        key = terms.target.key
    else:
        terms.strong = fn
        key = strong_key(fn)
    entry = SpecialEntry(serial, event, key, None, site)
    entry.owner = 0
    entry.estate = None
    entry.terms = terms
    if terms.strong is not None and not terms.is_async:
        entry.fn, entry.terms = fn, None
    return entry


def _method_entry(
    fn: Any, event: Hashable, serial: int, site: callsite.Site, on_death: OnDeath
) -> MethodEntry:
    obj, function = fn.__self__, fn.__func__
    ref = weakref.ref(obj)
    func: Any
    entry = MethodEntry(serial, event, 0, None, site)
    entry.owner = 0
    entry.estate = entry.terms = None
    if type(function) is types.FunctionType:
        func = weakref.ref(function)
        is_async = function.__code__.co_flags & targets.CO_COROUTINE
    else:
        func = targets.function_reference(function)
        is_async = targets.is_coroutine_function(function)
    if is_async:
        entry.terms = Terms(is_async=True)
    entry.key = (id(ref), id(func))
    entry.ref = ref
    entry.func = func
    line = entry.line = Lifeline(obj, on_death)
    line.mark = (serial, site)
    return entry


def set_terms(entry: SpecialEntry, *, once: bool, until: Any, priority: int) -> None:
    """Give *entry* terms of its own, before it is registered."""
    terms = entry.terms
    if terms is None:
        terms = entry.terms = Terms(is_async=False)
        terms.strong, entry.fn = entry.fn, None
    terms.once = once
    terms.until = until
    terms.priority = priority


def _precedence(entry: Entry) -> int:
    return 0 if entry.terms is None else -entry.terms.priority


def keys_of(fn: Any) -> tuple[list[Key], Any]:
    """Return the keys that entries of *fn* have, and what must be kept while they are used."""
    fn = targets.referent(fn)
    if type(fn) is types.MethodType and type(fn.__self__).__weakrefoffset__:
        ref, func = weakref.ref(fn.__self__), targets.function_reference(fn.__func__)
        return [(id(ref), id(func)), strong_key(fn)], (fn, ref, func)
    try:
        target = targets.weak_target(fn)
    except TypeError:
        return [strong_key(fn)], fn
    return [strong_key(fn), target.key], (fn, target)


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


def strong_key(fn: Any) -> Key:
    """Return what tells *fn* from others as long as it lives; equal for equal bound methods."""
    kind = type(fn)
    if kind is types.MethodType:
        return id(fn.__self__), id(fn.__func__)
    if kind is types.BuiltinMethodType or kind is types.MethodWrapperType:
        return id(fn.__self__), fn.__name__
    return id(fn)


def mourner(dead: deque[tuple[int, bool]]) -> Callable[[Lifeline], None]:
    """
    Return a death callback that queues a serial, and whether it died where it was registered.

    An object that dies on the very line that registered its method was a temporary one.
    """

    def note(line: Lifeline) -> None:
        serial, site = line.mark
        dead.append((serial, callsite.is_same_line(callsite.caller(), site)))

    return note


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
