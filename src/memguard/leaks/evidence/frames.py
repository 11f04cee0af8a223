"""
Turn a traced location into a readable frame: its function, and whether it is user code.

tracemalloc remembers a file and a line only. The function is found in the code objects that are
alive, not by parsing sources: what runs is what counts, and nothing holds the GIL for long.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import sysconfig
import time
import types
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from memguard.heap import naming, walk
from memguard.leaks.evidence import own_code
from memguard.leaks.evidence.tracing import Location
from memguard.leaks.report import Frame
from memguard.lifecycle.running import running_frames

_INNER = ("<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>", "__annotate__")
"""
Code of its own that people do not know: they know the function around it. Comprehensions before
3.12; annotations from 3.14 on.
"""

NESTED = 4
"""Classes in classes, and functions that wrap one another, that are looked through."""
_LRU_WRAPPER: type = type(functools.lru_cache(maxsize=1)(id))

SOURCE_CHARACTERS = 200
IMPORTED_AT = time.time()
"""A source that changed after this may not be the code that runs."""


def functions_at(locations: Iterable[Location], *, may_walk: bool = True) -> dict[Location, str]:
    """
    Return the name of the innermost live function around each location; those without are left out.

    Args:
        locations: Files and lines.
        may_walk: False where the heap must not be walked for what no module leads to.

    Cost: that of `qualified_at`.
    """
    found = qualified_at(locations, may_walk=may_walk)
    return {place: unqualified(name) for place, name in found.items()}


def unqualified(name: str) -> str:
    """Return the last part of a qualified name, which is the function's own."""
    return name.rpartition(".")[2]


def qualified_at(locations: Iterable[Location], *, may_walk: bool = True) -> dict[Location, str]:
    """
    Return the qualified name of the innermost live function around each location.

    Those without are left out.

    Args:
        locations: Files and lines.
        may_walk: False where the heap must not be walked for what no module leads to.

    Cost: 1 ms, mostly; where a function hangs on no module, one gentle walk of the heap, about
        0.1 s of processor time for a million objects.
    """
    lines: dict[str, set[int]] = {}
    for file, line in locations:
        if not file.startswith("<"):  # "<string>" is the name of many sources
            lines.setdefault(file, set()).add(line)
    best: dict[Location, tuple[int, str]] = {}
    seen: set[int] = set()

    def enter(codes: Iterable[types.CodeType]) -> None:
        for code in codes:
            if code.co_filename in lines and id(code) not in seen:
                seen.add(id(code))
                _cover(code, lines[code.co_filename], best)

    if lines:
        # Running code, too: that of a module has no function.
        enter(frame.f_code for frame in running_frames())
        enter(_of_modules(lines))
    if may_walk and len(best) < sum(map(len, lines.values())):
        with walk.live_slices() as slices:
            for chunk in slices:
                enter(obj.__code__ for obj in chunk if type(obj) is types.FunctionType)
                del chunk
    return {location: name for location, (_, name) in best.items()}


def _of_modules(files: Container[str]) -> Iterator[types.CodeType]:
    """Yield the code of the functions and methods that the modules of *files* lead to."""
    for module in list(sys.modules.values()):
        if naming.is_module(module):
            namespace = naming.module_dict(module)
            file = namespace.get("__file__")
            if type(file) is str and file in files:
                for value in list(namespace.values()):
                    yield from _code_below(value)


def _code_below(value: Any, depth: int = 0) -> Iterator[types.CodeType]:
    """Yield the code of a function and of those that it wraps, or of the methods of a class."""
    kind = type(value)
    if depth > NESTED:
        return
    if kind is types.FunctionType:
        yield value.__code__
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # empty
                yield from _code_below(cell.cell_contents, depth + 1)
    elif kind is staticmethod or kind is classmethod:
        yield from _code_below(value.__func__, depth + 1)
    elif kind is property:
        for function in (value.fget, value.fset):
            yield from _code_below(function, depth + 1)
    elif kind is _LRU_WRAPPER:
        yield from _code_below((naming.instance_dict(value) or {}).get("__wrapped__"), depth + 1)
    elif naming.is_type(value):
        for attribute in list(naming.dict_of_type(value).values()):
            yield from _code_below(attribute, depth + 1)


