"""Runs pytest in a process of its own, with the plugin loaded once, whether installed or not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

SOURCE = Path(__file__).parents[1] / "src"
TIMEOUT = 150
PLUGIN = "memguard.integrations.testing.plugin"


@dataclass(frozen=True)
class Case:
    """One test of the inner pytest, from its JUnit report."""

    outcome: str
    """passed, failed, error, skipped."""
    text: str
    """Message and details of what went wrong."""
    properties: dict[str, str]


@dataclass(frozen=True)
class Result:
    code: int
    output: str
    cases: dict[str, Case]

    def outcomes(self) -> dict[str, str]:
        return {name: case.outcome for name, case in self.cases.items()}


def run_pytest(
    folder: Path,
    source: str,
    *args: str,
    plugins: Sequence[str] = (PLUGIN,),
    autoload: bool = False,
    path: Sequence[str] = (),
    env: dict[str, str] | None = None,
    ini: str = "",
    conftest: str = "",
) -> Result:
    """Run pytest on *source*, a file ``test_it.py`` in *folder*."""
    (folder / "test_it.py").write_text(textwrap.dedent(source), "utf-8")
    (folder / "conftest.py").write_text(textwrap.dedent(conftest), "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n" + textwrap.dedent(ini), "utf-8")
    junit = folder / "junit.xml"
    junit.unlink(missing_ok=True)
    load = [] if autoload else [part for name in plugins for part in ("-p", name)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *load, "-p", "no:cacheprovider", "-q"),
            *(f"--junitxml={junit}", "-o", "junit_family=xunit1", *args),
        ],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            "PYTHONPATH": os.pathsep.join([str(SOURCE), *path]),
            # The small heap of a pytest without other plugins is quick to look at.
            **({} if autoload else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
            **(env or {}),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    cases = _cases(junit) if junit.exists() else {}
    return Result(done.returncode, done.stdout + done.stderr, cases)


def _cases(junit: Path) -> dict[str, Case]:
    found = {}
    for node in ET.parse(junit).getroot().iter("testcase"):  # noqa: S314 - reason: pytest's own file
        outcome, text = "passed", ""
        for kind in ("failure", "error", "skipped"):
            for wrong in node.findall(kind):
                outcome = {"failure": "failed"}.get(kind, kind)
                text += f"{wrong.get('message')}\n{wrong.text}\n"
        properties = {
            entry.get("name", ""): entry.get("value", "") for entry in node.iter("property")
        }
        found[re.sub(r"^.*\.", "", node.get("name", ""))] = Case(outcome, text, properties)
    return found
