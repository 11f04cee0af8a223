"""
Whom a cached method belongs to: a token for each instance, which does not keep the instance alive.

Instances are told apart by identity, so they need be neither hashable nor comparable. What a method
returned is filed under the instance's token, and dropped soon after the instance has died.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from memguard.bounded._entry import Token


class _Reference(weakref.ref[Any]):
    """A weak reference that knows the token of its instance."""

    __slots__ = ("ident", "token")

    ident: int
    token: Token


class Instances:
    """
    The tokens of the instances on which one method was called.

    Bounded by: one row for each live instance; rows of dead ones leave with the next `bury`.
    Locks: none; the dict operations are atomic.
    Keeps alive: nothing.
    """

    __slots__ = ("_dead", "_rows", "fresh")

    def __init__(self) -> None:
        self._rows: dict[int, _Reference] = {}
        self._dead: deque[_Reference] = deque()
        self.fresh = False
        """True when an instance was seen for the first time since this was set to False."""

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
        self.fresh = True
        while True:
            there = self._rows.setdefault(row.ident, row)
            if there is row or there() is instance:
                return there.token
            self._forget(there)  # it died, and its id was given to this instance

    def bury(self) -> set[Token]:
        """Forget the instances that have died and return their tokens."""
        tokens = set()
        while self._dead:
            try:
                row = self._dead.popleft()
            except IndexError:  # another thread was faster
                break
            self._forget(row)
            tokens.add(row.token)
        return tokens

    @property
    def waiting(self) -> int:
        """Instances that have died and are not buried yet."""
        return len(self._dead)

    def __len__(self) -> int:
        return len(self._rows)

    def _forget(self, row: _Reference) -> None:
        if self._rows.get(row.ident) is row:
            self._rows.pop(row.ident, None)
