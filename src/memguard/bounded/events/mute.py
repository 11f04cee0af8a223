"""Muting and holding events: dropped while muted, merged into one while held."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

from memguard.lifecycle import fork, locks

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Merge: TypeAlias = Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]


class Mute:
    """
    A ``with`` block in which *events*, or all events without any, are not delivered.

    Keeps alive: the arguments of one emit for each event that was held.

    Args:
        mutes: The open blocks of the registry.
        events: What the block is about.
        deliver: Called with event and arguments at the end, for each event that was emitted
            meanwhile; without it they are dropped.
        merge: Makes the positional arguments of two emits into those of one.
    """

    __slots__ = (
        *("__weakref__", "_deliver", "_events", "_merge", "_mutes"),
        *("is_open", "thread", "waiting"),
    )

    def __init__(
        self,
        mutes: Mutes,
        events: tuple[Hashable, ...],
        deliver: Callable[..., object] | None = None,
        merge: Merge | None = None,
    ) -> None:
        self._mutes = mutes
        self._events = events
        self._deliver = deliver
        self._merge = merge
        self.is_open = False
        self.thread = 0
        """Whose block it is."""
        self.waiting: dict[Hashable, Arguments] = {}

    def applies_to(self, event: Hashable) -> bool:
        """Return whether the block is about *event*."""
        return not self._events or event in self._events

    def take(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Drop an emit, or keep its arguments, merged with earlier ones, until the block ends."""
        if self._deliver is not None:
            before = self.waiting.get(event)
            if before is not None and self._merge is not None:
                args = tuple(self._merge(before[0], args))
            self.waiting[event] = (args, kwargs)

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        self.is_open = True
        self._mutes.add(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.is_open = False
        self._mutes.remove(self)
        waiting, self.waiting = self.waiting, {}
        if kind is None and self._deliver is not None:
            for event, (args, kwargs) in waiting.items():
                self._deliver(event, *args, **kwargs)


class Mutes:
    """
    The blocks that are open now, the innermost last; blocks of several threads may overlap.

    Weak, for a signal handler that raises may keep a block from being closed: it counts no longer
    than its ``with`` statement has it.

    Locks: one mutex around a tuple, for a few instructions.
    """

    __slots__ = ("_lock", "open")

    def __init__(self) -> None:
        self._lock = locks.RLock()
        self.open: tuple[weakref.ref[Mute], ...] = ()

    def add(self, mute: Mute) -> None:
        """Put *mute* last."""
        reference = weakref.ref(mute)
        fork.check()
        with self._lock:
            self.open = (*self.open, reference)

    def remove(self, mute: Mute | None) -> None:
        """Take *mute* out, and what has vanished."""
        fork.check()
        with self._lock:
            self.open = tuple(ref for ref in self.open if ref() not in (mute, None))

    def stop(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether *event* is not to be delivered; the innermost block about it decides."""
        for reference in reversed(self.open):
            mute = reference()
            if mute is None:
                self.remove(None)
            elif mute.is_open and mute.applies_to(event):
                mute.take(event, args, kwargs)
                return True
        return False

    def forget_other_threads(self) -> None:
        """In a forked child: the threads that would close their blocks are gone."""
        self._lock = locks.RLock()
        me = threading.get_ident()
        blocks = [(reference, reference()) for reference in self.open]
        self.open = tuple(ref for ref, mute in blocks if mute is not None and mute.thread == me)
