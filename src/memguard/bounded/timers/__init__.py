"""
Timers and tasks that end with their owners.

`TimerRegistry` calls on threads, `AsyncTimerRegistry` on an event loop; `TaskRegistry` keeps tasks.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.timers.on_loop import AsyncTimerRegistry
    from memguard.bounded.timers.schedule import Timer, TimerRegistryStatistics
    from memguard.bounded.timers.tasks import TaskRegistry, TaskRegistryStatistics
    from memguard.bounded.timers.threaded import TimerRegistry

__all__ = [
    "AsyncTimerRegistry",
    "TaskRegistry",
    "TaskRegistryStatistics",
    "Timer",
    "TimerRegistry",
    "TimerRegistryStatistics",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.timers.on_loop": "AsyncTimerRegistry",
            "memguard.bounded.timers.schedule": "Timer TimerRegistryStatistics",
            "memguard.bounded.timers.tasks": "TaskRegistry TaskRegistryStatistics",
            "memguard.bounded.timers.threaded": "TimerRegistry",
        },
    )
