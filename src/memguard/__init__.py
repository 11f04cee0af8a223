"""
Keeps a long-running Python process inside its memory, and names what leaks and who holds it.

PYTEST_DONT_REWRITE: nothing here asserts; pytest, which finds our plugin, would warn where memguard
has been imported before it.
"""

from memguard._version import __version__
from memguard.bounded.buffers import BufferPool
from memguard.bounded.cache import BoundedCache
from memguard.bounded.inventory import inventory
from memguard.bounded.listeners import ListenerRegistry, attach
from memguard.bounded.memoize import cached
from memguard.bounded.pool import ObjectPool
from memguard.bounded.scope import Scope
from memguard.bounded.sizing import size_of
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
from memguard.bounded.tasks import TaskRegistry
from memguard.bounded.timers import TimerRegistry
from memguard.bounded.timers_async import AsyncTimerRegistry
from memguard.bounded.weak import (
    WeakAttribute,
    WeakIdentityMap,
    WeakValueCache,
    on_collect,
    weak_callback,
)
from memguard.errors import (
    AdmissionError,
    CapacityError,
    ConfigError,
    LifecycleError,
    MemguardError,
    MissingExtraError,
    PoolExhaustedError,
    ReportFormatError,
    ValueTooLargeError,
)
from memguard.guard import (
    GuardStatus,
    MemoryGuard,
    install,
    on_pressure,
    relieve,
    status,
    uninstall,
)
from memguard.leaks.detector import LeakDetector
from memguard.leaks.diagnose import diagnose
from memguard.leaks.profile import MemoryProfile, profile_memory
from memguard.leaks.report import LeakReport
from memguard.leaks.statistics import LeakDetectorStatistics
from memguard.relief import components
from memguard.relief.admission import Admission
from memguard.relief.gcpolicy import GcPolicy, prefork
from memguard.relief.pressure import PressureMonitor
from memguard.relief.record import ReliefReport
from memguard.report.health import HealthReport, health

__all__ = [
    "Admission",
    "AdmissionError",
    "AsyncTimerRegistry",
    "BoundedCache",
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
