"""What a relief run takes, from whom, in which order, and what it says about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded import inventory
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.inventory import Footprint
from memguard.bounded.pool.buffer_pool import BufferPool
from memguard.bounded.pool.object_pool import ObjectPool
from memguard.errors import CapacityError, ConfigError
from memguard.observe.allocator import AllocatorState
from memguard.observe.readings import Reading
from memguard.relief import callbacks
from memguard.relief import trim as trimming
from memguard.relief.collector import Collecting
from memguard.relief.records import ReliefReport
from memguard.relief.steps import Relief
from tests.clock import FakeClock
from tests.relieving import MIB, bytes_in, filled


def step(report: ReliefReport, name: str) -> Any:
    return next(each for each in report.steps if each.name == name)


def test_the_steps_come_in_the_order_of_what_they_cost() -> None:
    relief = Relief()
    relief._means.library_pools = list  # other tests load libraries
    names = [each.name for each in relief.relieve(1).steps]
    assert names == ["expire", "caches", "pools", "collect", "trim", "callbacks"]


def test_a_target_is_taken_from_the_caches_and_no_more() -> None:
    cache = filled("target", entries=400)
    before = bytes_in(cache)
    report = Relief().relieve(1 * MIB)
    taken = before - bytes_in(cache)
    assert 1 * MIB <= taken <= 1 * MIB + 3 * 10_200
    assert step(report, "caches").freed == taken
    assert report.freed >= taken


def test_without_a_target_everything_goes() -> None:
    cache = filled("everything", entries=100)
    Relief().relieve()
    assert len(cache) == 0


def test_the_cold_give_before_the_hot() -> None:
    hot, cold = filled("hot", entries=200), filled("cold", entries=200)
    relief = Relief()
    relief.relieve(1)
    for _ in range(50):
        for number in range(200):
            hot.get(number)
    relief.relieve(500_000)
    assert len(hot) >= 199
    assert len(cold) < 160


def test_what_has_expired_goes_first(fake_clock: FakeClock) -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(100, ttl=5, timer=fake_clock)
    for number in range(10):
        cache[number] = b"x" * 1000
    fake_clock.advance(10)
    report = Relief().relieve(1)
    assert step(report, "expire").items == 10


def test_a_protected_cache_keeps_what_it_was_promised() -> None:
    cache = filled("protected", entries=200)
    relief = Relief()
    relief.protect(cache, least_bytes=1 * MIB)
    relief.relieve()
    assert bytes_in(cache) == pytest.approx(1 * MIB, rel=0.02)
    relief.protect(cache, least_bytes=0)
    relief.relieve()
    assert len(cache) == 0


def test_a_cache_keeps_a_little_while_it_is_not_critical() -> None:
    cache = filled("little", entries=1000, entry_bytes=1000)
    Relief().relieve(100 * MIB, level="elevated")
    assert 5 <= len(cache) <= 20


def test_idle_buffers_and_objects_are_given_up() -> None:
    buffers = BufferPool([MIB], maxbytes="8MiB")
    leases = [buffers.lease(MIB) for _ in range(4)]
    for lease in leases:
        lease.release()
    objects = ObjectPool(bytearray, reset=bytearray.clear, maxsize=4)
    held = [objects.acquire() for _ in range(4)]
    for each in held:
        objects.release(each)
    del held, leases, lease, each
    report = Relief().relieve(100 * MIB)
    found = step(report, "pools")
    assert found.items == 8
    assert found.freed == 4 * MIB
    assert buffers.footprint().bytes == 0


def test_lent_objects_stay_with_their_holders() -> None:
    pool = ObjectPool(bytearray, reset=bytearray.clear, maxsize=2)
    held = pool.acquire()
    Relief().relieve()
    assert pool.footprint().items == 1
    pool.release(held)


def test_what_is_not_needed_is_not_done() -> None:
    cache = filled("enough", entries=200)
    report = Relief().relieve(100_000)
    for name in ("pools", "collect", "callbacks"):
        assert step(report, name).skipped is not None
    assert len(cache) > 150


def test_callbacks_come_by_level_and_priority_until_it_is_enough() -> None:
    relief = Relief()
    called: list[str] = []

    def giving(name: str, given: int | None) -> Callable[[], int | None]:
        def give() -> int | None:
            called.append(name)
            return given

        return give

    relief.on_pressure(giving("late", None), priority=5)
    relief.on_pressure(giving("early", 10), priority=-1)
    relief.on_pressure(giving("critical", 2**40), level="critical", priority=2)
    relief.relieve(2**40, level="elevated", force=True)
    assert called == ["early", "late"]
    called.clear()
    report = relief.relieve(2**40)
    assert called == ["early", "critical"], "the last one was not needed any more"
    assert step(report, "callbacks").freed == 2**40 + 10


def test_a_callback_that_fails_does_not_end_the_run_and_is_counted() -> None:
    relief = Relief()
    called: list[int] = []

    def fail() -> None:
        raise ValueError("mine")

    relief.on_pressure(fail)
    relief.on_pressure(lambda: called.append(1), priority=1)
    relief.relieve(2**40)
    assert called == [1]
    assert relief.statistics().errors_by_kind == (("callback: ValueError", 1),)
    loud = Relief(on_error="raise")
    loud.on_pressure(fail)
    loud.on_pressure(lambda: called.append(2), priority=1)
    with pytest.raises(ValueError, match="mine"):
        loud.relieve(2**40)
    assert called == [1, 2]


def test_a_registration_that_is_closed_is_not_called() -> None:
    relief = Relief()
    called: list[int] = []
    with relief.on_pressure(lambda: called.append(1)) as entry:
        entry.close()
    relief.relieve(2**40)
    assert not called
    assert relief.statistics().callbacks == 0


def test_callbacks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "MOST_CALLBACKS", 2)
    relief = Relief()
    relief.on_pressure(int)
    relief.on_pressure(int)
    with pytest.raises(CapacityError, match="close the registrations"):
        relief.on_pressure(int)


def test_a_run_within_a_run_is_refused_and_not_waited_for() -> None:
    relief = Relief()
    inner: list[ReliefReport] = []
    relief.on_pressure(lambda: inner.append(relief.relieve()))
    relief.relieve(2**40)
    assert [report.busy for report in inner] == [True]
    assert "another run was in progress" in str(inner[0])
    assert relief.statistics().refused == 1


class Broken:
    """A container that fails whatever it is asked."""

    name = "broken"

    def footprint(self) -> Footprint:
        raise RuntimeError

    def reclaim(self, **_: object) -> None:
        raise RuntimeError


class Stubborn:
    """A container that says it is big and gives nothing."""

    name = "stubborn"

    def footprint(self) -> Footprint:
        return Footprint(items=10, bytes=100 * MIB)

    def reclaim(self, **_: object) -> inventory.Reclaimed:
        return inventory.Reclaimed(items=0, bytes=0)


def test_a_broken_container_does_not_hide_the_others() -> None:
    broken, stubborn = Broken(), Stubborn()
    for each in (broken, stubborn):
        inventory.register(each, name=each.name, kind="test")
    cache = filled("fine", entries=100)
    relief = Relief()
    relief.relieve()
    assert len(cache) == 0
    assert ("footprint: RuntimeError", 1) in relief.statistics().errors_by_kind
    inventory.unregister(broken)
    inventory.unregister(stubborn)


def test_steps_that_gave_nothing_are_left_out_ever_longer(fake_clock: FakeClock) -> None:
    relief = Relief(timer=fake_clock, read=lambda: Reading(at=0, anon=MIB, rss=MIB))
    relief.on_pressure(lambda: None)

    def run(**options: Any) -> Any:
        report = relief.relieve(2**40, **options)
        fake_clock.advance(5)
        return step(report, "callbacks")

    done = [run(level="elevated", force=False).skipped is None for _ in range(16)]
    assert [number for number, was in enumerate(done) if was] == [0, 2, 6, 14]
    assert run(level="elevated").skipped is None, "unless it is forced"
    assert run(level="elevated", force=False).skipped == "freed nothing lately"
    assert run(level="critical", force=False).skipped is None, "or all depends on it"


@pytest.mark.parametrize(
    ("options", "generation"),
    [
        ({"level": "elevated", "force": False}, 1),
        ({"level": "critical", "force": False}, 1),
        ({"level": "critical", "force": False, "last_resort": True}, 2),
        ({"level": "elevated", "force": True}, 2),
    ],
    ids=["elevated", "critical", "as a last resort", "when asked"],
)
def test_a_long_collection_is_a_last_resort(options: dict[str, Any], generation: int) -> None:
    relief = Relief(gc_pause=0.01, gc_last_pause=0.5)
    asked: list[int] = []

    def collect(which: int) -> int:
        asked.append(which)
        return 0

    relief._means.collecting = Collecting(
        share=1.0,
        timer=lambda: 0.0,
        collect=collect,
        blocks=lambda: 1_000_000,  # a quarter of a second
    )
    relief.relieve(2**40, **options)
    assert asked == [generation]


def test_malloc_is_trimmed_only_where_it_does_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming.Trimming.run, "__kwdefaults__", {"force": False})
    relief = Relief()
    monkeypatch.setattr(relief._means.trimming, "_trim", lambda: None)
    assert (
        step(relief.relieve(), "trim").skipped
        == "this process runs on a malloc that cannot be asked"
    )


def test_trimming_has_an_interval_and_a_share_of_the_time(fake_clock: FakeClock) -> None:
    took = [0.5]

    def trim() -> bool:
        fake_clock.advance(took[0])
        return True

    means = trimming.Trimming(1.0, timer=fake_clock, trim=trim)
    assert means.run(critical=False) is None
    fake_clock.advance(5)
    assert means.run(critical=True) == "done a moment ago"
    fake_clock.advance(5)
    took[0] = 0.001
    assert means.run(critical=True) is None
    fake_clock.advance(0.2)
    assert means.run(critical=False) == "done a moment ago"
    assert means.run(critical=True) is None
    assert means.run(critical=False, force=True) is None


def test_what_a_trim_has_given_back_is_not_counted_as_held_again(fake_clock: FakeClock) -> None:
    free = [0]
    means = trimming.Trimming(
        1.0,
        timer=fake_clock,
        trim=lambda: True,
        read=lambda: AllocatorState(name="glibc", python="pymalloc", free=free[0], can_trim=True),
    )
    free[0] = 100
    assert means.held_back() == 100
    means.run(critical=True)
    assert means.held_back() == 0, "glibc still calls it free, but it is gone"
    free[0] = 130
    assert means.held_back() == 30, "freed since"
    free[0] = 40
    assert means.held_back() == 0, "pages that were gone are in use again"
    free[0] = 130
    assert means.held_back() == 90


@pytest.mark.parametrize(("freed", "is_trimmed"), [(50 * MIB, True), (0, False)])
def test_what_only_the_collector_has_freed_is_trimmed_too(
    monkeypatch: pytest.MonkeyPatch, freed: int, *, is_trimmed: bool
) -> None:
    """No container gave it, so only glibc knows of it: asked again, after the collection."""
    free = [0]
    relief = Relief()
    means = relief._means

    def collect(*_: object, **__: object) -> tuple[int, None]:
        free[0] = freed
        return 3, None

    def read() -> AllocatorState:
        return AllocatorState(name="glibc", python="pymalloc", free=free[0], can_trim=True)

    monkeypatch.setattr(type(means.collecting), "run", collect)
    monkeypatch.setattr(means.trimming, "_read", read)
    monkeypatch.setattr(means.trimming, "_trim", lambda: True)
    trimmed = step(relief.relieve(10_000 * MIB, force=False), "trim")
    assert (trimmed.skipped is None) == is_trimmed


def test_an_allocator_that_does_not_tell_holds_back_nobody_knows_what(
    fake_clock: FakeClock,
) -> None:
    silent = AllocatorState(name="musl", python="pymalloc")
    means = trimming.Trimming(1.0, timer=fake_clock, trim=lambda: None, read=lambda: silent)
    assert means.held_back() is None
    assert means.run(critical=True) == "this process runs on a malloc that cannot be asked"


def test_a_report_is_plain_data_and_reads_well() -> None:
    cache = filled("report", entries=100)
    report = Relief().relieve(500_000, reason="a test")
    assert json.loads(json.dumps(report.to_dict()))["reason"] == "a test"
    first, *lines = str(report).splitlines()
    assert first.startswith("relief (a test): wanted 488.3 KiB, memory fell by ")
    assert len(lines) == len(report.steps)
    assert len(cache) < 100


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (3 * MIB, 1 * MIB, "memory fell by 2.0 MiB"),
        (1 * MIB, 2 * MIB, "memory rose by 1.0 MiB"),
        (None, 1 * MIB, "memory changed by an unknown amount"),
    ],
)
def test_memory_that_rose_meanwhile_is_said_to_have_risen(
    before: int | None, after: int, said: str
) -> None:
    report = ReliefReport(reason="a test", goal=MIB, before=before, after=after)
    assert str(report).startswith(f"relief (a test): wanted 1.0 MiB, {said}, 0 B reported as freed")


def test_what_was_done_is_added_up() -> None:
    cache = filled("sum", entries=100)
    relief = Relief()
    first, second = relief.relieve(100_000), relief.relieve(100_000)
    statistics = relief.statistics()
    assert statistics.runs == 2
    assert statistics.freed == first.freed + second.freed
    assert statistics.longest_seconds == max(first.seconds, second.seconds)
    assert len(cache) < 100


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gc_share": 0}, ConfigError, "gc_share must be from 0.0001 to 1"),
        ({"gc_share": "1"}, TypeError, "gc_share must be a number"),
        ({"gc_pause": -1}, ConfigError, "gc_pause"),
        ({"trim_interval": "x"}, ConfigError, "trim_interval"),
        ({"on_error": "ignore"}, ConfigError, "on_error must be 'log' or 'raise'"),
        ({"timer": 1}, TypeError, "timer must be callable"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Relief(**options)


def test_wrong_arguments_are_refused() -> None:
    relief = Relief()
    wrong: Any = "ok"
    with pytest.raises(ConfigError, match="level must be"):
        relief.relieve(1, level=wrong)
    with pytest.raises(ConfigError, match="level must be"):
        relief.on_pressure(int, level=wrong)
    with pytest.raises(ConfigError, match="target"):
        relief.relieve("much")
    with pytest.raises(TypeError, match="callback must be callable"):
        relief.on_pressure(wrong)
    with pytest.raises(TypeError, match="priority"):
        relief.on_pressure(int, priority=wrong)
    with pytest.raises(TypeError, match="protect needs a container"):
        relief.protect({}, least_bytes=1)
