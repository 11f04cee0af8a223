"""Each example is run, and none is forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(file for file in EXAMPLES.glob("*.py") if file.name != "__init__.py")
PACKAGES = sorted(file.parent for file in EXAMPLES.glob("*/__main__.py"))


def run(script: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def expected_output(script: Path) -> list[str]:
    """Return the lines that an example says it prints: the comment block after ``# Prints:``."""
    lines = iter(script.read_text("utf-8").splitlines())
    if not any(line == "# Prints:" for line in lines):
        return []
    block = []
    for line in lines:
        if not line.startswith("#"):
            break
        block.append(line.removeprefix("#").strip())
    return block


def runs_and_prints_what_it_says(script: Path, directory: Path) -> None:
    done = run(script, directory)
    assert (done.returncode, done.stderr) == (0, "")
    printed = [line.strip() for line in done.stdout.splitlines()]
    assert printed, "an example shows something"
    expected = expected_output(script)
    assert expected == printed or not expected


def has_a_test_of_its_own(package: Path) -> None:
    test = ROOT / "tests" / "integration" / f"test_{package.name}.py"
    assert test.is_file(), f"examples/{package.name} is not run by any test; write {test.name}"
    assert package.name in test.read_text("utf-8")


@pytest.mark.parametrize("example", [*SCRIPTS, *PACKAGES], ids=lambda example: example.stem)
def test_an_example_is_run(example: Path, tmp_path: Path) -> None:
    """A script here, as a reader would; one of many files by an integration test of its name."""
    if example.is_dir():
        has_a_test_of_its_own(example)
    else:
        runs_and_prints_what_it_says(example, tmp_path)


def test_nothing_below_examples_is_forgotten() -> None:
    known = {file.name for file in (*SCRIPTS, *PACKAGES)} | {"__init__.py", "__pycache__"}
    assert {file.name for file in EXAMPLES.iterdir()} <= known


def test_there_is_an_example() -> None:
    assert SCRIPTS or PACKAGES


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("# Prints:\n# one\n#   two\nprint('one'); print('two')\n", True),
        ("print('anything')\n", True),
        ("# Prints:\n# one\nprint('two')\n", False),
        ("print('one')\nraise SystemExit(3)\n", False),
        ("import sys\nprint('one'); print('trouble', file=sys.stderr)\n", False),
        ("a = 1\n", False),
    ],
)
def test_an_example_that_fails_is_seen(
    tmp_path: Path,
    source: str,
    right: bool,  # noqa: FBT001 - reason: a column of the table
) -> None:
    script = tmp_path / "example.py"
    script.write_text(source)
    if right:
        runs_and_prints_what_it_says(script, tmp_path)
    else:
        with pytest.raises(AssertionError):
            runs_and_prints_what_it_says(script, tmp_path)
