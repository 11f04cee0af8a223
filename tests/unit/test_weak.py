"""Weak helpers: what they forget, when, and that they keep nothing alive."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from memguard.bounded import inventory
from memguard.bounded.lifetime.identity_map import WeakIdentityMap
from memguard.bounded.lifetime.value_cache import WeakValueCache
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks

DEADLINE = 10.0


class Thing:
    """Can be weakly referenced; equal to all its kind, and unhashable for that."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("an object was compared")

    __hash__ = None  # type: ignore[assignment]  # reason: the point of these tests


class Plain:
    """An ordinary object."""


def listed(container: Any) -> bool:
    return any(other is container for other in inventory.containers())


# -- WeakValueCache -----------------------------------------------------------------------------


def test_a_value_is_found_as_long_as_somebody_holds_it() -> None:
    cache: WeakValueCache[str, Thing] = WeakValueCache(10)
    value = Thing()
    cache["a"] = value
    assert cache["a"] is value
    assert cache.get("a") is value
    assert "a" in cache
    del value
    assert "a" not in cache
    assert cache.get("a", 3) == 3
    with pytest.raises(KeyError, match="a"):
        cache["a"]
    assert len(cache._data) == 0, "looking it up cleaned up"
    assert cache.statistics().collected == 1


def test_the_dead_make_room_before_the_living() -> None:
    cache: WeakValueCache[int, Plain] = WeakValueCache(3)
    living = [Plain(), Plain()]
    cache[0], cache[1] = living
    for number in range(2, 100):
        cache[number] = Plain()
    assert list(cache) == [0, 1]
    assert cache.statistics().evicted == 0


def test_the_bound_holds_and_what_is_used_stays_longer() -> None:
    cache: WeakValueCache[int, Plain] = WeakValueCache(3)
    held = [Plain() for _ in range(10)]
    for number, value in enumerate(held):
        cache[number] = value
        assert 0 in cache
        cache.get(0)
        assert len(cache) <= 3
    assert cache.statistics().evicted == 7
    assert min(cache) == 0
    assert len(held) == 10


def test_setdefault_gives_all_callers_one_object() -> None:
    cache: WeakValueCache[str, Plain] = WeakValueCache(10)
    first = cache.setdefault("a", Plain())
    assert cache.setdefault("a", Plain()) is first
    old = weakref.ref(first)
    del first
    second = cache.setdefault("a", Plain())
    assert old() is None
    assert cache["a"] is second


def test_a_key_stored_anew_survives_the_death_of_its_former_value() -> None:
    cache: WeakValueCache[str, Plain] = WeakValueCache(10)
    old, new = Plain(), Plain()
    cache["a"] = old
    reference = cache._data["a"]
    cache["a"] = new
    del old
    cache._dead.append(reference)  # as if its callback had come late
    assert len(cache) == 1
    assert cache["a"] is new


def test_the_rest_of_the_mapping_is_there() -> None:
    cache: WeakValueCache[str, Plain] = WeakValueCache(10, name="pages")
    a, b = Plain(), Plain()
    cache.update(a=a, b=b)
    assert dict(cache.items()) == {"a": a, "b": b}
    assert cache.pop("a") is a
    assert cache.pop("a", None) is None
    with pytest.raises(KeyError):
        cache.pop("a")
    with pytest.raises(KeyError):
        del cache["a"]
    del cache["b"]
    assert not cache
    assert repr(cache) == "WeakValueCache(name='pages', items=0, maxsize=10)"


def test_values_that_cannot_be_held_weakly_are_refused() -> None:
    cache: WeakValueCache[str, Any] = WeakValueCache(10)
    with pytest.raises(TypeError, match=r"weakly referenceable \(got int\); use BoundedCache"):
        cache["a"] = 3
    with pytest.raises(TypeError, match="got NoneType"):
        cache.setdefault("a", None)


def test_a_weak_cache_gives_entries_back_and_is_listed_until_it_is_closed() -> None:
    held = [Plain() for _ in range(10)]
    with WeakValueCache[int, Plain](10) as cache:
        cache.update(enumerate(held))
        assert listed(cache)
        assert cache.footprint() == inventory.Footprint(items=10, bytes=None)
        assert cache.reclaim(fraction=0.5).items == 5
        assert cache.reclaim(to_bytes=0).items == 5
    cache.close()
    assert not listed(cache)
    with pytest.raises(LifecycleError, match="is closed"):
        cache[1] = held[0]


