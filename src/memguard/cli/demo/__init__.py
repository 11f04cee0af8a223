"""
``memguard demo``: a program that leaks, and the same repaired, run under ``memguard run``.

Both are real processes, watched as any program is: what is shown while they run is what each of
them publishes, and what was found is read from the report that was written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import memguard
from memguard.cli import terminal
from memguard.cli.top.view import gauge, glyphs_for
from memguard.errors import ReportFormatError
from memguard.leaks.report import LeakReport, Suspect
from memguard.report.publish import reader
from memguard.report.render.json import parse_json
from memguard.report.render.text import render_text
from memguard.units import MiB, format_bytes, parse_seconds

PROGRAM = "shop.py"
MARK = "# planted: the leak allocates here"
HOLDER = "__main__.SESSIONS"
LEAST_SECONDS = 10.0
"""So long the repaired program is watched at least: silence takes time."""
_OPTIONS = ("--interval", "0.2", "--min-growth-bytes", "6MiB", "--report-dir", "reports", "--json")
_LOOK = 0.5
HELP = "a leak, found while you watch, in 15 seconds"
DESCRIPTION = "Run a small program that leaks, and the same repaired, and find the leak."
EPILOG = """\
examples:
  memguard demo
  memguard demo --output demo      keeps the reports; demo/leaky/reports has a page for a browser
  memguard demo --json             the outcome for a script

It takes about 15 seconds and 100 MiB, and needs nothing but memguard.

exit codes:
  0   the leak was found, at its line and with its holder, and the repaired program stayed silent
  1   it was not, or not in time, or there was a false alarm
  2   a wrong option, or the program could not be started
