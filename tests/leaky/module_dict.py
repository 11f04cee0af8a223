"""Sessions are remembered in a module's dict and never forgotten."""

from __future__ import annotations

HOLDER = "module_dict.SESSIONS"


class Session:
    """What a visitor did."""

    def __init__(self, number: int) -> None:
        self.basket = bytearray(6000)  # <- allocates
        self.number = number


SESSIONS: dict[str, Session] = {}


def step(number: int) -> None:
    """Serve one visitor."""
    SESSIONS[f"visitor {number}"] = Session(number)
