"""
Type checkers see what users see: the files beside this one, by mypy and by pyright.

Each use states its type with ``assert_type``, which no `Any` passes; each mistake is marked with
a ``type: ignore`` that both tools report when there is nothing to ignore.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

USES = Path(__file__).parent
ROOT = USES.parents[1]
CHECKERS = {
    "mypy": ["-m", "mypy"],
    "pyright": ["-m", "pyright", "--project", str(ROOT), "--pythonpath", sys.executable],
}
pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]  # mypy reads the whole package


def check(checker: str, *files: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed; it is of the dependency group 'types'")
    return subprocess.run(
        [sys.executable, *CHECKERS[checker], *map(str, files)],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_use_has_its_type_and_every_mistake_is_reported(checker: str) -> None:
    done = check(checker, *sorted(set(USES.glob("*.py")) - {Path(__file__)}))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(
    "use",
    [
        "assert_type(memguard.size_of([]), str)",
        "memguard.install(limt=1)",
        "memguard.size_of([])  # type: ignore[call-arg]",
    ],
)
def test_a_wrong_expectation_fails(tmp_path: Path, checker: str, use: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(f"from typing import assert_type\nimport memguard\n{use}\n", "utf-8")
    done = check(checker, file)
    assert done.returncode == 1
    assert "wrong.py:3" in done.stdout
