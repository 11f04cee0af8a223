"""Keeps a long-running Python process inside its memory, and names what leaks and who holds it."""

from memguard._version import __version__
from memguard.bounded.cache import BoundedCache
from memguard.errors import (
    ConfigError,
    LifecycleError,
    MemguardError,
    ReportFormatError,
    ValueTooLargeError,
)
from memguard.leaks.detector import LeakDetector
from memguard.leaks.diagnose import diagnose
from memguard.leaks.profile import MemoryProfile, profile_memory
from memguard.leaks.report import LeakReport
from memguard.leaks.statistics import LeakDetectorStatistics

__all__ = [
    "BoundedCache",
    "ConfigError",
    "LeakDetector",
    "LeakDetectorStatistics",
    "LeakReport",
    "LifecycleError",
    "MemguardError",
    "MemoryProfile",
    "ReportFormatError",
    "ValueTooLargeError",
    "__version__",
    "diagnose",
    "profile_memory",
]
