"""
What a test leaves behind: threads, tasks, timers, listeners, pools.

They are compared before and after it, from outside, by name and place. A fixture of wider scope
owns what it starts until it is torn down; only what outlives the fixture is left behind. What is
just ending gets a little time. Nothing is kept but weak references.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
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
from memguard.report.render.words import Locations

Key = tuple[str, int]
"""What it is, and the id of the object."""
_OUR_THREADS = ("memguard-janitor", "memguard-refresh", "memguard-timers", "memguard-timer-worker")
"""Threads of containers: they end with what they serve, which is looked at instead."""
_RUNNERS = ("_run_tests_and_fixtures",)
"""Coroutines in which a plugin runs the tests themselves: anyio's."""
_MOST_FRAMES = 50
_MOST_LOCATIONS = 3
_POLL_SECONDS = 0.02
_ENDING = ("threads", "timers", "pools")
"""Kinds of which some may be about to end by themselves."""


@dataclass(frozen=True, slots=True)
class Thing:
    """So many of something, of one object."""

    kind: str
    count: int
    ref: weakref.ref[Any]
    name: Callable[[Any, int], str]
    """Names so many of it."""
    locations: Counter[str] = field(default_factory=Counter)
    """The lines of code that made them, if known."""

    def is_same(self, other: Thing | None) -> bool:
        """Return whether *other* is of the same object, and not of one that has its id now."""
        return other is not None and other.ref() is self.ref()

    def plus(self, other: Thing) -> Thing:
        """Return both together."""
        locations = self.locations + other.locations
        return replace(self, count=self.count + other.count, locations=locations)

    def minus(self, other: Thing) -> Thing:
        """Return what is left of it without *other*."""
        locations = self.locations - other.locations
        return replace(self, count=self.count - other.count, locations=locations)

    def describe(self) -> str | None:
        """Return its description; None if it has gone."""
        obj = self.ref()
        if obj is None:
            return None
        made = "".join(f"\n    made at {place}" for place in list(self.locations)[:_MOST_LOCATIONS])
        return self.name(obj, self.count) + made


Things = dict[Key, Thing]


