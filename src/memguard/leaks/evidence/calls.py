"""
Which lines call C meanwhile: `sys.monitoring` in one short burst, from CPython 3.12 on.

Memory that Python did not allocate leads to no line. What can be seen is who calls C code that may
have a heap of its own: extensions outside the standard library, functions of ctypes, and those of
the standard library's modules that pass memory on to a C library. Python's own types and functions
are left out. That a line was busy does not make it the cause.

The host's debuggers, profilers and coverage are not touched: a free tool id is taken and handed
back; no event of another tool is switched, nor restarted. The host's threads run the callback, at
most `MOST` times for each calling instruction. It holds no object of the host's.
"""

from __future__ import annotations

import sys
import time
import types
from dataclasses import dataclass
from typing import Any

from memguard.heap import naming
from memguard.leaks.evidence.frames import is_user_code
from memguard.leaks.evidence.own_code import is_own_code
from memguard.leaks.evidence.tracing import Location
from memguard.lifecycle import locks
from memguard.lifecycle.fork import call_in_child

MOST = 16
"""Calls of one instruction that are counted; after them it costs nothing any more."""
MAX_SITES = 1_000
"""Calling instructions that are kept."""
SHOWN = 5
"""That a report names."""
DEEPEST = 30
"""Frames that are gone up to reach the user's own code."""
TOOL_IDS = (4, 3)
"""Those that ``sys.monitoring`` reserves for nobody."""

_WITH_HEAPS = frozenset(
    {
        *("_bz2", "_ctypes", "_curses", "_dbm", "_elementtree", "_gdbm", "_hashlib", "_lzma"),
        *("_sqlite3", "_ssl", "_tkinter", "bz2", "ctypes", "lzma", "pyexpat", "readline"),
        *("sqlite3", "ssl", "xml", "zlib"),
    }
)
"""Modules of the standard library below which a C library allocates."""


@dataclass(slots=True)
class CallSite:
    """An instruction that called C code during the burst."""

    callee: str
    """``selectolax.lexbor.LexborHTMLParser``, ``strdup (ctypes)``."""
    stack: tuple[Location, ...]
    """The calling line first, up to the user's own code."""
    calls: int = 1
    """At most `MOST`."""
    place: int = sys.maxsize
    """Counts those that reached `MOST`: the busiest came first."""


def unsupported() -> str | None:
    """Return why calls cannot be watched in this interpreter, or None."""
    if getattr(sys, "monitoring", None) is None:
        return "which lines called C code meanwhile can be seen from CPython 3.12 on"
    if locks.FREE_THREADED:
        return "which lines called C code meanwhile is not looked for without the GIL"
    return None


class Calls:
    """
    One burst: `start`, then `end` after a while.

    Bounded by: ``MAX_SITES`` instructions, ``MOST`` calls of each.
    Locks: none; the host's threads enter what they see.
    Keeps alive: names and numbers.

    Cost: up to a microsecond for each of the calls that are counted, 10 µs for the first of an
    instruction.
    """

    def __init__(self) -> None:
        self._sites: dict[tuple[int, int], CallSite] = {}
        self._tool: int | None = None
        self._full = 0
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Since `start`; 0 where it is not running."""
        return time.perf_counter() - self._began if self._tool is not None else 0.0

    def start(self) -> str | None:
        """Begin; return why not where there is no tool id to be had. One burst at a time."""
        global _running  # noqa: PLW0603 - reason: a forked child must find it
        call_in_child(_end_in_child)
        monitoring: Any = getattr(sys, "monitoring", None)
        free = [each for each in TOOL_IDS if monitoring.get_tool(each) is None]
        if not free or _running is not None:
            return "which lines called C code meanwhile: no tool id of sys.monitoring is free"
        self._tool, self._began = free[0], time.perf_counter()
        _running = self
        try:
            monitoring.use_tool_id(self._tool, "memguard")
            event = monitoring.events.CALL
            monitoring.register_callback(self._tool, event, self._on_call)
            monitoring.set_events(self._tool, event)
        except BaseException:
            self.abandon()
            raise
        return None

    def end(self) -> list[CallSite]:
        """Hand the tool id back and return what was seen: extensions first, then the busiest."""
        self.abandon()
        found = list(self._sites.values())
        self._sites.clear()
        found.sort(key=lambda site: (not _is_of_an_extension(site.callee), site.place, -site.calls))
        return found

    def abandon(self) -> None:
        """Hand the tool id back. Idempotent."""
        global _running  # noqa: PLW0603 - reason: see `start`
        tool, self._tool = self._tool, None
        if tool is None:
            return
        _running = None
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring.get_tool(tool) == "memguard":
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.CALL, None)
            monitoring.free_tool_id(tool)

    def _on_call(self, code: types.CodeType, offset: int, call: Any, _: Any) -> Any:
        # It runs in the middle of the host's code: no lock, and nothing is caught but what is ours,
        # since the error of a signal handler that runs here belongs to the host.
        try:
            key = (id(code), offset)
            site = self._sites.get(key)
            if site is not None:
                site.calls += 1
                if site.calls < MOST:
                    return None
                if site.calls == MOST:
                    self._full += 1
                    site.place = self._full
                return _disable()
            callee = callee_of(call)
            if callee is None or len(self._sites) >= MAX_SITES or is_own_code(code.co_filename):
                return _disable()
            stack = _stack(sys._getframe(1))  # noqa: SLF001 - reason: the documented way to the caller
            if not stack:
                return _disable()
            self._sites[key] = CallSite(callee, stack)
        except MemoryError:  # the host's own next step may have room
            return _disable()
        return None


_running: Calls | None = None


def _end_in_child() -> None:
    """End the copy of a burst of the parent's."""
    if _running is not None:
        _running.abandon()


