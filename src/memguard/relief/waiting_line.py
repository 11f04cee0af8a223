"""The calls that wait to be admitted, threads and tasks in one line: who waits longest is next."""

from __future__ import annotations

import weakref
from collections import OrderedDict

from memguard.bounded.waiting import Waiter


class WaitingLine:
    """
    The calls that wait, the longest waiting first.

    Bounded by: the calls that wait.
    Locks: none; that of its admission is held.
    Keeps alive: nothing. A call that ended without a word, because its event loop was closed or its
        task destroyed, dies with its waiter, and is passed over.
    """

    def __init__(self) -> None:
        self._line: OrderedDict[weakref.ref[Waiter], None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait; those that ended without a word are forgotten."""
        for reference in list(self._line):
            waiter = reference()
            if waiter is None or waiter.is_gone:
                self._line.pop(reference, None)
        return len(self._line)

    def first(self) -> Waiter | None:
        """Return who waits longest."""
        while self._line:
            reference = next(iter(self._line))
            waiter = reference()
            if waiter is not None and not waiter.is_gone:
                return waiter
            del self._line[reference]
        return None

    def stand(self, waiter: Waiter) -> None:
        """Have *waiter* stand in line; where it stands already it stays."""
        self._line.setdefault(waiter.reference)

    def leave(self, waiter: Waiter | None) -> None:
        """Let *waiter* go."""
        if waiter is not None:
            self._line.pop(waiter.reference, None)
