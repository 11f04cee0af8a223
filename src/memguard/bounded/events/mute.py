"""Muting and holding events: dropped while muted, merged into one while held."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

from memguard.lifecycle import locks

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Merge: TypeAlias = Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]


class Mute:
    """
    One block in which *events*, or all events without any, are not delivered.

    Keeps alive: the arguments of one emit for each event that was held.
    """

    __slots__ = ("_events", "_holds", "_merge", "thread", "waiting")

    def __init__(
        self, events: tuple[Hashable, ...], *, holds: bool = False, merge: Merge | None = None
    ) -> None:
        self._events = events
        self._holds = holds
        self._merge = merge
        self.thread = threading.get_ident()
        self.waiting: dict[Hashable, Arguments] = {}

    def applies_to(self, event: Hashable) -> bool:
        """Return whether the block is about *event*."""
        return not self._events or event in self._events

    def take(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Drop an emit, or keep its arguments, merged with earlier ones, until the block ends."""
        if self._holds:
            before = self.waiting.get(event)
            if before is not None and self._merge is not None:
                args = tuple(self._merge(before[0], args))
            self.waiting[event] = (args, kwargs)


class Mutes:
    """
    The blocks that are open now, the innermost last.

    Locks: one mutex around a tuple, for a few instructions.
    """

    __slots__ = ("_lock", "open")

    def __init__(self) -> None:
        self._lock = locks.RLock()
        self.open: tuple[Mute, ...] = ()

    @contextlib.contextmanager
    def during(self, mute: Mute) -> Iterator[None]:
        """Open *mute* for the length of a block; blocks of other threads may overlap it."""
        try:
            with self._lock:
                self.open = (*self.open, mute)
            yield
        finally:
            with self._lock:
                self.open = tuple(other for other in self.open if other is not mute)

    def stop(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether *event* is not to be delivered; the innermost block about it decides."""
        for mute in reversed(self.open):
            if mute.applies_to(event):
                mute.take(event, args, kwargs)
                return True
        return False

    def forget_other_threads(self) -> None:
        """In a forked child: the threads that would close their blocks are gone."""
        self._lock = locks.RLock()
        me = threading.get_ident()
        self.open = tuple(mute for mute in self.open if mute.thread == me)
