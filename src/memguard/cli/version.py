"""``memguard version``: the versions of memguard and Python."""

from __future__ import annotations

import argparse
import json
import platform

from memguard._version import __version__
from memguard.cli import terminal

HELP = "the versions of memguard and Python"
DESCRIPTION = "Show the versions of memguard and of the Python that runs it."
EPILOG = """\
examples:
  memguard version
  memguard version --json

exit codes:
  0   shown
  2   a wrong option
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``version``."""
    parser.add_argument("--json", action="store_true", help="as one line of JSON")


def command(_: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Show it, and return 0."""
    terminal.write((json.dumps(versions()) if options.json else line()) + "\n")
    return 0


def line() -> str:
    """Return it for people."""
    found = versions()
    python = f"{found['implementation']} {found['python']}"
    return f"memguard {found['memguard']} ({python}, {found['system']} {found['machine']})"


def versions() -> dict[str, str]:
    """Return it for scripts."""
    return {
        "memguard": __version__,
        "implementation": platform.python_implementation(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }
