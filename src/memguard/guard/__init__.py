"""The guard: builds and owns all of the rooms below from one call."""

from memguard.guard.guard_status import GuardStatus
from memguard.guard.memory_guard import MemoryGuard
from memguard.guard.process import install, on_pressure, relieve, status, uninstall

__all__ = [
    "GuardStatus",
    "MemoryGuard",
    "install",
    "on_pressure",
    "relieve",
    "status",
    "uninstall",
]
