"""BoundedCache as a mapping: order, expiry, bounds, foreign keys, inspection."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import operator
import pickle
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cachetools
import pytest

from memguard.bounded import inventory, sizing
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.stats import CacheStatistics
from memguard.bounded.sizing import entries
from memguard.errors import ConfigError, LifecycleError, ValueTooLargeError
from memguard.lifecycle import janitor
from tests.clock import FakeClock


class Payload:
    """Something that can be weakly referenced."""


class Key:
    """A key with its own equality, and a hash shared by all of its kind."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other.name == self.name


# -- order --------------------------------------------------------------------------------------


def test_the_least_recently_used_entry_leaves_first() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache["a"] = 1
    cache["b"] = 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert dict(cache) == {"a": 1, "c": 3}


def test_the_order_is_exact_however_many_hits_lie_between_two_writes() -> None:
    """In an order that no approximation would keep."""
    cache: BoundedCache[Any, int] = BoundedCache(100)
    for number in range(100):
        cache[number] = number
    for _ in range(7):
        for number in reversed(range(100)):
            assert cache[number] == number
    cache["new"] = 0
    assert 99 not in cache
    assert 98 in cache


def test_looking_with_in_iterating_and_peeking_at_info_touches_nothing() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache["a"] = 1
    cache["b"] = 2
    assert "a" in cache
    assert list(cache.items()) == [("a", 1), ("b", 2)]
    assert list(cache.values()) == [1, 2]
    assert cache.info("a").hits == 0
    cache["c"] = 3
    assert "a" not in cache


def test_iterating_goes_over_a_snapshot() -> None:
    cache: BoundedCache[int, int] = BoundedCache(10)
    cache.update({1: 1, 2: 2})
    for key in cache:
        del cache[key]
        cache[key + 10] = 0
    assert set(cache) == {11, 12}


def test_s3fifo_keeps_what_is_used_through_a_scan_of_one_time_visitors() -> None:
    cache: BoundedCache[Any, int] = BoundedCache(100, policy="s3fifo")
    for _ in range(4):
        for number in range(50):
            if cache.get(("hot", number)) is None:
                cache["hot", number] = number
    for number in range(1000):
        cache["scan", number] = number
    assert sum(("hot", number) in cache for number in range(50)) == 50
    assert len(cache) == 100


def test_popitem_takes_the_least_recently_used_and_an_empty_cache_says_so() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.update(a=1, b=2)
    assert cache.get("a") == 1
    assert cache.popitem() == ("b", 2)
    assert cache.popitem() == ("a", 1)
    with pytest.raises(KeyError, match="BoundedCache is empty"):
        cache.popitem()


# -- keys ---------------------------------------------------------------------------------------


def test_keys_with_equal_hash_are_told_apart_by_their_own_equality() -> None:
    cache: BoundedCache[Key, int] = BoundedCache(10)
    for number, name in enumerate("abc"):
        cache[Key(name)] = number
    assert cache[Key("b")] == 1
    cache[Key("b")] = 9
    assert cache[Key("b")] == 9
    assert len(cache) == 3
    del cache[Key("a")]
    assert Key("a") not in cache
    assert cache.pop(Key("c")) == 2
    with pytest.raises(KeyError):
        cache[Key("c")]


def test_a_plain_and_a_foreign_key_that_are_equal_are_one_key() -> None:
    class Number(int):
        """An int whose equality could be anybody's."""

    cache: BoundedCache[Any, str] = BoundedCache(10)
    cache[1] = "plain"
    assert cache[Number(1)] == "plain"
    cache[Number(1)] = "updated"
    assert cache[1] == "updated"
    cache.clear()
    cache[Number(2)] = "foreign"
    assert cache[2] == "foreign"
    cache[2] = "updated"
    assert len(cache) == 1
    assert cache[Number(2)] == "updated"


def test_an_unhashable_key_is_a_type_error_everywhere() -> None:
    cache: BoundedCache[Any, int] = BoundedCache(10)
    uses: tuple[Callable[[], object], ...] = (
        lambda: cache[[]],
        lambda: cache.get([]),
        lambda: [] in cache,
        lambda: cache.pop([]),
        lambda: cache.set([], 1),
        lambda: operator.delitem(cache, []),
    )
    for use in uses:
        with pytest.raises(TypeError, match="unhashable"):
            use()


