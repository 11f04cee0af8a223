"""Garbage in cycles is found among the young objects before anything is collected."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.leaks.evidence import garbage
from memguard.leaks.evidence.garbage import Collector, find_garbage
from memguard.lifecycle import locks

ALL = 2_000
"""Cycles made, each of a few objects."""


class Node:
    """Refers to itself."""

    def __init__(self, number: int) -> None:
        self.rows = [f"{number}-{k}" for k in range(20)]
        self.me = self


class Parent:
    """In a cycle through a list, a tuple and a dict that stands apart."""

    def __init__(self) -> None:
        self.children = [Child(self)]


class Child:
    """Knows its parent."""

    def __init__(self, parent: Parent) -> None:
        vars(self)["parent"] = (parent,)


def fail() -> None:
    """Leave a frame that only the traceback of its own error holds."""
    rows = ["row"] * 10
    try:
        rows[11]
    except IndexError as error:
        kept = error  # noqa: F841 - reason: the cycle under test


def close_over(number: int) -> None:
    """Leave a function that refers to itself."""
    text = f"{number}" * 50

    def call() -> Any:
        return call, text


@pytest.fixture(autouse=True)
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.mark.parametrize(
    ("make", "kind", "cycle"),
    [
        (Node, "tests.heap.test_garbage.Node", ".me"),
        (lambda _: Parent(), "tests.heap.test_garbage.Parent", ".parent[…].children[…]"),
        (lambda _: fail(), "frame", None),
        (close_over, "function", None),
    ],
    ids=["itself", "parent and child", "traceback", "closure"],
)
def test_cycles_that_nothing_reaches_are_garbage(
    make: Callable[[int], object], kind: str, cycle: str | None
) -> None:
    for number in range(ALL):
        make(number)
    found = find_garbage(ALL)
    assert found is not None
    assert found.is_garbage(kind)
    assert found.cycle is not None
    if cycle is not None:
        assert cycle in found.cycle * 2, "it may begin anywhere"


def test_looking_for_garbage_frees_none_of_it() -> None:
    for number in range(ALL):
        Node(number)
    names = [find_garbage(10 * ALL), find_garbage(10 * ALL)]
    assert all(found is not None and found.is_garbage(f"{__name__}.Node") for found in names)
    assert sum(type(obj) is Node for obj in gc.get_objects()) == ALL


def test_what_a_name_a_thread_or_a_tuple_holds_is_no_garbage() -> None:
    kept = [Node(number) for number in range(ALL)]
    in_tuples = tuple((Node(number),) for number in range(ALL))
    found = find_garbage(10 * ALL)
    assert found is not None
    assert found.share("tests.heap.test_garbage.Node") == 0.0
    del kept, in_tuples


def test_garbage_weighs_what_is_given_back_when_it_is_collected() -> None:
    tracemalloc.start()
    try:
        for number in range(ALL):
            Node(number)
        found = find_garbage(10 * ALL)
        before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        freed = before - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.bytes == pytest.approx(freed, rel=0.15)


def test_a_program_at_work_makes_no_garbage_of_what_it_uses() -> None:
    """References move meanwhile, objects die of themselves, and the collector runs."""
    gc.enable()
    held: dict[int, Any] = {}
    ended = threading.Event()

    def work() -> None:
        number = 0
        while not ended.wait(0):
            node = Node(number)
            node.me = node.rows  # type: ignore[assignment] # reason: no cycle
            held[number % 500] = {"node": [node], "pair": (node, [number])}
            number += 1

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        found = [find_garbage(5_000) for _ in range(5)]
    finally:
        ended.set()
        for thread in threads:
            thread.join(20)
    assert all(each is not None and not each.share("dict") for each in found)
    assert all(each is not None and not each.share(f"{__name__}.Node") for each in found)


def test_where_objects_have_no_age_and_are_many_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "FREE_THREADED", True)
    monkeypatch.setattr(garbage, "MOST", 100)
    assert find_garbage(10) is None


@pytest.mark.parametrize(
    ("settings", "is_on"),
    [(Collector(), True), (Collector(enabled=False), False), (Collector(threshold=0), False)],
)
def test_a_threshold_of_0_is_a_collector_that_is_off(settings: Collector, *, is_on: bool) -> None:
    assert settings.is_on is is_on


def test_the_settings_of_the_collector_are_read() -> None:
    assert not garbage.collector().enabled
    thresholds = gc.get_threshold()
    gc.set_threshold(0)
    try:
        assert garbage.collector().threshold == 0
    finally:
        gc.set_threshold(*thresholds)
