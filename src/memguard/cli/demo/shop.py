"""
A shop that remembers its visitors: the program that ``memguard demo`` runs twice.

It is copied to a directory of its own as ``shop.py``. As it is, it leaks; with ``--repaired`` it
remembers the last hundred. Some fifty visitors come each second, until it is stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

from memguard import BoundedCache

MOST_SECONDS = 120.0
"""Then it ends by itself."""

SESSIONS: MutableMapping[str, bytearray] = {}
if "--repaired" in sys.argv:
    SESSIONS = BoundedCache(100, name="sessions")


def render_shelf(visitor: str) -> bytearray:
    """Put together what the visitor sees: some 40 KB."""
    return bytearray(visitor.encode() * 4000)  # planted: the leak allocates here


def visit(number: int) -> None:
    """Serve one visitor, and remember what was shown."""
    visitor = f"visitor {number:08}"[-10:]
    SESSIONS[visitor] = render_shelf(visitor)


def main() -> None:
    """Serve visitors until the file ``stop`` appears: it is interrupted then, as a server is."""
    end = time.monotonic() + MOST_SECONDS
    number = 0
    while time.monotonic() < end:
        if Path("stop").exists():
            raise KeyboardInterrupt
        number += 1
        visit(number)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
