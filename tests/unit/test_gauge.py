"""How full is it: the bound that counts, and what a cheap look may say."""

from __future__ import annotations

import pytest

from memguard.observe.children import Family, FamilyMeter
from memguard.observe.headroom import Fill, GroupEvents, Headroom, Stall
from memguard.observe.limits import Bound, Limit
from memguard.observe.readings import Reading
from memguard.relief.gauge import OWN_LIMIT, Gauge
from tests.clock import FakeClock
from tests.relieving import MIB, Process


def test_the_fullest_bound_is_the_one_that_counts(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=30 * MIB)
    own = process.gauge(limit=40 * MIB).look_now()
    assert (own.sample.source, own.sample.limit, own.scope) == (OWN_LIMIT, 40 * MIB, "process")
    group = process.gauge(limit=4000 * MIB).look_now()
    assert (group.sample.source, group.sample.limit) == ("/g/memory.max", 100 * MIB)


def test_what_is_left_is_counted_under_the_bound_with_least(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=1 * MIB, limit=1000 * MIB)
    process.others = 500 * MIB
    look = process.gauge(limit=50 * MIB).look_now()
    assert look.sample.source == "/g/memory.max"
    assert look.headroom == 49 * MIB


def test_a_process_among_others_knows_its_share(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=10 * MIB)
    process.others = 30 * MIB
    assert process.gauge().look_now().own_share == 0.25
    assert process.gauge(limit=11 * MIB).look_now().own_share == 1.0, "that bound is its own"


def test_between_two_full_looks_another_bound_may_become_the_fullest(
    fake_clock: FakeClock,
) -> None:
    """A process that begins in a small group on a busy host."""
    process = Process(fake_clock, used=1 * MIB, limit=10_000 * MIB)
    process.others = 500 * MIB
    gauge = process.gauge(limit=100 * MIB)
    assert gauge.look_now().sample.source == "/g/memory.max"
    fake_clock.advance(0.1)
    process.used = 80 * MIB
    look = gauge.look_now()
    assert not look.is_full
    assert (look.sample.source, look.sample.ratio) == (OWN_LIMIT, 0.8)


def test_bounds_are_read_again_after_a_minute(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=10 * MIB)
    asked: list[float] = []

    def bounds() -> Limit:
        asked.append(fake_clock())
        return process.bounds()

    gauge = Gauge(
        limit=None,
        interval=1.0,
        timer=fake_clock,
        read=process.read,
        bounds=bounds,
        headroom=process.headroom,
    )
    for _ in range(125):
        gauge.look_now()
        fake_clock.advance(1)
    assert len(asked) == 3


def rlimit_process(clock: FakeClock) -> tuple[Gauge, dict[str, int]]:
    """Return a gauge under RLIMIT_AS, and the address space that it sees."""
    sizes = {"vms": 600 * MIB, "anon": 10 * MIB}
    bound = Bound(bytes=1000 * MIB, kind="rlimit.as", source="RLIMIT_AS")

    def headroom(reading: Reading, *, limit: Limit) -> Headroom:
        fill = Fill(bound=bound, used=reading.vms or 0, scope="process")
        return Headroom(fills=(fill,), limit=limit)

    def read() -> Reading:
        return Reading(at=clock(), vms=sizes["vms"], anon=sizes["anon"])

    gauge = Gauge(
        limit=None,
        interval=1.0,
        timer=clock,
        read=read,
        glance=read,
        bounds=lambda: Limit(bytes=bound.bytes, source=bound.source, bounds=(bound,)),
        headroom=headroom,
    )
    return gauge, sizes


def test_under_a_bound_on_address_space_it_is_address_space_that_grows(
    fake_clock: FakeClock,
) -> None:
    gauge, sizes = rlimit_process(fake_clock)
    gauge.look_now()
    fake_clock.advance(0.1)
    sizes["anon"] += 40 * MIB
    sizes["vms"] += 40 * MIB
    look = gauge.look_now()
    assert not look.is_full
    assert look.headroom == 360 * MIB
    assert (look.sample.used, look.sample.limit) == (50 * MIB, 410 * MIB)
    sizes["vms"] += 60 * MIB  # of threads, which no relief can free
    look = gauge.look_now()
    assert look.headroom == 300 * MIB
    assert (look.sample.used, look.sample.limit) == (50 * MIB, 350 * MIB)


