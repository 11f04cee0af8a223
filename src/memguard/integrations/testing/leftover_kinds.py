"""
What is there that a test can leave behind: threads, tasks, timers, listeners, pools.

Seen from outside, with their names and places. Nothing is kept but weak references.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from memguard.bounded import inventory
from memguard.bounded.events.registry import ListenerRegistry
from memguard.bounded.pool.buffer_pool import BufferPool
from memguard.bounded.pool.object_pool import ObjectPool
from memguard.bounded.timers.on_loop import AsyncTimerRegistry
from memguard.bounded.timers.threaded import TimerRegistry
from memguard.heap import walk
from memguard.heap.naming import clean
from memguard.leaks.evidence.frames import is_user_code
from memguard.leaks.report import Frame
from memguard.report.render.words import Places

Key = tuple[str, int]
"""What it is, and the id of the object."""
_SERVANTS = ("memguard-janitor", "memguard-refresh", "memguard-timers", "memguard-timer-worker")
"""Threads that belong to containers, and end with what they serve: that is what is looked at."""
_RUNNERS = ("_run_tests_and_fixtures",)
"""Coroutines in which a plugin runs the tests themselves: anyio's."""
_MOST_FRAMES = 50
_MOST_PLACES = 3


@dataclass(frozen=True, slots=True)
class Thing:
    """So many of something, of one object."""

    kind: str
    count: int
    ref: weakref.ref[Any]
    name: Callable[[Any, int], str]
    """Names so many of it."""
    places: Counter[str] = field(default_factory=Counter)
    """The places in the code that made them, where they are known."""

    def is_same(self, other: Thing | None) -> bool:
        """Return whether *other* is of the same object, and not of one that has its id now."""
        return other is not None and other.ref() is self.ref()

    def plus(self, other: Thing) -> Thing:
        """Return both together."""
        places = self.places + other.places
        return replace(self, count=self.count + other.count, places=places)

    def minus(self, other: Thing) -> Thing:
        """Return what is left of it without *other*."""
        places = self.places - other.places
        return replace(self, count=self.count - other.count, places=places)

    def told(self) -> str | None:
        """Return its description; None where it has gone."""
        obj = self.ref()
        if obj is None:
            return None
        made = "".join(f"\n    made at {place}" for place in list(self.places)[:_MOST_PLACES])
        return self.name(obj, self.count) + made


Things = dict[Key, Thing]


def present(kinds: Iterable[str], ignored: Callable[[str], bool]) -> Things:
    """
    Return what there is now of *kinds*, but tasks, for which see `pending_tasks`.

    Args:
        kinds: As in ``pytest_options.KINDS``.
        ignored: Tells by its name whether a thread does not count.

    Cost: O(threads and containers).
    """
    wanted = frozenset(kinds)
    found: Things = {}
    if wanted & {"threads", "timers"}:
        for thread in _threads(ignored):
            kind = "timers" if isinstance(thread, threading.Timer) else "threads"
            if kind == "timers" and kind not in wanted:
                kind = "threads"
            if kind in wanted:
                found["thread", id(thread)] = Thing(kind, 1, weakref.ref(thread), _thread_told)
    for container in inventory.containers():
        with contextlib.suppress(Exception):  # a stranger's event that does not hash, for one
            for what, thing in _things_of(container, wanted):
                if thing.count:
                    found[what, id(container)] = thing
    return found


def more(now: Things, before: Things) -> Things:
    """Return what there is *now* beyond what there was *before*."""
    grown: Things = {}
    for key, thing in now.items():
        earlier = before.get(key)
        gained = thing.minus(earlier) if earlier is not None and thing.is_same(earlier) else thing
        if gained.count > 0:
            grown[key] = gained
    return grown


def _threads(ignored: Callable[[str], bool]) -> Iterator[threading.Thread]:
    for thread in threading.enumerate():
        foreign = isinstance(thread, threading._DummyThread)  # noqa: SLF001 - reason: no other name for a thread that C code has started
        if foreign or thread is threading.current_thread() or thread is threading.main_thread():
            continue
        if thread.name not in _SERVANTS and not ignored(thread.name):
            yield thread


