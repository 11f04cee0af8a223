"""What is registered is called in order, is bounded, and is taken back by its handle."""

from __future__ import annotations

import pytest

from memguard.errors import CapacityError
from memguard.lifecycle.registry import Registry


def test_entries_stay_in_the_order_of_their_registration() -> None:
    registry: Registry[str] = Registry(10, "things")
    first, _, third = (registry.add(name) for name in "abc")
    assert (list(registry), len(registry)) == (["a", "b", "c"], 3)
    first.close()
    registry.add("d")
    assert list(registry) == ["b", "c", "d"]
    assert third.entry == "c"


def test_a_registration_is_taken_back_once_and_at_the_end_of_a_block() -> None:
    registry: Registry[str] = Registry(10, "things")
    with registry.add("a") as registration, registry.add("a"):
        registration.close()
        registration.close()
        assert list(registry) == ["a"], "the other one is of an equal entry"
    assert list(registry) == []


def test_more_than_the_bound_is_refused_until_one_is_closed() -> None:
    registry: Registry[int] = Registry(2, "things")
    first = registry.add(1)
    registry.add(2)
    with pytest.raises(CapacityError, match="2 things are registered; close the registrations"):
        registry.add(3)
    first.close()
    registry.add(3)
    assert list(registry) == [2, 3]


def test_who_iterates_may_change_the_registry() -> None:
    """A callback that closes its own registration, or adds another, changes the next round only."""
    registry: Registry[int] = Registry(10, "things")
    registrations = [registry.add(number) for number in range(3)]
    seen = []
    for number in registry:
        seen.append(number)
        registrations[number].close()
        registry.add(9)
    assert seen == [0, 1, 2]
    assert list(registry) == [9, 9, 9]
