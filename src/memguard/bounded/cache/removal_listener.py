"""The removal callback of a cache: its errors are counted, and every removal is delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memguard import log
from memguard.bounded.cache.entry import Cause

Removed = list[tuple[Any, Any, Cause]]
"""Keys, values and causes, staged under the lock and delivered outside of it."""


class RemovalListener:
    """Calls ``on_removal`` of one cache, outside every lock."""

    __slots__ = ("_callback", "_name", "_raises", "errors", "is_set")

    def __init__(
        self, callback: Callable[[Any, Any, Cause], object] | None, on_error: str, name: str
    ) -> None:
        self._callback = callback
        self.is_set = callback is not None
        """Whether there is a callback."""
        self._raises = on_error == "raise"
        self._name = name
        self.errors = 0
        """Exceptions of the callback; only the first is logged."""

    def notify(self, removed: Removed) -> None:
        """Call the callback for each entry; raise its first exception if *on_error* is "raise"."""
        if self._callback is None:
            return
        first: Exception | None = None
        for event in removed:
            try:
                self._callback(*event)
            except Exception as error:  # noqa: BLE001 - reason: on_error says what becomes of it
                self.errors += 1
                if self._raises:
                    first = first or error
                elif self.errors == 1:
                    kind = type(error).__name__
                    log.event(log.WARNING, "cache.on_removal_failed", cache=self._name, error=kind)
        if first is not None:
            try:
                raise first
            finally:
                del first  # the traceback refers to this frame
