"""The one thread of the leaks floor: `memguard.ticking`, and no tracing in a forked child."""

from __future__ import annotations

from memguard import ticking
from memguard.leaks import retention, tracing
from memguard.observe import allocator
from memguard.ticking import Resettable, Ticking

__all__ = ["Resettable", "Ticker", "Ticking", "reset_after_fork"]


class Ticker(ticking.Ticker):
    """A ticker whose thread imports nothing later: see ``allocator.prepare``."""

    def start(self) -> Ticker:
        """Import what evidence needs, here and now, and start the thread."""
        allocator.prepare()
        retention.prepare()
        super().start()
        return self


def reset_after_fork(target: Resettable) -> None:
    """Call ``target._reset`` in every forked child, while *target* is alive; it does not trace."""
    ticking.reset_after_fork(_tracing)
    ticking.reset_after_fork(target)


class _Tracing:
    """The child pays for no tracing of its parent's."""

    def _reset(self) -> None:
        tracing.session.after_fork_in_child()


_tracing = _Tracing()
