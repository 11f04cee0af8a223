"""The one thread of leak detection: a `Ticker`, and no tracing in a forked child."""

from __future__ import annotations

from memguard.leaks.evidence import tracing
from memguard.leaks.holders import paths
from memguard.lifecycle import fork, ticker
from memguard.lifecycle.fork import Resettable
from memguard.lifecycle.ticker import Ticking
from memguard.observe import allocator

__all__ = ["Resettable", "Ticker", "Ticking", "reset_after_fork"]


class Ticker(ticker.Ticker):
    """A ticker whose thread imports nothing later: see ``allocator.prepare``."""

    def start(self) -> Ticker:
        """Import what evidence needs, here and now, and start the thread."""
        allocator.prepare()
        paths.prepare()
        super().start()
        return self


def reset_after_fork(target: Resettable) -> None:
    """Call ``target._reset`` in every forked child, while *target* is alive; it does not trace."""
    fork.reset_after_fork(_tracing)
    fork.reset_after_fork(target)


class _Tracing:
    """The child pays for no tracing of its parent's."""

    def _reset(self) -> None:
        tracing.session.after_fork_in_child()


_tracing = _Tracing()
