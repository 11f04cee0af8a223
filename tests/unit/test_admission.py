"""Who may begin now: work is refused, or waits, while there is no memory to spare."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from memguard.errors import AdmissionError, ConfigError
from memguard.relief.admission import Admission
from memguard.relief.levels import Level
from memguard.relief.records import PressureState
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
        with pytest.raises(AdmissionError, match=r"40.0 MiB wanted, 20.0 MiB left of 100.0 MiB"):
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
    with pytest.raises(AdmissionError, match="left of"):
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
    with pytest.raises(AdmissionError, match=r"not admitted after 1.0 s: 40.0 MiB wanted"):
        admission.admit("40MiB", wait=1)


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
