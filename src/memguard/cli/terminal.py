"""What the commands share: output, and a clean exit on a signal."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def write(text: str, *, error: bool = False) -> None:
    """Print *text* at once, with escapes for characters that the terminal's encoding lacks."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "ascii"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def discard_output() -> None:
    """Stop printing: the reader of our output, such as ``head``, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminated:
    """
    Leave by an exception on SIGTERM and SIGHUP, so that whatever must be put back is put back.

    For the main thread of a command that runs no program of the user. An ignored signal stays
    ignored, as ``nohup`` wants it.

    Bounded by: two handlers.
    Locks: none.
    Keeps alive: the handlers that were there before, which come back at the end.
    """

    def __enter__(self) -> None:
        """Set the handlers."""
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
