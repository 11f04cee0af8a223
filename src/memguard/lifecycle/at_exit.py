"""Stop what still runs at interpreter exit, before the interpreter tears down what it uses."""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from memguard.lifecycle.fork import call_each, call_in_child, check

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
    _set_hook()


def not_at_exit(target: Stoppable) -> None:
    """Forget *target*, which was stopped."""
    _targets.pop(target, None)


def call_at_exit(stop: Callable[[float], object], seconds: float) -> None:
    """
    Call *stop*, a function of a module, when the interpreter exits, after all targets have stopped.

    Asking again changes nothing, so ask before each start. Thread-safe; cost: O(1).

    Args:
        stop: Called with the seconds it may take.
        seconds: What it may take, as in `stop_at_exit`.
    """
    if stop not in _calls:
        _calls[stop] = seconds
        _set_hook()


_targets: weakref.WeakKeyDictionary[Stoppable, float] = weakref.WeakKeyDictionary()
_calls: dict[Callable[[float], object], float] = {}


def _set_hook() -> None:
    atexit.unregister(_stop_all)  # last in, first out: be early
    atexit.register(_stop_all)


def _stop_all() -> None:
    """Stop them all; one that raises does not keep the others from being stopped."""
    check()  # what runs in the parent only is not ours to stop
    deadline = time.monotonic() + MOST_SECONDS
    targets = [(target.stop, seconds) for target, seconds in list(_targets.items())]

    def within(stop: Callable[[float], object], seconds: float) -> object:
        return stop(max(0.0, min(seconds, deadline - time.monotonic())))

    call_each(partial(within, *row) for row in reversed([*_calls.items(), *targets]))


def _forget_all() -> None:
    _targets.clear()  # what runs in the parent does not run in its child
