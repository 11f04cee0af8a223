"""How many file descriptors are open and how many asyncio tasks are alive, counted cheaply."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from memguard.lifecycle import locks
from memguard.lifecycle.running import running_frames

__all__ = ["Thrifty", "descriptor_limit", "open_descriptors", "running_loops", "task_count"]

_FOLDER = "/proc/self/fd"
_LOOPS = 64
"""Event loops whose tasks are counted."""


class Thrifty:
    """
    Count something at most so often that counting takes a thousandth of the time.

    In between the last number is returned.

    Bounded by: one number.
    Locks: none; a race between threads costs one count more or less.
    Keeps alive: nothing.
    """

    SHARE = 1000

    def __init__(
        self,
        count: Callable[[], int | None],
        timer: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        self._count = count
        self._timer = timer
        self._cost = cost
        self._due = float("-inf")
        self._last: int | None = None

    def __call__(self) -> int | None:
        """Return the number, or the last one while a new one would cost too much."""
        now = self._timer()
        if now >= self._due:
            began = self._cost()
            self._last = self._count()
            self._due = now + (self._cost() - began) * self.SHARE
        return self._last


def open_descriptors(folder: str = _FOLDER) -> int | None:
    """
    Return how many file descriptors this process has open (handles on Windows); None if unknown.

    Cost: 2 µs on Linux since 6.2, whose ``/proc/self/fd`` has them as its size. Elsewhere they are
    listed, which takes about half a microsecond each, but no more than a thousandth of the time:
    the number may be some seconds old then.
    """
    if not sys.platform.startswith("linux"):
        return _listed()
    try:
        return os.stat(folder).st_size or _listed()  # noqa: PTH116 - reason: a tenth of the time of Path.stat
    except OSError:
        return None


def count_descriptors(folder: str = _FOLDER) -> int | None:
    """Return the same, counted one by one, now and whatever it costs."""
    try:
        if sys.platform.startswith("linux"):
            # Listing them opens one more.
            return max(0, sum(1 for _ in Path(folder).iterdir()) - 1)
        process = psutil.Process()
        return int(process.num_handles() if sys.platform == "win32" else process.num_fds())
    except Exception:  # noqa: BLE001 - reason: forbidden or unknown there; None then
        return None


_listed = Thrifty(count_descriptors)


def descriptor_limit() -> int | None:
    """Return how many descriptors this process may have open (RLIMIT_NOFILE); None for no limit."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - reason: the module does not exist on Windows

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def task_count() -> int | None:
    """
    Return how many asyncio tasks are alive, those that are done and still held included.

    From CPython 3.14 on, where only an event loop knows its tasks: those that are not done, of the
    loops that were seen running. None where they cannot be counted: without a GIL.

    Cost: a microsecond; from 3.14 on about 0.1 µs a task, but no more than a thousandth of the
    time. asyncio is not imported.
    """
    tasks = sys.modules.get("asyncio.tasks")
    if tasks is None:
        return 0
    if sys.version_info >= (3, 14):
        return None if locks.FREE_THREADED else _of_loops()
    scheduled = getattr(tasks, "_scheduled_tasks", None)  # since 3.12
    if scheduled is None:
        scheduled = getattr(tasks, "_all_tasks", None)
    if scheduled is None:  # it is being imported
        return None
    return len(scheduled) + len(getattr(tasks, "_eager_tasks", ()))


_seen_loops: dict[int, weakref.ref[Any]] = {}
"""By identity: a loop of the host's may hash and compare as it likes."""


def _tasks_of_loops() -> int | None:
    tasks: Any = sys.modules.get("asyncio.tasks")
    try:
        return sum(len(tasks.all_tasks(loop)) for loop in known_loops())
    except Exception:  # noqa: BLE001 - reason: a loop of another kind, or asyncio half imported: unknown
        return None


_of_loops = Thrifty(_tasks_of_loops)


def known_loops() -> list[Any]:
    """Return the event loops that run now or did when this was asked before, and are alive."""
    for loop in running_loops():
        if len(_seen_loops) >= _LOOPS:
            _forget_dead()
        if len(_seen_loops) < _LOOPS:
            try:
                _seen_loops[id(loop)] = weakref.ref(loop)
            except TypeError:  # it knows no weak references
                continue
    alive = (ref() for ref in list(_seen_loops.values()))
    return [loop for loop in alive if loop is not None]


def _forget_dead() -> None:
    for key, ref in list(_seen_loops.items()):
        if ref() is None:
            _seen_loops.pop(key, None)


def running_loops() -> Iterator[Any]:
    """
    Yield the event loops that run in any thread: what their threads' stacks show of asyncio.

    There is no other way: asyncio shows a thread only its own. A loop of another library is found
    where ``asyncio.run`` runs it. No code of a loop runs: attributes are read past its class.
    """
    base, runners = sys.modules.get("asyncio.base_events"), sys.modules.get("asyncio.runners")
    runner: Any = getattr(runners, "Runner", None)  # None while they are being imported
    forever = getattr(getattr(base, "BaseEventLoop", None), "run_forever", None)
    in_loop = getattr(forever, "__code__", None)
    in_runner = getattr(getattr(runner, "run", None), "__code__", None)
    for frame in running_frames():
        loop = None
        if frame.f_code is in_loop:
            loop = frame.f_locals.get("self")
        elif frame.f_code is in_runner:
            me = frame.f_locals.get("self")
            if issubclass(type(me), runner):
                loop = vars(runner)["__dict__"].__get__(me).get("_loop")
        if loop is not None:
            yield loop
