"""
``memguard run``: run a script or a module as ``python`` itself would, and watch it for leaks.

A module of its own is made ``__main__``, so that pickles, ``multiprocessing`` and a leak report see
the program and not memguard. What it raises goes on to the interpreter, which shows it, sets the
exit code and, for an interrupt, dies of the signal; only our frames are taken out of the traceback.

Sources: docs.python.org/3/using/cmdline.html (interface options), docs.python.org/3/library/runpy.
"""

from __future__ import annotations

import argparse
import atexit
import builtins
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import types
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memguard.bounded.options import check_seconds
from memguard.cli import terminal
from memguard.cli.asked_to_end import AskedToEnd
from memguard.guard.environment import options_from
from memguard.guard.memory_guard import MemoryGuard
from memguard.leaks.evidence.frames import begin_after
from memguard.leaks.report import LeakReport
from memguard.lifecycle.private_directory import for_process, open_private
from memguard.report.health.health_report import LeakHealth
from memguard.report.render.content import stack_shown
from memguard.report.render.words import VERDICTS, Locations, printable
from memguard.report.sinks import ReportDirectory
from memguard.schema import plain

REPORT_DIR = "memguard-reports"
MOST_REPORTS = 5
"""Findings that the summary shows, the latest; the directory has them all."""

SHORTEST, LONGEST = 0.01, 86_400
"""Seconds that may be between two readings."""

_MOST_SECONDS = 1.0
"""Between two readings, for ``memguard top``; the detector may want them less often."""
_WITH_VALUE = ("--report-dir", "--interval", "--min-growth-bytes", "--limit", "--summary")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
USAGE = """\
memguard run [options] script.py [argument ...]
       memguard run [options] -m module [argument ...]"""
