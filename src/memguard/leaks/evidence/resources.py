"""
Who piles up: threads by what they run, tasks by where they wait, descriptors by what they are.

Two looks are compared, as those at the heap are. Objects are read through their own dicts and the
slots of CPython's types; no code of the host's runs. What is grouped is bounded; names are cut.
"""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import types
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memguard.heap import naming, walk
from memguard.leaks.evidence import sockets
from memguard.leaks.evidence.frames import is_user_code
from memguard.leaks.report import Frame, ResourceGroup, ResourceKind
from memguard.lifecycle import locks
from memguard.observe import counts

MAX_TASKS = 2_000
"""Tasks whose coroutine is followed to where it waits; what is found stands for all."""
MAX_DESCRIPTORS = 50_000
"""Descriptors that are read in one look; what is found stands for all."""
MAX_GROUPS = 500
"""Groups that are kept apart in one look; what comes later is in one."""
SHOWN = 8
"""Groups in a report."""
_UNKNOWN = 16
"""Tasks in the heap of which no loop knows, for which it is walked."""
_DEPTH = 60
"""Frames, or coroutines that await one another, that are followed."""

_Key = tuple[str, Frame | None]
"""A name and the function that begins."""


@dataclass(slots=True)
class Group:
    """What belongs together."""

    count: float = 0
    waits: Counter[Frame] = field(default_factory=Counter)


@dataclass(slots=True)
class Resource:
    """One resource at one moment."""

    count: int = 0
    groups: dict[_Key, Group] = field(default_factory=dict)
    bounded: dict[int, int] = field(default_factory=dict)
    """Members by the id of a pool that has a maximum."""
    clients: int = 0
    """Connections to a port of ours: as many as there are clients."""
    sampled: bool = False
    """True where there were too many to read each."""

    def enter(self, name: str, begins_at: Frame | None, waits_at: Frame | None, of: float) -> None:
        """Enter what stands for *of* members of a group."""
        key = (name, begins_at)
        if key not in self.groups and len(self.groups) >= MAX_GROUPS:
            key = ("others", None)
        group = self.groups.setdefault(key, Group())
        group.count += of
        if waits_at is not None:
            group.waits[waits_at] += 1


@dataclass(slots=True)
class ResourceChange:
    """What became of one resource between two looks."""

    kind: ResourceKind
    count: int
    added: int
    """Between the looks."""
    filling: int
    """Of them in pools that were there before: they have a maximum."""
    clients: int
    """Connections that clients have opened meanwhile."""
    groups: tuple[ResourceGroup, ...]
    sampled: bool = False
    """True where there were too many to read each, at either look."""


@dataclass(frozen=True, slots=True)
class ResourceLook:
    """The resources at one moment: strings and numbers."""

    at: float
    kinds: dict[ResourceKind, Resource]


def take_look(at: float, types_in_heap: Mapping[str, int] | None = None) -> ResourceLook:
    """
    Return the threads, tasks, sockets and files of this process, in groups.

    Args:
        at: The time to stamp it with, seconds on the caller's clock.
        types_in_heap: Live objects by type, of a census just taken. The heap is walked once more
            where it has tasks of which nothing else knows: from CPython 3.14 on, those of loops
            that are not running. None to walk never.

    Cost: 5 µs a thread, 10 µs a task (of ``MAX_TASKS``), 3 µs a descriptor, 2 µs for each socket
        of the network namespace.
    """
    kinds = _descriptors()
    kinds["threads"] = _threads()
    kinds["tasks"] = _tasks(types_in_heap or {})
    return ResourceLook(at, kinds)


def compare(before: ResourceLook, after: ResourceLook) -> tuple[ResourceChange, ...]:
    """Return what changed between two looks, by kind."""
    nothing = Resource()
    return tuple(
        _change(kind, before.kinds.get(kind, nothing), now) for kind, now in after.kinds.items()
    )


