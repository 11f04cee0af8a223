"""A command that is told to end puts everything back first: the terminal, its children."""

from __future__ import annotations

import signal
from types import FrameType


class Terminated:
    """
    Leave by an exception on SIGTERM and SIGHUP, so that whatever must be put back is put back.

    For the main thread of a command of ours; no program of the user's runs in it. A signal that is
    ignored stays so, as ``nohup`` wants it.

    Bounded by: two handlers.
    Locks: none.
    Keeps alive: the handlers that were there before, which come back at the end.
    """

    def __enter__(self) -> None:
        """Begin to listen."""
        names = ("SIGTERM", "SIGHUP")  # the latter is not known everywhere
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before = {
            number: signal.signal(number, self._leave)
            for number in numbers
            if signal.getsignal(number) not in (signal.SIG_IGN, None)  # None: not of Python
        }

    def __exit__(self, *_: object) -> None:
        """Give the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @staticmethod
    def _leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)
