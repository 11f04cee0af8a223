"""A cache that is full, and at work: each step adds an entry and drops one."""

from __future__ import annotations

import collections

CACHE: collections.OrderedDict[int, bytearray] = collections.OrderedDict()
MAXSIZE = 500

for first in range(MAXSIZE):
    CACHE[-first] = bytearray(6000)


def step(number: int) -> None:
    """Serve one page."""
    CACHE[number] = bytearray(6000 + number % 3)
    if len(CACHE) > MAXSIZE:
        CACHE.popitem(last=False)
