"""
Which object of an extension may keep a function that nothing in Python holds? A conjecture.

C code need not show the collector what it keeps: ``sqlite3`` does not show the functions that were
registered with a connection. But the code that made such a function passes it to a method, and few
live objects have a method of that name that is written in C: one of them is the likely keeper.
"""

from __future__ import annotations

import itertools
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memguard.heap import naming, walk
from memguard.leaks.evidence import frames
from memguard.leaks.evidence.own_code import is_own_code

MAX_LINES = 2_000
"""Lines of a function that is read: parsing keeps the GIL, about 10 µs a line."""
MAX_KEEPERS = 1_000
"""Objects that are counted as possible keepers."""


@dataclass(frozen=True, slots=True)
class Keepers:
    """Objects that have the method to which a function is passed."""

    method: str
    kind: str
    """The name of their type: they have but one."""
    count: int
    only: Any
    """The object where there is one, else None."""


def keepers_of(function: types.FunctionType, *, is_over: Callable[[], bool]) -> Keepers | None:
    """
    Return the live objects of an extension that may keep *function*; None where it is not clear.

    It is clear where the code around the function passes it to a method by name, and all live
    objects that have such a method, written in C, are of one type. Nothing of theirs is called.

    Args:
        function: One that was made in another.
        is_over: True when time is up.

    Cost: two walks of the heap; the source of one function is read.
    """
    if is_own_code(function.__code__.co_filename):
        return None
    outer = _code_around(function.__code__, is_over)
    method = None if outer is None else _method_it_is_passed_to(outer, function.__code__)
    return None if method is None else _objects_with(method, is_over)


def _code_around(code: types.CodeType, is_over: Callable[[], bool]) -> types.CodeType | None:
    """Return the code of the live function in which *code* is defined."""
    with walk.live_slices() as slices:
        for chunk in slices:
            for obj in chunk:
                if type(obj) is types.FunctionType and any(
                    each is code for each in obj.__code__.co_consts
                ):
                    return obj.__code__
            del chunk
            if is_over():
                break
    return None


def _method_it_is_passed_to(outer: types.CodeType, code: types.CodeType) -> str | None:
    """Return the one method to which *outer* passes the function of *code*, by name or at once."""
    import ast  # noqa: PLC0415 - reason: rarely needed; `paths.prepare` has imported it

    text = _source_of(outer)
    if text is None:
        return None
    try:
        tree = ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    line = code.co_firstlineno - outer.co_firstlineno + 1
    names: set[str] = set()
    for call in ast.walk(tree):
        if type(call) is not ast.Call or type(call.func) is not ast.Attribute:
            continue
        for value in (*call.args, *(keyword.value for keyword in call.keywords)):
            by_name = type(value) is ast.Name and value.id == code.co_name
            if by_name or (type(value) is ast.Lambda and value.lineno == line):
                names.add(call.func.attr)
    return names.pop() if len(names) == 1 else None


def _source_of(code: types.CodeType) -> str | None:
    """Return the lines of *code*, None where they are not there or may not be what runs."""
    first = code.co_firstlineno
    last = max(_last_lines(code), default=first)
    if last - first > MAX_LINES:
        return None
    try:
        file = Path(code.co_filename)
        if file.stat().st_mtime > frames.IMPORTED_AT:
            return None
        with file.open(encoding="utf-8", errors="replace") as lines:
            return "".join(itertools.islice(lines, first - 1, last))
    except (OSError, ValueError):
        return None


def _last_lines(code: types.CodeType) -> Iterator[int]:
    """Yield the lines of *code* and of the code in it."""
    yield from (line for _, _, line in code.co_lines() if line is not None)
    for each in code.co_consts:
        if type(each) is types.CodeType:
            yield from _last_lines(each)


def _objects_with(method: str, is_over: Callable[[], bool]) -> Keepers | None:
    known: dict[int, tuple[type, bool]] = {}  # held, so that no other type gets its id
    found: dict[int, Any] = {}
    kinds: set[str] = set()
    with walk.live_slices() as slices:
        for chunk in slices:
            for obj in chunk:
                kind = type(obj)
                if id(kind) not in known:
                    known[id(kind)] = (kind, _has_in_c(kind, method))
                if known[id(kind)][1] and len(found) < MAX_KEEPERS:
                    found[id(obj)] = obj
                    kinds.add(naming.type_name(kind))
            del chunk
            if is_over():
                return None
    if len(kinds) != 1:
        return None
    only = next(iter(found.values())) if len(found) == 1 else None
    return Keepers(method, kinds.pop(), len(found), only)


def _has_in_c(kind: type, method: str) -> bool:
    """Return True where the *method* of instances of *kind* is of an extension's type."""
    for base in naming.mro_of(kind):
        found = naming.dict_of_type(base).get(method)
        if found is not None:
            return type(found) is types.MethodDescriptorType and naming.is_of_an_extension(base)
    return False
