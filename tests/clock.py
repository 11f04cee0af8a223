"""A clock that tests move by hand, so that no test waits for a real one."""

from __future__ import annotations


class FakeClock:
    """Stands in for ``time.monotonic``: call it for seconds, ``advance`` it to let time pass."""

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time, seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let *seconds* pass and return the new time. A monotonic clock never goes back."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back (got {seconds})")
        self._now += seconds
        return self._now
