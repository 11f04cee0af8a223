"""Who wants to hear, beside the options of a guard, what it tells."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from memguard.errors import CapacityError
from memguard.leaks.report import LeakReport
from memguard.relief.records import Alert

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_SUBSCRIBERS = 100


class Subscription:
    """
    A callback that is called, until `close`.

    Bounded by: one callback.
    Locks: none.
    Keeps alive: the callback.
    """

    __slots__ = ("_subscribers", "callback", "turn")

    def __init__(
        self,
        subscribers: Subscribers,
        callback: Callable[[Alert | LeakReport], object],
        turn: int,
    ) -> None:
        self._subscribers: Subscribers | None = subscribers
        self.callback = callback
        self.turn = turn

    def close(self) -> None:
        """Take the callback back; idempotent."""
        subscribers, self._subscribers = self._subscribers, None
        if subscribers is not None:
            subscribers.forget(self)

    def __enter__(self) -> Self:
        """Return the subscription."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the callback back."""
        self.close()


class Subscribers:
    """
    Keep callbacks, and tell all of them.

    Bounded by: 100 callbacks; more are refused, but for those that come at the same instant.
    Locks: none: each change is one operation of a dict, in destructors and signal handlers too.
    Keeps alive: callbacks, until their subscription is closed.
    """

    def __init__(self) -> None:
        self._entries: dict[int, Subscription] = {}  # by turn
        self._turns = itertools.count()

    def add(self, callback: Callable[[Alert | LeakReport], object]) -> Subscription:
        """
        Add *callback*.

        Raises:
            TypeError: It is not callable.
            CapacityError: There are 100 already.
        """
        if not callable(callback):
            raise TypeError(f"subscribe needs a callable (got {type(callback).__name__})")
        if len(self._entries) >= MOST_SUBSCRIBERS:
            raise CapacityError(
                f"{MOST_SUBSCRIBERS} callbacks are subscribed; close the subscriptions that are "
                "not needed any more"
            )
        entry = Subscription(self, callback, next(self._turns))
        self._entries[entry.turn] = entry
        return entry

    def forget(self, entry: Subscription) -> None:
        """Take *entry* out; no error when it is not there."""
        self._entries.pop(entry.turn, None)

    def tell(self, thing: Alert | LeakReport) -> None:
        """Call all with *thing*; the first error is raised when all were called."""
        entries = list(self._entries.copy().values())
        errors = list(filter(None, [_called(entry, thing) for entry in entries]))
        try:
            if errors:
                raise errors[0]
        finally:
            errors.clear()  # their tracebacks hold this frame, which would hold them


def _called(entry: Subscription, thing: Alert | LeakReport) -> Exception | None:
    try:
        entry.callback(thing)
    except Exception as error:  # noqa: BLE001 - reason: the host's code; raised when all were called, and counted there
        return error
    return None