def test_equality_of_keys_may_wait_for_another_thread_that_uses_the_cache() -> None:
    """Equality never runs under the lock; if it did, this would be a deadlock."""
    cache: BoundedCache[Any, int] = BoundedCache(10)

    class Waits(Key):
        __hash__ = Key.__hash__

        def __eq__(self, other: object) -> bool:
            thread = threading.Thread(target=cache.__setitem__, args=("from elsewhere", 1))
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            return super().__eq__(other)

    cache[Waits("a")] = 1
    cache[Waits("b")] = 2
    assert cache[Waits("a")] == 1
    del cache[Waits("b")]
    assert len(cache) == 2


# -- expiry -------------------------------------------------------------------------------------


def test_an_expired_entry_is_neither_found_nor_counted(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, ttl=10, timer=fake_clock)
    cache["a"] = 1
    fake_clock.advance(9.9)
    assert cache["a"] == 1
    fake_clock.advance(0.1)
    assert cache.get("a") is None
    assert "a" not in cache
    assert list(cache) == []
    assert len(cache) == 0
    with pytest.raises(KeyError):
        del cache["a"]


def test_writing_renews_the_ttl_and_reading_does_not(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, ttl=10, timer=fake_clock)
    cache["written"] = cache["read"] = 1
    fake_clock.advance(6)
    cache["written"] = 2
    assert cache["read"] == 1
    fake_clock.advance(6)
    assert dict(cache) == {"written": 2}


