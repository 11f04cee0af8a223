"""What a table needs for an entry, over its growth: against CPython's own tables, as they grow."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded.sizing import bytes_per_entry, shallow_size

STEPS = 40
"""Sizes looked at, evenly in the logarithm, while the table grows by sixteen times."""


def add_number(container: Any, number: int) -> None:
    container[number] = None


def add_name(container: Any, number: int) -> None:
    container[f"visitor {number}"] = None


GROWING: dict[str, tuple[Callable[[], Any], Callable[[Any, int], object]]] = {
    "dict of numbers": (dict, add_number),
    "dict of names": (dict, add_name),
    "defaultdict": (lambda: collections.defaultdict(list), add_number),
    "Counter": (collections.Counter, add_name),
    "OrderedDict": (collections.OrderedDict, add_number),
    "set": (set, lambda container, number: container.add(number)),
    "list": (list, lambda container, number: container.append(number)),
    "deque": (collections.deque, lambda container, number: container.append(number)),
}


def weigh_as_it_grows(
    make: Callable[[], Any], add: Callable[[Any, int], object], first: int
) -> tuple[float, list[float]]:
    """Return the mean bytes an entry, and what is said of them at each size."""
    container = make()
    sizes = {round(first * 16 ** (step / STEPS)) for step in range(STEPS)}
    real, said = [], []
    for number in range(max(sizes)):
        add(container, number)
        if len(container) in sizes:
            real.append(shallow_size(container) / len(container))
            said.append(bytes_per_entry(container, len(container)))
    return sum(real) / len(real), said


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("first", [1_000, 4_000])
def test_what_is_said_at_any_size_is_the_mean_over_the_growth(name: str, first: int) -> None:
    mean, said = weigh_as_it_grows(*GROWING[name], first)
    assert said == pytest.approx([mean] * len(said), rel=0.13)
    assert sum(said) / len(said) == pytest.approx(mean, rel=0.05)


def test_a_table_that_was_larger_before_weighs_what_it_does_now() -> None:
    entries = dict.fromkeys(range(50_000))
    for key in range(48_000):
        del entries[key]
    assert bytes_per_entry(entries, len(entries)) == shallow_size(entries) / 2_000
    members = set(range(50_000))
    for key in range(48_000):
        members.discard(key)
    assert bytes_per_entry(members, len(members)) == shallow_size(members) / 2_000


@pytest.mark.parametrize("container", [{}, set(), [], collections.deque(), bytearray()])
def test_nothing_is_needed_for_no_entries(container: Any) -> None:
    assert bytes_per_entry(container, 0) == 0


def test_a_small_container_weighs_what_it_does_now() -> None:
    members = set(range(400))
    assert bytes_per_entry(members, 400) == shallow_size(members) / 400
