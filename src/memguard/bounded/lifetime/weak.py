"""References that keep nothing alive: caches, notes, parent links, callbacks, last words."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.callables import described, weak_target
from memguard.bounded.lifetime.identity_map import WeakIdentityMap, WeakIdentityMapStatistics
from memguard.bounded.lifetime.value_cache import WeakValueCache, WeakValueCacheStatistics
from memguard.errors import ConfigError

__all__ = [
    "CollectHandle",
    "WeakAttribute",
    "WeakCallback",
    "WeakIdentityMap",
    "WeakIdentityMapStatistics",
    "WeakValueCache",
    "WeakValueCacheStatistics",
    "on_collect",
    "weak_callback",
]

T = TypeVar("T")


class _Link(weakref.ref[Any]):
    """What a `WeakAttribute` stores: a weak reference that can be pickled and copied."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return _link_to, (self(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Refer to the copy where the target is copied as well, and to the target otherwise."""
        target = self()
        return _link_to(memo.get(id(target), target))


def _link_to(target: Any) -> _Link | None:
    return None if target is None else _Link(target)


class WeakAttribute(Generic[T]):
    """
    An attribute that does not keep its value alive, such as the link from a child to its parent.

    Reads None when it was never set, was set to None, or its value has been collected. Objects
    with it can be pickled and copied: a deep copy of the whole links the copies, and one of the
    part alone keeps its link. Pickling a child pickles its parent along; after loading, the link
    holds as long as something keeps that parent alive.

    Bounded by: one reference for each object, kept in the object itself.
    Locks: none.
    Keeps alive: nothing.

    Thread-safe. A class with ``__slots__`` must name the place of the reference:
    ``__slots__ = ("_weak_parent",)`` for ``parent = WeakAttribute()``.

    >>> class Node:
    ...     parent = WeakAttribute["Node"]()
    ...     def __init__(self, parent=None):
    ...         self.parent = parent
    >>> root = Node()
    >>> child = Node(root)
    >>> child.parent is root
    True
    >>> del root
    >>> child.parent is None
    True
    """

    __slots__ = ("_place", "_shown")

    def __set_name__(self, owner: type, name: str) -> None:
        self._place = f"_weak_{name}"
        self._shown = f"{owner.__name__}.{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> WeakAttribute[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T | None: ...

    def __get__(self, instance: object | None, owner: type) -> Any:
        """Return the value, None when there is none any more."""
        if instance is None:
            return self
        link = getattr(instance, self._place, None)
        return None if link is None else link()

    def __set__(self, instance: object, value: T | None) -> None:
        """
        Refer to *value* from now on.

        Raises:
            TypeError: It cannot be weakly referenced.
            AttributeError: The class has ``__slots__`` without a place for the reference.
        """
        try:
            link = _link_to(value)
        except TypeError:
            raise TypeError(
                f"{self._shown} must be weakly referenceable or None "
                f"(got {type(value).__name__}); add '__weakref__' to the __slots__ of its class"
            ) from None
        try:
            # Not setattr: a frozen dataclass may set its links in __post_init__.
            object.__setattr__(instance, self._place, link)
        except AttributeError:
            raise AttributeError(
                f"{self._shown} has no place to store its reference; "
                f"add {self._place!r} to the __slots__ of {type(instance).__name__}"
            ) from None

    def __delete__(self, instance: object) -> None:
        """Refer to nothing from now on; no error when there was nothing."""
        object.__setattr__(instance, self._place, None)


class WeakCallback:
    """
    Calls a function or method as long as it lives, and does nothing afterwards.

    Made by `weak_callback`. Two are equal when they were made from the same function or method.

    Bounded by: one target.
    Locks: none.
    Keeps alive: the arguments of a partial, and nothing else.

    Thread-safe.
    """

    __slots__ = ("__weakref__", "_name", "_target")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._target = weak_target(fn)
        self._name = described(self._target.resolve())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the target returns, or None when it is dead."""
        fn = self._target.resolve()
        return None if fn is None else fn(*args, **kwargs)

    @property
    def is_alive(self) -> bool:
        """Whether a call would reach the target now."""
        return self._target.is_alive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeakCallback) and self._target == other._target

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return f"WeakCallback({self._name}, {'alive' if self.is_alive else 'dead'})"


def weak_callback(fn: Callable[..., Any]) -> WeakCallback:
    """
    Return a callable that forwards to *fn* without keeping it, or its object, alive.

    Cost: about a microsecond; each call costs about as much as one more function call.

    Args:
        fn: A function, bound method, partial of these, or callable object. A lambda or closure
            that nobody else refers to dies at once: keep it somewhere.

    Raises:
        TypeError: *fn* is not callable, or of a kind that cannot be weakly referenced.
        ConfigError: *fn* is a weak reference whose object is dead.
    """
    return WeakCallback(fn)


class CollectHandle:
    """
    One call that waits for an object to be collected; made by `on_collect`.

    Bounded by: one call.
    Locks: the mutex of the owners' register, for a few instructions.
    Keeps alive: the function and its arguments, until it is called or closed.

    Thread-safe.
    """

    __slots__ = ("__weakref__", "_call", "_estate", "_process", "_serial")

    def __init__(self, obj: object, call: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> None:
        self._call = [call]  # whoever pops it runs it
        self._process = os.getpid()
        self._serial = next(owners.serials)
        self._estate = owners.adopt(obj, _LastWords(self), self._serial)

    @property
    def is_pending(self) -> bool:
        """Whether the call is still to come."""
        return bool(self._call)

    def close(self) -> None:
        """Give up the call, and drop the function and its arguments at once; idempotent."""
        self._estate.release(self._serial)
        self._call.clear()

    def _run(self) -> None:
        try:
            fn, args, kwargs = self._call.pop()
        except IndexError:  # given up
            return
        if self._process == os.getpid():
            fn(*args, **kwargs)


class _LastWords:
    """What the estate of an object holds: run when the object is gone."""

    __slots__ = ("_handle",)

    is_ours = False

    def __init__(self, handle: CollectHandle) -> None:
        self._handle = handle

    def close(self) -> None:
        self._handle._run()  # noqa: SLF001 - reason: the other half of it


def on_collect(obj: object, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> CollectHandle:
    """
    Call ``fn(*args, **kwargs)`` after *obj* has been collected, on the janitor's thread.

    Unlike a finalizer, it never runs inside the collector or in the middle of other code, so it may
    take locks and log. It runs within about a second; not at the interpreter's exit, and not in a
    forked child, where it could remove the parent's files. An exception is counted and logged.

    Cost: two microseconds. Thread-safe.

    Args:
        obj: Any object that can be weakly referenced, or a `Scope`, for its end.
        fn: What to call. It must not refer to *obj*, or *obj* would live for ever.
        args: Its arguments; they live until the call.
        kwargs: Its keyword arguments.

    Returns:
        A handle; `CollectHandle.close` gives up the call. It need not be kept.

    Raises:
        TypeError: *fn* is not callable, or *obj* cannot be weakly referenced.
        ConfigError: *fn* or an argument holds *obj*.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable (got {type(fn).__name__})")
    owners.refuse_immortal(obj, fn)
    if any(arg is obj for arg in (*args, *kwargs.values())):
        raise ConfigError(
            "an argument is the object itself, which would keep it alive for ever; "
            "give what is needed from it, such as its name or number"
        )
    return CollectHandle(obj, (fn, args, kwargs))
