"""Requests whose objects refer to one another: garbage that waits for the collector."""

from __future__ import annotations


class Request:
    """Knows its response, which knows its request."""

    def __init__(self, number: int) -> None:
        self.body = bytearray(3000 + number % 3)
        self.response = [self, bytearray(1000)]


def step(number: int) -> None:
    """Serve one request."""
    Request(number)
    [Request(n) for n in range(3)]
