"""Queues between threads and asyncio tasks that hold no more items, or bytes, than they may."""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.queue.bounded_queue import BoundedQueue as BoundedQueue
    from memguard.bounded.queue.bounded_queue import (
        BoundedQueueStatistics as BoundedQueueStatistics,
    )
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {"memguard.bounded.queue.bounded_queue": "BoundedQueue BoundedQueueStatistics"},
    )
