"""A connection that collects what it reads and never hands it on: one object, no entries."""

from __future__ import annotations

HOLDER = "growing_buffer.CONNECTIONS[str].received"


class Connection:
    """Bytes that arrive."""

    def __init__(self) -> None:
        self.received = bytearray()


CONNECTIONS = {"upstream": Connection()}


def step(number: int) -> None:
    """Receive a packet."""
    CONNECTIONS["upstream"].received += b"x" * (6000 + number % 3)  # <- allocates
