"""Bounds that an owner has declared."""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from typing import Any

import cachetools
import pytest

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.leaks.holders.bounds import declared_bound


class Owner:
    def __init__(self, **attributes: Any) -> None:
        self.entries: dict[int, int] = {}
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("_max_entries", "entries")

    def __init__(self) -> None:
        self.entries: list[int] = []
        self._max_entries = 50


class BoundedDict(dict[int, int]):
    capacity = 0

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity


class Stranger:
    """Its attributes are nobody's business."""

    def __init__(self) -> None:
        self.entries: list[int] = []

    @property
    def maxsize(self) -> int:
        raise AssertionError("a property was called")


def test_a_deque_with_a_maxlen_is_bounded() -> None:
    assert declared_bound([deque(maxlen=100)], 10) == 100
    assert declared_bound([deque()], 10) is None


def test_an_lru_cache_with_a_maxsize_is_bounded() -> None:
    @functools.lru_cache(maxsize=500)
    def bounded(key: int) -> int:
        return key

    @functools.cache
    def unbounded(key: int) -> int:
        return key

    assert declared_bound([bounded, {}], 10) == 500
    assert declared_bound([unbounded, {}], 10) is None


@pytest.mark.parametrize(
    "name",
    [
        "maxsize",
        "_maxsize",
        "max_size",
        "_Cache__maxsize",
        "capacity",
        "MAX_ENTRIES",
        "size_limit",
        "_maxconnections",
        "maxcached",
        "max_idle",
        "pool_max_size",
        "max_sessions",
        "_max_clients",
    ],
)
def test_an_owner_says_it_in_many_spellings(name: str) -> None:
    owner = Owner(**{name: 100})
    assert declared_bound([owner, vars(owner), owner.entries], 10) == 100
    assert declared_bound([owner, owner.entries], 10) == 100


@pytest.mark.parametrize(
    "name",
    [
        "max",
        "maximum_mood",
        "climax_size_",
        "limits",
        "maxsize_hint",
        "max_age",
        "max_retries",
        "cache_size",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    assert declared_bound([Owner(**{name: 100}), {}], 10) is None


@pytest.mark.parametrize(
    "value", [0, -1, None, "100", True, float("nan"), float("inf"), 9.5, 2**63 - 1]
)
def test_only_a_positive_number_that_is_not_reached_bounds(value: object) -> None:
    assert declared_bound([Owner(maxsize=value), {}], 10) is None


def test_slots_and_subclasses_of_dict_count() -> None:
    slotted = Slotted()
    assert declared_bound([slotted, slotted.entries], 10) == 50
    assert declared_bound([BoundedDict(64)], 10) == 64


def test_an_owner_far_above_does_not_bound() -> None:
    far = Owner(maxsize=100)
    assert declared_bound([far, {}, {}, {}, []], 10) is None


def test_a_property_is_not_asked() -> None:
    stranger = Stranger()
    assert declared_bound([stranger, stranger.entries], 10) is None


def test_the_caches_of_cachetools_are_bounded() -> None:
    cache: cachetools.LRUCache[int, int] = cachetools.LRUCache(maxsize=1000)
    data = vars(cache)["_Cache__data"]
    order = vars(cache)["_LRUCache__order"]
    assert isinstance(order, OrderedDict)
    assert declared_bound([cache, vars(cache), data], 10) == 1000
    assert declared_bound([cache, order], 10) == 1000


def test_a_cache_of_ours_has_the_bound_it_was_made_with() -> None:
    """One far beyond the memory there is keeps nothing from leaking: who judges must know it."""
    cache: BoundedCache[int, str] = BoundedCache(maxsize=10**9)
    cache[1] = "one"
    assert declared_bound([cache, cache._map], 1) == 10**9


def test_the_bound_of_a_cache_comes_from_itself_not_from_what_hangs_on_it() -> None:
    @functools.lru_cache(maxsize=10)
    def price(item: int) -> int:
        return item

    def strange() -> Any:
        raise AssertionError("inspecting runs nobody's code")

    vars(price)["cache_info"] = strange
    assert declared_bound([price], 5) == 10