def _change(kind: ResourceKind, before: Resource, now: Resource) -> ResourceChange:
    rows = []
    for (name, begins_at), group in now.groups.items():
        old = before.groups.get((name, begins_at))
        added = round(group.count - (old.count if old else 0))
        where = group.waits.most_common(1)
        rows.append(
            ResourceGroup(
                name=name,
                count=round(group.count),
                added=added,
                begins_at=begins_at,
                waits_at=where[0][0] if where else None,
            )
        )
    rows.sort(key=lambda row: (-row.added, -row.count))
    gained = [row for row in rows if row.added > 0] or rows[:1]
    filling = sum(
        n - before.bounded[key] for key, n in now.bounded.items() if key in before.bounded
    )
    return ResourceChange(
        kind=kind,
        count=now.count,
        added=now.count - before.count,
        filling=max(0, filling),
        clients=max(0, now.clients - before.clients),
        groups=tuple(gained[:SHOWN]),
        sampled=before.sampled or now.sampled,
    )


# -- code ------------------------------------------------------------------------------------------


def _beginning(code: types.CodeType) -> Frame:
    return Frame(
        file=code.co_filename,
        line=code.co_firstlineno,
        function=naming.clean(code.co_name),
        in_user_code=is_user_code(code.co_filename),
    )


def _place(frame: types.FrameType) -> Frame:
    code = frame.f_code
    return Frame(
        file=code.co_filename,
        line=frame.f_lineno or code.co_firstlineno,
        function=naming.clean(code.co_name),
        in_user_code=is_user_code(code.co_filename),
    )


def _innermost(frames: Iterable[types.FrameType]) -> Frame | None:
    """Return the place of the first of *frames* in user code, else of the first."""
    first: types.FrameType | None = None
    for frame in frames:
        if is_user_code(frame.f_code.co_filename):
            return _place(frame)
        first = first or frame
    return None if first is None else _place(first)


def _code_of(call: Any) -> types.CodeType | None:
    """Return the code that runs when *call* is called, as far as it is known; else None."""
    for _ in range(4):
        kind = type(call)
        if kind is types.FunctionType:
            code: types.CodeType = call.__code__
            return code
        if kind is types.MethodType:
            call = call.__func__
        elif naming.type_name(kind) == "functools.partial":
            call = call.func
        else:
            return None
    return None


def _name_of(call: Any) -> str:
    """Return the full name of a function, else that of its type."""
    for _ in range(4):
        kind = type(call)
        if kind is types.FunctionType:
            return f"{naming.clean(call.__module__)}.{naming.clean(call.__qualname__)}"
        if kind is types.MethodType:
            call = call.__func__
        elif naming.type_name(kind) == "functools.partial":
            call = call.func
        else:
            break
    return naming.type_name(type(call))


# -- threads ---------------------------------------------------------------------------------------


def _threads() -> Resource:
    found = Resource()
    frames = sys._current_frames()  # noqa: SLF001 - reason: the documented way to other threads' frames
    try:
        for thread in threading.enumerate():
            _enter_thread(found, thread, frames)
    finally:
        frames.clear()  # one of them is this function's: a cycle, and it holds all its callers
    native = _native_threads() - found.count
    if native > 0:
        found.enter("started by C code", None, None, native)
        found.count += native
    return found


def _enter_thread(
    found: Resource, thread: threading.Thread, frames: Mapping[int, types.FrameType]
) -> None:
    members = naming.instance_dict(thread) or {}
    target = members.get("_target")
    if target is None:
        target = _run_of(type(thread))
    if target is None:
        name, begins_at = naming.type_name(type(thread)), None
    else:
        code = _code_of(target)
        name, begins_at = _name_of(target), None if code is None else _beginning(code)
    found.enter(name, begins_at, _waits_at(frames.get(members.get("_ident") or 0)), 1)
    _enter_pool(found, members.get("_args"))
    found.count += 1


def _native_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - reason: half of the time of Path.iterdir
    except OSError:
        return 0


