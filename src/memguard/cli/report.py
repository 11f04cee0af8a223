"""``memguard report``: stored reports as text, HTML or JSON, and two of them compared."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from memguard.cli import terminal
from memguard.errors import ReportFormatError
from memguard.leaks.report import LeakReport
from memguard.report.compare.comparison import Comparison, compare
from memguard.report.compare.rendering import render_html as compared_html
from memguard.report.compare.rendering import render_text as compared_text
from memguard.report.render.html.page import render_reports_html
from memguard.report.render.json import parse_json, render_json
from memguard.report.render.text import WIDTH, render_text
from memguard.report.render.words import printable

MOST_BYTES = 64 * 1024 * 1024
"""A larger file is not a report; those of a detector have about ten KiB."""

HELP = "show stored reports, or compare two"
DESCRIPTION = "Show reports that a detector stored as JSON, or compare two of them."
EPILOG = """\
examples:
  memguard report memguard-reports                 every report of a directory, oldest first
  memguard report leak-1f.json -o leak.html        one file for a browser, which needs nothing else
  memguard report --json memguard-reports          the same for a script, as a list
  memguard report --compare before.json after.json
  memguard report --compare --exit-code before.json after.json   a gate for continuous integration

exit codes:
  0   done
  1   with --exit-code: a report is of a leak; with --compare: NEW is worse than OLD
  2   a wrong option, or a file that cannot be read as a report
"""


class _UnreadableError(Exception):
    """A file is not a report; the message says which and why."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``report``."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a leak-*.json, a directory of them, or - for standard input",
    )
    parser.add_argument("--compare", action="store_true", help="compare two files: OLD NEW")
    parser.add_argument(
        "--format",
        choices=("text", "html", "json"),
        help="default: by the suffix of OUT, else text",
    )
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="write to this file instead of the terminal"
    )
    parser.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 1 if there is a leak, or it got worse",
    )


def command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Show or compare, and return the exit code."""
    if options.compare and len(options.files) != 2:
        parser.error(f"--compare needs two files, OLD and NEW (got {len(options.files)})")
    if options.json and options.format not in (None, "json"):
        parser.error(f"--json and --format {options.format} contradict each other; give one")
    form = "json" if options.json else options.format or _form_of(options.output)
    try:
        reports = [report for file in options.files for report in _reports(file)]
        if options.compare and len(reports) != 2:
            parser.error("--compare needs two files, not directories")
        if options.compare:
            comparison = compare(*reports)
            shown = _compared(comparison, form)
            is_bad = comparison.outcome == "worse"
        else:
            shown = _shown(reports, form)
            is_bad = any(report.kind == "leak" for report in reports)
        _write(shown, form, options.output)
    except BrokenPipeError:
        terminal.discard_output()
        return 0
    except _UnreadableError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except OSError as error:
        reason, file = error.strerror or str(error), printable(str(error.filename or "output"))
        parser.exit(2, f"{parser.prog}: {file}: {reason}\n")
    return 1 if options.exit_code and is_bad else 0


def _form_of(output: str | None) -> str:
    suffix = Path(output or "").suffix.lower()
    return {".html": "html", ".htm": "html", ".json": "json"}.get(suffix, "text")


def _reports(file: str) -> list[LeakReport]:
    path = Path(file)
    if file == "-":
        return [_parsed(sys.stdin.buffer.read(MOST_BYTES + 1), "standard input")]
    if not path.is_dir():
        return [_read(path)]
    files = sorted(path.glob("leak-*.json"), key=lambda entry: (entry.stat().st_mtime, entry.name))
    if not files:
        raise _UnreadableError(f"there is no leak-*.json in {printable(file)}")
    return [_read(entry) for entry in files]


def _read(path: Path) -> LeakReport:
    # Not waited for: a FIFO without a writer would never answer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as opened:  # noqa: PTH123 - reason: a Path cannot open a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _UnreadableError(
                f"{printable(str(path))} is not a regular file; for a pipe give -"
            )
        return _parsed(opened.read(MOST_BYTES + 1), str(path))


def _parsed(content: bytes, name: str) -> LeakReport:
    if len(content) > MOST_BYTES:
        raise _UnreadableError(
            f"{printable(name)} has more than {MOST_BYTES} bytes; it is not a report"
        )
    try:
        report = parse_json(content.decode("utf-8"))
        render_text(report)  # an absurd number, such as of a thousand digits, fails here by name
    except (ReportFormatError, UnicodeDecodeError, OverflowError) as error:
        reason = printable(str(error), longest=400)
        raise _UnreadableError(f"{printable(name)} is not a report: {reason}") from error
    return report


def _shown(reports: Sequence[LeakReport], form: str) -> str:
    if form == "html":
        return render_reports_html(reports)
    if form == "json":
        if len(reports) == 1:
            return render_json(reports[0])
        return _json([report.to_dict() for report in reports])
    rule = "\n" + "\u2500" * WIDTH + "\n\n"
    return rule.join(render_text(report) for report in reports)


def _compared(comparison: Comparison, form: str) -> str:
    if form == "html":
        return compared_html(comparison)
    if form == "json":
        return _json(comparison.to_dict())
    return compared_text(comparison)


def _json(data: object) -> str:
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def _write(shown: str, form: str, output: str | None) -> None:
    if output is not None and output != "-":
        # Private, as the report was: it names files and types of the program.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - reason: a Path cannot open a descriptor
            file.write(shown.encode("utf-8"))
        return
    encoding = sys.stdout.encoding if form == "text" else "utf-8"  # a page declares its own
    sys.stdout.buffer.write(shown.encode(encoding or "utf-8", "backslashreplace"))
    sys.stdout.flush()
