"""What every test gets: a check that it left nothing behind, and a clock that it can move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clock import FakeClock
from tests.residue import Residue, stop_janitor


@pytest.fixture(autouse=True)
def no_residue() -> Iterator[None]:
    """Fail a test that leaves a thread, hook, handler or changed setting in the process."""
    before = Residue.take()
    yield
    stop_janitor()
    changes = Residue.take().changes_since(before)
    assert not changes, "left behind by this test:\n  " + "\n  ".join(changes)


@pytest.fixture
def fake_clock() -> FakeClock:
    """Return a clock at 1000 seconds that only moves when told."""
    return FakeClock()
