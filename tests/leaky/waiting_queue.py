"""An asyncio program whose consumer has stopped while producers go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HOLDER = "waiting_queue.QUEUES[str]._queue"

QUEUES: dict[str, asyncio.Queue[bytearray]] = {}


async def produce(tick: Callable[[], int]) -> None:
    """Put work into the queue."""
    QUEUES["mail"] = asyncio.Queue()
    while True:
        number = tick()
        await QUEUES["mail"].put(bytearray(6000 + number % 3))  # <- allocates
        await asyncio.sleep(0)


def main(tick: Callable[[], int]) -> None:
    """Run the program."""
    asyncio.run(produce(tick))
