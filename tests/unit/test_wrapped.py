"""BoundedCache.wrap: an existing mapping gets lock, counts, bound, name and relief, and stays."""

from __future__ import annotations

import time
from typing import Any

import cachetools
import pytest

from memguard.bounded import inventory
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.wrapped import WrappedCache
from memguard.errors import ConfigError, LifecycleError


def test_the_object_stays_the_one_that_others_hold() -> None:
    existing: dict[str, int] = {"a": 1}
    guarded = BoundedCache.wrap(existing, maxsize=3, name="sessions")
    guarded["b"] = 2
    assert existing == {"a": 1, "b": 2}
    assert guarded.existing is existing
    assert isinstance(guarded, WrappedCache)
    assert isinstance(guarded, inventory.Reclaimable)
    assert inventory.names()[id(existing)] == ("sessions", "dict")
    assert inventory.names()[id(guarded)] == ("sessions", "dict")


def test_a_dict_gets_a_bound_and_its_oldest_entries_leave() -> None:
    existing: dict[int, int] = {}
    told: list[Any] = []
    guarded = BoundedCache.wrap(existing, maxsize=3, on_removal=lambda *event: told.append(event))
    for number in range(5):
        guarded[number] = number
    assert list(existing) == [2, 3, 4]
    assert told == [(0, 0, "size"), (1, 1, "size")]


def test_a_large_dict_is_kept_near_its_bound_at_little_cost() -> None:
    existing = dict.fromkeys(range(5000))
    guarded = BoundedCache.wrap(existing, maxsize=5000)
    guarded["new"] = None  # type: ignore[index]  # reason: a test reaches past the types
    assert 4950 < len(existing) <= 5000
    assert "new" in existing  # type: ignore[comparison-overlap]


def test_what_others_put_in_is_noticed_by_the_janitor() -> None:
    existing: dict[int, int] = {}
    guarded = BoundedCache.wrap(existing, maxsize=10)
    existing.update((number, number) for number in range(100))
    end = time.monotonic() + 30
    while len(existing) > 10:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert guarded.statistics().removals["size"] == 90


def test_a_cachetools_cache_keeps_its_own_policy() -> None:
    class Fickle(cachetools.LFUCache[str, int]):
        """The user's own."""

    existing = Fickle(2)
    told: list[Any] = []
    guarded = BoundedCache.wrap(existing, on_removal=lambda *event: told.append(event))
    guarded.update(a=1, b=2)
    for _ in range(3):
        assert guarded["a"] == 1
    guarded["c"] = 3
    assert dict(existing) == {"a": 1, "c": 3}
    assert told == [("b", 2, "size")]
    statistics = guarded.statistics()
    assert (statistics.hits, statistics.policy, statistics.maxsize) == (3, "Fickle", 2)
    assert statistics.implementation == "wrapped"
    assert guarded.currsize == 2


def test_expiry_of_a_cachetools_cache_is_told() -> None:
    now = [0.0]
    existing: Any = cachetools.TTLCache(5, ttl=10, timer=lambda: now[0])
    told: list[Any] = []
    guarded = BoundedCache.wrap(existing, on_removal=lambda *event: told.append(event))
    guarded["a"] = 1
    now[0] = 11
    guarded["b"] = 2
    assert told == [("a", 1, "expired")]
    now[0] = 30
    guarded._sweep()
    assert told[1:] == [("b", 2, "expired")]


def test_the_missing_hook_of_a_subclass_still_works() -> None:
    class Squares(cachetools.LRUCache[int, int]):
        def __missing__(self, key: int) -> int:
            self[key] = key * key
            return key * key

    guarded = BoundedCache.wrap(Squares(3))
    assert guarded[3] == 9
    assert guarded.get(4) is None
    with pytest.raises(KeyError):
        BoundedCache.wrap({}, maxsize=1)["a"]  # type: ignore[index]  # reason: a test reaches past the types