@pytest.mark.parametrize("kind", [WeakValueCache, WeakIdentityMap])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"maxsize": 0}, ConfigError, r"maxsize must be >= 1 \(got 0\)"),
        ({"maxsize": None}, TypeError, r"maxsize must be an int \(got NoneType\)"),
        ({"maxsize": 1, "name": 3}, TypeError, "name must be a string"),
    ],
)
def test_bad_options_are_refused(
    kind: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(**options)


class Key:
    """A key whose comparison uses the cache and lets other threads run."""

    def __init__(self, cache: Any, number: int) -> None:
        self.cache = cache
        self.number = number

    def __hash__(self) -> int:
        return self.number % 3

    def __eq__(self, other: object) -> bool:
        len(self.cache)
        self.cache.get(None)
        return isinstance(other, Key) and self.number == other.number


class Noise:
    """A cycle whose destructor uses the container, in whatever thread the collector runs."""

    def __init__(self, use: Any) -> None:
        self.use = use
        self.me = self

    def __del__(self) -> None:
        self.use(Plain())


def in_eight_threads(work: Any) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - reason: told by the main thread
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a thread hangs"
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def test_eight_threads_share_a_weak_cache() -> None:
    cache: WeakValueCache[Any, Plain] = WeakValueCache(20)

    def work(seed: int) -> None:
        held: list[Plain] = []
        for turn in range(400):
            number = (turn * 7 + seed) % 30
            held.append(cache.setdefault(Key(cache, number), Plain()))
            cache.get(Key(cache, number))  # a hit, also where one thread runs after the other
            cache.get(Key(cache, number + 1))
            if turn % 10 == 0:
                held.clear()
                Noise(lambda value: cache.setdefault(-1, value))
            if turn % (80 if locks.FREE_THREADED else 10) == 0:
                gc.collect(0)  # of everything, where there is no GIL
            if turn % 3 == 0:
                cache.pop(Key(cache, number), None)

    in_eight_threads(work)
    gc.collect()
    assert len(cache) == 0
    statistics = cache.statistics()
    assert statistics.collected > 0
    assert statistics.hits > 0


def test_threads_that_intern_get_one_object_each_time() -> None:
    """While one holds the object of a key, no other thread is given a different one."""
    cache: WeakValueCache[int, Plain] = WeakValueCache(100)

    def work(_: int) -> None:
        for turn in range(2000):
            key = turn % 5
            mine = cache.setdefault(key, Plain())
            assert cache.setdefault(key, Plain()) is mine
            del mine

    in_eight_threads(work)


class WeakCacheMachine(RuleBasedStateMachine):
    """Any order of calls finds exactly the values that are alive, but for what was evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: WeakValueCache[int, Plain] = WeakValueCache(4)
        self.held: dict[int, Plain] = {}

    @rule(key=st.integers(0, 6))
    def store(self, key: int) -> None:
        self.held[key] = self.cache[key] = Plain()

    @rule(key=st.integers(0, 6))
    def intern(self, key: int) -> None:
        self.held[key] = self.cache.setdefault(key, self.held.get(key) or Plain())

    @rule(key=st.integers(0, 6))
    def drop(self, key: int) -> None:
        self.held.pop(key, None)

    @rule(key=st.integers(0, 6))
    def remove(self, key: int) -> None:
        self.cache.pop(key, None)

    @rule(key=st.integers(0, 6))
    def look(self, key: int) -> None:
        found = self.cache.get(key)
        assert found is None or found is self.held[key]

    @invariant()
    def holds_only_the_living(self) -> None:
        found = dict(self.cache.items())
        assert len(found) == len(self.cache) <= 4
        for key, value in found.items():
            assert self.held[key] is value
        if not self.cache.statistics().evicted:
            assert len(self.held) >= len(found)


WeakCacheMachine.TestCase.settings = settings(max_examples=50, deadline=None)
TestWeakCacheAgainstAModel = WeakCacheMachine.TestCase


# -- WeakIdentityMap ----------------------------------------------------------------------------


def test_something_can_be_noted_about_an_unhashable_object_until_it_dies() -> None:
    notes: WeakIdentityMap[str] = WeakIdentityMap()
    thing, other = Thing(), Thing()
    notes[thing] = "seen"
    assert notes[thing] == "seen"
    assert other not in notes
    with pytest.raises(KeyError, match="nothing is noted about this Thing"):
        notes[other]
    note = Plain()
    holding: WeakIdentityMap[Plain] = WeakIdentityMap()
    holding[thing] = note
    reference = weakref.ref(note)
    del thing, note
    assert (len(notes), len(holding)) == (0, 0)
    assert reference() is None


def test_a_new_object_at_the_address_of_a_dead_one_has_no_entry() -> None:
    notes: WeakIdentityMap[int] = WeakIdentityMap()
    reused = 0
    for number in range(1000):
        thing = Plain()
        reused += id(thing) in notes._data
        assert thing not in notes
        assert notes.setdefault(thing, number) == number
        assert notes.get(thing) == number
        del thing
    assert reused, "no address was used again"


def test_an_entry_of_a_reused_address_survives_the_cleaning_up() -> None:
    notes: WeakIdentityMap[int] = WeakIdentityMap()
    thing = Plain()
    notes[thing] = 1
    entry = notes._data[id(thing)]
    stale = type(entry)(Plain())
    stale.key = id(thing)
    notes._dead.append(stale)  # the callback of a former object at this address, late
    assert len(notes) == 1
    assert notes[thing] == 1


def test_notes_are_changed_and_forgotten() -> None:
    notes: WeakIdentityMap[int] = WeakIdentityMap(name="notes")
    a, b = Thing(), Thing()
    notes[a], notes[b] = 1, 2
    notes[a] = 3
    assert notes.setdefault(a, 9) == 3
    assert [value for _, value in notes.items()] == [3, 2]
    assert sum(thing is a for thing in notes) == 1
    assert notes.pop(a) == 3
    assert notes.pop(a, None) is None
    with pytest.raises(KeyError):
        del notes[a]
    assert repr(notes) == "WeakIdentityMap(name='notes', items=1, maxsize=1000000)"
    notes.clear()
    assert b not in notes


def test_a_full_map_drops_the_longest_known_counts_it_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes: WeakIdentityMap[int] = WeakIdentityMap(2)
    things = [Plain() for _ in range(5)]
    for number, thing in enumerate(things):
        notes[thing] = number
    assert [value for _, value in notes.items()] == [3, 4]
    assert notes.statistics().dropped == 3
    assert len([record for record in caplog.records if "weakmap.full" in record.message]) == 1


def test_what_would_keep_its_object_alive_for_ever_is_refused() -> None:
    notes: WeakIdentityMap[Any] = WeakIdentityMap()
    thing = Plain()
    with pytest.raises(ConfigError, match="the value is the object itself"):
        notes[thing] = thing
    with pytest.raises(TypeError, match=r"weakly referenceable \(got int\)"):
        notes[3] = 1
    assert 3 not in notes


def test_reclaim_forgets_only_the_dead() -> None:
    with WeakIdentityMap[int]() as notes:
        things = [Plain() for _ in range(4)]
        for thing in things:
            notes[thing] = 1
        del thing
        things.pop()
        assert notes.reclaim(fraction=1.0).items == 1
        assert notes.footprint() == inventory.Footprint(items=3, bytes=None)
        assert listed(notes)
    with pytest.raises(LifecycleError, match="is closed"):
        notes[things[0]] = 1


def test_eight_threads_share_a_map_of_identities() -> None:
    notes: WeakIdentityMap[int] = WeakIdentityMap(50)

    def work(seed: int) -> None:
        held: list[Plain] = []
        for turn in range(600):
            thing = Plain()
            assert thing not in notes
            notes[thing] = seed
            assert notes.get(thing, seed) == seed
            held.append(thing)
            if turn % 9 == 0:
                held.clear()
                Noise(lambda value: notes.setdefault(value, 3))
                gc.collect(0)

    in_eight_threads(work)
    gc.collect()
    assert len(notes) == 0


@pytest.mark.parametrize("kind", [WeakValueCache, WeakIdentityMap])
@pytest.mark.stress
def test_a_hundred_thousand_entries_come_and_go_without_a_trace(kind: Any) -> None:
    container = kind(100)

    def settled() -> int:
        gc.collect()
        return len(gc.get_objects())

    before = settled()
    for number in range(100_000):
        value = Plain()
        if kind is WeakValueCache:
            container[number] = value
        else:
            container[value] = number
    del value
    assert len(container) == 0
    assert settled() - before < 500
    assert not container._dead
