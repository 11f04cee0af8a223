"""A model is loaded once, early on, and stays; then the program works within it."""

from __future__ import annotations

MODEL: list[bytearray] = []


def step(number: int) -> None:
    """Serve one prediction."""
    if number == 500:
        MODEL.extend(bytearray(50_000) for _ in range(200))
    bytearray(6000)