def test_every_way_out_is_counted_and_told() -> None:
    existing: dict[str, int] = {}
    told: list[Any] = []
    guarded = BoundedCache.wrap(existing, maxsize=9, on_removal=lambda *event: told.append(event))
    guarded.update(a=1, b=2, c=3, d=4, e=5)
    guarded["a"] = 9
    assert guarded.pop("a") == 9
    assert guarded.pop("a", 0) == 0
    with pytest.raises(KeyError):
        del guarded["a"]
    assert guarded.popitem() == ("b", 2)
    assert guarded.invalidate(lambda _, value: value == 3) == 1
    assert guarded.shrink(fraction=0.5).items == 1
    guarded.clear()
    assert [cause for _, _, cause in told] == [
        "replaced",
        "explicit",
        "explicit",
        "explicit",
        "pressure",
        "explicit",
    ]
    assert sum(guarded.statistics().removals.values()) == len(told)
    with pytest.raises(KeyError, match="is empty"):
        guarded.popitem()


def test_relief_by_bytes_goes_by_the_average() -> None:
    existing = {number: bytes(1000) for number in range(100)}
    guarded = BoundedCache.wrap(existing, maxbytes="50KiB")
    guarded[100] = bytes(1000)
    assert 40 < len(existing) < 50
    footprint = guarded.footprint()
    assert footprint.bytes is not None
    assert 40_000 < footprint.bytes <= 51_200
    assert guarded.reclaim(to_bytes=20_000).items > 20
    guarded.resize(3)
    assert len(guarded) == 3


def test_loading_works_as_in_a_cache_of_ours() -> None:
    guarded = BoundedCache.wrap({}, maxsize=3)  # type: ignore[var-annotated]  # reason: a test reaches past the types
    assert [guarded.get_or_load("abc", len) for _ in range(2)] == [3, 3]
    assert guarded.statistics().loads == 1
    assert guarded.warm(["a", "abc"], len).present == 1
    assert guarded.get_or_load("abc", len, refresh_after=1) == 3, "age unknown: never stale"
    with pytest.raises(ConfigError, match="has its own lifetimes"):
        guarded.get_or_load("x", len, ttl=3)


def test_closing_lets_go_of_the_mapping() -> None:
    existing = {"a": 1}
    with BoundedCache.wrap(existing, maxsize=3) as guarded:
        guarded["b"] = 2
    assert existing == {"a": 1, "b": 2}
    assert id(existing) not in inventory.names()
    with pytest.raises(LifecycleError, match="is closed"):
        guarded["c"] = 3
    assert guarded._sweep() is None


def test_errors_of_the_callback_follow_the_policy(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise LookupError

    logs = BoundedCache.wrap({}, maxsize=1, on_removal=fail)  # type: ignore[var-annotated]  # reason: a test reaches past the types
    logs.update(a=1, b=2, c=3)
    assert logs.statistics().callback_errors == 2
    assert caplog.text.count("cache.on_removal_failed") == 1
    raises = BoundedCache.wrap({}, maxsize=1, on_removal=fail, on_error="raise")  # type: ignore[var-annotated]  # reason: a test reaches past the types
    raises["a"] = 1
    with pytest.raises(LookupError):
        raises["b"] = 2
    assert list(raises) == ["b"]


@pytest.mark.parametrize(
    ("existing", "options", "error", "message"),
    [
        ({}, {}, ConfigError, "maxsize or maxbytes is required: wrap refuses to be unbounded"),
        ([], {"maxsize": 1}, TypeError, r"wrap needs a dict or a cachetools cache \(got list\)"),
        (BoundedCache(1), {}, TypeError, "not guarded yet"),
        ({}, {"maxsize": 0}, ConfigError, "maxsize must be >= 1"),
        ({}, {"maxsize": 1, "on_error": "x"}, ConfigError, "on_error must be"),
        ({}, {"maxsize": 1, "name": ""}, ConfigError, "name must not be empty"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(
    existing: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BoundedCache.wrap(existing, **options)


def test_shrink_wants_exactly_one_goal() -> None:
    with pytest.raises(TypeError, match="exactly one"):
        BoundedCache.wrap({}, maxsize=1).shrink()
    assert "of=dict" in repr(BoundedCache.wrap({}, maxsize=1))
