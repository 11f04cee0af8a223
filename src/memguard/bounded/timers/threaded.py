"""`TimerRegistry`: calls after a delay or at intervals, which end with their owners."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, Self

from memguard.bounded import options
from memguard.bounded.lifetime import callables
from memguard.bounded.timers.base import BaseTimerRegistry
from memguard.bounded.timers.schedule import Timer, TimerRegistryStatistics
from memguard.bounded.timers.workers import Workers
from memguard.lifecycle import fork

__all__ = ["Timer", "TimerRegistry", "TimerRegistryStatistics"]


class TimerRegistry(BaseTimerRegistry):
    """
    Call functions after a delay or at intervals, on threads of its own.

    One thread schedules; up to *workers* others make the calls, so a slow callback does not delay
    another timer as long as fewer than *workers* are slow. Threads start with the first timer and
    end after some idle seconds. A registry that is dropped ends its timers: keep a reference to it.
    At interpreter exit, running calls get up to two seconds. A forked child starts with no timers.
    See ``docs/timers.md``.

    Thread-safe: yes, also from destructors and signal handlers.

    Bounded by: *maxsize* timers; a warning with the lines that started them at four fifths of it.
    Locks: one around a dict entry, one around the number of threads. Callbacks run under none.
    Keeps alive: callbacks and arguments until the call or the cancellation; not owners.

    Args:
        maxsize: Most timers at the same time.
        workers: Most callbacks at the same time, each on a thread.
        on_error: ``"log"`` counts and logs what callbacks raise; ``"raise"`` also hands it to
            ``threading.excepthook``, as an exception that ends a thread.
        name: What reports call it; the line that made it by default.
        timer: The clock, in seconds; it must not go backwards.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: An option out of range.
    """

    def __init__(
        self,
        *,
        maxsize: int = 100_000,
        workers: int = 8,
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_workers = options.check_positive_int(workers, "workers")
        super().__init__(maxsize, on_error, name, timer)
        self._workers = self._make_workers()

    def _make_workers(self) -> Workers:
        return Workers(self, self._schedule, self._most_workers, raises=self._raises)

    def _prepare(self, fn: Any) -> None:
        self._left = []
        if callables.is_coroutine_function(fn):
            raise TypeError(
                f"fn must be a plain function (got the coroutine function "
                f"{callables.described(fn)}); use AsyncTimerRegistry"
            )

    def statistics(self) -> TimerRegistryStatistics:
        """Return what it holds and has done. Thread-safe, O(1)."""
        return self._schedule.statistics(len(self._workers.threads), self._workers.outstanding)

    def close(self, timeout: float = 2.0) -> bool:
        """
        End every timer and the threads, and take no more timers. Idempotent.

        Returns True when no thread is left, False when a callback is still running after *timeout*
        seconds; its thread ends with it.
        """
        fork.check()
        self._schedule.close()
        return self._workers.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        # The threads are gone, and what they were to call is the parent's business.
        self._left = [self._schedule.start_empty(), self._workers]
        self._workers = self._make_workers()