def _things_of(container: Any, wanted: frozenset[str]) -> Iterator[tuple[str, Thing]]:
    """Yield what of *container* can be left behind, of the kinds that are *wanted*."""
    ref = weakref.ref(container)
    if isinstance(container, ObjectPool | BufferPool) and "pools" in wanted:
        yield "pool", Thing("pools", 1, ref, _pool_told)
        lent = container.statistics().leased
        places = Counter(holder.site for holder in container.holders()) if lent else Counter()
        yield "lent", Thing("pools", lent, ref, _lent_told, places)
    elif isinstance(container, TimerRegistry | AsyncTimerRegistry) and "timers" in wanted:
        waiting = container.statistics().timers
        places = Counter(container.sites()) if waiting else Counter()
        yield "timers", Thing("timers", waiting, ref, _timers_told, places)
    elif isinstance(container, ListenerRegistry) and "listeners" in wanted:
        places = Counter()
        for event in container.events():
            places.update(container.sites(event))
        count = container.statistics().listeners
        yield "listeners", Thing("listeners", count, ref, _listeners_told, places)


def _thread_told(thread: threading.Thread, _: int) -> str:
    daemon = " (daemon)" if thread.daemon else ""
    text = f"thread {clean(thread.name)!r}{daemon}"
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - reason: the documented way to another thread's frame
    place = _place_of(frame)
    return f"{text}, which is at {place}" if place else text


def _place_of(frame: types.FrameType | None) -> str | None:
    """Return where *frame* is: its nearest caller in the user's own code, else itself."""
    frames: list[types.FrameType] = []
    while frame is not None and len(frames) < _MOST_FRAMES:
        frames.append(frame)
        frame = frame.f_back
    own = [found for found in frames if is_user_code(found.f_code.co_filename)]
    for found in own or frames:
        return _shown(found.f_code, found.f_lineno)
    return None


def _shown(code: types.CodeType, line: int) -> str:
    frame = Frame(file=code.co_filename, line=line, function=code.co_name, in_user_code=True)
    return Places().shown(frame)


def _pool_told(pool: Any, _: int) -> str:
    return f"pool {clean(pool.name)!r}, which was not closed"


def _lent_told(pool: Any, count: int) -> str:
    what = "object" if isinstance(pool, ObjectPool) else "buffer"
    return f"{_many(count, what)} of pool {clean(pool.name)!r}, not given back"


def _timers_told(registry: Any, count: int) -> str:
    return f"{_many(count, 'timer')} of {clean(registry.name)!r}"


def _listeners_told(registry: Any, count: int) -> str:
    return f"{_many(count, 'listener')} of {clean(registry.name)!r}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def pending_tasks() -> list[Any]:
    """
    Return the asyncio tasks of all loops that are not done; drop the list soon, it is strong.

    Cost: a walk over the live heap, some 3 ms per 100 000 objects; nothing without asyncio.
    """
    asyncio = sys.modules.get("asyncio")
    task_type = getattr(asyncio, "Task", None)
    if task_type is None:
        return []
    known: dict[int, type] = {}  # held, so that no other type gets the id of one that died
    kinds: set[int] = set()
    tasks = []
    for chunk in walk.live_slices(pause=0):
        ids = set(map(id, map(type, chunk)))
        if not ids <= known.keys():
            for kind in map(type, chunk):
                if id(kind) not in known:
                    known[id(kind)] = kind
                    if issubclass(kind, task_type):
                        kinds.add(id(kind))
        if not kinds.isdisjoint(ids):
            tasks += [task for task in chunk if id(type(task)) in kinds and is_pending(task)]
        del chunk
    return tasks


def is_pending(task: Any) -> bool:
    """Return whether *task* is neither done nor asked to end, nor one that runs the tests."""
    base: Any = sys.modules["asyncio"].Task
    cancelling = getattr(base, "cancelling", None)  # from 3.11 on
    if base.done(task) or (cancelling is not None and cancelling(task)):
        return False
    code = _code_of(base.get_coro(task))
    return code is None or code.co_name not in _RUNNERS


def has_closed_loop(task: Any) -> bool:
    """Return whether the loop of *task* is closed: whatever it was about to do, it will not."""
    base: Any = sys.modules["asyncio"].Task
    return bool(base.get_loop(task).is_closed())


def task_told(task: Any) -> str:
    """Return the name of *task*, what it runs and where it waits."""
    base: Any = sys.modules["asyncio"].Task
    text = f"task {clean(base.get_name(task))!r}"
    coro = base.get_coro(task)
    code = _code_of(coro)
    if code is None:
        return text
    frame = coro.cr_frame
    line = code.co_firstlineno if frame is None or frame.f_lineno is None else frame.f_lineno
    return f"{text}, which is at {_shown(code, line)}"


def _code_of(coro: Any) -> types.CodeType | None:
    return coro.cr_code if type(coro) is types.CoroutineType else None
