"""A heap that is too large, or a limit that is too near, refuses every walk, not only the first."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded import inventory
from memguard.leaks.detector import LeakDetector
from memguard.leaks.finding.investigate import Investigation
from tests.detecting import options

KEPT: list[dict[str, list[int]]] = []


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of the collector that look at the whole heap, or at what objects hold."""
    counted: Counter[str] = Counter()

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted_call(*args: Any, **given: Any) -> Any:
            counted[name] += 1
            return call(*args, **given)

        return counted_call

    for name in ("get_objects", "get_referrers", "get_referents", "collect"):
        monkeypatch.setattr(gc, name, counting(name, getattr(gc, name)))
    return counted


def investigate(**chosen: Any) -> tuple[str, ...]:
    """Take evidence while a list grows, and return what was not looked at, and why."""
    investigation = Investigation(
        options(trace_seconds=0.2, max_objects=chosen.pop("max_objects", 10**7)),
        containers=inventory.names,
        growth_per_minute=1e6,
        **chosen,
    )
    try:
        investigation.look(0.0)
        KEPT.extend({"entry": [number]} for number in range(1000))
        investigation.begin(1.0)
        while not investigation.poll():
            KEPT.extend({"entry": [number]} for number in range(100))
            time.sleep(0.001)
        return tuple(investigation.finish().notes)
    finally:
        investigation.abandon()
        KEPT.clear()


def test_that_these_calls_are_how_the_heap_is_walked(walks: Counter[str]) -> None:
    investigate()
    assert walks["get_objects"] > 2
    assert walks["get_referents"] > 0


def test_a_heap_of_more_than_max_objects_is_not_walked_at_all(walks: Counter[str]) -> None:
    notes = investigate(max_objects=10_000)
    assert any("more than max_objects" in note for note in notes)
    assert walks["get_objects"] == walks["get_referrers"] == walks["get_referents"] == 0


def test_a_heap_is_not_walked_at_all_where_its_list_would_not_fit(walks: Counter[str]) -> None:
    notes = investigate(headroom=1 << 18)
    assert any("too little memory is left" in note for note in notes)
    assert walks["get_objects"] == walks["get_referrers"] == walks["get_referents"] == 0


def test_a_look_on_demand_is_refused_likewise(walks: Counter[str]) -> None:
    report = LeakDetector(max_objects=10_000, trace_seconds=0.1).check(seconds=0)
    assert any("more than max_objects" in note for note in report.limits)
    assert walks["get_objects"] == walks["get_referrers"] == walks["get_referents"] == 0
