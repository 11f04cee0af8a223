"""The benchmark of overhead: its arithmetic, its load, and one run too short to mean anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import overhead, shop_load

pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_the_spread_of_a_ratio_encloses_its_median(values: list[float]) -> None:
    found = overhead.ratio(values)
    assert found.minimum <= found.low <= found.median <= found.high <= found.maximum
    assert found.blocks == len(values)


@pytest.mark.parametrize(
    ("seconds_ratio", "pace", "lost"), [(1.0, 1, 0.0), (2.0, 1, 0.5), (1.01, 0.1, 0.000999)]
)
def test_throughput_lost_follows_from_time_and_pace(
    seconds_ratio: float, pace: float, lost: float
) -> None:
    assert overhead._lost(seconds_ratio, pace) == pytest.approx(lost, rel=1e-3)


def test_the_load_is_the_same_work_from_ever_new_visitors() -> None:
    first = shop_load.requests(200, first_visitor=0)
    second = shop_load.requests(200, first_visitor=200)
    assert shop_load.requests(200, first_visitor=0) == first
    assert [len(request) for request in first] == [len(request) for request in second]
    cookies = [
        line
        for request in first + second
        for line in request.split(b"\r\n")
        if line.startswith(b"cookie: ")
    ]
    assert len(cookies) == len(set(cookies)) > 150


def test_the_benchmark_measures_every_state_and_writes_its_machine(tmp_path: Path) -> None:
    """What it says of the loss is noise here: either exit code will do, a crash will not."""
    short = ["--blocks", "1", "--requests", "200", "--steady", "0.6", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead", *short],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "written to" in done.stdout, done.stderr
    (path,) = tmp_path.glob("overhead-*.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert done.returncode == (0 if document["accepted"] else 1), done.stderr
    states = [comparison["state"] for comparison in document["comparisons"]]
    assert states == ["control", "watching", "tracing", "stacks"]
    assert document["comparisons"][1]["ticks_per_second"] > 0
    assert document["own_count_at_interval"]["ticks"] > 0
    assert {"processor", "python", "date"} <= document["machine"].keys()
