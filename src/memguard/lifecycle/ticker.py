"""A thread that calls ``tick``, sleeps, and does not survive a fork: one for each service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from memguard import log
from memguard.lifecycle import fork, threads
from memguard.lifecycle.at_exit import stop_at_exit
from memguard.lifecycle.wake import Wake

T = TypeVar("T")
RETRY_SECONDS = 1.0
"""Pause after a tick that failed and so did not say when the next one is due."""
_EXIT_SECONDS = 2.0
MAX_KINDS = 50
"""Kinds of failures that are logged, each once."""


class Ticking(Protocol):
    """What a ticker drives."""

    def tick(self) -> float:
        """Do what is due and return the seconds until the next tick."""

    def look_on_request(self) -> None:
        """Do what `Ticker.request` requested."""


class Ticker:
    """
    Call ``tick`` of *target* in a thread until stopped.

    Bounded by: one thread; requests that arrive while one is pending are merged with it.
    Locks: none.
    Keeps alive: *target*, while the thread runs: what was started goes on until it is stopped.

    The thread is a daemon, so that it never holds up an exit; it is ended with a bounded wait when
    the interpreter begins to exit, before anything it uses is gone.
    """

    def __init__(self, target: Ticking, name: str) -> None:
        self._process = fork.process()
        self._target = target
        self._ended = False
        self._said: set[str] = set()
        self._requested = False
        # Not a queue: SimpleQueue.get waits forever if its time is up before the wait begins
        # (seen on CPython up to 3.12: a negative remainder counts as no limit).
        self._wake = Wake()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Ticker:
        """
        Start the thread, and return the ticker.

        Raises:
            RuntimeError: No thread can be started, for example while the interpreter shuts down.
        """
        stop_at_exit(self, _EXIT_SECONDS)
        self._thread.start()
        return self

    def stop(self, timeout: float) -> bool:
        """
        End the thread and wait up to *timeout* seconds; True when it has ended.

        A forked child has no such thread, and never waits for it.
        """
        if fork.process() is not self._process:
            return True
        self._ended = True
        self._wake.set()
        if self._thread is threading.current_thread():
            return True  # stopped from its own on_leak: it ends after this tick
        return threads.join(self._thread, timeout)

    @property
    def alive(self) -> bool:
        """True while the thread runs, in the process that started it."""
        return fork.process() is self._process and self._thread.is_alive()

    @property
    def is_mine(self) -> bool:
        """True in the thread that ticks."""
        return self._thread is threading.current_thread()

    def request(self) -> None:
        """Ask for one ``look_on_request`` in the thread. Safe in a signal handler."""
        self._requested = True
        self._wake.set()

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            # Where gevent was patched in meanwhile, this thread has another number; unless it is
            # known by that, CPython prints a KeyError when it ends.
            threading.current_thread()

    def _loop(self) -> None:
        delay = 0.0
        while not self._ended:
            woken = self._wake.wait(delay)
            if self._ended:
                return
            if not woken:
                delay = self._call(self._target.tick) or RETRY_SECONDS
            elif self._requested:
                self._requested = False  # before the look: what comes during it asks for another
                self._call(self._target.look_on_request)

    def _call(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: counted by the target; the thread lives on
            kind = type(error).__name__
            if kind not in self._said and len(self._said) < MAX_KINDS:
                self._said.add(kind)
                log.event(log.ERROR, "ticker.failed", thread=self._thread.name, error=kind)
            return None
