"""The state of the heap: what may be asked, and what a collection gives back."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest

from memguard.leaks.evidence import heap_state
from tests.detecting import options


def test_a_state_is_numbers_of_this_process() -> None:
    found = heap_state.read_state(12.5)
    assert found.look.at == 12.5
    assert found.blocks > 1000
    assert found.modules > 50


def test_a_heap_above_max_objects_is_not_walked() -> None:
    refused = heap_state.refusal(replace(options(), max_objects=1), None)
    assert refused is not None
    assert refused.startswith("no census: ")
    assert refused.endswith("more than max_objects")


def test_where_little_memory_is_left_the_heap_is_not_walked() -> None:
    refused = heap_state.refusal(options(), 1024)
    assert refused == "no census: too little memory is left below the limit for it"
    assert heap_state.refusal(options(), 2**40) is None


def test_a_collection_says_about_how_much_it_gave_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap_state, "COLLECT_BLOCKS", 2**62)  # whatever other tests have left alive
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(10**9)  # enabled, but not on its own account
    try:
        for _ in range(20_000):
            cycle: list[Any] = [bytearray(200)]
            cycle.append(cycle)
        del cycle
        assert (heap_state.collect() or 0) > 1_000_000
    finally:
        gc.set_threshold(*thresholds)


def test_a_collector_that_is_off_is_somebodys_decision() -> None:
    gc.disable()
    try:
        assert heap_state.collect() is None
    finally:
        gc.enable()


def test_a_large_heap_is_not_collected_to_see_what_it_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heap_state, "COLLECT_BLOCKS", 10)
    assert heap_state.collect() is None