def _cover(code: types.CodeType, lines: set[int], best: dict[Location, tuple[int, str]]) -> None:
    """Enter *code* and the code inside it as the innermost function of the lines it covers."""
    last = max((line for _, _, line in code.co_lines() if line is not None), default=0)
    if code.co_name not in _INNER:
        for line in lines:
            if code.co_firstlineno <= line <= last:
                location = (code.co_filename, line)
                size = last - code.co_firstlineno
                if location not in best or size <= best[location][0]:
                    best[location] = (size, code.co_qualname)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            _cover(constant, lines, best)


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib") if key in paths}
    # With the separator: /usr/lib/python3 is no parent of /usr/lib/python3-shop.
    return tuple(sorted(folder.rstrip("/\\") + os.sep for folder in (*folders, own_code.FOLDER)))


def prepare() -> None:
    """Ask sysconfig now: see ``allocator.prepare``."""
    _library_folders()


_TYPED = ("<stdin", "<python-input", "<ipython-input", "<console>", "<doctest ")
"""How code that was typed names its file: an interpreter, a notebook, an example of a docstring."""


def is_user_code(file: str) -> bool:
    """
    Return True for a file outside the standard library, installed packages and memguard.

    Typed code is the user's, too; other code without a file was made by a library, mostly.
    """
    if file.startswith(_TYPED):
        return True
    if file.startswith("<") or "site-packages" in file or "dist-packages" in file:
        return False
    return not file.startswith(_library_folders())


def is_user_module(namespace: dict[str, Any]) -> bool:
    """Return True for the namespace of a user's module; ``__main__`` without a file is one."""
    file, name = namespace.get("__file__"), namespace.get("__name__")
    return is_user_code(file) if type(file) is str else type(name) is str and name == "__main__"


def package_relative(file: str) -> str:
    """
    Return *file* within its package, ``shop/cart.py``: the same wherever it was installed.

    Of a file outside a package, its name. Cost: a few stats of the file system.
    """
    path = Path(file)
    parts = [path.name]
    for folder in path.parents:
        try:
            if not (folder / "__init__.py").is_file():
                break
        except (OSError, ValueError):
            break
        parts.append(folder.name)
    return "/".join(reversed(parts))


def source_line(file: str, line: int, *, older_than: float = IMPORTED_AT) -> str | None:
    """
    Return the text of a line, shortened; None where it is not there or may not be what runs.

    Args:
        file: As the code object names it.
        line: From 1.
        older_than: Seconds since the epoch: a file changed later is not what was imported.
    """
    try:
        if Path(file).stat().st_mtime > older_than:
            return None
        with Path(file).open(encoding="utf-8", errors="replace") as lines:
            text = next(itertools.islice(lines, line - 1, None), "").strip()
    except (OSError, ValueError):
        return None
    return text[:SOURCE_CHARACTERS] or None


_runners: set[str] = set()  # names in the source of the callers of `begin_after`: bounded by that


def begin_after(file: str) -> None:
    """
    Leave *file*, and all that called it, out of reported stacks: the program is what it runs.

    Not every frame of memguard goes: one between two of the user's (a loader that a cache calls)
    shows how they met. A runner is called by a shell alone.

    Args:
        file: As its code objects name it: ``__file__`` of a runner, before it runs the program.
    """
    _runners.add(file)


def _of_the_program(stack: Iterable[Location]) -> tuple[Location, ...]:
    """Return *stack*, innermost first, up to the runner; whole where that allocated."""
    whole = tuple(stack)
    return tuple(itertools.takewhile(lambda place: place[0] not in _runners, whole)) or whole


def frames_of(stack: Iterable[Location], functions: dict[Location, str]) -> tuple[Frame, ...]:
    """Return *stack* as report frames, the allocating line first, the program's outermost last."""
    return tuple(
        Frame(
            file=file,
            line=line,
            function=functions.get((file, line)),
            in_user_code=is_user_code(file),
        )
        for file, line in _of_the_program(stack)
    )
