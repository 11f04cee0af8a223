"""
SEE: cheap readings of this process's memory.

Readings, limits, headroom, the allocator, the collector, and their history.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.observe import allocator as allocator
    from memguard.observe import counts as counts
    from memguard.observe.allocator import AllocatorState as AllocatorState
    from memguard.observe.allocator import read_allocator as read_allocator
    from memguard.observe.children import Family as Family
    from memguard.observe.children import FamilyMeter as FamilyMeter
    from memguard.observe.children import read_family as read_family
    from memguard.observe.gcwatch import GcStatistics as GcStatistics
    from memguard.observe.gcwatch import GcWatch as GcWatch
    from memguard.observe.headroom import Allowance as Allowance
    from memguard.observe.headroom import Fill as Fill
    from memguard.observe.headroom import Headroom as Headroom
    from memguard.observe.headroom import read_allowance as read_allowance
    from memguard.observe.headroom import read_headroom as read_headroom
    from memguard.observe.history import Bucket as Bucket
    from memguard.observe.history import History as History
    from memguard.observe.history import HistoryStatistics as HistoryStatistics
    from memguard.observe.history import Hour as Hour
    from memguard.observe.limits import Bound as Bound
    from memguard.observe.limits import Limit as Limit
    from memguard.observe.limits import LimitKind as LimitKind
    from memguard.observe.limits import read_limit as read_limit
    from memguard.observe.modules import module_bytes as module_bytes
    from memguard.observe.readings import Reading as Reading
    from memguard.observe.readings import read_memory as read_memory
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.observe": "allocator counts",
            "memguard.observe.allocator": "AllocatorState read_allocator",
            "memguard.observe.children": "Family FamilyMeter read_family",
            "memguard.observe.gcwatch": "GcStatistics GcWatch",
            "memguard.observe.headroom": "Allowance Fill Headroom read_allowance read_headroom",
            "memguard.observe.history": "Bucket History HistoryStatistics Hour",
            "memguard.observe.limits": "Bound Limit LimitKind read_limit",
            "memguard.observe.modules": "module_bytes",
            "memguard.observe.readings": "Reading read_memory",
        },
    )
