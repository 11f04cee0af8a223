"""``memguard version``: which memguard this is, on which Python."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

from memguard._version import __version__
from memguard.cli import terminal

_EPILOG = """\
examples:
  memguard version
  memguard version --json

exit codes:
  0   shown
  2   a wrong option
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add ``version`` to the commands."""
    parser = terminal.add_command(
        commands,
        "version",
        help="the versions of memguard and Python",
        description="Show the versions of memguard and of the Python that runs it.",
        epilog=_EPILOG,
    )
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    return parser


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