def present(kinds: Iterable[str], ignored: Callable[[str], bool]) -> Things:
    """
    Return what there is now of *kinds*, but tasks, for which see `pending_tasks`.

    Args:
        kinds: As in ``options.KINDS``.
        ignored: Returns whether a thread of this name does not count.

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
                found["thread", id(thread)] = Thing(kind, 1, weakref.ref(thread), _describe_thread)
    for container in inventory.containers():
        with contextlib.suppress(Exception):  # such as an event that does not hash
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
        if thread.name not in _OUR_THREADS and not ignored(thread.name):
            yield thread


def _things_of(container: Any, wanted: frozenset[str]) -> Iterator[tuple[str, Thing]]:
    """Yield what of *container* can be left behind, of the kinds that are *wanted*."""
    ref = weakref.ref(container)
    if isinstance(container, ObjectPool | BufferPool) and "pools" in wanted:
        yield "pool", Thing("pools", 1, ref, _describe_pool)
        lent = container.statistics().leased
        locations = Counter(holder.site for holder in container.holders()) if lent else Counter()
        yield "lent", Thing("pools", lent, ref, _describe_lent, locations)
    elif isinstance(container, TimerRegistry | AsyncTimerRegistry) and "timers" in wanted:
        waiting = container.statistics().timers
        locations = Counter(container.sites()) if waiting else Counter()
        yield "timers", Thing("timers", waiting, ref, _describe_timers, locations)
    elif isinstance(container, ListenerRegistry) and "listeners" in wanted:
        locations = Counter()
        for event in container.events():
            locations.update(container.sites(event))
        count = container.statistics().listeners
        yield "listeners", Thing("listeners", count, ref, _describe_listeners, locations)


def _describe_thread(thread: threading.Thread, _: int) -> str:
    daemon = " (daemon)" if thread.daemon else ""
    text = f"thread {clean(thread.name)!r}{daemon}"
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - reason: the documented way to another thread's frame
    place = _location_of(frame)
    return f"{text}, which is at {place}" if place else text


def _location_of(frame: types.FrameType | None) -> str | None:
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
    return Locations().shown(frame)


def _describe_pool(pool: Any, _: int) -> str:
    return f"pool {clean(pool.name)!r}, which was not closed"


def _describe_lent(pool: Any, count: int) -> str:
    what = "object" if isinstance(pool, ObjectPool) else "buffer"
    return f"{_many(count, what)} of pool {clean(pool.name)!r}, not released"


def _describe_timers(registry: Any, count: int) -> str:
    return f"{_many(count, 'timer')} of {clean(registry.name)!r}"


def _describe_listeners(registry: Any, count: int) -> str:
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
    with walk.live_slices(pause=0) as slices:
        for chunk in slices:
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
    if base.done(task) or base.cancelling(task):
        return False
    code = _code_of(base.get_coro(task))
    return code is None or code.co_name not in _RUNNERS


def has_closed_loop(task: Any) -> bool:
    """Return whether the loop of *task* is closed: whatever it was about to do, it will not."""
    base: Any = sys.modules["asyncio"].Task
    return bool(base.get_loop(task).is_closed())


def describe_task(task: Any) -> str:
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


class Leftovers:
    """
    Compares what there is before and after each test of a session.

    Bounded by: what is there when a test begins, and what the fixtures that are up have started.
    Locks: none; pytest's own thread.
    Keeps alive: weak references only.

    Args:
        ignored: Returns whether a thread of this name does not count.
        grace: Seconds that what is ending has to end.
        timer: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        ignored: Callable[[str], bool],
        grace: float,
        *,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._ignored = ignored
        self._grace = grace
        self._timer = timer
        self._sleep = sleep
        self._kinds: frozenset[str] = frozenset()
        self._before: Things = {}
        self._owned: dict[str, Things] = {}
        self._outlived: dict[Key, str] = {}
        self._tasks = _Tasks()

    def begin(self, kinds: frozenset[str]) -> None:
        """Note what is there before a test; *kinds* is what counts in it."""
        self._kinds = kinds
        self._before = self._present()
        self._outlived = {}
        self._tasks.begin(active="tasks" in kinds)

    def _present(self) -> Things:
        return present(self._kinds, self._ignored)

    def fixture_begins(self) -> Things:
        """Return what is there before a fixture of wider scope is set up."""
        return self._present()

    def fixture_is_up(self, fixture: str, before: Things) -> None:
        """Let *fixture* own what is there since *before*."""
        own = more(self._present(), before)
        # What a fixture within this one has started is its own already.
        for inner in self._owned.values():
            own = more(own, inner)
        if own:
            self._owned[fixture] = own
        for key, thing in own.items():
            earlier = self._before.get(key)
            is_known = earlier is not None and thing.is_same(earlier)
            self._before[key] = thing.plus(earlier) if earlier and is_known else thing
        self._tasks.forgive()

    def fixture_is_down(self, fixture: str) -> None:
        """Revoke what *fixture* owns: from now on it is left behind."""
        for key, thing in self._owned.pop(fixture, {}).items():
            earlier = self._before.get(key)
            if earlier is not None and thing.is_same(earlier):
                self._before[key] = earlier.minus(thing)
                self._outlived[key] = fixture

    def call_is_over(self) -> None:
        """Note the tasks that the test has not waited for."""
        self._tasks.suspect()

    def look_at_tasks(self) -> None:
        """Strike out what has ended; to be called while fixtures go down, before their loop."""
        self._tasks.look()

    def found(self) -> list[str]:
        """
        Return a description of everything that was left behind.

        Blocks for up to the grace while there is something: a thread may be about to end.
        """
        deadline = self._timer() + self._grace
        self._tasks.look()
        left = more(self._present(), self._before)
        if left or self._tasks.suspects:
            gc.collect()  # garbage is not left behind
        while True:
            self._tasks.look()
            left = more(self._present(), self._before)
            may_end = any(thing.kind in _ENDING for thing in left.values())
            if not may_end or self._timer() >= deadline:
                break
            self._sleep(_POLL_SECONDS)
        return [*self._described(left), *self._tasks.texts]

    def _described(self, left: Things) -> list[str]:
        rows = []
        for key, thing in left.items():
            text = thing.describe()
            owner = self._outlived.get(key)
            if text is not None:
                rows.append(f"{text}\n    outlives the fixture {owner!r}" if owner else text)
        return rows


class _Tasks:
    """
    The tasks that a test has begun.

    A plugin that closes a loop after the test cancels whatever still runs in it. So they are looked
    at when the test is over, and again as its fixtures go down, while the loop is open.
    """

    def __init__(self) -> None:
        self._active = False
        self._known: dict[int, weakref.ref[Any]] = {}
        self.suspects: list[weakref.ref[Any]] = []
        self.texts: list[str] = []
        """Descriptions of the suspects."""
        self._is_over = False

    def begin(self, *, active: bool) -> None:
        self._active = active
        self.suspects, self.texts, self._is_over = [], [], False
        self._known = {}
        self.forgive()

    def forgive(self) -> None:
        """Accept the tasks that run now."""
        if self._active:
            self._known.update((id(task), weakref.ref(task)) for task in pending_tasks())

    def suspect(self) -> None:
        if self._active:
            tasks = pending_tasks()
            self.suspects = [weakref.ref(task) for task in tasks if not self._is_known(task)]
            self.look()

    def _is_known(self, task: Any) -> bool:
        known = self._known.get(id(task))
        return known is not None and known() is task

    def look(self) -> None:
        tasks = [task for ref in self.suspects if (task := ref()) is not None]
        if self._is_over or not self.suspects:
            return
        if any(map(has_closed_loop, tasks)):
            self._is_over = True  # what was pending at the last look was so to the end
            return
        pending = [task for task in tasks if is_pending(task)]
        self.suspects = [weakref.ref(task) for task in pending]
        self.texts = [describe_task(task) for task in pending]
