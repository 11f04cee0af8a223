"""
Keeps a long-running Python process inside its memory, and names what leaks and who holds it.

PYTEST_DONT_REWRITE: nothing here asserts; pytest, which finds our plugin, would warn if memguard
has been imported before it.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard._version import __version__
    from memguard.bounded.cache.bounded_cache import BoundedCache
    from memguard.bounded.cache.loading.decorator import cached
    from memguard.bounded.events.registry import ListenerRegistry, attach
    from memguard.bounded.inventory import inventory
    from memguard.bounded.lifetime.callables import weak_callback
    from memguard.bounded.lifetime.finalizers import on_collect
    from memguard.bounded.lifetime.identity_map import WeakIdentityMap
    from memguard.bounded.lifetime.scope import Scope
    from memguard.bounded.lifetime.value_cache import WeakValueCache
    from memguard.bounded.lifetime.weak_attribute import WeakAttribute
    from memguard.bounded.pool.buffer_pool import BufferPool
    from memguard.bounded.pool.object_pool import ObjectPool
    from memguard.bounded.queue.bounded_queue import BoundedQueue
    from memguard.bounded.sizing.contents import size_of
    from memguard.bounded.streams import (
        ain_batches,
        apaginate,
        apaginate_after,
        apipeline,
        astream_lines,
        in_batches,
        paginate,
        paginate_after,
        pipeline,
        stream_lines,
    )
    from memguard.bounded.timers.on_loop import AsyncTimerRegistry
    from memguard.bounded.timers.tasks import TaskRegistry
    from memguard.bounded.timers.threaded import TimerRegistry
    from memguard.errors import (
        AdmissionError,
        CapacityError,
        ConfigError,
        LifecycleError,
        MemguardError,
        MissingExtraError,
        PoolExhaustedError,
        QueueEmptyError,
        QueueFullError,
        ReportFormatError,
        ValueTooLargeError,
    )
    from memguard.guard.memory_guard import GuardStatus, MemoryGuard
    from memguard.guard.process import install, on_pressure, relieve, status, uninstall
    from memguard.leaks.detector import LeakDetector, diagnose
    from memguard.leaks.profile import MemoryProfile, profile_memory
    from memguard.leaks.report import LeakReport
    from memguard.leaks.statistics import LeakDetectorStatistics
    from memguard.relief import components
    from memguard.relief.admission import Admission
    from memguard.relief.collector import GcPolicy, prefork
    from memguard.relief.monitor import PressureMonitor
    from memguard.relief.records import ReliefReport
    from memguard.report.health.health_report import HealthReport, health

__all__ = [
    "Admission",
    "AdmissionError",
    "AsyncTimerRegistry",
    "BoundedCache",
    "BoundedQueue",
    "BufferPool",
    "CapacityError",
    "ConfigError",
    "GcPolicy",
    "GuardStatus",
    "HealthReport",
    "LeakDetector",
    "LeakDetectorStatistics",
    "LeakReport",
    "LifecycleError",
    "ListenerRegistry",
    "MemguardError",
    "MemoryGuard",
    "MemoryProfile",
    "MissingExtraError",
    "ObjectPool",
    "PoolExhaustedError",
    "PressureMonitor",
    "QueueEmptyError",
    "QueueFullError",
    "ReliefReport",
    "ReportFormatError",
    "Scope",
    "TaskRegistry",
    "TimerRegistry",
    "ValueTooLargeError",
    "WeakAttribute",
    "WeakIdentityMap",
    "WeakValueCache",
    "__version__",
    "ain_batches",
    "apaginate",
    "apaginate_after",
    "apipeline",
    "astream_lines",
    "attach",
    "cached",
    "components",
    "diagnose",
    "health",
    "in_batches",
    "install",
    "inventory",
    "on_collect",
    "on_pressure",
    "paginate",
    "paginate_after",
    "pipeline",
    "prefork",
    "profile_memory",
    "relieve",
    "size_of",
    "status",
    "stream_lines",
    "uninstall",
    "weak_callback",
]

if not TYPE_CHECKING:
    _load, __dir__ = lazy.exports(
        __name__,
        {
            "memguard._version": "__version__",
            "memguard.bounded.cache.bounded_cache": "BoundedCache",
            "memguard.bounded.cache.loading.decorator": "cached",
            "memguard.bounded.events.registry": "ListenerRegistry attach",
            "memguard.bounded.inventory": "inventory",
            "memguard.bounded.lifetime.callables": "weak_callback",
            "memguard.bounded.lifetime.finalizers": "on_collect",
            "memguard.bounded.lifetime.identity_map": "WeakIdentityMap",
            "memguard.bounded.lifetime.scope": "Scope",
            "memguard.bounded.lifetime.value_cache": "WeakValueCache",
            "memguard.bounded.lifetime.weak_attribute": "WeakAttribute",
            "memguard.bounded.pool.buffer_pool": "BufferPool",
            "memguard.bounded.pool.object_pool": "ObjectPool",
            "memguard.bounded.queue.bounded_queue": "BoundedQueue",
            "memguard.bounded.sizing.contents": "size_of",
            "memguard.bounded.streams": (
                "ain_batches apaginate apaginate_after apipeline astream_lines in_batches paginate "
                "paginate_after pipeline stream_lines"
            ),
            "memguard.bounded.timers.on_loop": "AsyncTimerRegistry",
            "memguard.bounded.timers.tasks": "TaskRegistry",
            "memguard.bounded.timers.threaded": "TimerRegistry",
            "memguard.errors": (
                "AdmissionError CapacityError ConfigError LifecycleError MemguardError "
                "MissingExtraError PoolExhaustedError QueueEmptyError QueueFullError "
                "ReportFormatError ValueTooLargeError"
            ),
            "memguard.guard.memory_guard": "GuardStatus MemoryGuard",
            "memguard.guard.process": "install on_pressure relieve status uninstall",
            "memguard.leaks.detector": "LeakDetector diagnose",
            "memguard.leaks.profile": "MemoryProfile profile_memory",
            "memguard.leaks.report": "LeakReport",
            "memguard.leaks.statistics": "LeakDetectorStatistics",
            "memguard.relief": "components",
            "memguard.relief.admission": "Admission",
            "memguard.relief.collector": "GcPolicy prefork",
            "memguard.relief.monitor": "PressureMonitor",
            "memguard.relief.records": "ReliefReport",
            "memguard.report.health.health_report": "HealthReport health",
        },
    )

    def __getattr__(name: str) -> object:
        try:
            return _load(name)
        except ImportError:
            # From CPython 3.12 on an isolated subinterpreter loads no extension such as psutil.
            from memguard.lifecycle.interpreter import require_main  # noqa: PLC0415 - reason: only where a name cannot be had

            require_main(f"memguard.{name}")
            raise
