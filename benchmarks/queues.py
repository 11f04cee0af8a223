"""
What does a `BoundedQueue` cost beside the queues of the standard library?

``python -m benchmarks.queues`` puts and gets one small item in turns, without waiting: in one
thread, and in a task. Nanoseconds for both together, the fastest slice of each.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from typing import Any

from benchmarks.record import machine, write
from benchmarks.turns import Slice, in_turns
from memguard import BoundedQueue

ROUNDS = 40
ITEM = b"x"


def contestants(loop: asyncio.AbstractEventLoop) -> dict[str, Slice]:
    """Return them by name."""

    def of_threads(put: Callable[..., Any], get: Callable[..., Any]) -> Slice:
        def run(times: int) -> None:
            for _ in range(times):
                put(ITEM)
                get()

        return run

    def of_tasks(put: Callable[..., Any], get: Callable[..., Any]) -> Slice:
        async def run(times: int) -> None:
            for _ in range(times):
                await put(ITEM)
                await get()

        return lambda times: loop.run_until_complete(run(times))

    items, counted = BoundedQueue[bytes](maxsize=100), BoundedQueue[bytes](maxbytes="1MiB")
    theirs: queue.Queue[bytes] = queue.Queue(100)
    tasks: asyncio.Queue[bytes] = asyncio.Queue(100)
    return {
        "BoundedQueue(maxsize) put + get": of_threads(items.put, items.get),
        "BoundedQueue(maxbytes) put + get": of_threads(counted.put, counted.get),
        "queue.Queue put + get": of_threads(theirs.put, theirs.get),
        "BoundedQueue(maxsize) aput + aget": of_tasks(items.aput, items.aget),
        "asyncio.Queue put + get": of_tasks(tasks.put, tasks.get),
    }


def main() -> None:
    """Measure, print and store."""
    loop = asyncio.new_event_loop()
    found = in_turns(contestants(loop), ROUNDS)
    loop.close()
    for name, nanoseconds in found.items():
        print(f"{name:36} {nanoseconds:8,.0f} ns")
    print("wrote", write("queues", machine(), {"nanoseconds": found}))


if __name__ == "__main__":
    main()
