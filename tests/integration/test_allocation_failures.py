"""No single allocation that fails leaves a detector, a monitor or a relief run stuck or tracing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).parent.parent / "allocation_failures.py"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None,
    reason="this interpreter comes without _testcapi, which makes allocations fail",
)


def spoilt(operation: str, *counts: int) -> str:
    done = subprocess.run(
        [sys.executable, str(CHILD), operation, *map(str, counts)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("operation", ["tick", "monitor", "relief", "look"])
def test_what_one_failed_allocation_interrupts_goes_on_afterwards(operation: str) -> None:
    assert spoilt(operation, 1, 401, 10) == ""


def test_a_look_that_one_failed_allocation_ends_leaves_no_tracing_on() -> None:
    assert spoilt("check", 1, 401, 50) == ""


@pytest.mark.stress
@pytest.mark.parametrize("operation", ["tick", "monitor", "relief", "look"])
def test_none_of_four_hundred_failed_allocations_ends_what_goes_on(operation: str) -> None:
    assert spoilt(operation, 1, 401, 1) == ""


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, 26, 5))
def test_none_of_four_hundred_failed_allocations_spoils_a_look(first: int) -> None:
    for begin in range(first, first + 5):
        assert spoilt("check", begin, 401, 25) == ""
