"""
The guard: one call builds and owns detector, monitor, relief and history.

`install` makes the one of the process; a `MemoryGuard` of your own is started and stopped by you.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.guard import process
    from memguard.guard.environment import options_from
    from memguard.guard.memory_guard import GuardStatus, MemoryGuard
    from memguard.guard.process import install, on_pressure, relieve, status, uninstall

__all__ = [
    "GuardStatus",
    "MemoryGuard",
    "install",
    "on_pressure",
    "options_from",
    "process",
    "relieve",
    "status",
    "uninstall",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.guard": "process",
            "memguard.guard.environment": "options_from",
            "memguard.guard.memory_guard": "GuardStatus MemoryGuard",
            "memguard.guard.process": "install on_pressure relieve status uninstall",
        },
    )
