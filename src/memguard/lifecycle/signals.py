"""Signals: our action, then the handler that was there before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from memguard.errors import ConfigError, LifecycleError


class ChainedHandler:
    """
    Call *action* when a signal arrives, then the handler that was there before.

    Bounded by: one signal.
    Locks: none; *action* must be safe in a signal handler, where any lock may be held.
    Keeps alive: *action* and the former handler, until ``close``.
    """

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        """
        Prepare to listen to a signal.

        Args:
            number: ``signal.SIGUSR2`` or another one that can be caught.
            action: What to do.

        Raises:
            TypeError: *number* is not an int.
            ConfigError: There is no such signal, or it cannot be caught.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"on_signal must be a signal number (got {type(number).__name__})")
        try:
            signal.getsignal(number)
        except ValueError:
            raise ConfigError(f"on_signal must be a signal of this system (got {number})") from None
        if number in (getattr(signal, "SIGKILL", None), getattr(signal, "SIGSTOP", None)):
            raise ConfigError(f"on_signal must be a signal that can be caught (got {number})")
        self._number = number
        self._action = action
        self._active = False
        self._former: Any = None

    def open(self) -> None:
        """
        Begin to listen.

        Raises:
            LifecycleError: Called outside the main thread, where Python sets no handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            raise LifecycleError(
                "on_signal needs start() in the main thread: "
                "Python sets signal handlers nowhere else"
            )
        self._active = True
        self._former = signal.signal(self._number, self._handle)

    def close(self) -> None:
        """
        Stop listening and put the former handler back, unless another came after ours. Idempotent.

        Outside the main thread, or below another handler, ours stays and only passes signals on.
        """
        self._active = False
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(self._number) == self._handle:
            signal.signal(self._number, signal.SIG_DFL if self._former is None else self._former)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._active:
            self._action()
        if callable(self._former):
            self._former(number, frame)
