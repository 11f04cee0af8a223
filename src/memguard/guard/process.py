"""The one guard of the process: install, query, uninstall."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.guard.environment import blamed, options_from, unknown
from memguard.guard.memory_guard import GuardStatus, MemoryGuard
from memguard.lifecycle import locks
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.relief.callbacks import (
    CallbackRegistration,
    PressureFunction,
    PressureLevel,
    PressureStage,
)
from memguard.relief.records import ReliefReport
from memguard.relief.steps import Relief

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
G = TypeVar("G")


class _Process:
    """
    Hold the guard of this process.

    Bounded by: one guard, one relief for those who install none.
    Locks: one mutex while a guard is built or taken away.
    Keeps alive: the guard that is installed.
    """

    def __init__(self) -> None:
        self.guard: MemoryGuard | None = None
        self.relief: Relief | None = None
        self._reset()

    def _reset(self) -> None:
        """In a forked child: no installation is under way."""
        self.lock = locks.RLock()

    def installed(self) -> MemoryGuard | None:
        """Return the guard, unless it was closed: a ``with`` around `install` does that."""
        guard = self.guard
        return None if guard is None or guard.closed else guard

    def any_relief(self) -> Relief:
        """Return the relief of the guard, or one of its own."""
        check()
        guard = self.installed()
        if guard is not None and guard.relief is not None:
            return guard.relief
        reset_after_fork(self)
        with self.lock:
            if self.relief is None:
                self.relief = Relief()
            return self.relief


_process = _Process()


def _with_options_of(
    guard: Callable[P, G],
) -> Callable[[Callable[..., G]], Callable[P, G]]:
    """Give a function that passes all its options to *guard* the signature of *guard*."""

    def decorate(function: Callable[..., G]) -> Callable[P, G]:
        signature = inspect.signature(guard).replace(return_annotation=guard)
        function.__signature__ = signature  # type: ignore[attr-defined]  # reason: PEP 362
        return function

    return decorate


@_with_options_of(MemoryGuard)
def install(**options: Any) -> MemoryGuard:
    """
    Build the guard of this process, start it, and return it: see `MemoryGuard` for the options.

    Keyword options win over ``MEMGUARD_*`` variables, and those over the defaults. Called again
    without options, it returns the guard that is there, started again if a fork stopped it.
    It runs until `uninstall`, or to the end of a block: ``with memguard.install() as guard:``.

    A fault of the environment does not raise, lest it stop the host: a disk that is full or
    read-only, a history file that another worker writes, no thread or descriptor to be had, a
    hidden ``/proc``. That part is off; ``status().degraded`` says which and why, and so does the
    log, once. A variable ``MEMGUARD_…`` that does not exist is logged, too.

    Thread-safe.

    Raises:
        LifecycleError: One is installed already, and options are given that it may not have.
        ConfigError: An option or a variable, which is then named, is out of its range; or
            *report_dir*, *history* or *publish* names what must not be used: a link, a directory
            that others may write to or that another user owns, a file of another application.
        TypeError: An option is of the wrong kind or unknown.
    """
    reset_after_fork(_process)  # before the lock: another thread may fork meanwhile
    check()
    with _process.lock:
        guard = _process.installed()
        if guard is not None:
            if options:
                raise LifecycleError("memguard is already installed; call uninstall() first")
            if not guard.status().running:
                guard.start()
            return guard
        try:
            guard = MemoryGuard(**{**options_from(os.environ), **options})
        except ConfigError as error:
            raise ConfigError(blamed(error, os.environ, options)) from error
        try:
            guard.start()
        except BaseException:
            guard.close()
            raise
        _process.guard = guard
    for variable, nearest in unknown(os.environ):
        log.event(
            log.WARNING, "guard.unknown_variable", variable=variable, nearest=nearest or "none"
        )
    log.event(log.INFO, "guard.installed", name=guard.name)
    return guard


def uninstall() -> None:
    """
    Stop and forget the guard of this process; idempotent.

    In the thread of a running event loop it waits for nothing: see `MemoryGuard.close`.
    """
    check()
    with _process.lock:
        guard, _process.guard = _process.guard, None
    if guard is not None:
        guard.close()


def status() -> GuardStatus:
    """
    Return the state of this process's guard.

    Raises:
        LifecycleError: None is installed.
    """
    guard = _process.installed()
    if guard is None:
        raise LifecycleError("no guard is installed in this process; call memguard.install()")
    return guard.status()


def relieve(target: int | str | None = None) -> ReliefReport:
    """
    Free *target* bytes now, and return what each step freed; see `Relief.relieve`.

    Works with and without a guard installed. Not for the thread of an event loop: use
    ``asyncio.to_thread``.

    Args:
        target: Bytes wanted, or ``"100MiB"``; None frees whatever caches and pools can.
    """
    return _process.any_relief().relieve(target)


def on_pressure(
    callback: PressureFunction,
    *,
    stage: PressureStage = "costly",
    level: PressureLevel = "elevated",
    priority: int = 0,
    deadline: float | str = 1.0,
    loop: asyncio.AbstractEventLoop | None = None,
) -> CallbackRegistration:
    """
    Call *callback* under memory pressure, before or after caches, until enough is freed.

    Register it after `install`; without a guard only `relieve` calls it.
    It is called as ``callback(goal_bytes, level)``, as far as it needs arguments: in a thread of
    memguard's, or on an event loop; see `Relief.on_pressure`.

    Args:
        callback: Takes nothing, the bytes that are wanted, or these and the level. It may return
            the bytes it freed; a failure is counted.
        stage: What it costs: ``"free"`` and ``"cheap"`` come before caches lose data, ``"costly"``
            after caches, pools and the collector.
        level: From which level on it is called.
        priority: Lower ones first.
        deadline: Seconds after which it is counted and logged as slow; nothing else waits longer.
        loop: Where it runs; by default, for a coroutine function, the loop that runs here.

    Returns:
        A registration; close it to take the callback back.

    Raises:
        LifecycleError: It is a coroutine function, and there is no loop.
    """
    return _process.any_relief().on_pressure(
        callback, stage=stage, level=level, priority=priority, deadline=deadline, loop=loop
    )
