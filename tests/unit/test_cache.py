"""BoundedCache: the bound, the order, expiry, and who is told."""

from __future__ import annotations

import pytest

from memguard.bounded import inventory
from memguard.bounded.cache import BoundedCache
from memguard.errors import ConfigError
from tests.clock import FakeClock


def test_the_least_recently_used_entry_leaves_first() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache["a"] = 1
    cache["b"] = 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert dict(cache) == {"a": 1, "c": 3}


def test_an_expired_entry_is_neither_found_nor_counted(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, ttl=10, timer=fake_clock)
    cache["a"] = 1
    fake_clock.advance(10)
    assert cache.get("a") is None
    assert len(cache) == 0


def test_removals_are_told_with_their_cause(fake_clock: FakeClock) -> None:
    told: list[tuple[str, int, str]] = []
    cache: BoundedCache[str, int] = BoundedCache(
        1, ttl=10, timer=fake_clock, on_removal=lambda k, v, cause: told.append((k, v, cause))
    )
    cache["a"] = 1
    cache["a"] = 2
    cache["b"] = 3
    del cache["b"]
    assert told == [("a", 1, "replaced"), ("a", 2, "size"), ("b", 3, "explicit")]


def test_a_cache_is_listed_under_its_name() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, name="sessions")
    assert inventory.names()[id(cache)] == ("sessions", "BoundedCache")


def test_a_cache_without_a_bound_is_refused() -> None:
    with pytest.raises(ConfigError, match="maxsize or maxbytes is required: BoundedCache refuses"):
        BoundedCache()
