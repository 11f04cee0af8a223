"""
An exception as text of bounded size: frames, causes and groups counted, no local variable shown.

It reads like Python's own traceback. The message is made of the exception's arguments, cut to size;
its ``__str__`` is called only if it is a builtin type's or its type is allowed, because the text
that a user's ``__str__`` builds cannot be bounded while it runs.
"""

from __future__ import annotations

import linecache
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from memguard.heap.naming import clean, dict_of_type, instance_dict, mro_of, type_name
from memguard.integrations.logging.values import Bounds, Walk, arguments_of
from memguard.report.render.words import printable

MOST_FRAMES = 32
"""Frames that are shown: a quarter of them the outermost, the others next to the error."""
_FRAME = 160
"""Bytes that a frame takes, about."""
MOST_LINKED = 8
"""Exceptions of one chain of causes that are shown, the last ones."""
MOST_MEMBERS = 5
"""Exceptions of one group that are shown, the first ones."""
MOST_NOTES = 10
_DEEPEST_GROUP = 3
_LONGEST_LINE = 200
_UNICODE = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_SLOTS: Any = vars(BaseException)
_OS_SLOTS: Any = vars(OSError)
_GROUP_SLOTS: Any = vars(BaseExceptionGroup)


def bounded_traceback(
    error: BaseException, bounds: Bounds, *, traceback: TracebackType | None = None
) -> str:
    """
    Return *error* with its traceback, causes and members: about *bounds*, twice that at most.

    Never raises. If there is not enough room, the last exception of a chain is shown and the
    earlier ones are left out.

    Args:
        error: The exception.
        bounds: Of the whole text.
        traceback: Instead of the exception's own.
    """
    try:
        text = _Renderer(bounds).render(error, traceback)
    except Exception as failure:  # noqa: BLE001 - reason: a log line is never worth an exception in the host
        return f"<{type_name(type(error))}: unreadable, {type_name(type(failure))}>"
    most = 2 * bounds.max_bytes
    return text if len(text) <= most else f"[{len(text) - most} chars cut]…{text[-most:]}"


