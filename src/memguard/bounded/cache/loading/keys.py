"""Keys from the arguments of a call: cheap, exact, and hashed once."""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from memguard.bounded.cache.entry import MISSING, PLAIN, Token
from memguard.lifecycle import janitor


class _Reference(weakref.ref[Any]):
    """A weak reference that knows the token of its instance."""

    __slots__ = ("ident", "token")

    ident: int
    token: Token


_len = len  # the program may cache the built-in itself, and then must not meet it here

UNCACHEABLE: Any = Token()
"""The key of a call that no cache can hold: an unhashable instance without weakref."""

RAW = frozenset({int, str, float, bytes, bool, type(None)})
"""Types of a single argument that is its own key. Equal ones share: ``f(1)``, ``f(1.0)``."""

_KEYWORDS = Token()
"""Separates positional from keyword arguments in a key."""

_MOST_DEAD = 64
"""Dead instances whose results may wait for the janitor."""


class _ArgumentsKey:
    """Arguments of which at least one has a user-defined hash: it is computed once per call."""

    __slots__ = ("arguments", "hashed")

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.hashed = hash(arguments)

    def __hash__(self) -> int:
        return self.hashed

    def __eq__(self, other: object) -> bool:
        return type(other) is _ArgumentsKey and self.arguments == other.arguments


class Instances:
    """
    The tokens of the instances on which one method was called; drops the results of dead ones.

    Bounded by: one row for each live instance; dead ones leave once a second.
    Locks: none; the dict operations are atomic.
    Keeps alive: the cache.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._rows: dict[int, _Reference] = {}
        self._dead: deque[_Reference] = deque()

    def token(self, instance: object) -> Token | None:
        """Return the token of *instance*; None when it cannot be weakly referenced."""
        row = self._rows.get(id(instance))
        if row is not None and row() is instance:
            return row.token
        try:
            row = _Reference(instance, self._dead.append)
        except TypeError:
            return None
        row.ident = id(instance)
        row.token = Token()
        while (there := self._rows.setdefault(row.ident, row)) is not row:
            if there() is instance:
                return there.token
            self._forget(there)  # it died, and its id was given to this instance
        janitor.watch(self, after=1.0)
        if _len(self._dead) > _MOST_DEAD:
            self._sweep()
        return row.token

    def living(self) -> list[Any]:
        """Return the instances; drop the list soon, it is strong."""
        rows = [row() for row in self._rows.copy().values()]
        return [instance for instance in rows if instance is not None]

    def _sweep(self) -> float | None:
        """Drop the results of instances that have died; on the janitor's thread."""
        tokens = set()
        while self._dead:
            try:
                row = self._dead.popleft()
            except IndexError:  # another thread was faster
                break
            self._forget(row)
            tokens.add(row.token)
        if tokens and self._cache is not None:
            self._cache._remove_where(lambda key, _: _owner_of(key) in tokens)  # noqa: SLF001 - reason: one family
        return 1.0 if self._rows else None

    def _forget(self, row: _Reference) -> None:
        if self._rows.get(row.ident) is row:
            self._rows.pop(row.ident, None)


class KeyMaker:
    """
    Makes the keys of one cached function.

    Args:
        cache: Where the results are; those of a method leave it when their instance dies.
        given: Makes the key of a call from its arguments; None takes the arguments themselves.
        typed: Distinguish ``f(1)`` from ``f(1.0)``.
        prefix: The name of the function, if others share its cache.
        method_name: Its name in the body of a class; None for a function of a module.
    """

    def __init__(
        self,
        cache: Any,
        given: Callable[..., Any] | None,
        *,
        typed: bool,
        prefix: str | None,
        method_name: str | None,
    ) -> None:
        self._cache = cache
        self._given = given
        self._typed = typed
        self._prefix: tuple[Any, ...] = () if prefix is None else (prefix,)
        self._method_name = method_name
        self._has_classes = False
        self.instances: Instances | None = None
        """Of a method; None for a function."""
        self.are_raw = given is None and not typed and prefix is None
        """Whether a single plain argument is its own key."""

    def become_method(self) -> None:
        """From now on the first argument is an instance, distinguished by identity."""
        if self.instances is None:
            self.instances = Instances(self._cache)
            self.are_raw = False

    def _recognize_class_method(self, first: Any) -> None:
        """Become a method when *first* is a class with this function as a class method."""
        if issubclass(type(first), type):
            found = inspect.getattr_static(first, self._method_name or "", None)
            function = found.__func__ if type(found) is classmethod else None
            if getattr(function, "_keys", None) is self:
                self.become_method()
                self._has_classes = True

    def classes(self) -> list[Any]:
        """Return the living classes of a class method that Python itself binds; else none."""
        if self.instances is None or not self._has_classes:
            return []
        return self.instances.living()

    def make(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """
        Return the key of a call.

        Raises:
            TypeError: An argument is not hashable.
        """
        owner = self._prefix
        if self.instances is None and self._method_name is not None and args:
            # Python binds class methods itself from 3.13 on: it does not say what this is.
            self._recognize_class_method(args[0])
        if self.instances is not None and args:
            instance, args = args[0], args[1:]
            token = self.instances.token(instance)
            if token is not None:
                owner = (token, *owner)
            elif _is_hashable(instance):
                owner = (instance, *owner)  # as functools: kept alive until the entry leaves
            else:
                return UNCACHEABLE
        if self._given is not None:
            given = self._given(*args, **kwargs)
            return (*owner, given) if owner else given
        arguments = args
        if kwargs:
            arguments += (_KEYWORDS, *(part for item in kwargs.items() for part in item))
        if self._typed:
            arguments += tuple(map(type, (*args, *kwargs.values())))
        elif not owner and _len(arguments) == 1 and type(arguments[0]) in RAW:
            return arguments[0]
        if owner:
            arguments = owner + arguments
        return arguments if PLAIN.issuperset(map(type, arguments)) else _ArgumentsKey(arguments)


def _owner_of(key: Any) -> Any:
    if type(key) is _ArgumentsKey:
        key = key.arguments
    if type(key) is tuple and key and type(key[0]) is Token:
        return key[0]
    return MISSING


def _is_hashable(instance: Any) -> bool:
    try:
        hash(instance)
    except TypeError:
        return False
    return True
