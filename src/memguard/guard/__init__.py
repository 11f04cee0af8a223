"""The guard: builds and owns all of the rooms below from one call."""

from memguard.guard.owner import MemoryGuard
from memguard.guard.process import install, on_pressure, relieve, status, uninstall
from memguard.guard.status import GuardStatus

__all__ = [
    "GuardStatus",
    "MemoryGuard",
    "install",
    "on_pressure",
    "relieve",
    "status",
    "uninstall",
]
