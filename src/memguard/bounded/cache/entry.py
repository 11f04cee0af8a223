"""One cached entry, in three sizes, and which keys may be compared under the lock."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Cause = Literal["explicit", "replaced", "size", "expired", "pressure", "closed"]
CAUSES: tuple[Cause, ...] = ("explicit", "replaced", "size", "expired", "pressure", "closed")

MISSING: Any = object()
"""Stands for "not given" and "not there"; never handed to a caller."""


class _Absent:
    """What a small entry answers for the fields that it does not carry."""

    __slots__ = ()

    size: int = 0
    weight: Any = 1
    expires: Any = None
    used: Any = None
    older: Any = None
    newer: Any = None
    ticket: Any = None
    hash: int | None = None


class Entry(_Absent):
    """
    A key, its value, and its place in the order of eviction. 80 bytes on a 64-bit build.

    ``next is None`` means that the entry is in no order: it has left the cache, or is not yet in.
    """

    __slots__ = ("hits", "key", "next", "prev", "value", "written")

    prev: Any
    next: Any
    key: Any
    value: Any
    hits: int
    written: Any
    """When the value was written, on the cache's timer; None when ``expires`` implies it."""


class SizedEntry(_Absent):
    """An entry of a cache that counts bytes, and nothing else."""

    __slots__ = ("hits", "key", "next", "prev", "size", "value", "written")

    prev: Any
    next: Any
    key: Any
    value: Any
    hits: int
    written: Any
    size: int
    """Bytes of key, value and bookkeeping."""


class FullEntry(_Absent):
    """
    An entry with all that a cache may count: bytes, weight, deadlines, a key of a foreign type.

    The entry of a foreign key is its own key in the table's dict, hashed as the key is, so that the
    dict never calls the key's ``__eq__``.
    """

    __slots__ = (
        "expires",
        "hash",
        "hits",
        "key",
        "mark",
        "newer",
        "next",
        "older",
        "prev",
        "queue",
        "size",
        "ticket",
        "used",
        "value",
        "weight",
        "written",
    )

    prev: Any
    next: Any
    key: Any
    value: Any
    hits: int
    written: Any
    size: int
    """Bytes of key, value and bookkeeping; 0 if the cache does not count bytes."""
    weight: Any
    expires: Any
    """Deadline on the cache's timer, None when it never expires by age."""
    used: Any
    """Last access on the cache's timer; kept only if the cache has an idle limit."""
    older: Any
    newer: Any
    ticket: list[Any] | None
    """Its ticket in the heap of deadlines, when it does not follow the cache's own ttl."""
    hash: int | None
    """Hash of a foreign key; None for a plain key."""
    mark: int
    queue: Any

    def __hash__(self) -> int:
        return self.hash  # type: ignore[return-value]  # reason: only entries of foreign keys are hashed

    def __eq__(self, other: object) -> bool:
        if type(other) is SameHash:
            other.keys.append(self)
        return self is other


class SameHash:
    """Looked up in a table's dict, it finds nothing and collects the keys of its hash."""

    __slots__ = ("hash", "keys")

    def __init__(self, hashed: int) -> None:
        self.hash = hashed
        self.keys: list[Any] = []

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        self.keys.append(other)
        return False


def new_entry(kind: Any, key: Any, value: Any) -> Any:
    """Return an entry of *kind* in no order. A function, for ``__init__`` costs twice as much."""
    entry = kind()
    entry.prev = entry.next = None
    entry.key = key
    entry.value = value
    entry.hits = 0
    entry.written = None
    if kind is FullEntry:
        entry.size = entry.mark = 0
        entry.weight = 1
        entry.expires = entry.used = entry.hash = entry.queue = None
        entry.older = entry.newer = entry.ticket = None
    return entry


class Token:
    """A thing to make keys of that equals only itself."""

    __slots__ = ("__weakref__",)


PLAIN = frozenset({str, int, bytes, float, bool, complex, type(None), type, object, Token})
"""Types whose equality and hash are C code of the interpreter and run nothing of the user's."""


def is_plain(key: object) -> bool:
    """
    Return whether comparing *key* with another plain key can run no code but the interpreter's.

    Plain keys may be looked up under our lock; all others are compared outside of it.
    """
    kind = type(key)
    if kind in PLAIN:
        return True
    return kind is tuple and all(map(is_plain, key))  # type: ignore[call-overload]  # reason: a tuple by the test before


class Rivals(NamedTuple):
    """The keys of one hash that a foreign key was, or must be, compared with."""

    hash: int
    keys: list[Any]
    is_foreign: bool
    """Whether the key itself is foreign."""
