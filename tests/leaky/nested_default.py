"""Events are grouped by user in a defaultdict inside a dict; users come, and none goes."""

from __future__ import annotations

import collections

HOLDER = "nested_default.STORE[str]"

STORE: dict[str, collections.defaultdict[int, list[bytearray]]] = {
    "events": collections.defaultdict(list)
}


def step(number: int) -> None:
    """Record one event."""
    STORE["events"][number].append(bytearray(6000))  # <- allocates
