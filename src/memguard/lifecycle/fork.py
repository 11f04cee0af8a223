"""
What a forked child must reset: locks that a lost thread may hold, and threads that are gone.

One hook for the whole process, set on first use, never by an import.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

_calls: dict[Callable[[], object], None] = {}


class Resettable(Protocol):
    """What must start over in a forked child."""

    def _reset(self) -> None:
        """Set every field as if never started. It runs during fork: no lock, no log."""


_targets: weakref.WeakSet[Resettable] = weakref.WeakSet()


def call_in_child(call: Callable[[], object]) -> None:
    """
    Call *call*, a function of a module, in every forked child.

    Asking again changes nothing, so ask before each first use of a lock: another thread may fork
    while it is held. *call* runs during fork: no lock, no log. Thread-safe; cost: O(1).
    """
    _calls[call] = None
    _set_hook()


def reset_after_fork(target: Resettable) -> None:
    """Call ``target._reset`` in every forked child, while *target* is alive."""
    _targets.add(target)
    _set_hook()


def call_each(calls: Iterable[Callable[[], object]]) -> None:
    """Call each of *calls*; if some fail, raise the error of the last one at the end."""
    failed: Exception | None = None
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - reason: the others must be called anyway
            failed = error
    if failed is not None:
        raise failed  # in hooks for forks and exits, which Python reports; the process goes on


def _after_fork_in_child() -> None:
    resets = [target._reset for target in list(_targets)]  # noqa: SLF001 - reason: the protocol is private to this floor
    call_each([*_calls, *resets])


@functools.cache  # two threads may set it twice, which does no harm
def _set_hook() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
