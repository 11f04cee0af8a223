"""``memguard top``: a live view of the memory of a process that runs memguard."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from memguard.cli import terminal
from memguard.cli.top import view
from memguard.cli.top.sources import NoGuardError, Snapshot, Source, UrlSource, choose
from memguard.cli.top.view import Trail, glyphs_for
from memguard.errors import ConfigError, MissingExtraError
from memguard.report.publish import reader
from memguard.report.render.words import printable
from memguard.units import parse_seconds

HELP = "a live view of a process that runs memguard"
DESCRIPTION = "Show memory, containers, alerts and leak reports of a running process."
EPILOG = """\
examples:
  memguard top                     the only process that publishes
  memguard top 4242                one of several
  memguard top --list              which ones there are
  memguard top --once              one picture, as text
  memguard top --once --json       the same for a script
  memguard top --url http://127.0.0.1:8000/ops   a process that serves the health routes
  memguard top --interval 5s 4242   one every five seconds; into a file or pipe as text

A process publishes under 'memguard run', with MEMGUARD_PUBLISH=1 and memguard.install(), or with
MemoryGuard(publish=True). If the health routes need a token, it is taken from MEMGUARD_TOKEN.
The live view needs rich: pip install 'memguard-py[top]'; q ends it.

exit codes:
  0   shown; ended by q or ctrl-C, or because the process has ended
  1   no process to show: none publishes or answers, or several do and none was chosen
  2   a wrong option, or rich is missing
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``top``."""
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="which process")
    parser.add_argument(
        "--url", help="where the process serves memguard's health routes (http or https)"
    )
    parser.add_argument("--name", help="the guard, if the process has several")
    parser.add_argument(
        "--directory", metavar="DIR", help="where it publishes, if not in the default directory"
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        default="1s",
        help="seconds between two snapshots (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="print one snapshot as text")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON for each snapshot"
    )
    parser.add_argument("--list", action="store_true", help="list the processes that publish")


def command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Show what was requested, and return the exit code."""
    try:
        interval = parse_seconds(options.interval, name="--interval")
    except ConfigError as error:
        parser.error(str(error))
    if interval < 0.1:
        parser.error(f"--interval must be at least 0.1 seconds (got {options.interval!r})")
    directories = reader.directories(os.environ)
    if options.directory is not None:
        directories = (Path(options.directory),)
    local = (options.pid, options.name, options.directory, options.list or None)
    if options.url is not None and local != (None,) * 4:
        parser.error("--url cannot be combined with PID, --name, --directory or --list")
    try:
        if options.list:
            return _list(directories, as_json=options.json)
        source = _source(parser, directories, options)
        return _show(source, interval, once=options.once, as_json=options.json)
    except NoGuardError as error:
        _say(parser, str(error))
        return 1
    except MissingExtraError as error:
        _say(parser, f"{error}; or see --once")
        return 2
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        terminal.discard_output()
        return 0


def _source(
    parser: argparse.ArgumentParser, directories: tuple[Path, ...], options: argparse.Namespace
) -> Source:
    if options.url is None:
        return choose(directories, options.pid, options.name)
    try:
        return UrlSource(options.url, token=os.environ.get("MEMGUARD_TOKEN") or None)
    except ConfigError as error:
        parser.error(str(error))


def _say(parser: argparse.ArgumentParser, text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"{parser.prog}: {printable(line, longest=400)}\n")


def _list(directories: tuple[Path, ...], *, as_json: bool) -> int:
    found = reader.look(directories)
    statuses = [one.status for one in found.guards]
    if as_json:
        terminal.write(json.dumps([status.to_dict() for status in statuses]) + "\n")
    elif statuses:
        terminal.write(view.listed(statuses))
    for trouble in found.troubles:
        sys.stderr.write(f"memguard top: {trouble}\n")
    if not statuses and not as_json:
        sys.stderr.write("memguard top: no process publishes\n")
    return 0 if statuses else 1


def _show(source: Source, interval: float, *, once: bool, as_json: bool) -> int:
    is_live = not once and not as_json and sys.stdout.isatty()
    if is_live and os.environ.get("TERM", "") not in ("dumb", "unknown"):
        from memguard.cli.top import live  # noqa: PLC0415 - reason: rich is an extra

        farewell = live.show(source, interval)
        if farewell is not None:
            sys.stderr.write(f"memguard top: {farewell}\n")
        return 0
    trail = Trail()
    snapshot = source.read()
    while True:
        trail.add(snapshot.status)
        terminal.write(_as_json(snapshot) if as_json else _as_text(snapshot, trail))
        if once:
            return 0
        time.sleep(interval)
        try:
            snapshot = source.read()
        except NoGuardError as error:
            sys.stderr.write(f"memguard top: {printable(str(error), longest=400)}\n")
            return 0
        if not as_json:
            terminal.write("\n")


def _as_json(snapshot: Snapshot) -> str:
    return json.dumps({**snapshot.status.to_dict(), "age_seconds": round(snapshot.age, 3)}) + "\n"


def _as_text(snapshot: Snapshot, trail: Trail) -> str:
    width = min(100, shutil.get_terminal_size((100, 30)).columns)
    return view.plain(
        snapshot.status,
        trail.points,
        age=snapshot.age,
        width=width,
        glyphs=glyphs_for(sys.stdout.encoding),
    )
