"""The command ``memguard``: run a program under watch, read and compare reports."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from memguard._version import __version__
from memguard.cli import reporting, running

_EPILOG = """\
examples:
  memguard run app.py --port 8000        watch a program that cannot be edited
  memguard run -m uvicorn shop:app       the same for a module
  memguard report memguard-reports       the reports of a directory, as text
  memguard report leak-1f.json -o leak.html
  memguard report --compare old.json new.json

'memguard COMMAND --help' tells more, and the exit codes.
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
        own, target = running.split(given[1:])
        return running.command(commands["run"], parser.parse_args(["run", *own]), target)
    options = parser.parse_args(given)
    if options.command == "report":
        return reporting.command(commands["report"], options)
    if options.command == "version":
        sys.stdout.write(_version() + "\n")
        return 0
    parser.print_help(sys.stderr)
    return 2


def _version() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"memguard {__version__} ({python}, {platform.system()} {platform.machine()})"


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    # Names are never abbreviated: an option of the program that is run must not become ours.
    parser = argparse.ArgumentParser(
        prog="memguard",
        description="Name the line that leaks and the object that holds it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    made = {name: module.add_parser(commands) for name, module in _COMMANDS.items()}
    commands.add_parser("version", help="the versions of memguard and Python", allow_abbrev=False)
    return parser, made


_COMMANDS = {"run": running, "report": reporting}
