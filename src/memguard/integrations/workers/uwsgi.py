"""
uWSGI workers: a guard in each, started after the fork.

In the module that uWSGI loads::

    from memguard.integrations.workers.uwsgi import setup

    setup(limit="400MiB")

Nothing happens in a process that is not uWSGI's, such as a management command. Workers are not
replaced from here: uWSGI does that itself, by ``reload-on-rss`` and ``max-requests``.
"""

from __future__ import annotations

from typing import Any

from memguard import log
from memguard.integrations.workers.worker import WorkerOptions, WorkerProcess
from memguard.lifecycle import uwsgi

__all__ = ["setup"]


def setup(**guard: Any) -> None:
    """
    Start a guard in each worker and mule of uWSGI after the fork, or now if none is to come.

    It uses uWSGI's hook for forks, beside those that are there: call it after anything that
    assigns ``uwsgi.post_fork_hook``. A guard that the application has installed is used instead.

    Args:
        **guard: Options of the `MemoryGuard` in each worker.

    Raises:
        TypeError: An option is of the wrong kind or unknown.
        ConfigError: An option is out of its range.
    """
    process = WorkerProcess(WorkerOptions(limit=None, guard=guard))

    def begin() -> None:
        try:
            process.begin()
        except Exception as error:  # noqa: BLE001 - reason: a worker unguarded is better than none
            uwsgi.say(f"this worker is not guarded: {error}")
            log.event(log.ERROR, "worker.not_guarded", error=str(error))

    if uwsgi.is_before_fork():
        uwsgi.call_after_fork(begin)
    elif uwsgi.is_inside():
        begin()
