"""Small programs with one planted leak each: the line and the holder must be named, or nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "leaky"
SPECIMENS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "driver")
LEAKY = [name for name in SPECIMENS if not name.startswith("clean_")]
CLEAN = [name for name in SPECIMENS if name.startswith("clean_")]


def reports_of(name: str, seconds: float, ratio: float) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "driver.py"), name, str(seconds), str(ratio)],
        capture_output=True,
        text=True,
        timeout=seconds + 40,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def planted(name: str) -> tuple[int, str]:
    """Return the line and the holder that the source of a specimen tells."""
    lines = (FOLDER / f"{name}.py").read_text("utf-8").splitlines()
    (line,) = (number for number, text in enumerate(lines, 1) if text.endswith("# <- allocates"))
    (holder,) = (text.split('"')[1] for text in lines if text.startswith('HOLDER = "'))
    return line, holder


@pytest.mark.stress
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", LEAKY)
def test_a_planted_leak_is_named_with_its_line_and_its_holder(name: str) -> None:
    line, holder = planted(name)
    (report,) = reports_of(name, seconds=30, ratio=1.03)
    assert report["kind"] == "leak"
    assert report["verdict"]["kind"] == "live_objects"
    first = report["suspects"][0]
    assert (Path(first["file"]).name, first["line"]) == (f"{name}.py", line)
    assert report["holders"][0]["path"].startswith(holder)
    assert report["holders"][0]["anchored"]
    assert first["held_by"] == report["holders"][0]["path"]


@pytest.mark.stress
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CLEAN)
def test_a_healthy_program_raises_no_alarm(name: str) -> None:
    assert [
        report for report in reports_of(name, seconds=5, ratio=1.3) if report["kind"] == "leak"
    ] == []


def test_every_specimen_is_either() -> None:
    assert len(LEAKY) >= 9
    assert len(CLEAN) >= 3
