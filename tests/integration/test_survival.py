"""The workload of examples/survival under a real limit: it dies alone, and lives with a guard."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from examples.survival.contest import Outcome, contest, group, run
from examples.survival.plot import svg
from memguard.units import MiB

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(180),
]  # 24,000 requests twice, on a machine that may be busy
LIMIT = 300 * MiB
REQUESTS = 24_000


def test_what_dies_alone_finishes_with_a_guard_below_the_limit() -> None:
    """In a memory control group of 300 MiB; its caches and pool want 1.2 GiB."""
    with group(LIMIT) as path:
        if path is None:
            pytest.skip("this machine lets us make no version 1 memory group")
    bare, guarded = contest(("bare", "guarded"), limit=LIMIT, requests=REQUESTS)
    assert bare.ending == "SIGKILL"
    assert guarded.result is not None, guarded.log
    assert guarded.result["requests"] == REQUESTS
    assert guarded.result["peak"] < LIMIT
    assert guarded.result["hit_ratio"] > 0.05
    assert "ok > elevated" in guarded.result["level_changes"]
    assert len(guarded.result["level_changes"]) <= 6
    assert "pressure.changed" in guarded.log
    status = guarded.result["status"]
    assert status["pressure"]["limit"] == LIMIT
    assert status["monitor"]["errors"] == status["relief"]["errors"] == 0
    drawing = svg([bare, guarded], limit=LIMIT)
    assert "bare: SIGKILL" in drawing
    assert len(ET.fromstring(drawing).findall("{*}polyline")) == 2  # noqa: S314 - reason: ours


def test_under_a_bound_on_address_space_it_finishes_with_a_guard() -> None:
    guarded = run("guarded", limit=2 * LIMIT, requests=REQUESTS // 2, path=None)
    assert guarded.result is not None, guarded.log
    assert guarded.result["requests"] == REQUESTS // 2


def test_a_run_that_leaves_no_trace_is_still_drawn() -> None:
    nothing = Outcome(mode="bare", seconds=0.0, ending="exit 1", result=None, curve=(), log="")
    assert ET.fromstring(svg([nothing], limit=LIMIT)) is not None  # noqa: S314 - reason: ours
