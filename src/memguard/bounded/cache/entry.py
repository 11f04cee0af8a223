"""One cached entry, in two sizes: a small one for caches that only count, a full one."""

from __future__ import annotations

from typing import Any, Literal

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
    filed: Any = None
    older: Any = None
    newer: Any = None
    ticket: Any = None
    used: Any = None
    hash: int | None = None


class Entry(_Absent):
    """
    A key, its value, and its place in the order of eviction. 80 bytes on a 64-bit build.

    ``prev is None`` means that the entry has left the cache; its key and value stay readable, for a
    reader that found it without a lock may be about to return them.
    """

    __slots__ = ("hits", "key", "next", "prev", "value", "written")

    prev: Any
    next: Any
    key: Any
    value: Any
    hits: int
    written: Any
    """When the value was written, on the cache's timer; None when ``expires`` tells it."""


class SizedEntry(Entry):
    """An entry of a cache that counts bytes."""

    __slots__ = ("size",)

    size: int
    """Bytes of key, value and bookkeeping; 0 where the cache does not count bytes."""


class RichEntry(SizedEntry):
    """An entry of a cache with a common ttl."""

    __slots__ = ("expires", "filed", "newer", "older", "ticket")

    expires: Any
    """Deadline on the cache's timer, None when it never expires by age."""
    filed: Any
    """The deadline under which the expiry index filed it."""
    older: Any
    newer: Any
    ticket: list[Any] | None
    """Its place in the heap of deadlines, when it does not follow the cache's own ttl."""


class FullEntry(RichEntry):
    """An entry that also weighs something, idles out, or has a key whose ``__eq__`` is not ours."""

    __slots__ = ("hash", "mark", "queue", "used", "weight")

    weight: Any
    used: Any
    """Last access on the cache's timer; kept only where the cache has an idle limit."""
    hash: int | None
    """Hash of a foreign key; None for a plain key."""
    mark: int
    queue: Any


def full_entry(key: Any, value: Any, foreign_hash: int | None) -> FullEntry:
    """Return an unlinked full entry. A function, for ``__init__`` costs twice as much."""
    entry = FullEntry()
    entry.prev = entry.next = None
    entry.key = key
    entry.value = value
    entry.hits = 0
    entry.written = None
    entry.size = 0
    entry.expires = entry.filed = None
    entry.older = entry.newer = entry.ticket = None
    entry.weight = 1
    entry.used = None
    entry.hash = foreign_hash
    entry.mark = 0
    entry.queue = None
    return entry


class Token:
    """A thing to make keys of that equals only itself."""

    __slots__ = ("__weakref__",)


PLAIN = frozenset({str, int, bytes, float, bool, complex, type(None), type, object, Token})
"""Types whose equality and hash are C code of the interpreter and run nothing of the user's."""


def is_plain(key: object) -> bool:
    """
    Return whether comparing *key* with another plain key can run no code but the interpreter's.

    Plain keys may be looked up under a lock of ours; all others are compared outside of it.
    """
    kind = type(key)
    if kind in PLAIN:
        return True
    return kind is tuple and all(map(is_plain, key))  # type: ignore[call-overload]  # reason: a tuple by the test before
