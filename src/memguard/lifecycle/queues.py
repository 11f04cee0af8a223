"""Queues that weak reference callbacks, destructors and signal handlers append to."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def drain(queue: deque[T]) -> Iterator[T]:
    """Yield what is in *queue*, oldest first, each to one taker, until it is empty."""
    while queue:
        with contextlib.suppress(IndexError):  # another thread was faster
            yield queue.popleft()
