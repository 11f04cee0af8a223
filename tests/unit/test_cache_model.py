"""BoundedCache against a model a page long: bounds, expiries, causes, policies, wrap."""

from __future__ import annotations

import time
from typing import Any

import cachetools
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.entry import Entry
from memguard.bounded.cache.measure import Measure
from tests.clock import FakeClock


class Foreign:
    """A key whose hash and equality are its own; few hashes, so that they collide."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number % 3

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign) and other.number == self.number

    def __repr__(self) -> str:
        return f"Foreign({self.number})"


keys = st.one_of(
    st.integers(0, 9),
    st.sampled_from("abc"),
    st.builds(Foreign, st.integers(0, 5)),
    st.tuples(st.integers(0, 2), st.sampled_from("xy")),
)
values = st.integers(0, 6)
SIZE_OF_BOOKKEEPING = 200


class Flat(Measure):
    """Gives all keys and values of the model sizes that are the same in all builds of Python."""

    def bytes_of(self, _key: Any, value: int, _has_ticket: bool) -> int:  # noqa: FBT001 - reason: as overridden
        return SIZE_OF_BOOKKEEPING + 100 * value


class Model:
    """What a least recently used cache does, by scanning a dict in order of use."""

    def __init__(self, clock: FakeClock, options: dict[str, Any]) -> None:
        self.clock = clock
        self.options = options
        self.entries: dict[Any, dict[str, Any]] = {}  # oldest use first
        self.removed: list[tuple[Any, Any, str]] = []

    def weight(self, value: int) -> int:
        return max(1, value) if self.options.get("getsizeof") else 1

    def bytes_of(self, value: int) -> int:
        return 100 * value if self.options.get("maxbytes") else 0

    def is_due(self, entry: dict[str, Any]) -> bool:
        now = self.clock()
        idle = self.options.get("idle")
        return (entry["expires"] is not None and now >= entry["expires"]) or (
            idle is not None and now >= entry["used"] + idle
        )

    def expire(self) -> None:
        for key in [key for key, entry in self.entries.items() if self.is_due(entry)]:
            self.remove(key, "expired")

    def remove(self, key: Any, cause: str) -> Any:
        entry = self.entries.pop(key)
        self.removed.append((key, entry["value"], cause))
        return entry["value"]

    def is_over(self) -> bool:
        most, most_bytes = self.options.get("maxsize"), self.options.get("maxbytes")
        held = [entry["value"] for entry in self.entries.values()]
        return (most is not None and sum(map(self.weight, held)) > most) or (
            most_bytes is not None
            and sum(SIZE_OF_BOOKKEEPING + self.bytes_of(value) for value in held) > most_bytes
        )

    def set(self, key: Any, value: int, ttl: float | None) -> None:
        self.expire()
        if key in self.entries:
            self.remove(key, "replaced")
        lifetime = self.options.get("ttl") if ttl is None else ttl
        now = self.clock()
        self.entries[key] = {
            "value": value,
            "expires": None if lifetime is None else now + lifetime,
            "used": now,
            "hits": 0,
        }
        while self.is_over():
            self.remove(next(iter(self.entries)), "size")

    def get(self, key: Any) -> Any:
        entry = self.entries.get(key)
        if entry is None or self.is_due(entry):
            return None
        entry["used"] = self.clock()
        self.entries[key] = self.entries.pop(key)
        return entry["value"]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "ttl": st.sampled_from([3.0, 10.0]),
        "idle": st.sampled_from([2.0, 5.0]),
        "bound": st.sampled_from(["count", "weight", "bytes", "both"]),
        "told": st.booleans(),
        "real": st.booleans(),
    },
)


class LruAgainstModel(RuleBasedStateMachine):
    """Every rule does the same to both, then everything visible is compared."""

    @initialize(options=OPTIONS)
    def start(self, options: dict[str, Any]) -> None:
        self.clock = FakeClock(0.0)
        bound = options.pop("bound", "count")
        self.told = options.pop("told", False)
        # On the default timer nothing expires during a test, and the fastest paths are taken.
        self.real = options.pop("real", False) and not options
        given: dict[str, Any] = dict(options)
        if bound in ("count", "both"):
            given["maxsize"] = 4
        if bound == "weight":
            given["maxsize"] = 8
            given["getsizeof"] = lambda value: value
        if bound in ("bytes", "both"):
            given["maxbytes"] = 3 * SIZE_OF_BOOKKEEPING + 900
            given["sizer"] = lambda value: 100 * value
        self.model = Model(self.clock, given)
        self.events: list[tuple[Any, Any, str]] = []
        extra: dict[str, Any] = {}
        if self.told:
            extra["on_removal"] = lambda *event: self.events.append(event)
        self.cache: BoundedCache[Any, int] = BoundedCache(
            timer=time.monotonic if self.real else self.clock, name="model", **given, **extra
        )
        if bound in ("bytes", "both"):
            # Keys differ in size between builds of Python; the model gives all of them 28 bytes.
            self.cache._measure = Flat(Entry, None, None, None)
        self.counted = {"hits": 0, "misses": 0}

    @rule(key=keys, value=values)
    def set(self, key: Any, value: int) -> None:
        self.cache[key] = value
        self.model.set(key, value, None)

    @rule(key=keys, value=values, ttl=st.sampled_from([1.0, 4.0, 20.0]))
    def set_with_its_own_ttl(self, key: Any, value: int, ttl: float) -> None:
        ttl = 1e6 * ttl if self.real else ttl
        self.cache.set(key, value, ttl=ttl)
        self.model.set(key, value, ttl)

    @rule(key=keys)
    def get(self, key: Any) -> None:
        expected = self.model.get(key)
        self.counted["misses" if expected is None else "hits"] += 1
        assert self.cache.get(key) == expected

    @rule(key=keys)
    def look(self, key: Any) -> None:
        entry = self.model.entries.get(key)
        assert (key in self.cache) == (entry is not None and not self.model.is_due(entry))

    @rule(key=keys)
    def pop(self, key: Any) -> None:
        entry = self.model.entries.get(key)
        expected = None
        if entry is not None:
            due = self.model.is_due(entry)
            value = self.model.remove(key, "expired" if due else "explicit")
            expected = None if due else value
        assert self.cache.pop(key, None) == expected

    @rule(key=keys, value=values)
    def setdefault(self, key: Any, value: int) -> None:
        found = self.model.get(key)
        self.counted["misses" if found is None else "hits"] += 1
        if found is None:
            self.model.set(key, value, None)
            found = value
        assert self.cache.setdefault(key, value) == found

    @rule()
    def popitem(self) -> None:
        self.model.expire()
        if not self.model.entries:
            return
        key = next(iter(self.model.entries))
        assert self.cache.popitem() == (key, self.model.remove(key, "explicit"))

    @precondition(lambda self: not self.real)
    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def expire(self) -> None:
        before = len(self.model.removed)
        self.model.expire()
        pairs = [(key, value) for key, value, _ in self.model.removed[before:]]
        assert sorted(map(repr, self.cache.expire())) == sorted(map(repr, pairs))

    @rule(value=values)
    def invalidate(self, value: int) -> None:
        doomed = [
            key
            for key, entry in self.model.entries.items()
            if entry["value"] == value and not self.model.is_due(entry)
        ]
        for key in doomed:
            self.model.remove(key, "explicit")
        assert self.cache.invalidate(lambda _, held: held == value) == len(doomed)

    @rule()
    def clear(self) -> None:
        self.model.expire()
        for key in list(self.model.entries):
            self.model.remove(key, "explicit")
        self.cache.clear()

    @rule(share=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    def shrink(self, share: float) -> None:
        self.model.expire()
        count = len(self.model.entries)
        going = -int(-count * share // 1)
        for key in list(self.model.entries)[:going]:
            self.model.remove(key, "pressure")
        assert self.cache.shrink(fraction=share).items == going

    @precondition(lambda self: "maxsize" in self.model.options)
    @rule(maxsize=st.integers(3, 9))
    def resize(self, maxsize: int) -> None:
        # Entries past their time count until somebody looks, so both sides look first.
        self.model.expire()
        len(self.cache)
        if self.model.options.get("getsizeof"):
            maxsize = max(maxsize, 6)
        self.model.options["maxsize"] = maxsize
        while self.model.is_over():
            self.model.remove(next(iter(self.model.entries)), "size")
        self.cache.resize(maxsize)

    @rule()
    def torn(self) -> None:
        """An exception of a signal handler in the middle of a change must cost nothing later on."""
        self.model.expire()
        assert len(self.cache) == len(self.model.entries)
        self.cache._ring = False
        self.cache._contents.bytes = self.cache._contents.weight = 10**9

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.model.expire()
        assert len(self.cache) == len(self.model.entries)
        live = {key: entry["value"] for key, entry in self.model.entries.items()}
        assert dict(self.cache.items()) == live
        if self.cache._ring is False:
            return
        statistics = self.cache.statistics()
        assert (statistics.hits, statistics.misses) == tuple(self.counted.values())
        causes = [cause for _, _, cause in self.model.removed]
        for cause, count in statistics.removals.items():
            assert count == causes.count(cause), cause
        if self.told:
            assert sorted(map(repr, self.events)) == sorted(map(repr, self.model.removed))
        assert [entry.key for entry in self.cache._in_order()] == list(self.model.entries)
        held = self.cache._map.values()
        assert self.cache._contents.bytes == sum(entry.size for entry in held)
        assert self.cache._contents.foreign == sum(entry.hash is not None for entry in held)
        if self.cache._contents.weighs:
            assert self.cache._contents.weight == sum(entry.weight for entry in held)

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.cache.close()


class S3FifoHoldsItsBounds(RuleBasedStateMachine):
    """S3-FIFO chooses freely whom to evict, so the model follows what it is told."""

    @initialize(maxsize=st.integers(1, 12))
    def start(self, maxsize: int) -> None:
        self.live: dict[Any, int] = {}
        self.cache: BoundedCache[Any, int] = BoundedCache(
            maxsize, policy="s3fifo", on_removal=self.left, name="s3"
        )

    def left(self, key: Any, value: int, cause: str) -> None:
        assert self.live.pop(key) == value
        assert cause in ("size", "replaced", "explicit", "pressure")

    @rule(key=keys, value=values)
    def set(self, key: Any, value: int) -> None:
        self.cache[key] = value
        self.live[key] = value

    @rule(key=keys)
    def get(self, key: Any) -> None:
        assert self.cache.get(key) == self.live.get(key)

    @rule(key=keys)
    def pop(self, key: Any) -> None:
        expected = self.live.get(key)
        assert self.cache.pop(key, None) == expected

    @rule(fraction=st.sampled_from([0.2, 1.0]))
    def shrink(self, fraction: float) -> None:
        self.cache.shrink(fraction=fraction)

    @invariant()
    def same(self) -> None:
        if hasattr(self, "cache"):
            assert dict(self.cache.items()) == self.live
            assert len(self.cache) <= (self.cache.maxsize or 0)
            order: Any = self.cache._contents.order
            assert order.small_size + order.main_size == len(self.live)
            assert len(order.ghosts) <= len(order.ghost_queue) <= (self.cache.maxsize or 0)


class WrappedKeepsTheObject(RuleBasedStateMachine):
    """A wrapped mapping stays the truth, also for those who go past the guard."""

    @initialize(kind=st.sampled_from(["dict", "lru", "lfu"]))
    def start(self, kind: str) -> None:
        self.told: list[tuple[Any, Any, str]] = []
        self.existing: Any = {  # type: ignore[operator]  # reason: a test reaches past the types
            "dict": dict,
            "lru": lambda: cachetools.LRUCache(4),
            "lfu": lambda: cachetools.LFUCache(4),
        }[kind]()
        self.cache = BoundedCache.wrap(
            self.existing,
            name="wrapped",
            maxsize=4,
            on_removal=lambda *event: self.told.append(event),
        )
        self.entered = 0

    @rule(key=keys, value=values)
    def set(self, key: Any, value: int) -> None:
        self.cache[key] = value
        self.entered += 1
        assert self.existing[key] == value

    @rule(key=keys)
    def get(self, key: Any) -> None:
        assert self.cache.get(key) == self.existing.get(key)

    @rule(key=keys)
    def pop(self, key: Any) -> None:
        expected = dict(self.existing).get(key)
        assert self.cache.pop(key, None) == expected
        assert key not in self.existing

    @rule()
    def popitem(self) -> None:
        if len(self.cache):
            key, _ = self.cache.popitem()
            assert key not in self.existing

    @invariant()
    def same(self) -> None:
        if hasattr(self, "cache"):
            assert len(self.existing) == len(self.cache) <= 4
            assert self.entered == len(self.existing) + len(self.told)
            assert sum(self.cache.statistics().removals.values()) == len(self.told)

    def teardown(self) -> None:
        if hasattr(self, "cache"):
            self.cache.close()


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLruAgainstModel = LruAgainstModel.TestCase
TestLruAgainstModel.settings = SETTINGS
TestS3FifoHoldsItsBounds = S3FifoHoldsItsBounds.TestCase
TestS3FifoHoldsItsBounds.settings = SETTINGS
TestWrappedKeepsTheObject = WrappedKeepsTheObject.TestCase
TestWrappedKeepsTheObject.settings = SETTINGS
