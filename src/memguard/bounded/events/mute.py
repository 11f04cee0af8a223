"""Times in which events are not delivered: dropped while muted, merged into one while held."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
Merge: TypeAlias = Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]


class Rule:
    """
    One block in which *event*, or every event, is not delivered.

    Keeps alive: the arguments of one emit for each event that was held.
    """

    __slots__ = ("_merge", "event", "every", "holds", "thread", "waiting")

    def __init__(
        self, event: Hashable, *, every: bool, holds: bool, merge: Merge | None = None
    ) -> None:
        self.event = event
        self.every = every
        self.holds = holds
        self.thread = threading.get_ident()
        self._merge = merge
        self.waiting: dict[Hashable, Arguments] = {}

    def applies_to(self, event: Hashable) -> bool:
        """Return whether the block is about *event*."""
        return self.every or self.event == event

    def keep(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember the arguments for the end of the block, merged with those before."""
        before = self.waiting.get(event)
        if before is not None and self._merge is not None:
            args = tuple(self._merge(before[0], args))
        self.waiting[event] = (args, kwargs)


class Quiet:
    """The blocks that are open now, the innermost last."""

    __slots__ = ("_mutex", "rules")

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self.rules: tuple[Rule, ...] = ()

    @contextlib.contextmanager
    def during(self, rules: list[Rule]) -> Iterator[None]:
        """Have *rules* for the length of a block; blocks of other threads may overlap it."""
        with self._mutex:
            self.rules = (*self.rules, *rules)
        try:
            yield
        finally:
            with self._mutex:
                self.rules = tuple(rule for rule in self.rules if rule not in rules)

    def forget_other_threads(self) -> None:
        """In a forked child: the threads whose blocks these are will not come to close them."""
        self._mutex = threading.RLock()
        me = threading.get_ident()
        self.rules = tuple(rule for rule in self.rules if rule.thread == me)

    def lets_through(self, event: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether *event* is to be delivered now; the innermost block about it decides."""
        for rule in reversed(self.rules):
            if rule.applies_to(event):
                if rule.holds:
                    rule.keep(event, args, kwargs)
                return False
        return True