HELP = "run a script or module and watch it"
DESCRIPTION = "Run a program as python would, watch its memory, and report its leaks."
EPILOG = """\
examples:
  memguard run app.py --port 8000
  memguard run --interval 5s --report-dir reports -m uvicorn shop:app
  memguard run --min-growth-bytes 4MiB --limit 512MiB worker.py
  memguard run --json --summary found.json worker.py

exit codes:
  the program's own, whatever it is
  2   memguard could not start it: a wrong option, no such script or module

Reports are written while the program runs. What was found is summed up on standard error when it
ends; a program that is killed leaves its reports, but no summary. Meanwhile 'memguard
top' shows its state; MEMGUARD_PUBLISH=0 in the environment hides it.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.add_argument("-m", metavar="module", help="run a module, as python -m does")
    parser.add_argument(
        "--report-dir",
        metavar="DIR",
        default=REPORT_DIR,
        help="directory for reports, readable only by you (default: %(default)s)",
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        default="10s",
        help="between two readings of memory, from 0.01; 0.5, 10s, 1m (default: %(default)s)",
    )
    parser.add_argument(
        "--min-growth-bytes",
        metavar="SIZE",
        default="16MiB",
        help="growth below this is not reported (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        metavar="SIZE",
        default="auto",
        help="memory that the program may use (default: what its cgroup or host allows)",
    )
    parser.add_argument(
        "--summary",
        metavar="FILE",
        help="where the summary goes, even if nothing was found (default: standard error)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="the summary as one line of JSON, even if nothing was found",
    )


def split(arguments: Sequence[str]) -> tuple[list[str], Target | None]:
    """
    Return our options, and the program, which begins with the first word that is no option.

    Not argparse: options after the program's name are the program's, not ours.

    >>> split(["--interval", "1", "app.py", "--interval", "2"])[0]
    ['--interval', '1']
    """
    own: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "-m":
            return own, _target(rest, is_module=True)
        if word.startswith("-m") and not word.startswith("--"):
            return own, _target([word[2:], *rest], is_module=True)
        if word == "--":
            return own, _target(rest, is_module=False)
        if not word.startswith("-"):
            return own, _target([word, *rest], is_module=False)
        own.append(word)
        if word in _WITH_VALUE and rest:
            own.append(rest.pop(0))
    return own, None


def _target(arguments: Sequence[str], *, is_module: bool) -> Target | None:
    return Target(arguments[0], tuple(arguments[1:]), is_module) if arguments else None


def command(
    parser: argparse.ArgumentParser, options: argparse.Namespace, target: Target | None
) -> int:
    """Run *target* to its end under a detector, and return 0 when it ended without an error."""
    if target is None:
        parser.error("a script, or -m and a module, is required")
    directory = for_process(Path(options.report_dir))
    directory_was_there = directory.exists()
    try:
        guard = _guard(options)
        with open_private(directory):
            pass  # a guard would do without; whoever names a directory here waits for its reports
    except ValueError as error:
        parser.error(_as_on_the_command_line(str(error)))
    except OSError as error:
        reason = error.strerror or str(error)
        parser.error(f"--report-dir {options.report_dir} cannot be used: {reason}")
    if not directory_was_there:  # the first report makes it again; without one, nothing is left
        with contextlib.suppress(OSError):
            (Path.cwd() / directory).rmdir()
    # At exit, not after the last line: threads of the program may go on after it. Registered before
    # the guard registers its own end, so that it runs after it.
    end = _Summary(guard, directory, file=options.summary, as_json=options.json)
    atexit.register(end.write)
    guard.start()
    end.asked.watch()
    try:
        run(target)
        end.program_ended = True
    except SystemExit:
        end.program_ended = True
        raise
    except ProgramNotFoundError as error:
        parser.error(str(error))
    return 0


def _guard(options: argparse.Namespace) -> MemoryGuard:
    """Return a guard that watches and reports, and frees nothing of the program."""
    seconds = check_seconds(options.interval, "--interval", SHORTEST, LONGEST)
    publish = options_from({"MEMGUARD_PUBLISH": os.environ.get("MEMGUARD_PUBLISH", "")})
    return MemoryGuard(
        limit=options.limit,
        interval=min(seconds, _MOST_SECONDS),
        relief=False,
        name="run",  # the program may have a guard of its own
        report_dir=options.report_dir,
        leak_options={
            "name": "memguard",
            "interval": options.interval,
            "min_growth_bytes": options.min_growth_bytes,
        },
        publish=publish.get("publish", True),
    )


def _as_on_the_command_line(message: str) -> str:
    """Return *message*, which begins with the name of an option, with the name it has here."""
    name, space, rest = message.partition(" ")
    option = f"--{name.replace('_', '-')}"
    return f"{option}{space}{rest}" if option in _WITH_VALUE else message


class _Summary:
    """What was found, written when the program ends."""

    def __init__(
        self, guard: MemoryGuard, directory: Path, *, file: str | None, as_json: bool
    ) -> None:
        self._guard = guard
        self._directory = directory
        self._absolute = Path.cwd() / directory  # the program may go elsewhere
        self._file = None if file is None else Path.cwd() / file
        self._as_json = as_json
        self._pid = os.getpid()
        self.asked = AskedToEnd()
        self.program_ended = False
        """True once it has ended without an error: by itself, unless it was asked to."""

    def write(self) -> None:
        """Write it, unless nothing was found or this is a forked child of the program."""
        if os.getpid() != self._pid:
            return
        self._guard.stop(timeout=2.0)
        reports = self._guard.reports
        if not reports and not self._as_json and self._file is None:
            return
        missing = self._missing(reports)
        if self.program_ended and not self.asked.was_asked:
            reports = tuple(map(as_ended, reports))
            self._write_again([report for report in reports if report.state == "ended"])
        if self._as_json:
            text = json.dumps(summary_data(reports, self._absolute, missing=missing)) + "\n"
        else:
            text = summary(reports, self._directory, missing=missing)
        # The terminal or the disk may be gone; our output must not change how the program ends.
        with contextlib.suppress(OSError, ValueError):
            self._deliver(text)

    def _deliver(self, text: str) -> None:
        if self._file is not None:
            with open(os.open(self._file, _NEW_FILE, 0o600), "wb") as file:  # noqa: PTH123 - reason: a Path cannot open a descriptor
                file.write(text.encode("utf-8", "backslashreplace"))
        elif sys.stderr is not None:
            terminal.write(text, error=True)

    def _write_again(self, reports: Sequence[LeakReport]) -> None:
        """Write what has become of those whose files are there."""
        for report in reports:
            if not self._missing([report]):
                with contextlib.suppress(OSError, ValueError):
                    ReportDirectory(self._absolute).write(report)

    def _missing(self, reports: Sequence[LeakReport]) -> set[str]:
        """Return the ids of reports that are not there: the disk was full, or they were rotated."""
        ids = [report.id for report in reports]
        # Unlike Path.exists, it returns False if the program has given up its permission to look.
        return {n for n in ids if not os.path.exists(self._absolute / f"leak-{n}.html")}  # noqa: PTH110 - reason: see above


def as_ended(report: LeakReport) -> LeakReport:
    """
    Return *report* as it is once its program has ended by itself.

    What ended with its program *grew*, as a build does until it is done. Whether it would have gone
    on for ever nobody can tell from that: only in a program that is to run on is it a leak.
    """
    if not report.is_leaking and report.state != "suspected":
        return report
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return replace(
        report,
        kind="growth",
        state="ended",
        revision=report.revision + 1,
        updated_at=now,
        ended_at=now,
        trend=replace(report.trend, seconds_to_limit=None),
    )


def _has_ended(report: LeakReport) -> bool:
    """Return True for growth that ended, with the program or before; not for a leak that did."""
    return report.kind == "growth" and report.state == "ended"


def summary_data(
    reports: Sequence[LeakReport], directory: Path, *, missing: Collection[str] = ()
) -> dict[str, Any]:
    """Return for scripts what `summary` returns for people: all reports, oldest first."""
    return {
        "leaks": sum(_is_leak(report) for report in reports),
        "ended": sum(map(_has_ended, reports)),
        "reports": [
            {
                **plain(asdict(LeakHealth.of(report))),
                "file": None if report.id in missing else str(directory / f"leak-{report.id}.json"),
            }
            for report in reports
        ],
    }


def summary(
    reports: Sequence[LeakReport], directory: Path, *, missing: Collection[str] = ()
) -> str:
    """Return a few lines on *reports*, oldest first, and where to read those not *missing*."""
    leaks = sum(_is_leak(report) for report in reports)
    found = "1 leak" if leaks == 1 else f"{leaks} leaks" if leaks else "no leak"
    ended = sum(map(_has_ended, reports))
    others = len(reports) - leaks - ended
    more = f"; growth that ended: {ended}" if ended else ""
    more += f"; growth that is not classified as one: {others}" if others else ""
    lines = [f"memguard: found {found}{more}"]
    if ended:
        lines.append("  what grows until its program ends is a leak in one that is to run on")
    for report in reports[-MOST_REPORTS:]:
        lines += _finding(report, None if report.id in missing else directory)
    return "\n".join(lines) + "\n"


def _is_leak(report: LeakReport) -> bool:
    """Return True for a leak, also one that has ended; False for one that was retracted."""
    return report.kind == "leak" and report.state != "retracted"


def _finding(report: LeakReport, directory: Path | None) -> list[str]:
    locations = Locations()
    kind = "" if _has_ended(report) else f"{report.kind}: "
    words = VERDICTS[report.verdict.kind]
    more = "" if words in report.headline else f"; {words}"
    lines = [f"  {kind}{report.headline}{more}"]
    lines += [
        f"    held by       {printable(holder.path)} : {printable(holder.type)}"
        for holder in report.holders[:1]
    ]
    if report.place is not None:
        lines.append(f"    allocated at  {locations.shown(report.place)}")
        for suspect in report.suspects[:1]:
            first, beside, calls = stack_shown(suspect)
            if calls and beside is not None and first == report.place:
                lines.append(f"    calling       {locations.shown(beside)}")
    if directory is None:
        return [*lines, "    its files are not there: not written, or deleted since"]
    return [*lines, f"    read          {directory / f'leak-{report.id}.html'}"]


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
    vars(main).update(__file__=path, **_cached(None), __builtins__=builtins)
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
        raise ProgramNotFoundError(f"{name!r} is relative; write the full name of the module")
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None  # the module itself or a parent of it, not what a parent imports
        raise
    except ValueError as error:  # a module without a spec, such as one made by code
        raise ProgramNotFoundError(f"{name!r} cannot be run as a module ({error})") from None


def _main_module(spec: importlib.machinery.ModuleSpec, file: str | None) -> types.ModuleType:
    main = types.ModuleType("__main__")
    vars(main).update(
        __file__=spec.origin or file,
        **_cached(spec.cached),
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
        __builtins__=builtins,
    )
    return main


def _cached(file: str | None) -> dict[str, str | None]:
    return {} if sys.version_info >= (3, 15) else {"__cached__": file}


def _code_of(spec: importlib.machinery.ModuleSpec) -> Callable[[], types.CodeType | None]:
    get_code = getattr(spec.loader, "get_code", None)  # as runpy asks for it
    if get_code is None:
        raise ProgramNotFoundError(f"{spec.name!r} has no code to run")
    return lambda: get_code(spec.name)


def _execute(main: types.ModuleType, load: Callable[[], types.CodeType | None]) -> None:
    code = load()
    if code is None:
        raise ProgramNotFoundError(f"{vars(main)['__file__']!r} has no code to run")
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
    first = last = error.__traceback__
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        first = last = first.tb_next
    while last is not None:  # a signal's handler is called through one of ours
        while last.tb_next and last.tb_next.tb_frame.f_code.co_filename.startswith(_OWN_FILES[0]):
            last.tb_next = last.tb_next.tb_next
        last = last.tb_next
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
