"""
Objects and buffers that are lent and reused, never more than the bound.

`ObjectPool` lends objects that are expensive to make, `BufferPool` memory.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.pool.buffer_pool import BufferLease as BufferLease
    from memguard.bounded.pool.buffer_pool import BufferPool as BufferPool
    from memguard.bounded.pool.lease import AsyncLease as AsyncLease
    from memguard.bounded.pool.lease import Lease as Lease
    from memguard.bounded.pool.object_pool import ObjectPool as ObjectPool
    from memguard.bounded.pool.stats import BufferPoolStatistics as BufferPoolStatistics
    from memguard.bounded.pool.stats import ObjectPoolStatistics as ObjectPoolStatistics
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.pool.buffer_pool": "BufferLease BufferPool",
            "memguard.bounded.pool.lease": "AsyncLease Lease",
            "memguard.bounded.pool.object_pool": "ObjectPool",
            "memguard.bounded.pool.stats": "BufferPoolStatistics ObjectPoolStatistics",
        },
    )
