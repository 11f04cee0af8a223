"""
The guard: one call builds and owns detector, monitor, relief and history.

`install` makes the one of the process; a `MemoryGuard` of your own is started and stopped by you.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.guard import process as process
    from memguard.guard.environment import options_from as options_from
    from memguard.guard.memory_guard import GuardStatus as GuardStatus
    from memguard.guard.memory_guard import MemoryGuard as MemoryGuard
    from memguard.guard.process import install as install
    from memguard.guard.process import on_pressure as on_pressure
    from memguard.guard.process import relieve as relieve
    from memguard.guard.process import status as status
    from memguard.guard.process import uninstall as uninstall
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.guard": "process",
            "memguard.guard.environment": "options_from",
            "memguard.guard.memory_guard": "GuardStatus MemoryGuard",
            "memguard.guard.process": "install on_pressure relieve status uninstall",
        },
    )
