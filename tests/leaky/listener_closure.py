"""Each request connects a listener that closes over its payload."""

from __future__ import annotations

from collections.abc import Callable

HOLDER = "listener_closure.ORDER_SENT.receivers"


class Signal:
    """A signal that holds its receivers strongly."""

    def __init__(self) -> None:
        self.receivers: dict[int, Callable[[], int]] = {}

    def connect(self, receiver: Callable[[], int]) -> None:
        """Call *receiver* with each signal."""
        self.receivers[id(receiver)] = receiver


ORDER_SENT = Signal()


def step(number: int) -> None:
    """Handle one request."""
    payload = bytes([number % 256]) * 6000  # <- allocates

    def on_sent() -> int:
        return len(payload)

    ORDER_SENT.connect(on_sent)
