"""`WeakAttribute`: an attribute that does not keep its value alive."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class _Link(weakref.ref[Any]):
    """What a `WeakAttribute` stores: a weak reference that can be pickled and copied."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return _link_to, (self(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Refer to the copy if the target is copied as well, and to the target otherwise."""
        target = self()
        return _link_to(memo.get(id(target), target))


def _link_to(target: Any) -> _Link | None:
    return None if target is None else _Link(target)


class WeakAttribute(Generic[T]):
    """
    An attribute that does not keep its value alive, such as the link from a child to its parent.

    Reads None when it was never set, was set to None, or its value has been collected. Objects
    with it can be pickled and copied: a deep copy of the whole links the copies, and a copy of
    only the part keeps its link. Pickling a child pickles its parent along; after loading, the link
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
        """Return the value, None when it is gone."""
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
