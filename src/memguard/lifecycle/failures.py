"""Failures that a part of memguard survived: counted, and logged once for each kind."""

from __future__ import annotations

from collections import Counter, deque

from memguard import log

MAX_KINDS = 50
"""Kinds counted one by one; further ones are counted together, as ``others``."""


class Failures:
    """
    Count failures by kind, and log the first of each kind.

    Bounded by: ``MAX_KINDS`` kinds.
    Locks: none; a lost count under a race is harmless.
    Keeps alive: strings; never an exception, whose traceback holds frames.

    Args:
        event: The name of the log event: ``"relief.failed"``.
        fields: Further fields of that event.
    """

    def __init__(self, event: str, **fields: str) -> None:
        self._event = event
        self._fields = fields
        self._kinds: Counter[str] = Counter()
        self._unlogged: deque[tuple[str, str, str]] = deque()

    def add(self, what: str, error: BaseException) -> None:
        """Count that *what* failed with *error*, and log a new kind. Not under a lock."""
        self.count_only(what, error)
        self.log()

    def count_only(self, what: str, error: BaseException) -> None:
        """Count that *what* failed with *error*; `log` comes when no lock is held."""
        # Neither str(error) nor repr(error): both may run the host's code.
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = "others"
        self._kinds[kind] += 1
        if self._kinds[kind] == 1:
            self._unlogged.append((what, type(error).__name__, _raised_at(error)))

    def log(self) -> None:
        """Log the kinds that are new. Handlers are the host's code: call it under no lock."""
        while self._unlogged:
            try:
                what, error, place = self._unlogged.popleft()
            except IndexError:  # another thread was faster
                return
            log.event(log.WARNING, self._event, what=what, error=error, place=place, **self._fields)

    @property
    def count(self) -> int:
        """All failures so far."""
        return sum(self._kinds.copy().values())

    @property
    def kinds(self) -> tuple[tuple[str, int], ...]:
        """(kind, count), by name."""
        return tuple(sorted(self._kinds.copy().items()))


def _raised_at(error: BaseException) -> str:
    """Return the ``file:line`` that raised *error*; ``"?"`` for one that was never raised."""
    traceback = error.__traceback__
    if traceback is None:
        return "?"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
