"""Several leaks at once: each holder's share of the growth is what tracemalloc says that it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from memguard.leaks.report import LeakReport

ROOT = Path(__file__).parents[2]
NEAR = 0.15


@pytest.mark.stress
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "kinds",
    [
        ["str subclass", "array", "generator", "set"],
        ["exception", "Counter", "coroutine", "list subclass"],
        ["bytearray", "method of a buffer", "class", "tree"],
    ],
    ids=", ".join,
)
def test_each_holder_gets_its_share_of_the_growth(kinds: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.shares", *kinds],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    report = LeakReport.from_dict(seen["report"])
    truth = sorted(seen["truth"].values(), reverse=True)
    rows = [row for row in report.holders if ".Kept.kind_" in row.path]
    assert len(rows) == len(kinds), report.holders
    weights = sorted((row.bytes_per_entry or 0 for row in rows), reverse=True)
    assert weights == pytest.approx(truth, rel=NEAR)
    rates = sorted((row.bytes_per_minute or 0.0 for row in rows), reverse=True)
    shares = [rate / sum(rates) for rate in rates]
    assert shares == pytest.approx([each / sum(truth) for each in truth], rel=NEAR)
    for row in rows:
        assert row.bytes_per_entry_error is not None
