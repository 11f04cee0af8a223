"""Stop what still runs at interpreter exit, before the interpreter tears down what it uses."""

from __future__ import annotations

import atexit
import time
import weakref
from typing import Protocol

from memguard.lifecycle.fork import call_in_child

MOST_SECONDS = 5.0
"""For all of them together."""


class Stoppable(Protocol):
    """What runs until it is stopped."""

    def stop(self, timeout: float) -> object:
        """Stop within *timeout* seconds; idempotent."""


def stop_at_exit(target: Stoppable, seconds: float) -> None:
    """
    Stop *target* when the interpreter exits, if it is alive then: the latest is stopped first.

    Thread-safe; cost: O(1).

    Args:
        target: Held by a weak reference.
        seconds: What it may take, as long as all together take no more than ``MOST_SECONDS``.
    """
    _targets.pop(target, None)
    _targets[target] = seconds
    call_in_child(_forget_all)
    atexit.unregister(_stop_all)  # last in, first out: be early
    atexit.register(_stop_all)


def not_at_exit(target: Stoppable) -> None:
    """Forget *target*, which was stopped."""
    _targets.pop(target, None)


_targets: weakref.WeakKeyDictionary[Stoppable, float] = weakref.WeakKeyDictionary()


def _stop_all() -> None:
    deadline = time.monotonic() + MOST_SECONDS
    for target, seconds in reversed(list(_targets.items())):
        target.stop(max(0.0, min(seconds, deadline - time.monotonic())))


def _forget_all() -> None:
    _targets.clear()  # what runs in the parent does not run in its child