def test_what_is_freed_stays_address_space_and_can_be_used_again(fake_clock: FakeClock) -> None:
    gauge, sizes = rlimit_process(fake_clock)
    sizes.update(vms=950 * MIB, anon=300 * MIB)
    look = gauge.look_now()
    assert look.sample.ratio == pytest.approx(300 / 350)
    sizes["anon"] = 200 * MIB
    look = gauge.look_now()
    assert look.sample.ratio == pytest.approx(200 / 350), "relief has its effect"
    assert look.headroom == 150 * MIB
    sizes["anon"] = 290 * MIB
    assert gauge.look_now().headroom == 60 * MIB
    sizes.update(vms=850 * MIB, anon=190 * MIB)  # unmapped
    look = gauge.look_now()
    assert (look.headroom, look.sample.limit) == (160 * MIB, 350 * MIB)


def test_shared_memory_counts_against_the_users_own_bound(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=10 * MIB)
    process.shared = 25 * MIB
    look = process.gauge(limit=50 * MIB).look_now()
    assert (look.sample.source, look.sample.used) == (OWN_LIMIT, 35 * MIB)


def test_pages_that_grow_and_may_be_shared_memory_call_for_a_full_look(
    fake_clock: FakeClock,
) -> None:
    """A cheap look does not see which of them the kernel can drop."""
    process = Process(fake_clock, used=10 * MIB)
    gauge = process.gauge(limit=50 * MIB)
    gauge.look_now()
    fake_clock.advance(0.05)
    process.shared = 1 * MIB
    assert not gauge.look_now().is_full
    process.shared = 30 * MIB
    fake_clock.advance(0.05)
    look = gauge.look(at_rest=True)
    assert look is not None
    assert look.is_full
    assert look.sample.used == 40 * MIB
    fake_clock.advance(0.05)
    assert not gauge.look_now().is_full, "once, not at each look"


def test_children_count_against_the_users_own_bound_if_asked_for(
    fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Family(children=2, bytes=20 * MIB, shared=4 * MIB)
    monkeypatch.setattr(FamilyMeter, "read", lambda _self: family)
    process = Process(fake_clock, used=10 * MIB, limit=None)
    assert process.gauge(limit=50 * MIB).look_now().sample.used == 10 * MIB
    look = process.gauge(limit=50 * MIB, children=True).look_now()
    assert (look.sample.used, look.scope) == (26 * MIB, "children")
    assert look.own_share == pytest.approx(10 / 26)


def test_waiting_and_collisions_are_told_by_full_looks_only(fake_clock: FakeClock) -> None:
    bound = Bound(bytes=100 * MIB, kind="cgroup2.max", source="/g/memory.max", directory="/g")

    def headroom(reading: Reading, *, limit: Limit) -> Headroom:
        return Headroom(
            fills=(Fill(bound=bound, used=reading.private or 0, scope="group"),),
            limit=limit,
            stall=Stall(some=12.0, full=3.0, source="/g/memory.pressure"),
            events=GroupEvents(limit=4, oom_kill=0, high=2),
        )

    gauge = Gauge(
        limit=None,
        interval=1.0,
        timer=fake_clock,
        read=lambda: Reading(at=0.0, anon=10 * MIB),
        bounds=lambda: Limit(bytes=bound.bytes, source=bound.source, bounds=(bound,)),
        headroom=headroom,
    )
    full = gauge.look_now().sample
    assert (full.stall_some, full.stall_full, full.stall_is_own) == (12.0, 3.0, True)
    assert full.collisions == 6
    fake_clock.advance(0.1)
    cheap = gauge.look_now().sample
    assert (cheap.stall_some, cheap.stall_full, cheap.collisions) == (None, None, None)


def test_a_pressure_file_of_the_machine_is_not_ours(fake_clock: FakeClock) -> None:
    process = Process(fake_clock, used=10 * MIB)
    gauge = process.gauge()
    gauge.look_now()
    assert not gauge._is_own("/proc/pressure/memory")
