"""What went wrong while relief was at work: counted, and logged once for each kind."""

from __future__ import annotations

import logging
from collections import Counter

from memguard import log

MOST_KINDS = 50
"""Kinds told apart; further ones are counted together."""


class Failures:
    """
    Count failures, and log each kind once.

    Bounded by: ``MOST_KINDS`` kinds.
    Locks: none; a lost count under a race is harmless.
    Keeps alive: strings; never an exception, whose traceback holds frames.
    """

    def __init__(self, event: str) -> None:
        self._event = event
        self._kinds: Counter[str] = Counter()

    def add(self, what: str, error: BaseException) -> None:
        """Count that *what* failed with *error*. May log: never call it under a lock."""
        # The text of the error is not asked for: that may run code of the host's.
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = "others"
        self._kinds[kind] += 1
        if self._kinds[kind] == 1:
            log.event(logging.WARNING, self._event, what=what, error=type(error).__name__)

    @property
    def count(self) -> int:
        """All failures so far."""
        return sum(self._kinds.copy().values())

    @property
    def kinds(self) -> tuple[tuple[str, int], ...]:
        """(kind, count), by name."""
        return tuple(sorted(self._kinds.copy().items()))