def test_reading_renews_the_idle_limit(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(9, idle=10, timer=fake_clock)
    cache["used"] = cache["idle"] = 1
    for _ in range(3):
        fake_clock.advance(6)
        assert cache["used"] == 1
    assert list(cache) == ["used"]
    assert cache.info("used").expires_in == 10


def test_an_entry_can_have_a_ttl_of_its_own(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(9, ttl=10, timer=fake_clock)
    cache.set("short", 1, ttl=2)
    cache.set("long", 2, ttl=100)
    cache.set("forever", 3, ttl=None)
    cache["default"] = 4
    fake_clock.advance(5)
    assert set(cache) == {"long", "forever", "default"}
    fake_clock.advance(50)
    assert set(cache) == {"long", "forever"}
    fake_clock.advance(1000)
    assert set(cache) == {"forever"}


def test_a_cache_made_without_expiry_can_give_single_entries_a_ttl(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(9, timer=fake_clock)
    cache["stays"] = 1
    cache.set("goes", 2, ttl="1s")
    fake_clock.advance(2)
    assert dict(cache) == {"stays": 1}
    cache["goes"] = 3
    fake_clock.advance(1000)
    assert dict(cache) == {"stays": 1, "goes": 3}


def test_expire_gives_back_the_pairs_that_left(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(9, ttl=10, timer=fake_clock)
    cache["a"] = 1
    fake_clock.advance(5)
    cache["b"] = 2
    assert cache.expire() == []
    assert cache.expire(fake_clock() + 6) == [("a", 1)]
    assert dict(cache) == {"b": 2}


def test_a_timer_may_count_in_datetimes() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def timer() -> datetime:
        return now

    cache: BoundedCache[str, int] = BoundedCache(9, ttl=timedelta(hours=1), timer=timer)
    cache["a"] = 1
    assert cache.info("a").expires_in == timedelta(hours=1)
    now += timedelta(minutes=59)
    assert cache["a"] == 1
    now += timedelta(minutes=1)
    assert "a" not in cache


def test_the_time_can_be_held_still(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(9, ttl=1, timer=fake_clock)
    cache["a"] = 1
    with cache.timer as now, cache.timer as inner:
        fake_clock.advance(5)
        assert cache.timer() == now == inner
        assert cache["a"] == 1
    assert "a" not in cache
    cache.timer.advance(1)  # what the clock offers is reached through it
    assert cache.timer() == fake_clock()


def test_a_lifetime_that_overflows_leaves_the_cache_unchanged() -> None:
    cache: BoundedCache[str, int] = BoundedCache(
        9, ttl=timedelta(days=1), timer=lambda: datetime.max.replace(tzinfo=UTC)
    )
    with pytest.raises(OverflowError):
        cache["a"] = 1
    assert len(cache) == 0
    assert cache.currsize == 0


def test_an_expired_entry_makes_room_before_a_live_one(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, ttl=100, timer=fake_clock)
    cache["live"] = 1
    cache.set("short", 2, ttl=1)
    fake_clock.advance(2)
    cache["new"] = 3
    assert set(cache) == {"live", "new"}
    assert cache.statistics().removals["expired"] == 1
    assert cache.statistics().evictions == 0


# -- weight and bytes ---------------------------------------------------------------------------


def test_a_bound_by_weight_evicts_as_much_as_is_needed() -> None:
    cache: BoundedCache[str, str] = BoundedCache(10, getsizeof=len)
    cache.update(a="xxxx", b="xxxx")
    cache["c"] = "xxxxxx"
    assert set(cache) == {"b", "c"}
    assert cache.currsize == 10
    cache["c"] = "xxxxxxx"
    assert dict(cache) == {"c": "xxxxxxx"}


def test_values_that_weigh_nothing_count_as_one_each() -> None:
    cache: BoundedCache[int, str] = BoundedCache(10, getsizeof=len)
    for number in range(1000):
        cache[number] = ""
    assert len(cache) == 10


def test_an_infinite_weight_does_not_end_the_bound() -> None:
    cache: BoundedCache[Any, float] = BoundedCache(
        10, getsizeof=lambda value: value, oversized="keep_one"
    )
    cache["a"] = math.inf
    assert list(cache) == ["a"]
    for number in range(1000):
        cache[number] = 5
    assert len(cache) == 2
    assert cache.currsize == 10


def test_fractions_of_weight_leave_no_rest() -> None:
    cache: BoundedCache[int, float] = BoundedCache(1, getsizeof=lambda value: value)
    for number in range(1000):
        cache[number] = 0.1 + number % 3 * 0.1
    cache.clear()
    assert cache.currsize == 0


@pytest.mark.parametrize("policy", ["lru", "s3fifo"])
@pytest.mark.parametrize("bound", ["weight", "bytes"])
def test_a_value_that_grows_to_the_whole_cache_is_kept_alone(policy: Any, bound: str) -> None:
    """Eviction must not stop at the very entry that it makes room for."""
    given: dict[str, Any] = {"maxsize": 10, "getsizeof": lambda value: value}
    if bound == "bytes":
        given = {"maxbytes": 10_000, "sizer": lambda value: 900 * value}
    cache: BoundedCache[str, int] = BoundedCache(policy=policy, **given)
    cache.update(a=4, b=4)
    for _ in range(3):
        assert cache.get("a") == cache.get("b") == 4
    cache["c"] = 4
    cache["c"] = 10
    assert dict(cache) == {"c": 10}


def test_a_negative_or_nonsensical_weight_is_refused_and_changes_nothing() -> None:
    cache: BoundedCache[str, Any] = BoundedCache(10, getsizeof=lambda value: value)
    for weight in (-1, math.nan):
        with pytest.raises(ConfigError, match="getsizeof must give a number >= 0"):
            cache["a"] = weight
    assert len(cache) == 0


def test_a_bound_by_bytes_counts_keys_values_and_bookkeeping() -> None:
    cache: BoundedCache[str, bytes] = BoundedCache(maxbytes="1MiB")
    for number in range(2000):
        cache[f"key {number}"] = bytes(1000)
    statistics = cache.statistics()
    assert statistics.bytes <= 2**20
    each = cache._measure.overhead + sys.getsizeof("key 1999") + sys.getsizeof(bytes(1000))
    assert len(cache) == 2**20 // each
    assert statistics.bytes == len(cache) * each
    assert not statistics.bytes_estimated
    assert cache.info("key 1999").bytes == each


def test_replacing_a_value_by_a_larger_one_evicts_others_not_itself() -> None:
    overhead = BoundedCache[str, bytes](maxbytes=1)._measure.overhead
    each = overhead + sys.getsizeof("a") + sys.getsizeof(b"")
    cache: BoundedCache[str, bytes] = BoundedCache(maxbytes=3 * each + 300)
    for key in "abc":
        cache[key] = bytes(100)
    cache["a"] = bytes(300)
    assert cache["a"] == bytes(300)
    assert cache.statistics().bytes <= 3 * each + 300


def test_a_sizer_measures_values_where_it_is_given() -> None:
    cache: BoundedCache[str, Payload] = BoundedCache(maxbytes=10_000, sizer=lambda _: 4_000)
    for key in "abc":
        cache[key] = Payload()
    assert set(cache) == {"b", "c"}


@pytest.mark.parametrize(
    ("size", "error"), [(-1, ConfigError), ("big", TypeError), (1.5, TypeError), (True, TypeError)]
)
def test_a_sizer_must_give_a_number_of_bytes(size: Any, error: type[Exception]) -> None:
    cache: BoundedCache[str, int] = BoundedCache(maxbytes=10_000, sizer=lambda _: size)
    with pytest.raises(error, match="sizer must give"):
        cache["a"] = 1
    assert len(cache) == 0


def test_a_value_that_weighs_too_much_raises_and_the_old_one_stays() -> None:
    cache: BoundedCache[str, str] = BoundedCache(3, getsizeof=len)
    cache["a"] = "xx"
    with pytest.raises(ValueTooLargeError, match="value too large: it counts 4 of maxsize=3"):
        cache["a"] = "xxxx"
    assert dict(cache) == {"a": "xx"}


def test_a_value_of_too_many_bytes_is_not_kept_and_the_outdated_one_leaves() -> None:
    cache: BoundedCache[str, bytes] = BoundedCache(maxbytes=2000)
    cache["a"] = b"old"
    cache["a"] = bytes(5000)
    assert "a" not in cache
    statistics = cache.statistics()
    assert statistics.refused == 1
    assert statistics.removals["replaced"] == 1


def test_keep_one_keeps_a_value_that_is_too_large_alone() -> None:
    cache: BoundedCache[str, str] = BoundedCache(3, getsizeof=len, oversized="keep_one")
    cache["a"] = "x"
    cache["big"] = "xxxxxxxx"
    assert dict(cache) == {"big": "xxxxxxxx"}
    cache["b"] = "x"
    assert dict(cache) == {"b": "x"}


def test_reject_by_weight_and_raise_by_bytes_can_be_asked_for() -> None:
    weighed: BoundedCache[str, str] = BoundedCache(3, getsizeof=len, oversized="reject")
    weighed["a"] = "xxxx"
    assert len(weighed) == 0
    sized: BoundedCache[str, bytes] = BoundedCache(maxbytes=1000, oversized="raise")
    with pytest.raises(ValueTooLargeError, match="of maxbytes=1000"):
        sized["a"] = bytes(5000)


def test_both_bounds_hold_at_once() -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(5, maxbytes="64KiB")
    for number in range(20):
        cache[number] = b"small"
    assert len(cache) == 5
    for number in range(20):
        cache[number] = bytes(30_000)
    assert len(cache) == 2


def test_resizing_evicts_at_once() -> None:
    cache: BoundedCache[Any, int] = BoundedCache(1000)
    cache.update((number, number) for number in range(1000))
    cache.resize(10)
    assert set(cache) == set(range(990, 1000))
    assert cache.maxsize == 10
    cache.resize(0)
    with pytest.raises(ValueTooLargeError):
        cache["a"] = 1
    cache.resize(2)
    cache[1] = 1
    assert len(cache) == 1
    sized: BoundedCache[int, bytes] = BoundedCache(maxbytes="1MiB")
    sized.update((number, bytes(1000)) for number in range(100))
    sized.resize(maxbytes="10KiB")
    assert sized.statistics().bytes <= 10_240
    with pytest.raises(ConfigError, match="does not count bytes"):
        cache.resize(maxbytes=1000)


def test_resizing_evicts_expired_entries_before_live_ones(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, timer=fake_clock)
    for number in range(5):
        cache[f"live {number}"] = number
    for number in range(5):
        cache.set(f"dead {number}", number, ttl=1)
    fake_clock.advance(5)
    cache.resize(5)
    assert sorted(cache) == [f"live {number}" for number in range(5)]


@pytest.mark.parametrize(
    "options",
    [{}, {"ttl": 3600}, {"idle": 3600}, {"on_removal": print}, {"policy": "s3fifo"}],
    ids=str,
)
def test_bytes_counted_are_bytes_held(options: dict[str, Any]) -> None:
    """Within a tenth of what tracemalloc sees, with a dict that is filled on average."""
    cache: BoundedCache[str, float] = BoundedCache(maxbytes="16MiB", **options)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(17_000):
            cache[f"key {number}"] = float(number)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(cache) == 17_000
    assert cache.statistics().bytes == pytest.approx(held, rel=0.1)


# -- giving back --------------------------------------------------------------------------------


def test_shrinking_by_a_share_removes_the_least_recently_used() -> None:
    cache: BoundedCache[int, int] = BoundedCache(1000)
    cache.update((number, number) for number in range(1000))
    assert cache[0] == 0
    reclaimed = cache.shrink(fraction=0.75)
    assert reclaimed.items == 750
    assert reclaimed.bytes is not None
    assert reclaimed.bytes > 750 * 50
    assert 0 in cache
    assert 1 not in cache
    assert cache.statistics().removals["pressure"] == 750


def test_shrinking_to_bytes_counts_exactly_where_the_cache_counts() -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(maxbytes="1MiB")
    cache.update((number, bytes(1000)) for number in range(500))
    before = cache.statistics().bytes
    reclaimed = cache.shrink(to_bytes="100KiB")
    assert cache.statistics().bytes <= 100 * 1024
    assert reclaimed.bytes == before - cache.statistics().bytes
    estimated: BoundedCache[int, bytes] = BoundedCache(1000)
    estimated.update((number, bytes(1000)) for number in range(500))
    estimated.shrink(to_bytes="100KiB")
    assert 60 < len(estimated) < 100


def test_shrink_wants_exactly_one_goal() -> None:
    cache: BoundedCache[int, int] = BoundedCache(10)
    for given in ({}, {"fraction": 0.5, "to_bytes": 1}):
        with pytest.raises(TypeError, match="exactly one of to_bytes= and fraction="):
            cache.shrink(**given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"fraction must be from 0 to 1 \(got 2\)"):
        cache.shrink(fraction=2)


def test_a_cache_answers_what_relief_asks(fake_clock: FakeClock) -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(1000, ttl=10, timer=fake_clock)
    assert isinstance(cache, inventory.Reclaimable)
    cache[0] = b"old"
    fake_clock.advance(11)
    cache.update((number, bytes(1000)) for number in range(1, 101))
    footprint = cache.footprint()
    assert footprint.items == 100
    assert footprint.bytes is not None
    assert 100_000 < footprint.bytes < 150_000
    assert cache.reclaim(fraction=1.0).items == 100
    assert cache.footprint() == inventory.Footprint(items=0, bytes=0)


def test_invalidate_removes_what_the_predicate_names_and_nothing_written_since() -> None:
    cache: BoundedCache[int, int] = BoundedCache(1000)
    cache.update((number, number) for number in range(600))

    def odd(key: int, value: int) -> bool:
        if key == 599:
            cache[1] = 100  # replaced after it was looked at
        return value % 2 == 1

    assert cache.invalidate(odd) == 299
    assert cache[1] == 100
    assert len(cache) == 301


# -- inspection and life ------------------------------------------------------------------------


def test_info_tells_age_rest_hits_and_bytes(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, str] = BoundedCache(9, ttl=10, timer=fake_clock)
    cache["a"] = "x"
    fake_clock.advance(4)
    assert cache["a"] == cache["a"] == "x"
    info = cache.info("a")
    assert (info.age, info.expires_in, info.hits) == (4, 6, 2)
    assert info.bytes == cache._measure.overhead + 2 * sys.getsizeof("a")
    plain: BoundedCache[str, str] = BoundedCache(9, timer=fake_clock)
    plain["a"] = "x"
    fake_clock.advance(4)
    assert plain.info("a").age == 4
    assert plain.info("a").expires_in is None
    with pytest.raises(KeyError):
        cache.info("missing")
    default: BoundedCache[str, str] = BoundedCache(9)
    default["a"] = "x"
    assert 0 <= default.info("a").age < 5


def test_statistics_count_everything_once() -> None:
    cache: BoundedCache[int, int] = BoundedCache(3, name="counted")
    for number in range(5):
        cache[number] = number
    cache[4] = 5
    assert cache.get(4) == 5
    assert cache.get(0) is None
    del cache[4]
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.hit_rate) == (1, 1, 0.5)
    assert statistics.removals == {
        "explicit": 1,
        "replaced": 1,
        "size": 2,
        "expired": 0,
        "pressure": 0,
        "closed": 0,
    }
    assert (statistics.items, statistics.name, statistics.policy) == (2, "counted", "lru")
    assert BoundedCache(1).statistics().hit_rate == 0


def test_a_deleted_value_is_freed_at_once() -> None:
    """No ring may hold what has left."""
    cache: BoundedCache[str, Payload] = BoundedCache(2, ttl=100)
    plain: BoundedCache[str, Payload] = BoundedCache(2)
    for held in (cache, plain):
        references = []
        for leave in (
            lambda held=held: held.pop("a"),
            lambda held=held: held.__setitem__("a", Payload()),
            lambda held=held: held.update(b=Payload(), c=Payload()),
            held.clear,
        ):
            held["a"] = value = Payload()
            assert held["a"] is value
            references.append(weakref.ref(value))
            del value
            leave()
            gc.disable()
            try:
                assert references[-1]() is None
            finally:
                gc.enable()


def test_a_dropped_cache_is_freed_without_the_collector() -> None:
    cache: BoundedCache[str, Payload] = BoundedCache(2, ttl=100)
    cache["a"] = value = Payload()
    reference, there = weakref.ref(value), weakref.ref(cache)
    janitor.stop(timeout=5)
    gc.disable()
    try:
        del cache, value
        assert there() is None
    finally:
        gc.enable()
    gc.collect()
    assert reference() is None


def test_a_closed_cache_finds_nothing_and_refuses_to_store() -> None:
    told: list[Any] = []
    with BoundedCache[str, int](3, on_removal=lambda *event: told.append(event)) as cache:
        cache["a"] = 1
    cache.close()
    assert told == [("a", 1, "closed")]
    assert cache.get("a") is None
    assert len(cache) == 0
    assert id(cache) not in inventory.names()
    with pytest.raises(LifecycleError, match="is closed; make a new one"):
        cache["a"] = 1


def test_pickling_keeps_order_options_and_the_time_left(fake_clock: FakeClock) -> None:
    cache: BoundedCache[Any, Any] = BoundedCache(3, ttl=10, name="kept", timer=fake_clock)
    cache.update(a=1, b=2)
    cache.set("c", 3, ttl=100)
    fake_clock.advance(4)
    assert cache["a"] == 1
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301
    assert copy == cache
    assert (copy.name, copy.maxsize, copy.ttl) == ("kept", 3, 10)
    assert copy.info("b").expires_in == pytest.approx(6)
    assert copy.info("c").expires_in == pytest.approx(96)
    copy["d"] = 4
    assert "b" not in copy
    assert copy.statistics().hits == 0


@pytest.mark.parametrize("options", [{}, {"ttl": 50}, {"idle": 50}, {"ttl": 50, "idle": 60}])
def test_a_copy_of_a_full_cache_counts_the_same_bytes_and_loses_nothing(
    options: dict[str, Any], fake_clock: FakeClock
) -> None:
    cache: BoundedCache[int, str] = BoundedCache(
        maxbytes=20_000, oversized="raise", timer=fake_clock, **options
    )
    for key in range(1000):
        cache[key % 300] = "x" * key
        fake_clock.advance(0.01)
        if key == 990:
            cache.set(-1, "x", ttl=1)
    other = copy.copy(cache)
    assert [entry.key for entry in other._in_order()] == [entry.key for entry in cache._in_order()]
    assert other.statistics().bytes == cache.statistics().bytes
    for seconds in (1, 45, 3, 0.5, 0.5):
        fake_clock.advance(seconds)
        assert set(other) == set(cache)
        assert len(other) == len(cache)


def test_a_cache_that_holds_itself_can_be_pickled() -> None:
    cache: BoundedCache[str, Any] = BoundedCache(3)
    cache["self"] = cache
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301
    assert copy["self"] is copy


def test_a_subclass_may_weigh_and_supply_missing_values() -> None:
    class Squares(BoundedCache[int, int]):
        """Weighs and computes."""

        @staticmethod
        def getsizeof(value: int) -> int:
            return value

        def __missing__(self, key: int) -> int:
            self[key] = key * key
            return key * key

    squares = Squares(20)
    assert squares[3] == 9
    assert squares.currsize == 9
    assert squares[4] == 16
    assert set(squares) == {4}
    assert squares.get(5) is None


def test_a_cache_stands_in_for_a_cachetools_cache() -> None:
    cache: BoundedCache[Any, int] = BoundedCache(2)
    assert isinstance(cache, cachetools.Cache)

    @cachetools.cached(cache, info=True)
    def double(number: int) -> int:
        return 2 * number

    assert [double(2), double(2), double(3)] == [4, 4, 6]
    assert double.cache_info() == (1, 2, 2, 2)


def test_a_cache_is_listed_under_its_name_or_the_line_that_made_it() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, name="sessions")
    other: BoundedCache[str, int] = BoundedCache(2)
    assert inventory.names()[id(cache)] == ("sessions", "BoundedCache")
    assert other.name.startswith("BoundedCache@unit/test_cache.py:")
    assert "maxsize=2" in repr(cache)


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "maxsize or maxbytes is required: BoundedCache refuses to be unbounded"),
        ({"maxsize": -1}, ConfigError, r"maxsize must be >= 0 \(got -1\)"),
        ({"maxsize": math.nan}, ConfigError, r"maxsize must be >= 0 \(got nan\)"),
        ({"maxsize": "10"}, TypeError, r"maxsize must be a number of entries.*\(got str\)"),
        ({"maxsize": True}, TypeError, r"maxsize must be a number of entries.*\(got bool\)"),
        ({"maxbytes": 0}, ConfigError, r"maxbytes must be >= 1 byte \(got 0\)"),
        ({"maxbytes": "many"}, ConfigError, "maxbytes must be a size"),
        ({"maxbytes": 1.5}, TypeError, "maxbytes must be a number of bytes"),
        ({"maxsize": 1, "ttl": 0}, ConfigError, r"ttl must be > 0 seconds \(got 0\)"),
        ({"maxsize": 1, "ttl": math.nan}, ConfigError, "ttl must be > 0 seconds"),
        ({"maxsize": 1, "ttl": "soon"}, ConfigError, "ttl must be a duration"),
        ({"maxsize": 1, "ttl": True}, TypeError, r"ttl must be seconds.*\(got bool\)"),
        ({"maxsize": 1, "ttl": []}, TypeError, r"ttl must be seconds.*\(got list\)"),
        ({"maxsize": 1, "idle": -1}, ConfigError, r"idle must be > 0 seconds \(got -1\)"),
        ({"maxsize": 1, "policy": "lfu"}, ConfigError, r"policy must be 'lru' or 's3fifo'"),
        ({"maxsize": 1, "policy": None}, TypeError, r"policy must be a string \(got NoneType\)"),
        ({"maxsize": 1, "getsizeof": 3}, TypeError, r"getsizeof must be callable \(got int\)"),
        ({"maxbytes": 1, "sizer": 3}, TypeError, r"sizer must be callable \(got int\)"),
        ({"maxsize": 1, "sizer": len}, ConfigError, "sizer measures bytes and needs maxbytes"),
        (
            {"maxsize": 1, "oversized": "drop"},
            ConfigError,
            "oversized must be 'reject', 'raise' or 'keep_one'",
        ),
        ({"maxsize": 1, "on_removal": 3}, TypeError, "on_removal must be callable"),
        ({"maxsize": 1, "on_error": "ignore"}, ConfigError, "on_error must be 'log' or 'raise'"),
        ({"maxsize": 1, "name": 3}, TypeError, r"name must be a string \(got int\)"),
        ({"maxsize": 1, "name": ""}, ConfigError, "name must not be empty"),
        ({"maxsize": 1, "timer": 3}, TypeError, r"timer must be callable \(got int\)"),
        ({"maxsize": 1, "timer": None}, TypeError, r"timer must be callable \(got NoneType\)"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BoundedCache(**options)


def test_options_may_be_written_for_people() -> None:
    cache: BoundedCache[str, int] = BoundedCache(maxbytes="1.5MiB", ttl="10m", idle="90s")
    assert (cache.maxbytes, cache.ttl, cache.idle) == (1_572_864, 600.0, 90.0)
    assert BoundedCache(1, ttl=timedelta(minutes=1)).ttl == 60.0
    assert BoundedCache(math.inf).maxsize == math.inf


# -- the estimate of bytes ------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the keys and values that are measured for an estimate, as it happens."""
    seen: list[Any] = []
    measure, weigh = sizing.bytes_of, entries.weigh

    def spy(value: Any, max_nodes: int) -> int:
        seen.append(value)
        return measure(value, max_nodes)

    def spy_on_values(value: Any, note: Any, max_nodes: int) -> int:
        seen.append(value)
        return weigh(value, note, max_nodes)

    monkeypatch.setattr(entries, "bytes_of", spy)
    monkeypatch.setattr(entries, "weigh", spy_on_values)
    return seen


def test_asking_often_for_an_estimate_measures_once(measured: list[Any]) -> None:
    """Metrics and health ask every few seconds; values may be large graphs."""
    cache: BoundedCache[int, bytes] = BoundedCache(1000)
    cache.update((number, bytes(1000)) for number in range(100))
    before = cache.statistics().bytes
    once = len(measured)
    cache[100] = bytes(1000)
    assert cache.footprint().bytes == pytest.approx(before * 1.01, rel=0.001)
    assert len(measured) == once


@pytest.mark.parametrize("change", ["inserted", "replaced", "removed"])
def test_an_estimate_follows_when_an_eighth_of_the_entries_has_changed(change: str) -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(1000)
    cache.update((number, bytes(10 if number % 2 else 10_000)) for number in range(100))
    before = cache.statistics().bytes
    if change == "inserted":
        cache.update((number, bytes(100_000)) for number in range(100, 200))
    elif change == "replaced":
        cache.update((number, bytes(100_000)) for number in range(100))
    else:
        cache.invalidate(lambda number, _: number % 2 == 0)
    after = cache.statistics().bytes
    if change == "removed":
        assert after < before / 10
    else:
        assert after > before * 5


def test_an_estimate_is_made_anew_after_a_minute() -> None:
    """A list in a cache may grow without the cache's knowledge."""
    cache: BoundedCache[int, list[int]] = BoundedCache(10)
    cache[1] = [0]
    before = cache.statistics().bytes
    cache[1].extend(range(10_000))
    assert cache.statistics().bytes == before
    known = cache._estimate.known
    assert known is not None
    cache._estimate.known = known._replace(at=known.at - 61)
    assert cache.statistics().bytes > before + 50_000


def test_statistics_have_every_field_of_their_dataclass() -> None:
    """They are not made by its constructor, which would refuse a missing one."""
    found = BoundedCache[int, int](10).statistics()
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    assert vars(found).keys() == fields.keys()
    assert found == CacheStatistics(**fields)
    assert copy.copy(found) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.hits = 1  # type: ignore[misc]  # reason: that is the point


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing else be listed that other tests have left to be measured."""
    monkeypatch.setattr(inventory, "_entries", {})


def _filled(name: str, size: int, count: int = 100) -> BoundedCache[int, bytes]:
    cache: BoundedCache[int, bytes] = BoundedCache(1000, name=name)
    cache.update((number, bytes(size)) for number in range(count))
    return cache


def _surveyed(*caches: BoundedCache[int, bytes]) -> list[int]:
    """Return the bytes of *caches* as a survey tells them that may measure one of them."""
    found = {row.name: row.bytes or 0 for row in inventory.survey(0.0)}
    return [found[cache.name] for cache in caches]


@pytest.mark.usefixtures("alone")
def test_a_survey_measures_one_cache_after_the_other_and_tells_earlier_estimates_meanwhile() -> (
    None
):
    caches = [_filled(f"surveyed {number}", 1000) for number in range(4)]
    before = _surveyed(*caches)
    for cache in caches:
        cache.update((number, bytes(50_000)) for number in range(100))
    for turn in range(1, 5):
        found = _surveyed(*caches)
        assert sum(size > 10 * old for size, old in zip(found, before, strict=True)) == turn
        assert sum(size == old for size, old in zip(found, before, strict=True)) == 4 - turn


@pytest.mark.usefixtures("alone")
def test_an_estimate_that_is_kept_goes_with_the_number_of_entries() -> None:
    kept, urgent = _filled("kept", 1000), _filled("urgent", 1000)
    before, _ = _surveyed(kept, urgent)
    kept.update((number, bytes(50_000)) for number in range(100, 150))
    urgent.update((number, bytes(50_000)) for number in range(1000) for _ in range(3))
    assert _surveyed(kept, urgent)[0] == pytest.approx(before * 1.5, rel=0.01)


@pytest.mark.usefixtures("alone")
def test_a_survey_measures_at_once_what_it_knows_too_little_of(measured: list[Any]) -> None:
    """A cache may have had few entries, or none, when it was measured."""
    caches = [_filled(f"young {number}", 1000, count=number) for number in range(3)]
    _surveyed(*caches)
    for cache in caches:
        cache.update((number, bytes(50_000)) for number in range(100))
    del measured[:]
    assert all(size > 100 * 50_000 for size in _surveyed(*caches))
    assert len(measured) == 3 * 16 * 2


@pytest.mark.usefixtures("alone")
def test_whoever_asks_one_cache_or_for_the_inventory_has_it_measured() -> None:
    caches = [_filled(f"asked {number}", 1000) for number in range(4)]
    _surveyed(*caches)
    for cache in caches:
        cache.update((number, bytes(50_000)) for number in range(100))
    assert caches[3].statistics().bytes > 100 * 50_000
    found = {row.name: row.bytes or 0 for row in inventory.inventory()}
    assert all(found[cache.name] > 100 * 50_000 for cache in caches)


@pytest.mark.usefixtures("alone")
def test_a_look_that_was_broken_off_leaves_nothing_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = _filled("broken off", 1000)
    _surveyed(cache)

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BoundedCache, "statistics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inventory.survey(0.0)
    cache.update((number, bytes(50_000)) for number in range(100))
    assert cache.statistics().bytes > 100 * 50_000


@pytest.mark.usefixtures("alone")
def test_a_survey_goes_on_measuring_as_long_as_it_may(measured: list[Any]) -> None:
    caches = [_filled(f"in time {number}", 1000) for number in range(4)]
    _surveyed(*caches)
    for cache in caches:
        cache.update((number, bytes(50_000)) for number in range(100))
    del measured[:]
    inventory.survey(60.0)
    assert len(measured) >= 4 * 16 * 2
    assert all(cache.statistics().bytes > 100 * 50_000 for cache in caches)
