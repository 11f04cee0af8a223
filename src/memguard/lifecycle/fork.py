"""
What a forked child must reset: locks that a lost thread may hold, and threads that are gone.

A child is known by a byte of memory that fork wipes, not by a hook: a server that forks in C, such
as uWSGI, need not call Python's. `check` resets such a child at the first call that needs it; where
the hooks are called, one hook for the whole process does the same right after the fork. Both are
set up on first use, never by an import.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

from memguard import log
from memguard.lifecycle import interpreter
from memguard.lifecycle.turn import Turn

_WIPE_ON_FORK = 18
"""``MADV_WIPEONFORK`` of Linux, from 4.14 on, which the module ``mmap`` does not name."""
_RESET_SECONDS = 1.0
"""What a reset may take; whoever holds its turn longer was lost in a fork."""
HOOKS_SECONDS = 0.05
"""What the hooks of others, such as logging's, have time for before anything is started again."""

_calls: dict[Callable[[], object], None] = {}


class Resettable(Protocol):
    """What must start over in a forked child."""

    def _reset(self) -> None:
        """Set every field as if never started. It runs during fork: no lock, no log."""


class Restartable(Protocol):
    """What starts again in a forked child, when asked to."""

    @property
    def wants_restart(self) -> bool:
        """True in a child until it was started, or asked not to be."""

    def restart(self) -> None:
        """Start it, if that is wanted still. Never raises."""


_targets: weakref.WeakSet[Resettable] = weakref.WeakSet()
_restarting: weakref.WeakSet[Restartable] = weakref.WeakSet()


def call_in_child(call: Callable[[], object]) -> None:
    """
    Call *call*, a function of a module, in every forked child.

    Asking again changes nothing, so ask before each first use of a lock: another thread may fork
    while it is held. *call* runs during fork: no lock, no log. Thread-safe; cost: O(1).
    """
    _set_hook()
    _calls[call] = None


def reset_after_fork(target: Resettable) -> None:
    """Call ``target._reset`` in every forked child, while *target* is alive."""
    _set_hook()
    _targets.add(target)


def restart_after_fork(target: Restartable) -> None:
    """
    Call ``target.restart`` in every forked child, once the hooks of others are done.

    It runs on a thread, or, where gevent is loaded, in a greenlet of the thread that forked:
    threads that gevent replaces after the fork run only in the thread that started them, and one of
    ours would be over by then. In a child where no hook is called, or where eventlet is loaded,
    whoever uses *target* next has to. *target* is held by a weak reference, and resets itself by
    `reset_after_fork`.
    """
    _set_hook()
    _set_restart_hook()
    _restarting.add(target)


def restart() -> None:
    """Start again, in a forked child, what wants to be: for servers with a hook of their own."""
    check()
    for target in list(_restarting):
        target.restart()


def check() -> None:
    """
    Reset everything that is registered, if this is a forked child in which no hook did so.

    Call it first wherever something may be left of a parent: its threads, its locks, what it lent.
    Never under a lock that is reset. Thread-safe. Cost: 0.15 µs on Linux, elsewhere ``os.getpid``.
    """
    mark = _mark
    if mark is not None and not mark.is_ours():
        _catch_up()


def process() -> object:
    """Return what stands for this process: another object in each forked child. Cost: `check`."""
    _set_hook()
    check()
    return _mark


def is_late() -> bool:
    """Return whether the reset under way is one of `check`: other threads may be running."""
    return _turn.is_mine


def call_each(calls: Iterable[Callable[[], object]]) -> None:
    """Call each of *calls*; if some fail, raise the error of the last one at the end."""
    failed: Exception | None = None
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - reason: the others must be called anyway
            failed = error
    if failed is not None:
        raise failed  # in hooks for forks and exits, which Python reports; the process goes on


class _Mark:
    """
    A mark of the process that made it, which no forked child inherits.

    Bounded by: a page of memory.
    Locks: none.
    Keeps alive: nothing.
    """

    __slots__ = ("_page", "_pid")

    def __init__(self) -> None:
        self._page: mmap.mmap | None = None
        self._pid = os.getpid()
        # CPython may end another interpreter while it shuts down, where unmapping memory hangs.
        if sys.platform == "linux" and interpreter.is_main():
            try:
                page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                page.madvise(_WIPE_ON_FORK)
            except OSError:  # an old kernel, an emulated one, or no memory to be had
                return
            page[0] = 1
            self._page = page

    def is_ours(self) -> bool:
        """Return whether this is the process that made the mark."""
        page = self._page
        return os.getpid() == self._pid if page is None else page[0] == 1


_mark: _Mark | None = None
"""Of the process that was reset last; None before anything is registered."""
_turn = Turn()


def _is_ours() -> bool:
    mark = _mark
    return mark is None or mark.is_ours()


def _catch_up() -> None:
    """Reset in the first thread that asks, while others wait for it."""
    global _turn  # noqa: PLW0603 - reason: see below
    if _turn.is_mine:  # a reset, or a signal handler during one, asks again
        return
    failed: list[Exception] = []

    def catch_up() -> bool:
        if not _is_ours():  # otherwise another thread was faster
            try:
                _forked()
            except Exception as error:  # noqa: BLE001 - reason: the others were reset; the caller did nothing wrong
                failed.append(error)
        return True

    if not _turn.run(catch_up, busy=False, timeout=_RESET_SECONDS):
        _turn = Turn()  # it was held by a thread that this child does not have
    for error in failed:
        log.event(log.ERROR, "fork.reset_failed", error=type(error).__name__)


def _forked() -> None:
    global _mark  # noqa: PLW0603 - reason: one in a process
    if _is_ours():  # another hook has used something of ours, which was reset then
        return
    try:
        _after_fork_in_child()
    finally:
        _mark = _Mark()  # last: until then other threads wait


def _after_fork_in_child() -> None:
    resets = [target._reset for target in list(_targets)]  # noqa: SLF001 - reason: the protocol is private to this floor
    call_each([*_calls, *resets])


@functools.cache  # two threads may set it twice, which does no harm
def _set_hook() -> None:
    global _mark  # noqa: PLW0603 - reason: one in a process
    _mark = _Mark()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


@functools.cache  # after that of `_set_hook`, and of all that was imported by now
def _set_restart_hook() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_restart_soon)


def _restart_soon() -> None:
    """Have it done later: nothing is started, logged or waited for within the fork."""
    if not any(target.wants_restart for target in list(_restarting)) or "eventlet" in sys.modules:
        return
    gevent = sys.modules.get("gevent")
    with contextlib.suppress(Exception):  # no thread is to be had: it is started when it is used
        if gevent is not None:
            gevent.spawn_later(HOOKS_SECONDS, restart)
        else:
            threading.Thread(target=_restart_later, name="memguard-restart", daemon=True).start()


def _restart_later() -> None:
    time.sleep(HOOKS_SECONDS)
    restart()
