"""The one thread of the leaks floor: `memguard.ticking`, and no tracing in a forked child."""

from __future__ import annotations

from memguard import ticking
from memguard.leaks import tracing
from memguard.ticking import Resettable, Ticker, Ticking

__all__ = ["Resettable", "Ticker", "Ticking", "reset_after_fork"]


def reset_after_fork(target: Resettable) -> None:
    """Call ``target._reset`` in every forked child, while *target* is alive; it does not trace."""
    ticking.reset_after_fork(_tracing)
    ticking.reset_after_fork(target)


class _Tracing:
    """The child pays for no tracing of its parent's."""

    def _reset(self) -> None:
        tracing.session.after_fork_in_child()


_tracing = _Tracing()
