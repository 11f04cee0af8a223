"""
Run a script or a module in this process as ``python`` itself would.

A module of its own is made ``__main__``, so that pickles, ``multiprocessing`` and a leak report see
the program and not memguard. What it raises goes on to the interpreter, which shows it, sets the
exit code and, for an interrupt, dies of the signal; only our frames are taken out of the traceback.

Sources: docs.python.org/3/using/cmdline.html (interface options), docs.python.org/3/library/runpy.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import os
import sys
import types
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memguard.leaks.evidence.frames import begin_after


class ProgramNotFoundError(Exception):
    """There is no such script or module; the message says what was looked for."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be run: a file, a directory or zip with a ``__main__``, or a module."""

    name: str
    arguments: tuple[str, ...]
    is_module: bool = False


def run(target: Target) -> None:
    """
    Run *target* to its end, in the calling thread, which should be the main one.

    Raises:
        ProgramNotFoundError: Nothing was run.
        BaseException: Whatever the program raises. While the interpreter shows it, the traceback
            begins in the program.
    """
    begin_after(_code_file())
    try:
        _run_module(target) if target.is_module else _run_script(target)
    except (SystemExit, ProgramNotFoundError):
        raise
    except BaseException as error:
        _show_from_the_program_on(error)
        raise


def _run_script(target: Target) -> None:
    path = os.path.abspath(target.name)  # noqa: PTH100 - reason: resolve() follows links
    if not Path(path).exists():
        raise ProgramNotFoundError(f"there is no file {target.name!r}")
    sys.argv = [target.name, *target.arguments]
    if Path(path).is_dir() or zipfile.is_zipfile(path):
        _prepend_to_path(path, always=True)
        spec = importlib.machinery.PathFinder.find_spec("__main__", [path])
        if spec is None:
            raise ProgramNotFoundError(f"there is no __main__ in {target.name!r}")
        _execute(_main_module(spec, target.name), _code_of(spec))
        return
    _prepend_to_path(str(Path(path).resolve().parent))
    main = types.ModuleType("__main__")
    vars(main).update(__file__=path, __cached__=None, __builtins__=builtins)
    if path.endswith(".pyc"):
        compiled = importlib.machinery.SourcelessFileLoader("__main__", path)
        vars(main).update(__loader__=compiled)
        _execute(main, lambda: compiled.get_code("__main__"))
    else:
        vars(main).update(__loader__=importlib.machinery.SourceFileLoader("__main__", path))
        _execute(main, lambda: _compiled(path))


def _compiled(path: str) -> types.CodeType:
    with io.open_code(path) as file:  # may be audited, as the interpreter's own reading is
        source = file.read()
    return compile(source, path, "exec", dont_inherit=True)


def _run_module(target: Target) -> None:
    # While the module is searched for, which imports its parents, python calls itself "-m".
    sys.argv = ["-m", *target.arguments]
    _prepend_to_path(str(Path.cwd()))
    spec = _found(target.name)
    if spec is not None and spec.submodule_search_locations is not None:
        name, spec = target.name, _found(f"{target.name}.__main__")
        if spec is None:
            raise ProgramNotFoundError(f"{name!r} is a package without a __main__ module")
    if spec is None or spec.loader is None:
        raise ProgramNotFoundError(f"there is no module {target.name!r}")
    sys.argv[0] = spec.origin or target.name
    _execute(_main_module(spec, spec.origin), _code_of(spec))


def _found(name: str) -> importlib.machinery.ModuleSpec | None:
    if name.startswith("."):
        raise ProgramNotFoundError(f"{name!r} is relative; give the whole name of a module")
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None  # the module itself or a parent of it, not what a parent imports
        raise
    except ValueError as error:  # a module that has no spec, as one made by hand
        raise ProgramNotFoundError(f"{name!r} cannot be run as a module ({error})") from None


def _main_module(spec: importlib.machinery.ModuleSpec, file: str | None) -> types.ModuleType:
    main = types.ModuleType("__main__")
    vars(main).update(
        __file__=spec.origin or file,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
        __builtins__=builtins,
    )
    return main


def _code_of(spec: importlib.machinery.ModuleSpec) -> Callable[[], types.CodeType | None]:
    get_code = getattr(spec.loader, "get_code", None)  # as runpy asks for it
    if get_code is None:
        raise ProgramNotFoundError(f"{spec.name!r} has no code that could be run")
    return lambda: get_code(spec.name)


def _execute(main: types.ModuleType, load: Callable[[], types.CodeType | None]) -> None:
    code = load()
    if code is None:
        raise ProgramNotFoundError(f"{vars(main)['__file__']!r} has no code that could be run")
    sys.modules["__main__"] = main
    exec(code, vars(main))  # noqa: S102 - reason: running the program is the purpose


def _code_file() -> str:
    """Return how the frames of this module name it, which may not be how ``__file__`` does."""
    return _execute.__code__.co_filename


def _prepend_to_path(directory: str, *, always: bool = False) -> None:
    """Put *directory* where the interpreter had put the place of memguard's own command."""
    if always:
        sys.path.insert(0, directory)
    elif not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[:1] = [directory]


_OWN_FILES = (
    str(Path(__file__).parent) + os.sep,
    "<frozen importlib",
    str(importlib.util.__file__),
)


def _show_from_the_program_on(error: BaseException) -> None:
    """Have the interpreter's report of *error* begin at the program's first frame."""
    first = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        first = first.tb_next
    hook = sys.excepthook  # perhaps the program's own

    def show(
        kind: type[BaseException],
        value: BaseException,
        traceback: types.TracebackType | None,
    ) -> None:
        sys.excepthook = hook
        if value is error:
            traceback = first
            value.__traceback__ = first  # which is what the default hook shows
        hook(kind, value, traceback)

    sys.excepthook = show


def targets(arguments: Sequence[str], *, is_module: bool) -> Target | None:
    """Return the target that a command line names, or None where it names none."""
    if not arguments:
        return None
    return Target(arguments[0], tuple(arguments[1:]), is_module)
