"""A shop that fills its caches and forgets no session."""

from __future__ import annotations

import time
from typing import Any

from memguard import BoundedCache, BufferPool, MemoryGuard

SESSIONS: dict[int, bytes] = {}


def open_shop() -> list[Any]:
    """Return the containers of a shop that has been open for a while."""
    holders: list[Any] = [BufferPool((65536,), maxbytes="8MiB", name="shop.uploads")]
    for name, count in (
        ("shop.pages", 1500),
        ("shop.thumbnails", 700),
        ("shop.prices", 320),
        ("shop.search.suggestions", 90),
    ):
        cache: BoundedCache[int, bytes] = BoundedCache(maxbytes="48MiB", name=name)
        for number in range(count):
            cache[number] = bytes(12_000)
            time.sleep(0.0003)
        holders.append(cache)
    return holders


def forget_nothing(guard: MemoryGuard, most: int) -> None:
    """Leak sessions until the guard has reported it, or *most* bytes have leaked."""
    for number in range(most // 6_000):
        SESSIONS[number] = bytes(6_000)
        time.sleep(0.0006)
        if guard.reports and number > most // 8_000:
            break
