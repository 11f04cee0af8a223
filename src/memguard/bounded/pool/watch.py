"""`Watch`: keeps a pool on the janitor's list while it has anything to sweep."""

from __future__ import annotations

import time
import weakref

from memguard.lifecycle import janitor

NAP = 1.0
"""Seconds between two sweeps."""
SHORT_NAP = 0.1
"""The same while a caller waits for an object that may have been dropped."""
_NONE = -1  # instead of the janitor's epoch


class Watch:
    """
    Keeps *owner*, which it refers to weakly, on the janitor's list.

    Thread-safe: asked for twice, it does no harm.
    """

    def __init__(self, owner: janitor.Sweepable) -> None:
        self._owner = weakref.ref(owner)
        self._epoch = _NONE
        self._hurried = -SHORT_NAP

    def ensure(self) -> bool:
        """Have *owner* swept, also after the janitor was stopped; return whether it can be."""
        return self._epoch == janitor.epoch or self._ask(0.0)

    def hurry(self) -> bool:
        """Have *owner* swept soon; return whether it can be."""
        now = time.monotonic()
        if self._epoch == janitor.epoch and now - self._hurried < SHORT_NAP:
            return True
        self._hurried = now
        return self._ask(SHORT_NAP)

    def _ask(self, after: float) -> bool:
        owner, epoch = self._owner(), janitor.epoch
        is_watched = owner is not None and janitor.watch(owner, after=after)
        self._epoch = epoch if is_watched else _NONE  # last: a signal handler may raise before
        return is_watched

    def suspend(self) -> None:
        """Count as not on the list: before looking whether there is anything left to sweep."""
        self._epoch = _NONE

    def resume(self) -> None:
        """Count as on the list: there is something left."""
        self._epoch = janitor.epoch
