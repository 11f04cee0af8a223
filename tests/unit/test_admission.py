"""Who may begin now: work is refused, or waits, while there is no memory to spare."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import AdmissionError, ConfigError
from memguard.relief.admission import Admission
from memguard.relief.levels import Level
from memguard.relief.records import PressureState, ReliefReport
from memguard.relief.room import BoundUse
from memguard.relief.steps import Relief
from tests.clock import FakeClock

MIB = 1024**2


class Monitor:
    def __init__(self, used: int | None = 30 * MIB, level: Level = "ok") -> None:
        self.used = used
        self.level: Level = level

    def state(self) -> PressureState:
        limit = None if self.used is None else 100 * MIB
        return PressureState(level=self.level, used=self.used, limit=limit, source="/g/memory.max")


def test_work_that_fits_is_let_in() -> None:
    admission = Admission(Monitor().state)
    with admission.admit("50MiB"):
        assert admission.statistics().promised == 50 * MIB
    statistics = admission.statistics()
    assert (statistics.admitted, statistics.running, statistics.promised) == (1, 0, 0)


def test_what_was_promised_to_others_counts_before_they_use_it() -> None:
    admission = Admission(Monitor().state)
    with admission.admit("40MiB"):
        with pytest.raises(AdmissionError, match=r"needs 40.0 MiB; .* room for 20.0 MiB"):
            admission.admit("40MiB")
        admission.admit("20MiB").close()
    admission.admit("40MiB").close()
    assert admission.statistics().refused == 1


def test_what_work_has_taken_of_its_promise_is_not_counted_twice() -> None:
    monitor = Monitor()
    admission = Admission(monitor.state)
    with admission.admit("40MiB"):
        monitor.used = 70 * MIB
        admission.admit("20MiB").close()


def test_at_critical_nobody_is_let_in() -> None:
    monitor = Monitor(used=95 * MIB, level="critical")
    admission = Admission(monitor.state)
    with pytest.raises(AdmissionError, match=r"memory is critical; .* has room for 0 B"):
        admission.admit()
    monitor.used = 50 * MIB
    with pytest.raises(AdmissionError, match="memory is critical"):
        admission.admit()


def test_work_that_can_never_fit_is_refused_without_waiting(fake_clock: FakeClock) -> None:
    admission = Admission(Monitor().state, timer=fake_clock, sleep=fake_clock.advance)
    before = fake_clock()
    with pytest.raises(AdmissionError, match="make it smaller"):
        admission.admit("95MiB", wait=60)
    assert fake_clock() == before


def test_work_waits_until_there_is_room(fake_clock: FakeClock) -> None:
    monitor = Monitor(used=80 * MIB)
    looks: list[int] = []

    def sleep(seconds: float) -> None:
        fake_clock.advance(seconds)
        if len(looks) == 5:
            monitor.used = 20 * MIB

    admission = Admission(
        monitor.state, look=lambda: looks.append(1), timer=fake_clock, sleep=sleep
    )
    admission.admit("40MiB", wait="10s").close()
    statistics = admission.statistics()
    assert statistics.waited == 1
    assert statistics.waited_seconds == pytest.approx(0.25)


def test_who_waited_in_vain_is_told_for_how_long(fake_clock: FakeClock) -> None:
    admission = Admission(Monitor(used=80 * MIB).state, timer=fake_clock, sleep=fake_clock.advance)
    with pytest.raises(AdmissionError, match=r"not admitted after 1.0 s: needs 40.0 MiB;"):
        admission.admit("40MiB", wait=1)


def bound(name: str, *, limit: int, used: int, own: int | None = None) -> BoundUse:
    return BoundUse(name=name, source=name, limit=limit, used=used, own=own)


class Bounded(Monitor):
    """A process under several bounds, which relief can free so many bytes of."""

    def __init__(self, *bounds: BoundUse, cold: int = 0) -> None:
        super().__init__()
        self.bounds = bounds
        self.cold = cold
        self.goals: list[int] = []

    def state(self) -> PressureState:
        fullest = max(self.bounds, key=lambda each: each.used / each.limit)
        return PressureState(
            level=self.level,
            used=fullest.used,
            limit=fullest.limit,
            source=fullest.source,
            private=1000 * MIB,
            bounds=self.bounds,
        )

    def free(self, size: int) -> int:
        freed = min(size, self.cold)
        self.cold -= freed
        self.bounds = tuple(replace(each, used=each.used - freed) for each in self.bounds)
        return freed


class Freeing(Relief):
    """Relief that frees what is cold, and no more."""

    def __init__(self, monitor: Bounded) -> None:
        super().__init__()
        self.monitor = monitor

    def relieve(self, target: Any = None, **options: Any) -> ReliefReport:
        self.monitor.goals.append(target)
        before = self.monitor.bounds[0].used
        freed = self.monitor.free(target)
        return ReliefReport(
            reason=options["reason"], goal=target, before=before, after=before - freed
        )

    def hold(self, room: int) -> int:
        return room


def test_every_bound_is_asked_not_only_the_fullest() -> None:
    """A group of 400 MiB, half full, on a host with 24 GiB that is fuller by ratio."""
    small = bound("the group /x", limit=400 * MIB, used=200 * MIB)
    large = bound("the host", limit=24_000 * MIB, used=14_000 * MIB)
    admission = Admission(Bounded(large, small).state)
    with pytest.raises(AdmissionError) as refused:
        admission.admit("5GiB")
    assert "the group /x" in str(refused.value)
    with pytest.raises(AdmissionError, match=r"the group /x has room for 160.0 MiB"):
        admission.admit("200MiB")
    admission.admit("150MiB").close()


@given(
    bounds=st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 1.2)), min_size=1, max_size=5),
    costs=st.lists(st.integers(1, 4_000), max_size=20),
    ends=st.lists(st.booleans(), max_size=20),
    critical=st.floats(0.2, 1.0),
)
def test_nothing_is_let_in_that_any_bound_has_no_room_for(
    bounds: list[tuple[int, float]], costs: list[int], ends: list[bool], critical: float
) -> None:
    """And nothing is refused that fits under each; work takes all that it requested at once."""
    monitor = Bounded(
        *(bound(str(n), limit=size, used=int(size * full)) for n, (size, full) in enumerate(bounds))
    )
    admission = Admission(monitor.state, critical=critical)
    running: list[Any] = []
    promised = 0
    for number, cost in enumerate(costs):
        fits = all(
            each.used + promised + cost <= int(critical * each.limit) for each in monitor.bounds
        )
        place = None
        with contextlib.suppress(AdmissionError):
            place = admission.admit(cost)
        assert (place is not None) == fits
        if place is not None:
            running.append((place, cost))
            promised += cost
        if running and number < len(ends) and ends[number]:
            place, size = running.pop(0)
            place.close()
            promised -= size
    for place, _ in running:
        place.close()
    assert admission.statistics().promised == 0


@given(
    cold=st.integers(0, 100),
    used=st.integers(50, 100),
    cost=st.integers(1, 90),
)
def test_nobody_is_refused_while_relief_could_make_the_room(
    cold: int, used: int, cost: int
) -> None:
    cold = min(cold, used)
    monitor = Bounded(bound("the group /x", limit=100 * MIB, used=used * MIB), cold=cold * MIB)
    admission = Admission(monitor.state, relief=Freeing(monitor))
    could = (used - cold + cost) * MIB <= 90 * MIB
    try:
        admission.admit(cost * MIB).close()
        admitted = True
    except AdmissionError:
        admitted = False
    assert admitted == could
    if admitted and (used + cost) * MIB <= 90 * MIB:
        assert monitor.goals == [], "there was room already"


def test_relief_is_asked_for_what_is_missing_and_once_before_it_is_refused(
    fake_clock: FakeClock,
) -> None:
    monitor = Bounded(bound("the group /x", limit=100 * MIB, used=80 * MIB), cold=5 * MIB)
    admission = Admission(
        monitor.state, relief=Freeing(monitor), timer=fake_clock, sleep=fake_clock.advance
    )
    with pytest.raises(AdmissionError, match="relief made what room it could"):
        admission.admit("40MiB", wait=0.5)
    assert monitor.goals[0] == pytest.approx(30 * MIB * 1.25)
    assert len(monitor.goals) <= 2
    assert admission.statistics().room_made == 5 * MIB


def test_a_place_that_is_dropped_is_taken_back_and_counted() -> None:
    admission = Admission(Monitor().state)
    admission.admit("40MiB")
    gc.collect()
    statistics = admission.statistics()
    assert (statistics.dropped, statistics.running, statistics.promised) == (1, 0, 0)


def test_the_base_is_renewed_while_work_runs() -> None:
    """A server that is never idle: what others took counts, and what relief freed is free."""
    monitor = Monitor(used=60 * MIB)
    admission = Admission(monitor.state)
    running = admission.admit("1MiB")
    monitor.used = 10 * MIB
    for _ in range(3):
        following = admission.admit("1MiB")
        running.close()
        running = following
    admission.admit("70MiB").close()
    running.close()
    monitor.used = 10 * MIB
    places = [admission.admit("10MiB")]
    monitor.used = 60 * MIB  # caches have filled; the work has taken 10 MiB at most
    with contextlib.suppress(AdmissionError):
        while len(places) < 10:
            places += [admission.admit("10MiB")]
    assert 60 + 10 * (len(places) - 1) <= 90
    for place in places:
        place.close()


def test_eight_threads_never_pass_the_mark_together() -> None:
    admission = Admission(Monitor(used=30 * MIB).state)
    lock = threading.Lock()
    running = [0]
    highest = [0]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(60):
                with admission.admit("20MiB", wait=30):
                    with lock:
                        running[0] += 1
                        highest[0] = max(highest[0], running[0])
                    time.sleep(0.0005)
                    with lock:
                        running[0] -= 1
        except BaseException as error:  # noqa: BLE001 - reason: raised below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert 2 <= highest[0] <= 3
    statistics = admission.statistics()
    assert (statistics.admitted, statistics.running, statistics.waiting) == (480, 0, 0)


def test_a_thousand_tasks_are_admitted_in_turn_and_the_loop_never_waits() -> None:
    admission = Admission(Monitor(used=30 * MIB).state)
    running = highest = 0
    order: list[int] = []

    async def work(number: int) -> None:
        nonlocal running, highest
        async with admission.aadmit("20MiB", wait=60):
            order.append(number)
            running += 1
            highest = max(highest, running)
            await asyncio.sleep(0)
            running -= 1

    async def main() -> float:
        tasks = [asyncio.ensure_future(work(number)) for number in range(1000)]
        longest = 0.0
        while not all(task.done() for task in tasks):
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)
        await asyncio.gather(*tasks)
        return longest

    asyncio.run(main())
    assert highest == 3
    assert order == sorted(order), "who waits longest is next"
    statistics = admission.statistics()
    assert (statistics.admitted, statistics.running, statistics.waiting) == (1000, 0, 0)


def test_tasks_that_are_cancelled_leave_the_line_and_take_no_place() -> None:
    admission = Admission(Monitor(used=30 * MIB).state)

    async def main() -> None:
        first = await admission.aadmit("60MiB")
        waiting = [asyncio.ensure_future(_entered(admission, "60MiB", wait=30)) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert admission.statistics().waiting == 20
        for task in waiting[:-1]:
            task.cancel()
        await asyncio.gather(*waiting[:-1], return_exceptions=True)
        first.close()
        await asyncio.wait_for(waiting[-1], 10)

    asyncio.run(main())
    statistics = admission.statistics()
    assert (statistics.running, statistics.waiting, statistics.admitted) == (0, 0, 2)


async def _entered(admission: Admission, cost: str, *, wait: float) -> None:
    async with admission.aadmit(cost, wait=wait):
        await asyncio.sleep(0)


def test_where_nothing_is_known_nobody_is_kept_out() -> None:
    admission = Admission(Monitor(used=None, level="insufficient_data").state)
    admission.admit("100GiB").close()


def test_a_place_is_given_back_once_and_when_work_fails() -> None:
    admission = Admission(Monitor().state)

    class WorkFailedError(Exception):
        pass

    with pytest.raises(WorkFailedError), admission.admit("10MiB") as place:
        raise WorkFailedError
    place.close()
    assert admission.statistics().promised == 0


def test_a_forked_child_begins_with_nobody_running() -> None:
    admission = Admission(Monitor().state)
    place = admission.admit("10MiB")
    admission._reset()
    place.close()
    assert admission.statistics().running == 0


@pytest.mark.parametrize("options", [{"cost_bytes": "x"}, {"wait": -1}, {"cost_bytes": -1}])
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Admission(Monitor().state).admit(**options)


def test_a_refusal_is_a_memory_error_and_crosses_a_process_pool() -> None:
    error = AdmissionError("not admitted")
    assert isinstance(error, MemoryError)
    assert str(pickle.loads(pickle.dumps(error))) == "not admitted"  # noqa: S301 - reason: ours