def _run_of(kind: type) -> Any:
    """Return the ``run`` of a subclass of Thread that defines its own; None without one."""
    for each in naming.mro_of(kind):
        if each is threading.Thread:
            return None
        run = naming.dict_of_type(each).get("run")
        if type(run) is types.FunctionType:
            return run
    return None


def _waits_at(innermost: types.FrameType | None) -> Frame | None:
    if innermost is None:
        return None
    if locks.FREE_THREADED:  # the frames above belong to a thread that may be running
        return None
    return _innermost(_up(innermost))


def _up(innermost: types.FrameType) -> Iterator[types.FrameType]:
    frame: types.FrameType | None = innermost
    for _ in range(_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _enter_pool(found: Resource, arguments: Any) -> None:
    """Enter a thread of a ThreadPoolExecutor, whose first argument is a reference to its pool."""
    if type(arguments) is not tuple or not arguments:
        return
    if type(arguments[0]) is not weakref.ReferenceType:
        return
    pool = arguments[0]()
    members = {} if pool is None else naming.instance_dict(pool) or {}
    if type(members.get("_max_workers")) is int:
        found.bounded[id(pool)] = found.bounded.get(id(pool), 0) + 1


# -- tasks -----------------------------------------------------------------------------------------


def _tasks(types_in_heap: Mapping[str, int]) -> Resource:
    found = Resource()
    kinds = _task_types()
    tasks = _known_tasks() if kinds else []
    if sys.version_info >= (3, 14):
        in_heap = sum(types_in_heap.get(naming.type_name(kind), 0) for kind in kinds)
        if in_heap > len(tasks) + _UNKNOWN:
            tasks = _tasks_in_heap(kinds)
    found.count = len(tasks)
    step = max(1, -(-len(tasks) // MAX_TASKS))
    sampled = tasks[::step]
    for task in sampled:
        name, begins_at, waits_at = _of_task(task, kinds)
        # A group a line: how many wait at each is what tells a backlog from a server at work.
        where = "" if waits_at is None else f" at line {waits_at.line}"
        found.enter(name + where, begins_at, waits_at, len(tasks) / len(sampled))
    return found


def _task_types() -> tuple[type, ...]:
    """Return the types of asyncio's tasks; none where it was not imported."""
    module: Any = sys.modules.get("asyncio.tasks")
    kinds = (getattr(module, "Task", None), getattr(module, "_PyTask", None))
    return tuple({kind for kind in kinds if kind is not None})


def _known_tasks() -> list[Any]:
    module: Any = sys.modules["asyncio.tasks"]
    if sys.version_info < (3, 14):
        known = getattr(module, "_scheduled_tasks", None)  # since 3.12
        known = getattr(module, "_all_tasks", ()) if known is None else known
        return [*_copied(known), *_copied(getattr(module, "_eager_tasks", ()))]
    if locks.FREE_THREADED:
        return []
    found: dict[int, Any] = {}
    for loop in counts.known_loops():
        found.update((id(task), task) for task in module.all_tasks(loop))
    return list(found.values())


def _tasks_in_heap(kinds: tuple[type, ...]) -> list[Any]:
    found: dict[int, Any] = {}
    with walk.live_slices() as slices:
        for chunk in slices:
            found.update((id(obj), obj) for obj in chunk if issubclass(type(obj), kinds))
            del chunk
    return list(found.values())


def _copied(collection: Any) -> list[Any]:
    """Return what is in a set that other threads change."""
    for _ in range(100):
        try:
            return list(collection)
        except RuntimeError:  # changed size meanwhile
            continue
    return []


def _of_task(task: Any, kinds: tuple[type, ...]) -> tuple[str, Frame | None, Frame | None]:
    """Return the name of what a task runs, where that begins, and where it waits."""
    kind = next((each for each in kinds if issubclass(type(task), each)), None)
    get = None if kind is None else naming.dict_of_type(kind).get("get_coro")
    coroutine = None if get is None else get(task)
    frames = list(_awaiting(coroutine))
    code = getattr(coroutine, "cr_code", None) if type(coroutine) is types.CoroutineType else None
    name = naming.type_name(type(coroutine)) if code is None else naming.clean(code.co_qualname)
    if code is not None and not frames:
        return f"{name}, done", _beginning(code), None
    begins_at = None if code is None else _beginning(code)
    return name, begins_at, _innermost(reversed(frames))


def _awaiting(coroutine: Any) -> Iterator[types.FrameType]:
    """Yield the frames of coroutines and generators that await one another, the outermost first."""
    for _ in range(_DEPTH):
        if type(coroutine) is types.CoroutineType:
            frame, coroutine = coroutine.cr_frame, coroutine.cr_await
        elif type(coroutine) is types.GeneratorType:
            frame, coroutine = coroutine.gi_frame, coroutine.gi_yieldfrom
        elif type(coroutine) is types.AsyncGeneratorType:
            frame, coroutine = coroutine.ag_frame, coroutine.ag_await
        else:
            return
        if frame is not None:
            yield frame


# -- descriptors -----------------------------------------------------------------------------------

_ANONYMOUS = re.compile(r"anon_inode:\[?([a-z]+)\]?")
_VARYING = re.compile(r"[0-9a-fA-F]{8,}|\d+")


_FOLDER = "/proc/self/fd"
_random = random.Random(0)  # noqa: S311 - reason: for a sample; the host's own stays as it is


def _descriptors(folder: str = _FOLDER) -> dict[ResourceKind, Resource]:
    numbers, each = _chosen(folder)
    plugged, files = Resource(sampled=each > 1), Resource(sampled=each > 1)
    names: Counter[str] = Counter()
    inodes: list[str] = []
    for target in _targets(numbers, folder):
        if target.startswith("socket:["):
            inodes.append(target[8:-1])
        else:
            names[_kind_of(target)] += 1
    for name, number in _folded(names).items():
        files.enter(name, None, None, number * each)
    files.count = round(names.total() * each)
    table = sockets.Table(inodes)
    for inode in inodes:
        plugged.enter(table.describe(inode), None, None, each)
    plugged.count = round(len(inodes) * each)
    plugged.clients = round(table.clients(inodes) * each)
    return {"sockets": plugged, "files": files}


def _chosen(folder: str) -> tuple[list[str], float]:
    """Return the descriptors to be read, and how many each of them stands for."""
    try:
        numbers = os.listdir(folder)  # noqa: PTH208 - reason: half of the time of Path.iterdir
    except OSError:
        return [], 1.0
    if len(numbers) <= MAX_DESCRIPTORS:
        return numbers, 1.0
    # Not every second one: pairs are opened together.
    return _random.sample(numbers, MAX_DESCRIPTORS), len(numbers) / MAX_DESCRIPTORS


def _targets(numbers: Iterable[str], folder: str = _FOLDER) -> Iterator[str]:
    """Yield what each of these descriptors leads to."""
    for name in numbers:
        try:
            yield os.readlink(f"{folder}/{name}")  # noqa: PTH115 - reason: a tenth of the time of Path.readlink
        except OSError:  # closed meanwhile
            continue


def _kind_of(target: str) -> str:
    if target.startswith("pipe:["):
        return "pipe"
    anonymous = _ANONYMOUS.match(target)
    if anonymous is not None:
        return anonymous[1]
    if not target.startswith("/"):
        return naming.clean(target.partition(":")[0])
    if target.startswith("/memfd:"):
        return "memfd"
    return naming.clean("file " + _VARYING.sub("N", target))


def _folded(names: Counter[str]) -> Counter[str]:
    """Return *names*, files of one folder and suffix together where they are many."""
    found: Counter[str] = Counter()
    folders = Counter(_folder_of(name) for name in names)
    for name, number in names.items():
        folder = _folder_of(name)
        found[folder if folders[folder] > SHOWN else name] += number
    return found


def _folder_of(name: str) -> str:
    if not name.startswith("file "):
        return name
    folder, _, last = name.rpartition("/")
    _, dot, suffix = last.rpartition(".")
    return f"{folder}/*{dot}{suffix}" if dot else f"{folder}/*"