class _Renderer:
    """
    Write one exception.

    Bounded by: its `Bounds`.
    Locks: none; for one thread.
    Keeps alive: nothing after its call.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._left = bounds.max_bytes
        self._seen: set[int] = set()

    def render(
        self, error: BaseException, traceback: TracebackType | None = None, depth: int = 0
    ) -> str:
        """Return the text of *error*, what it followed from first."""
        parts: list[str] = []
        current: BaseException | None = error
        for _ in range(MOST_LINKED):
            if current is None or id(current) in self._seen:
                break
            if self._left <= 0:
                parts.append("[earlier exceptions are not shown]\n")
                break
            self._seen.add(id(current))
            parts.append(self._one(current, traceback, depth))
            traceback = None
            current, link = _before(current)
            if current is not None and id(current) not in self._seen:
                parts.append(link)
        else:
            if current is not None:
                parts.append("[earlier exceptions are not shown]\n")
        return "".join(reversed(parts)).rstrip("\n")

    def _one(self, error: BaseException, traceback: TracebackType | None, depth: int) -> str:
        text = f"{type_name(type(error))}"
        message = self._message(error)
        text = f"{text}: {message}\n" if message else f"{text}\n"
        for note in self._notes(error):
            text += f"{note}\n"
        frames = traceback or _SLOTS["__traceback__"].__get__(error)
        if frames is not None:
            shown = "".join(self._frames(frames, self._left - len(text)))
            text = f"Traceback (most recent call last):\n{shown}{text}"
        self._left -= len(text)
        members = _members(error)
        if members:
            text += self._group(members, depth)
        return text

    def _group(self, members: tuple[BaseException, ...], depth: int) -> str:
        if depth >= _DEEPEST_GROUP:
            return f"  | [{len(members)} exceptions in groups this deep are not shown]\n"
        text, shown = "", 0
        for number, member in enumerate(members[:MOST_MEMBERS], 1):
            if self._left <= 0:
                break
            shown += 1
            shown_member = self.render(member, depth=depth + 1)
            lines = "".join(f"  | {line}\n" for line in shown_member.splitlines())
            text += f"  +---------------- {number} ----------------\n{lines}"
        if shown < len(members):
            text += f"  +- [{len(members) - shown} more exceptions are not shown]\n"
        return text

    def _message(self, error: BaseException) -> str:
        walk = Walk(self._bounds, render=str)
        walk.left = max(64, min(self._left, self._bounds.max_bytes // 2))
        if any(each is kind for kind in mro_of(type(error)) for each in self._bounds.allow):
            return _own_text(walk, error)
        if issubclass(type(error), UnicodeError) and not _has_own_str(error):
            return _own_text(walk, error)  # names a position, not the text that it is in
        if issubclass(type(error), OSError):
            text = _of_the_system(walk, error)
            if text:
                return text
        return self._from_arguments(walk, error)

    def _from_arguments(self, walk: Walk, error: BaseException) -> str:
        arguments = tuple(walk.copy(each) for each in arguments_of(error)[: self._bounds.max_items])
        if not arguments:
            return ""
        if _members(error):
            return f"{arguments[0]} ({len(_members(error))} sub-exceptions)"
        if len(arguments) > 1:
            return walk.text(repr(arguments))
        only = arguments[0]
        is_key = issubclass(type(error), KeyError)
        return only if type(only) is str and not is_key else walk.text(repr(only))

    def _notes(self, error: BaseException) -> list[str]:
        found = (instance_dict(error) or {}).get("__notes__")
        if type(found) is not list:
            return []
        walk = Walk(self._bounds)
        walk.left = max(64, self._left // 4)
        notes = [str(walk.copy(note)) for note in found[:MOST_NOTES]]
        more = len(found) - len(notes)
        return [*notes, *([f"[{more} more notes are not shown]"] if more > 0 else [])]

    def _frames(self, traceback: TracebackType, room: int) -> Iterator[str]:
        most = max(2, min(MOST_FRAMES, room // _FRAME))
        first: list[TracebackType] = []
        last: deque[TracebackType] = deque(maxlen=most - most // 4)
        hidden = 0
        current: TracebackType | None = traceback
        while current is not None:
            if len(first) < most // 4:
                first.append(current)
            else:
                hidden += len(last) == last.maxlen
                last.append(current)
            current = current.tb_next
        yield from map(_frame, first)
        if hidden:
            yield f"  [{hidden} frames are not shown]\n"
        yield from map(_frame, last)


def _of_the_system(walk: Walk, error: BaseException) -> str:
    """Return what an `OSError` says, whose file names are not among its arguments."""
    number, what, *names = (
        walk.copy(_OS_SLOTS[name].__get__(error))
        for name in ("errno", "strerror", "filename", "filename2")
    )
    if number is None or what is None:
        return ""
    about = " -> ".join(repr(name) for name in names if name is not None)
    return f"[Errno {number}] {what}" + (f": {about}" if about else "")


def _own_text(walk: Walk, error: BaseException) -> str:
    try:
        return walk.text(str(error))
    except Exception as failure:  # noqa: BLE001 - reason: the host's __str__
        return f"<its text is unreadable: {type_name(type(failure))}>"


def _has_own_str(error: BaseException) -> bool:
    """Return True if ``str()`` would run code of a class that is written in Python."""
    for kind in mro_of(type(error)):
        if "__str__" in dict_of_type(kind):
            return not any(kind is known for known in _UNICODE)
    return True


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    """Return what *error* followed from, and the words for how."""
    cause: BaseException | None = _SLOTS["__cause__"].__get__(error)
    if cause is not None:
        return cause, _CAUSE
    if _SLOTS["__suppress_context__"].__get__(error):
        return None, ""
    return _SLOTS["__context__"].__get__(error), _CONTEXT


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions of a group (PEP 654); none of anything else."""
    if not any(kind is BaseExceptionGroup for kind in mro_of(type(error))):
        return ()
    members: tuple[BaseException, ...] = dict_of_type(BaseExceptionGroup)["exceptions"].__get__(
        error
    )
    return members


def _frame(entry: TracebackType) -> str:
    code, line = entry.tb_frame.f_code, entry.tb_lineno
    name, file = clean(code.co_name), code.co_filename
    linecache.checkcache(file)
    # Without the globals of the frame: their loader would be asked, which is the host's code.
    source = linecache.getline(file, line)[:_LONGEST_LINE].strip()
    shown = f'  File "{printable(file)}", line {line}, in {name}\n'
    return f"{shown}    {source}\n" if source else shown
