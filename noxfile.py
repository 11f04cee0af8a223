"""
The checks that need more than one interpreter or environment: ``nox``, or ``nox -s tests-3.12``.

``make test`` is the everyday run; this is the one before a release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
PIP = "pip>=25.1"  # the first that installs dependency groups (PEP 735)

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False  # a missing one is skipped, by name
nox.options.sessions = ["lint", "types", "tests", "lowest"]


def _find_interpreters() -> None:
    """Make ``pythonX.Y`` mean one that runs: pyenv's stand-in on the PATH may only say it does."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in PYTHONS:
        name = shutil.which(f"python{version}")
        homes = sorted(installed.glob(f"{version}.*/bin/python{version}"))
        if homes and (name is None or not _runs(name)):
            os.environ["PATH"] = f"{homes[-1].parent}{os.pathsep}{os.environ['PATH']}"


def _runs(name: str) -> bool:
    return subprocess.run([name, "-c", ""], check=False, capture_output=True).returncode == 0


_find_interpreters()


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the whole suite on each CPython that is here."""
    session.install("--upgrade", PIP)
    session.install("--editable", ".[demo]", "--group", "tests")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the whole suite with the oldest runtime dependencies that pyproject.toml allows."""
    wanted = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("".join(line.replace(">=", "==") + "\n" for line in wanted), "utf-8")
    session.install("--upgrade", PIP)
    session.install("--editable", ".[demo]", "--group", "tests", "--constraint", str(constraints))
    session.run("python", "-m", "pip", "list")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and formatting."""
    session.install("--upgrade", PIP)
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("--upgrade", PIP)
    session.install("--editable", ".[demo]", "--group", "dev")
    session.run("mypy")
