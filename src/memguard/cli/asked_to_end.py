"""
Was the program asked to end? A signal says so, whatever its handler does: it passes through ours.

A server that returns when it is sent SIGTERM ends as a build does that is done, but not by itself.
The program sees its own handlers only; a traceback from one of them has one more line.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGBREAK")
_NUMBERS = {int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name)}


class AskedToEnd:
    """
    Take note of signals that ask the program to end.

    Bounded by: a handler for each such signal.
    Locks: none.
    Keeps alive: the program's handlers, as ``signal`` does.
    """

    def __init__(self) -> None:
        self.was_asked = False
        """True once one of them has arrived."""

    def watch(self) -> None:
        """Stand before the handlers that the program sets from now on, and that of Ctrl-C."""
        set_handler, get_handler = signal.signal, signal.getsignal

        @functools.wraps(set_handler)
        def noting(signalnum: int, handler: Any) -> Any:
            if signalnum in _NUMBERS and callable(handler):
                handler = _Noting(self, handler)
            return _unwrapped(set_handler(signalnum, handler))

        @functools.wraps(get_handler)
        def unwrapped(signalnum: int) -> Any:
            return _unwrapped(get_handler(signalnum))

        signal.signal, signal.getsignal = noting, unwrapped
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and get_handler(signal.SIGINT) is signal.default_int_handler:
            noting(signal.SIGINT, signal.default_int_handler)


class _Noting:
    """A handler of the program, behind ours."""

    __slots__ = ("_asked", "handler")

    def __init__(self, asked: AskedToEnd, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._asked = asked
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        self._asked.was_asked = True
        return self.handler(number, frame)


def _unwrapped(handler: Any) -> Any:
    return handler.handler if type(handler) is _Noting else handler
