"""
Background refresh: at most a few threads, started when needed, ended when idle.

Loaders may take long, so they do not run on the janitor's thread. When all threads are busy a
refresh is skipped: the stale value is served and the next reader asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from memguard.lifecycle import fork, locks, threads, uwsgi
from memguard.lifecycle.at_exit import call_at_exit

MOST_THREADS = 4
"""Background loads at the same time, in the whole process."""
_EXIT_SECONDS = 2.0

_mutex = locks.RLock()
_threads: set[threading.Thread] = set()


def in_background(work: Callable[[], None]) -> bool:
    """
    Run *work* on a thread of its own; False where none can be had.

    There are `MOST_THREADS` already, the system has no more, or uWSGI is about to fork: a thread
    may keep its workers from ever running.
    """
    if uwsgi.is_before_fork():
        return False
    thread = threading.Thread(target=_run, args=(work,), name="memguard-refresh", daemon=True)
    # Before the mutex is first held, which a fork may meet.
    fork.call_in_child(_after_fork_in_child)
    fork.check()
    call_at_exit(stop, _EXIT_SECONDS)
    started = False
    try:
        with _mutex:
            if len(_threads) >= MOST_THREADS:
                return False
            _threads.add(thread)
        thread.start()
        started = True
    except RuntimeError:  # no more threads, or the interpreter is shutting down
        return False
    finally:  # a signal handler may raise as well
        if not started:
            _threads.discard(thread)
    return True


def _run(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        del work
        with _mutex:
            _threads.discard(threading.current_thread())


def stop(timeout: float = 2.0) -> bool:
    """Wait up to *timeout* seconds for loads under way; True when none is left."""
    fork.check()
    with _mutex:
        running = list(_threads)
    # All of them are waited for, whatever the first ones do.
    ended = [threads.join(thread, timeout / len(running)) for thread in running]
    return all(ended)


def _after_fork_in_child() -> None:
    global _mutex  # noqa: PLW0603 - reason: a vanished thread may hold the old one
    _mutex = locks.RLock()
    _threads.clear()
