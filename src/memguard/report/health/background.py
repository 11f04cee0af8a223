"""One piece of work at a time in its own thread; callers that arrive meanwhile share the result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Literal, TypeVar

from memguard.lifecycle import locks, threads
from memguard.lifecycle.at_exit import stop_at_exit
from memguard.lifecycle.fork import check, reset_after_fork

T = TypeVar("T")
MOST_WAITING = 64
"""Requests that wait for one piece of work; further ones are refused."""
_EXIT_SECONDS = 1.0


class WorkFailedError(Exception):
    """A piece of work failed; its text is the type of what it raised, which holds no frames."""


class BackgroundWork(Generic[T]):
    """
    Do one thing at a time, in a thread of its own.

    Not in the executor of an event loop: there it would wait behind the host's own work, and one
    that hangs would hold up the end of the host, which joins the threads of its executors.

    Bounded by: one thread, ``MOST_WAITING`` who wait.
    Locks: one mutex around what is under way; the work is done outside of it.
    Keeps alive: its outcome, for as long as a caller waits for it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Reset to idle, as after a fork: the thread does not exist in the child."""
        self._lock = locks.Lock()
        self._future: Future[T] | None = None
        self._waiting = 0
        self._thread: threading.Thread | None = None

    def ask(self, work: Callable[[], T], *, join: bool) -> Future[T] | Literal["busy", "no thread"]:
        """
        Return a future of what *work* returns; it fails with `WorkFailedError` only.

        Args:
            work: What to do, in the thread.
            join: If work is already under way, share its outcome instead of being rejected.

        Returns:
            The future, which cannot be cancelled; ``"busy"`` if others are served;
            ``"no thread"`` if the system has none.
        """
        check()
        with self._lock:
            if self._future is not None:
                if not join or self._waiting >= MOST_WAITING:
                    return "busy"
                self._waiting += 1
                return self._future
            future = self._future = Future()
            self._waiting = 1
        future.set_running_or_notify_cancel()  # one who gives up waiting must not cancel it
        try:
            run = threading.Thread(
                target=self._run, args=(work, future), name=self._name, daemon=True
            )
            stop_at_exit(self, _EXIT_SECONDS)
            run.start()
            self._thread = run
        except Exception as error:  # noqa: BLE001 - reason: no thread or memory is available, or the interpreter is shutting down
            self._future = None
            future.set_exception(WorkFailedError(type(error).__name__))  # for who joined meanwhile
            return "no thread"
        return future

    def stop(self, timeout: float) -> bool:
        """Give what is under way a moment to end; True when it has ended."""
        check()
        return self._thread is None or threads.join(self._thread, timeout)

    def _run(self, work: Callable[[], T], future: Future[T]) -> None:
        failed: BaseException | None = None
        try:
            value = work()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: its name is for those who wait
            failed = error
        except BaseException as error:
            failed = error
            raise
        finally:
            if self._future is future:
                self._future = None  # first: who asks now wants what is true from now on
            if failed is None:
                future.set_result(value)
            else:
                future.set_exception(WorkFailedError(type(failed).__name__))
