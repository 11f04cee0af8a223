"""
Where a retaining path may end: names that can be found in the program.

Modules, classes, locals of running functions, suspended coroutines and generators, and memguard's
own containers.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memguard.heap import naming
from memguard.leaks.evidence.frames import is_user_code, is_user_module
from memguard.leaks.evidence.own_code import is_own_code

MAX_STACK = 200
"""Frames of each thread whose locals are looked at."""

_SUSPENDED = {
    types.GeneratorType: ("gi_frame", "generator"),
    types.CoroutineType: ("cr_frame", "coroutine"),
    types.AsyncGeneratorType: ("ag_frame", "async generator"),
}


@dataclass(frozen=True, slots=True)
class Anchor:
    """The named end of a path."""

    name: str
    """Down to the first object below it: ``shop.app.SESSIONS``."""
    rank: int
    """0 in the user's own code, 1 in a library: what to show first."""
    inventory_name: str | None = None
    named: int = 1
    """Objects below the anchor that *name* covers; 0 for a container of ours, named by itself."""


class _Local:
    """A local variable of a running function, standing for its holder."""

    __slots__ = ("label", "user")

    def __init__(self, label: str, *, user: bool) -> None:
        self.label = label
        self.user = user


class Anchors:
    """
    Recognise anchors among the holders met on the way up.

    Bounded by: the modules imported when it was made.
    Locks: none; made and used by one thread.
    Keeps alive: the modules, until ``close``.
    """

    def __init__(self, containers: Mapping[int, tuple[str, str]]) -> None:
        self._containers = containers
        self._modules: dict[int, tuple[str, bool]] = {}
        for name, module in list(sys.modules.items()):
            if naming.is_module(module) and type(name) is str:
                namespace = naming.module_dict(module)
                # The first name wins: __main__ is also known by its own name only to itself.
                self._modules.setdefault(id(namespace), (name, is_user_module(namespace)))

    def close(self) -> None:
        """Forget the program."""
        self._modules = {}
        self._containers = {}

    def of(self, path: Sequence[Any]) -> Anchor | None:  # noqa: PLR0911 - reason: one return a kind of anchor
        """
        Return the anchor that the first object of *path* is, or None.

        Args:
            path: A holder, what it holds, what that holds and so on, down to the target.
        """
        obj = path[0]
        kind = type(obj)
        if id(obj) in self._containers:
            name, what = self._containers[id(obj)]
            return Anchor(f"{what} {naming.clean(name)!r}", 0, inventory_name=name, named=0)
        if len(path) < 2:
            return None
        held = path[1]
        if kind is _Local:
            return Anchor(obj.label, 0 if obj.user else 1)
        if kind is dict and (known := self._modules.get(id(obj)) or _unregistered(obj)):
            module, user = known
            found, key = naming.find_key(obj, held)
            return Anchor(f"{module}.{naming.clean(key) if found else '?'}", 0 if user else 1)
        if (
            kind is types.GeneratorType
            or kind is types.CoroutineType
            or kind is types.AsyncGeneratorType
        ):
            attribute, what = _SUSPENDED[kind]
            frame = getattr(obj, attribute)
            return None if frame is None else _local_anchor(frame, held, what)
        if naming.is_type(obj):
            return class_anchor(obj, path)
        if kind is types.FrameType:
            return _local_anchor(obj, held, _what_runs_in(obj.f_code))
        return None

    def is_module_dict(self, obj: object) -> bool:
        """Return True for the namespace of a module."""
        return id(obj) in self._modules

    def locals_holding(self, wanted: Iterable[int]) -> Iterator[tuple[Any, int]]:
        """
        Yield a stand-in holder and the id of each wanted object that a running function's local is.

        Running frames are invisible to the collector since CPython 3.11: they are looked at here.
        """
        wanted = set(wanted)
        for top in list(sys._current_frames().values()):  # noqa: SLF001 - reason: no public list of running frames
            frame: types.FrameType | None = top
            called: types.FrameType | None = None
            depth = 0
            while frame is not None and depth < MAX_STACK:
                if not is_own_code(frame.f_code.co_filename):
                    for name, key in _matching_locals(frame, wanted, called):
                        label = _local_label(frame, name, "running function")
                        yield _Local(label, user=is_user_code(frame.f_code.co_filename)), key
                called, frame, depth = frame, frame.f_back, depth + 1
            del top, called, frame