def _disable() -> Any:
    monitoring: Any = getattr(sys, "monitoring", None)
    return monitoring.DISABLE


def _stack(frame: types.FrameType | None) -> tuple[Location, ...]:
    """Return the lines from *frame* up to the user's own; none where memguard is the caller."""
    found: list[Location] = []
    for _ in range(DEEPEST):
        if frame is None:
            break
        file = frame.f_code.co_filename
        if is_own_code(file):
            return ()
        found.append((file, frame.f_lineno or frame.f_code.co_firstlineno))
        if is_user_code(file):
            break
        frame = frame.f_back
    return tuple(found)


# -- what is called --------------------------------------------------------------------------------


def callee_of(call: Any) -> str | None:
    """
    Return the name of C code that may have a heap of its own; None for all else.

    No code of the host's runs.
    """
    kind = type(call)
    if kind is types.MethodType:
        call = call.__func__
        kind = type(call)
    if kind is types.FunctionType:
        return None
    name: str | None
    if kind is types.BuiltinFunctionType:
        name = _of_builtin(call)
    elif (
        kind is types.MethodDescriptorType
        or kind is types.WrapperDescriptorType
        or kind is types.ClassMethodDescriptorType
    ):
        name = _of_method(call.__objclass__, call.__name__)
    elif naming.is_type(call):
        name = _of_type(call)
    else:
        name = _of_instance(call, kind)
    return name if name is not None and _may_have_a_heap(name) else None


def _may_have_a_heap(name: str) -> bool:
    if name.endswith(_CTYPES):
        return True
    root = name.partition(".")[0]
    return root in _WITH_HEAPS or root not in sys.stdlib_module_names


def _is_of_an_extension(name: str) -> bool:
    """Return False for what belongs to the standard library: it is less often at fault."""
    return name.endswith(_CTYPES) or name.partition(".")[0] not in sys.stdlib_module_names


def _of_method(owner: type, name: object) -> str | None:
    """Return the name of a method of C; None for one of a builtin type."""
    full = naming.type_name(owner)
    return f"{full}.{naming.clean(name)}" if "." in full else None


def _of_builtin(call: types.BuiltinFunctionType) -> str | None:
    owner, name = call.__self__, naming.clean(call.__name__)
    if owner is not None and not naming.is_module(owner):
        return _of_method(owner if naming.is_type(owner) else type(owner), name)
    module: Any = call.__module__
    if type(module) is not str and owner is not None:
        module = naming.module_dict(owner).get("__name__")
    return f"{naming.clean(module)}.{name}" if type(module) is str and module else None


def _of_type(kind: type) -> str | None:
    """Return the name of a class whose instances C code makes."""
    for name in ("__new__", "__init__"):
        owner, made_by = _first(kind, name)
        if owner is object or owner is None:
            continue
        c_code = type(made_by) is types.BuiltinFunctionType or (
            type(made_by) is types.WrapperDescriptorType
        )
        if not c_code:
            return None
        return naming.type_name(kind) if "." in naming.type_name(owner) else None
    return None


def _of_instance(call: Any, kind: type) -> str | None:
    """Return the name of an object that C code calls, as functions of ctypes and Cython are."""
    owner, called = _first(kind, "__call__")
    if owner is None or type(called) is not types.WrapperDescriptorType:
        return None
    if any(name.startswith("_ctypes.") for name in naming.base_names(kind)):
        members = naming.instance_dict(call) or {}
        return naming.clean(members.get("__name__", "a function")) + _CTYPES
    qualname, module = _read(call, kind, "__qualname__"), _read(call, kind, "__module__")
    if type(module) is not str:
        module = (naming.instance_dict(call) or {}).get("__module__")
    if type(qualname) is str and type(module) is str:
        return f"{naming.clean(module)}.{naming.clean(qualname)}"
    return naming.type_name(kind)


_CTYPES = " (ctypes)"


def _first(kind: type, name: str) -> tuple[type | None, Any]:
    """Return the class that defines *name* for *kind*, and what it is there."""
    for each in naming.mro_of(kind):
        found = naming.dict_of_type(each).get(name)
        if found is not None:
            return each, found
    return None, None


def _read(obj: Any, kind: type, name: str) -> Any:
    """Return what a slot of C has; None where there is none."""
    _, slot = _first(kind, name)
    if type(slot) is types.GetSetDescriptorType or type(slot) is types.MemberDescriptorType:
        try:
            return slot.__get__(obj)
        except AttributeError:
            return None
    return None
