"""What a guard knows, gathered for those who tell it."""

from __future__ import annotations

from memguard import BoundedCache, MemoryGuard
from memguard.report.state import Guarded, guard_state
from tests.waiting import wait_for


def test_a_guard_tells_everything_it_knows() -> None:
    cache: BoundedCache[int, int] = BoundedCache(maxsize=10, name="state")
    cache[1] = 1
    with MemoryGuard(limit="100GiB") as guard:
        wait_for(lambda: guard.monitor.pressure().limit)
        known: Guarded = guard
        found = guard_state(known)
    assert (found.name, found.running) == ("memguard", True)
    assert found.reading.rss
    assert found.pressure.limit
    assert found.detector is not None
    assert found.gc is not None
    assert [row.items for row in found.containers if row.name == "state"] == [1]


def test_what_is_left_out_is_none() -> None:
    with MemoryGuard(relief=False, leaks=False, gc_watch=False, history=False) as guard:
        found = guard_state(guard)
    assert (found.relief, found.detector, found.gc, found.reports) == (None, None, None, ())


def test_a_guard_that_was_never_started_says_so() -> None:
    assert not guard_state(MemoryGuard(leaks=False)).running
