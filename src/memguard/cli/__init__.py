"""The command ``memguard``: watch a program, view it live, read and compare reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from memguard.cli import demo, report, run, top, version

EPILOG = """\
examples:
  memguard demo                          a leak, found while you watch
  memguard run app.py --port 8000        watch a program without editing it
  memguard run -m uvicorn shop:app       the same for a module
  memguard top                           look at a process that runs memguard
  memguard report memguard-reports       the reports of a directory, as text
  memguard report leak-1f.json -o leak.html
  memguard report --compare old.json new.json

'memguard COMMAND --help' shows more, and the exit codes.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command and return its exit code.

    ``memguard run`` passes on what the program that it runs raises, ``SystemExit`` included.

    Args:
        arguments: Of the command line, without the program's name; None takes ``sys.argv``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parsers()
    if given[:1] == ["run"]:
        own, target = run.split(given[1:])
        return run.command(commands["run"], parser.parse_args(["run", *own]), target)
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    code: int = _COMMANDS[options.command].command(commands[options.command], options)
    return code


_COMMANDS: dict[str, Any] = {
    "run": run,
    "report": report,
    "top": top,
    "demo": demo,
    "version": version,
}


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    # Names are never abbreviated: an option of the program that is run must not become ours.
    shared: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser = argparse.ArgumentParser(
        prog="memguard",
        description="Name the line that leaks and the object that holds it.",
        epilog=EPILOG,
        **shared,
    )
    parser.add_argument("--version", action="version", version=version.line())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parsers = {}
    for name, module in _COMMANDS.items():
        parsers[name] = commands.add_parser(
            name,
            usage=getattr(module, "USAGE", None),
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            **shared,
        )
        module.add_options(parsers[name])
    return parser, parsers
