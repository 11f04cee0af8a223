"""``memguard demo`` as a user has it after an installation without extras."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from memguard.cli.demo import MARK
from memguard.leaks.report import LeakReport

WITHOUT_EXTRAS = """
import sys
for name in ("rich", "starlette", "prometheus_client", "opentelemetry"):
    sys.modules[name] = None
from memguard.cli import main
sys.exit(main(sys.argv[1:]))
"""


def demo(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_EXTRAS, "demo", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "TMPDIR": str(cwd)},
    )


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Listen to SIGINT, which a job in the background of a shell and its children ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(120)
def test_it_finds_the_leak_and_leaves_the_repaired_program_alone(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json", "--timeout", "90s", "--output", "kept")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["found"], found["right"], found["false_alarms"]) == (True, True, 0)
    lines = (tmp_path / "kept" / "leaky" / "shop.py").read_text().splitlines()
    assert lines[found["line"] - 1].endswith(MARK)
    assert found["holder"] == "__main__.SESSIONS"
    leaky, repaired = found["leaky_curve"], found["repaired_curve"]
    assert leaky[-1][1] - leaky[0][1] > repaired[-1][1] - repaired[0][1]
    report = LeakReport.from_dict(found["report"])
    assert report.kind == "leak"
    page = tmp_path / "kept" / "leaky" / "reports" / f"leak-{report.id}.html"
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    summary = json.loads((tmp_path / "kept" / "leaky" / "summary.json").read_text())
    assert (summary["leaks"], summary["ended"]) == (1, 0)  # it was interrupted: it did not end
    assert json.loads((tmp_path / "kept" / "repaired" / "summary.json").read_text())["leaks"] == 0
    assert list((tmp_path / "kept" / "leaky" / "published").iterdir()) == []


def test_in_too_short_a_time_nothing_is_found_and_nothing_stays(tmp_path: Path) -> None:
    done = demo(tmp_path, "--timeout", "1s")
    assert (done.returncode, done.stderr) == (1, "")
    assert "not found in time" in done.stdout
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("interruptible")
def test_a_signal_ends_both_programs(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_EXTRAS, "demo"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # the signal is sent to it alone
    ) as process:
        assert process.stdout is not None
        while " s  " not in process.stdout.readline():
            assert process.poll() is None
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.send_signal(number)
        _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (code, "")
    assert not any(child.is_running() for child in children)
    assert list(tmp_path.iterdir()) == []
