"""
Objects and buffers that are lent and reused, never more than the bound.

`ObjectPool` lends objects that are expensive to make, `BufferPool` memory.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.pool.buffer_pool import BufferLease, BufferPool
    from memguard.bounded.pool.lease import AsyncLease, Lease
    from memguard.bounded.pool.object_pool import ObjectPool
    from memguard.bounded.pool.stats import BufferPoolStatistics, ObjectPoolStatistics

__all__ = [
    "AsyncLease",
    "BufferLease",
    "BufferPool",
    "BufferPoolStatistics",
    "Lease",
    "ObjectPool",
    "ObjectPoolStatistics",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.pool.buffer_pool": "BufferLease BufferPool",
            "memguard.bounded.pool.lease": "AsyncLease Lease",
            "memguard.bounded.pool.object_pool": "ObjectPool",
            "memguard.bounded.pool.stats": "BufferPoolStatistics ObjectPoolStatistics",
        },
    )
