"""
Metrics for Prometheus, of one process and of servers of several.

`MemguardCollector` is for one process, `MultiprocessBridge` for servers that fork workers.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.metrics.prometheus.collector import MemguardCollector as MemguardCollector
    from memguard.report.metrics.prometheus.multiprocess import (
        MultiprocessBridge as MultiprocessBridge,
    )
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.metrics.prometheus.collector": "MemguardCollector",
            "memguard.report.metrics.prometheus.multiprocess": "MultiprocessBridge",
        },
    )
