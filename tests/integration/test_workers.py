"""The example of workers, as a reader runs it: examples/workers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.gunicorn_server import EXAMPLE, ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs fork")


def test_the_example_shows_workers_replaced_and_every_request_answered() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    *replaced, answers = done.stdout.splitlines()
    assert len(replaced) >= 3
    assert all("more than a fresh worker needs" in line for line in replaced)
    assert answers.startswith("answers by status: {200: ")
