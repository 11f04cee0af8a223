"""What containers really weigh: learned from what the process freed, and used in the next run."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.lifecycle.failures import Failures
from memguard.relief.caches import Shares
from memguard.relief.calibration import MOST_FACTOR, Calibration
from memguard.relief.steps import Relief
from tests.clock import FakeClock
from tests.relieving import MIB, filled


class World:
    """A process in which each entry of a cache weighs what the test says."""

    def __init__(self, clock: FakeClock, *, entry: int, base: int = 100 * MIB) -> None:
        self.clock = clock
        self.entry = entry
        self.base = base
        self.seconds_per_entry = 0.0
        self.caches: list[BoundedCache[int, Any]] = []
        self.slices: list[int] = []

    def in_use(self) -> int:
        return self.base + self.entry * sum(map(len, self.caches))

    def cache(self, name: str, *, entries: int) -> BoundedCache[int, Any]:
        world = self

        class Slow(BoundedCache[int, Any]):
            def shrink(self, **options: Any) -> Any:
                given = super().shrink(**options)
                world.slices.append(given.items)
                world.clock.advance(given.items * world.seconds_per_entry)
                return given

        made: BoundedCache[int, Any] = Slow(maxbytes=1000 * MIB, name=name)
        for number in range(entries):
            made[number] = number
        self.caches.append(made)
        return made

    def shares(self) -> Shares:
        return Shares(Failures("test"), in_use=self.in_use, clock=self.clock)


def test_what_frees_far_more_than_it_claims_ends_the_run_when_enough_is_free(
    fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "memguard")
    world = World(fake_clock, entry=1 * MIB)
    cache = world.cache("trees", entries=200)
    shares = world.shares()
    footprint = cache.footprint()
    shrunk = shares.take(cache, footprint, footprint.bytes or 0, missing=20 * MIB)
    assert 20 <= shrunk.items <= 25
    assert shrunk.corrected == pytest.approx(20 * MIB, rel=0.25)
    assert shrunk.real == shrunk.items * MIB
    assert shrunk.factor == pytest.approx((shrunk.real or 0) / shrunk.claimed)
    footprint = cache.footprint()
    assert shares.weight(cache, footprint) == pytest.approx(len(cache) * MIB, rel=0.05)
    again = shares.take(cache, footprint, 30 * MIB, missing=30 * MIB)
    assert 29 <= again.items <= 32, "now it is known what an entry weighs"
    assert again.corrected == pytest.approx(again.real, rel=0.1)
    [said] = [record for record in caplog.records if "container_heavier" in record.getMessage()]
    assert "sizer=" in said.getMessage()


def test_slices_take_ten_milliseconds_whatever_is_claimed(fake_clock: FakeClock) -> None:
    world = World(fake_clock, entry=1)
    world.seconds_per_entry = 0.001
    cache = world.cache("slow to drop", entries=1000)
    shares = world.shares()
    footprint = cache.footprint()
    shares.take(cache, footprint, footprint.bytes or 0, missing=footprint.bytes or 0)
    assert sum(world.slices) == 1000
    assert max(world.slices) <= 15


def test_what_claims_what_it_frees_is_believed(fake_clock: FakeClock) -> None:
    world = World(fake_clock, entry=120)
    cache = world.cache("honest", entries=20_000)
    shares = world.shares()
    footprint = cache.footprint()
    shrunk = shares.take(cache, footprint, 1 * MIB, missing=1 * MIB)
    assert shrunk.claimed == pytest.approx(MIB, rel=0.01)
    assert shrunk.factor < 2


class Container:
    name = "container"


def test_lighter_than_claimed_is_no_news() -> None:
    found = Calibration()
    container = Container()
    assert found.learn(container, claimed=50 * MIB, real=5 * MIB) == 1.0
    assert found.learn(container, claimed=50 * MIB, real=-5 * MIB) == 1.0


def test_noise_teaches_nothing() -> None:
    found = Calibration()
    assert found.learn(Container(), claimed=100, real=500_000) == 1.0


def test_it_is_bounded_and_follows_what_it_sees() -> None:
    found = Calibration()
    container = Container()
    assert found.learn(container, claimed=1, real=2**40) == MOST_FACTOR
    for _ in range(20):
        found.learn(container, claimed=10 * MIB, real=10 * MIB)
    assert found.factor(container) == pytest.approx(1.0, abs=0.01)


def test_it_keeps_nothing_alive_and_a_new_container_starts_afresh() -> None:
    found = Calibration()
    container = Container()
    found.learn(container, claimed=MIB, real=8 * MIB)
    assert found.factor(container) == 8.0
    del container
    others = [Container() for _ in range(50)]  # one of them may have its address
    assert {found.factor(other) for other in others} == {1.0}
    found.learn(others[0], claimed=MIB, real=8 * MIB)
    assert len(found._rows) == 1


def test_a_report_says_what_each_cache_claimed_and_what_was_freed() -> None:
    cache = filled("reported", entries=300)
    relief = Relief()
    report = relief.relieve()
    [row] = [row for step in report.steps for row in step.containers if row.name == "reported"]
    assert row.items == 300
    assert row.claimed >= 300 * 10_000
    assert row.factor >= 1.0
    assert relief.statistics().claimed >= row.corrected >= row.claimed
    assert len(cache) == 0
