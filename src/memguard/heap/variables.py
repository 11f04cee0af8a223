"""
Local variables of frames: what they are, and how a person would say so.

The collector does not see those of running functions (since CPython 3.11): they are read here.

Up to CPython 3.12 ``f_locals`` is a dict that belongs to the frame. Reading it writes to it, and
others may be using it: see `_dict_is_free`. It would also keep the values alive after the function
has let go of them, so it is emptied.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from memguard.heap import naming
from memguard.lifecycle.running import running_frames

MAX_STACK = 200
"""Frames of each thread whose locals are looked at."""
_NAMESPACE_USERS = frozenset({"locals", "vars", "dir", "exec", "eval", "f_locals"})
_OPTIMIZED = 0x1
"""``CO_OPTIMIZED``: a module's or class's locals are its dict."""
_KINDS = {0x20: "generator", 0x80: "coroutine", 0x200: "async generator"}
"""By flag of a code object, see ``inspect``."""
_SUSPENDED: tuple[tuple[type, str, str], ...] = (
    (types.GeneratorType, "gi_frame", "gi_yieldfrom"),
    (types.CoroutineType, "cr_frame", "cr_await"),
    (types.AsyncGeneratorType, "ag_frame", "ag_await"),
)


def running_locals(
    skip: Callable[[str], bool],
) -> Iterator[tuple[types.FrameType, list[tuple[str, Any]]]]:
    """
    Yield the running frames of all threads, each with the (name, value) of its locals.

    Args:
        skip: True for the file of code whose locals are not asked for.

    Cost: about 2 µs a frame. Drop each list before the next: it keeps the values alive.
    """
    called: types.FrameType | None = None
    depth = 0
    try:
        for frame in running_frames():
            if called is None or called.f_back is not frame:
                called, depth = None, 0  # the next thread
            depth += 1
            if depth <= MAX_STACK and not skip(frame.f_code.co_filename):
                yield frame, locals_of(frame, called)
            called = frame
    finally:
        called = frame = None  # type: ignore[assignment] # reason: no frame of a thread is kept


def locals_of(
    frame: types.FrameType, called: types.FrameType | None = None
) -> list[tuple[str, Any]]:
    """
    Return the (name, value) of the locals of *frame*; none where reading them is not safe.

    Args:
        frame: Running or suspended, or one that has ended.
        called: The frame that *frame* has called, if it is running.
    """
    if not frame.f_code.co_flags & _OPTIMIZED:
        return []
    if sys.version_info >= (3, 13):  # PEP 667: a view of the frame, which keeps nothing
        return list(frame.f_locals.items())
    if not _dict_is_free(frame, called):
        return []
    snapshot = frame.f_locals
    found = list(snapshot.items())
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


def _looks_like_a_hook(code: types.CodeType) -> bool:
    """Return True for a function of (frame, event, argument): another thread's hook, perhaps."""
    arguments = code.co_varnames[: code.co_argcount]
    return 3 <= len(arguments) <= 4 and not {"frame", "event"}.isdisjoint(arguments)


def name_in(frame: types.FrameType, held: object) -> str | None:
    """Return the name of the local of *frame* that *held* is, or None."""
    return next((name for name, value in locals_of(frame) if value is held), None)


def label(frame: types.FrameType, name: str, *, running: bool = False) -> str:
    """Return ``local 'rows' of running function shop.app.serve (line 12)``."""
    code = frame.f_code
    what = next((what for flag, what in _KINDS.items() if code.co_flags & flag), "function")
    module = naming.clean(dict.get(frame.f_globals, "__name__"))
    return (
        f"local {naming.clean(name)!r} of {'running ' if running else ''}{what} "
        f"{module}.{function_name(code)} (line {frame.f_lineno})"
    )


def function_name(code: types.CodeType) -> str:
    """Return the name of the function that *code* is of, with its classes."""
    return naming.clean(code.co_qualname)


def suspended_frame(obj: object) -> types.FrameType | None:
    """Return the frame of a generator or coroutine that has not ended; None for anything else."""
    for kind, frame, _ in _SUSPENDED:
        if type(obj) is kind:
            found: types.FrameType | None = getattr(obj, frame)
            return found
    return None


def awaited_by(obj: object) -> Any:
    """Return what a generator or coroutine waits for, None where it does not, or is none."""
    return next((getattr(obj, waits) for kind, _, waits in _SUSPENDED if type(obj) is kind), None)