"""


class _StartError(Exception):
    """A program did not start; the message says why."""


@dataclass
class _Run:
    """One of the two programs."""

    directory: Path
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    curve: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the start, and bytes of private memory."""

    def start(self) -> None:
        """Begin; nothing of it reaches our terminal."""
        self.directory.mkdir()
        source = pkgutil.get_data("memguard.cli.demo", "shop.py")
        (self.directory / PROGRAM).write_bytes(source or b"")
        here = str(Path(memguard.__file__).parent.parent)
        paths = [here, os.environ.get("PYTHONPATH", "")]
        environment = {key: value for key, value in os.environ.items() if "MEMGUARD" not in key}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        environment["MEMGUARD_PUBLISH"] = str(self.directory / "published")
        command = [sys.executable, "-m", "memguard", "run", *_OPTIONS, "--summary", "summary.json"]
        with (self.directory / "errors.txt").open("wb") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - reason: this interpreter, our program
                [*command, PROGRAM, *self.arguments],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def look(self, seconds: float) -> None:
        """
        Note how large it is now.

        Raises:
            _StartError: It has ended, which it should not.
        """
        if self.process is not None and self.process.poll() is not None:
            errors = (self.directory / "errors.txt").read_text("utf-8", "replace").strip()
            last = errors.splitlines()[-1:] or [f"exit code {self.process.returncode}"]
            raise _StartError(f"{PROGRAM} ended by itself: {last[0]}")
        for one in reader.look([self.directory / "published"]).guards:
            private = one.status.health.memory.private_bytes
            if private is not None:
                self.curve.append((round(seconds, 2), private))

    def reports(self) -> list[LeakReport]:
        """Return what was found so far."""
        found = []
        for file in sorted((self.directory / "reports").glob("leak-*.json")):
            with contextlib.suppress(OSError, ReportFormatError):
                found.append(parse_json(file.read_text("utf-8")))
        return found

    def stop(self) -> None:
        """Have it end as a program ends, or else end it."""
        process = self.process
        if process is None:
            return
        with contextlib.suppress(OSError):
            (self.directory / "stop").touch()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class _Outcome:
    """What came of it."""

    report: LeakReport | None
    seconds: float | None
    """From the start to the report."""
    expected_line: int
    false_alarms: int

    @property
    def suspect(self) -> Suspect | None:
        """The line that is blamed most."""
        return None if self.report is None else next(iter(self.report.suspects), None)

    @property
    def holder(self) -> str | None:
        """Who is said to hold most."""
        return None if self.report is None else next((h.path for h in self.report.holders), None)

    @property
    def is_right(self) -> bool:
        """True when line and holder are those that were planted, and nothing else was blamed."""
        suspect = self.suspect
        line = None if suspect is None else suspect.line
        return (line, self.holder, self.false_alarms) == (self.expected_line, HOLDER, 0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo``."""
    parser.add_argument(
        "--output", metavar="DIR", help="keep the programs and reports in this new directory"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        default="60s",
        help="give up after this time (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="the outcome as one line of JSON")


def command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run it, show what happens, and return the exit code."""
    try:
        timeout = parse_seconds(options.timeout, name="--timeout")
        with _place(options.output) as place:
            runs = (_Run(place / "leaky", ()), _Run(place / "repaired", ("--repaired",)))
            with terminal.Terminated():
                outcome = _play(runs, timeout, show=not options.json)
            if options.json:
                terminal.write(json.dumps(_data(outcome, runs)) + "\n")
            else:
                terminal.write(_verdict(outcome, runs, kept=options.output))
    except (ValueError, OSError, _StartError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        return 130
    return 0 if outcome.is_right else 1


@contextlib.contextmanager
def _place(output: str | None) -> Iterator[Path]:
    if output is not None:
        place = Path(output).absolute()
        place.mkdir(mode=0o700)
        yield place
        return
    import tempfile  # noqa: PLC0415 - reason: 'memguard run' loads this module into the program

    with tempfile.TemporaryDirectory(prefix="memguard-demo-") as temporary:
        yield Path(temporary)


def _play(runs: tuple[_Run, _Run], timeout: float, *, show: bool) -> _Outcome:
    leaky, repaired = runs
    if show:
        terminal.write(_HEADING)
    found: LeakReport | None = None
    found_after: float | None = None
    try:
        for run in runs:
            run.start()
        began = time.monotonic()
        while True:
            time.sleep(_LOOK)
            seconds = time.monotonic() - began
            for run in runs:
                run.look(seconds)
            if show:
                terminal.write(_row(seconds, runs))
            if found is None:
                found = next((r for r in leaky.reports() if r.kind == "leak"), None)
                found_after = None if found is None else seconds
            if seconds >= timeout or (found is not None and seconds >= LEAST_SECONDS):
                break
    finally:
        for run in runs:
            run.stop()
    return _Outcome(found, found_after, _planted(leaky), len(repaired.reports()))


def _planted(run: _Run) -> int:
    lines = (run.directory / PROGRAM).read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(MARK))


_HEADING = """\
Two copies of a small shop run under 'memguard run', which knows nothing of it.
One of them leaks. Private memory:

            leaky                             repaired
"""


def _row(seconds: float, runs: tuple[_Run, _Run]) -> str:
    """Return a line with the memory of both; empty as long as one is not known."""
    if not all(run.curve for run in runs):
        return ""
    most = max(40 * MiB, *(size for run in runs for _, size in run.curve))
    glyphs = glyphs_for(sys.stdout.encoding)
    cells = [
        f"{format_bytes(size):>10}  {gauge(size / most, width=20, glyphs=glyphs)}"
        for size in (run.curve[-1][1] for run in runs)
    ]
    return f"  {seconds:5.1f} s  {'  '.join(cells)}\n"


def _verdict(outcome: _Outcome, runs: tuple[_Run, _Run], *, kept: str | None) -> str:
    report, seconds = outcome.report, outcome.seconds
    if report is None or seconds is None:
        return "\nThe leak was not found in time; try --timeout 2m on a slow machine.\n"
    shown = f"\nFound in the leaky one after {seconds:.0f} s:\n\n{render_text(report)}\n"
    planted = f"planted in line {outcome.expected_line} of {PROGRAM}, held by {HOLDER}"
    shown += f"The leak is {planted}: {'right' if outcome.is_right else 'NOT RIGHT'}.\n"
    silent = "nothing was reported" if not outcome.false_alarms else "there was a FALSE ALARM"
    size = format_bytes(runs[1].curve[-1][1]) if runs[1].curve else "?"
    shown += f"The repaired one keeps its sessions in a BoundedCache: {silent}, {size}.\n"
    if kept is not None:
        shown += f"Page for a browser: {Path(kept) / 'leaky' / 'reports'}\n"
    return f"{shown}\nYour own program: memguard run app.py\n"


def _data(outcome: _Outcome, runs: tuple[_Run, _Run]) -> dict[str, Any]:
    suspect = outcome.suspect
    return {
        "found": outcome.report is not None,
        "right": outcome.is_right,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 2),
        "line": None if suspect is None else suspect.line,
        "expected_line": outcome.expected_line,
        "holder": outcome.holder,
        "expected_holder": HOLDER,
        "false_alarms": outcome.false_alarms,
        "leaky_curve": runs[0].curve,
        "repaired_curve": runs[1].curve,
        "report": None if outcome.report is None else outcome.report.to_dict(),
    }
