"""
SEE: cheap readings of this process's memory.

Readings, limits, headroom, the allocator, the collector, and their history.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.observe import allocator
    from memguard.observe.allocator import AllocatorState, read_allocator
    from memguard.observe.gcwatch import GcStatistics, GcWatch
    from memguard.observe.headroom import Allowance, Fill, Headroom, read_allowance, read_headroom
    from memguard.observe.history import Bucket, History, HistoryStatistics, Hour
    from memguard.observe.limits import Bound, Limit, read_limit
    from memguard.observe.readings import Reading, read_memory

__all__ = [
    "AllocatorState",
    "Allowance",
    "Bound",
    "Bucket",
    "Fill",
    "GcStatistics",
    "GcWatch",
    "Headroom",
    "History",
    "HistoryStatistics",
    "Hour",
    "Limit",
    "Reading",
    "allocator",
    "read_allocator",
    "read_allowance",
    "read_headroom",
    "read_limit",
    "read_memory",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.observe": "allocator",
            "memguard.observe.allocator": "AllocatorState read_allocator",
            "memguard.observe.gcwatch": "GcStatistics GcWatch",
            "memguard.observe.headroom": "Allowance Fill Headroom read_allowance read_headroom",
            "memguard.observe.history": "Bucket History HistoryStatistics Hour",
            "memguard.observe.limits": "Bound Limit read_limit",
            "memguard.observe.readings": "Reading read_memory",
        },
    )