_NAMESPACE_USERS = frozenset({"locals", "vars", "dir", "exec", "eval", "f_locals"})


def _matching_locals(
    frame: types.FrameType, wanted: set[int], called: types.FrameType | None = None
) -> list[tuple[str, int]]:
    """
    Return the (name, id) of the locals of *frame* that are *wanted*.

    Up to CPython 3.12 ``f_locals`` is a dict that belongs to the frame. Reading it writes to it,
    and others may be using it: see `_dict_is_free`. It would also keep the values alive after the
    function has let go of them, so it is emptied.
    """
    if not frame.f_code.co_flags & 0x1:  # CO_OPTIMIZED: a module's or class's locals are its dict
        return []
    if sys.version_info >= (3, 13):  # PEP 667: a view of the frame, which keeps nothing
        return [(name, id(value)) for name, value in frame.f_locals.items() if id(value) in wanted]
    if not _dict_is_free(frame, called):
        return []
    snapshot = frame.f_locals
    found = [(name, id(value)) for name, value in snapshot.items() if id(value) in wanted]
    if sys.getrefcount(snapshot) <= 3:  # the frame's, ours, and the argument of this question
        snapshot.clear()
    return found


def _dict_is_free(frame: types.FrameType, called: types.FrameType | None) -> bool:
    """
    Return True when only we use the locals dict of *frame*.

    A function that calls ``locals()`` may have changed its dict; a trace or profile function that
    is at work gets the dict written back to the variables when it returns, so that emptying it
    would unbind them all.
    """
    if not _NAMESPACE_USERS.isdisjoint(frame.f_code.co_names) or frame.f_trace is not None:
        return False
    if sys.gettrace() or sys.getprofile() or threading.gettrace() or threading.getprofile():
        return False
    return called is None or not _looks_like_a_hook(called.f_code)


def _what_runs_in(code: types.CodeType) -> str:
    """Name the owner of a frame that was met before its owner: flags of ``inspect``."""
    flags = {0x20: "generator", 0x80: "coroutine", 0x200: "async generator"}
    return next((what for flag, what in flags.items() if code.co_flags & flag), "frame")


def _looks_like_a_hook(code: types.CodeType) -> bool:
    """Return True for a function of (frame, event, argument): another thread's hook, perhaps."""
    arguments = code.co_varnames[: code.co_argcount]
    return 3 <= len(arguments) <= 4 and not {"frame", "event"}.isdisjoint(arguments)


def _local_label(frame: types.FrameType, name: str, what: str) -> str:
    code = frame.f_code
    module = naming.clean(dict.get(frame.f_globals, "__name__"))
    function = naming.clean(getattr(code, "co_qualname", code.co_name))
    return f"local {naming.clean(name)!r} of {what} {module}.{function} (line {frame.f_lineno})"


def _local_anchor(frame: types.FrameType, held: object, what: str) -> Anchor | None:
    for name, _ in _matching_locals(frame, {id(held)}):
        user = is_user_code(frame.f_code.co_filename)
        return Anchor(_local_label(frame, name, what), 0 if user else 1)
    return None


def class_anchor(kind: type, path: Sequence[Any], *, lost: bool = False) -> Anchor | None:
    """A class attribute; its dict stands between the class and the value for the collector."""
    if not lost and naming.is_lost(kind):
        return None  # its name leads nowhere: who holds the class?
    for named in (1, 2):
        if len(path) <= named or (named == 2 and type(path[1]) is not dict):
            break
        link = naming.attribute_link(kind, path[named])
        if link is not None:
            module = naming.dict_of_type(kind).get("__module__")
            home = sys.modules.get(module) if type(module) is str else None
            user = naming.is_module(home) and is_user_module(naming.module_dict(home))
            return Anchor(naming.type_name(kind) + link, 0 if user else 1, named=named)
    return None  # reached through its mro or subclasses, not as an attribute


def _unregistered(namespace: dict[Any, Any]) -> tuple[str, bool] | None:
    """Return what is known of a module that is not in ``sys.modules``: a plugin, a script run."""
    if not dict.__contains__(namespace, "__builtins__"):
        return None
    name = namespace.get("__name__")
    return (naming.clean(name), is_user_module(namespace)) if type(name) is str else None
