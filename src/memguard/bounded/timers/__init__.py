"""
Timers and tasks that end with their owners.

`TimerRegistry` calls on threads, `AsyncTimerRegistry` on an event loop; `TaskRegistry` keeps tasks.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.timers.on_loop import AsyncTimerRegistry as AsyncTimerRegistry
    from memguard.bounded.timers.schedule import Timer as Timer
    from memguard.bounded.timers.schedule import TimerRegistryStatistics as TimerRegistryStatistics
    from memguard.bounded.timers.tasks import TaskRegistry as TaskRegistry
    from memguard.bounded.timers.tasks import TaskRegistryStatistics as TaskRegistryStatistics
    from memguard.bounded.timers.threaded import TimerRegistry as TimerRegistry
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.timers.on_loop": "AsyncTimerRegistry",
            "memguard.bounded.timers.schedule": "Timer TimerRegistryStatistics",
            "memguard.bounded.timers.tasks": "TaskRegistry TaskRegistryStatistics",
            "memguard.bounded.timers.threaded": "TimerRegistry",
        },
    )
