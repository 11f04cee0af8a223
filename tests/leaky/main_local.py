"""A loop keeps what it has done in a local variable."""

from __future__ import annotations

from collections.abc import Callable

HOLDER = "local 'history' of running function main_local.main"


def main(tick: Callable[[], int]) -> None:
    """Work until told to end."""
    history: list[bytearray] = []
    while True:
        number = tick()
        history.append(bytearray(6000 + number % 3))  # <- allocates
