"""One call builds and owns all of it; the process has at most one."""

from __future__ import annotations

import gc
import inspect
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard import guard as front
from memguard.errors import AdmissionError, ConfigError, LifecycleError
from memguard.guard import MemoryGuard
from memguard.guard.environment import VARIABLES, options_from
from memguard.relief.collector import GcPolicy
from memguard.relief.records import Alert
from memguard.relief.steps import Relief
from tests.relieving import MIB, filled


@pytest.fixture(autouse=True)
def no_guard_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    yield
    front.uninstall()


def alert(kind: Any) -> Alert:
    return Alert(
        kind=kind,
        level="critical",
        previous="critical",
        reasons=(),
        used=1,
        limit=1,
        source="x",
        time=0.0,
    )


def test_nothing_runs_before_it_is_started_and_nothing_after_it_is_stopped() -> None:
    before = set(threading.enumerate())
    callbacks = len(gc.callbacks)
    guard = MemoryGuard(limit="1TiB")
    assert set(threading.enumerate()) == before
    with guard:
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert names == {"memguard-pressure-memguard", "memguard-detector-memguard"}
        with pytest.raises(LifecycleError, match="already started"):
            guard.start()
    assert set(threading.enumerate()) == before
    assert len(gc.callbacks) == callbacks
    guard.close()


def test_it_says_its_name_and_whether_it_runs() -> None:
    guard = MemoryGuard(leaks=False, name="shop")
    assert repr(guard) == "MemoryGuard(name='shop', stopped)"
    with guard:
        assert repr(guard) == "MemoryGuard(name='shop', running)"


def test_each_part_can_be_left_out() -> None:
    guard = MemoryGuard(leaks=False, relief=False, history=False, gc_watch=False)
    status = guard.status()
    assert (status.detector, status.relief, status.history, status.gc) == (None,) * 4
    assert guard.reports == ()
    with pytest.raises(LifecycleError, match="relief=False"):
        guard.on_pressure(int)


def test_its_status_is_plain_data() -> None:
    with MemoryGuard(limit="1TiB", gc_policy=GcPolicy(threshold=(900, 10, 10))) as guard:
        assert guard.history is not None
        deadline = time.monotonic() + 30
        while not guard.history.statistics().readings and time.monotonic() < deadline:
            time.sleep(0.005)
        found = json.loads(json.dumps(guard.status().to_dict()))
    assert found["running"]
    assert found["pressure"]["limit"] > 0
    assert found["gc_policy"]["active"]
    assert found["detector"]["name"] == "memguard"
    assert found["history"]["readings"] >= 1


def test_options_reach_the_parts(tmp_path: Path) -> None:
    relief = Relief()
    guard = MemoryGuard(
        limit="64MiB",
        relief=relief,
        report_dir=tmp_path / "reports",
        leak_options={"interval": 5.0},
        history=tmp_path / "history.db",
        name="shop",
    )
    status = guard.status()
    assert guard.relief is relief
    assert status.detector is not None
    assert status.history is not None
    assert status.detector.report_dir == str(tmp_path / "reports")
    assert status.history.file == str(tmp_path / "history.db")
    assert status.monitor.name == "shop"
    guard.close()
    assert guard.status().history is None


def test_who_is_to_be_recycled_is_told_even_when_another_callback_fails() -> None:
    told: list[str] = []

    def fail(_: Alert) -> None:
        raise ValueError

    guard = MemoryGuard(leaks=False, on_alert=fail, on_recycle=lambda a: told.append(a.kind))
    with pytest.raises(ValueError):  # noqa: PT011 - reason: its own, passed on to the monitor
        guard._alerted(alert("recycle"))
    assert told == ["recycle"]


def test_work_is_admitted_by_what_the_monitor_knows() -> None:
    guard = MemoryGuard(limit="1TiB", leaks=False)
    guard.monitor.tick()
    with guard.admit("1MiB"):
        assert guard.status().admission.running == 1
    with pytest.raises(AdmissionError):
        guard.admit("900TiB")


def test_a_part_that_cannot_start_stops_the_others() -> None:
    guard = MemoryGuard(limit="1TiB", leaks=False)
    guard.monitor.start()
    with pytest.raises(LifecycleError):
        guard.start()
    assert not guard.status().running
    assert not guard.monitor.statistics().running


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"leaks": 1}, TypeError, "leaks must be True or False"),
        ({"gc_watch": None}, TypeError, "gc_watch must be True or False"),
        ({"relief": 1}, TypeError, "relief must be"),
        ({"on_recycle": 1}, TypeError, "on_recycle must be callable"),
        ({"gc_policy": 1}, TypeError, "gc_policy must be a GcPolicy"),
        ({"elevated": 2.0}, ConfigError, "elevated"),
        ({"limit": "x"}, ConfigError, "limit"),
        ({"leak_options": {"interval": -1}}, ConfigError, "interval"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        MemoryGuard(**options)


class TestEnvironment:
    def test_variables_become_options(self) -> None:
        found = options_from(
            {
                "MEMGUARD_LIMIT": "512MiB",
                "MEMGUARD_ELEVATED": "0.6",
                "MEMGUARD_LEAKS": "off",
                "MEMGUARD_RELIEF": "Yes",
                "MEMGUARD_HISTORY": "/var/lib/app/history.db",
                "MEMGUARD_REPORT_DIR": "",
                "UNRELATED": "1",
            }
        )
        assert found == {
            "limit": "512MiB",
            "elevated": 0.6,
            "leaks": False,
            "relief": True,
            "history": "/var/lib/app/history.db",
        }

    def test_a_plain_number_is_bytes_and_a_history_can_be_switched_off(self) -> None:
        found = options_from({"MEMGUARD_LIMIT": "1000000", "MEMGUARD_HISTORY": "0"})
        assert found == {"limit": 1_000_000, "history": False}

    @pytest.mark.parametrize(
        ("variable", "value"), [("MEMGUARD_LEAKS", "maybe"), ("MEMGUARD_CRITICAL", "90%")]
    )
    def test_a_value_that_cannot_be_read_is_refused_by_its_name(
        self, variable: str, value: str
    ) -> None:
        with pytest.raises(ConfigError, match=variable):
            options_from({variable: value})


class TestProcess:
    def test_there_is_one_guard_and_it_is_given_back(self) -> None:
        guard = front.install(limit="1TiB", leaks=False)
        assert front.install() is guard
        assert front.status().running
        with pytest.raises(LifecycleError, match="already installed"):
            front.install(limit="2TiB")
        front.uninstall()
        front.uninstall()
        with pytest.raises(LifecycleError, match="no guard is installed"):
            front.status()

    def test_keywords_win_over_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEMGUARD_LEAKS", "0")
        monkeypatch.setenv("MEMGUARD_HISTORY", "0")
        guard = front.install(history=True)
        assert guard.detector is None
        assert guard.history is not None

    def test_a_guard_that_cannot_be_built_leaves_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MEMGUARD_CRITICAL", "3")
        with pytest.raises(ConfigError):
            front.install()
        with pytest.raises(LifecycleError):
            front.status()

    def test_a_guard_that_was_stopped_is_started_again(self) -> None:
        guard = front.install(leaks=False)
        guard.stop()
        assert front.install() is guard
        assert guard.status().running

    def test_a_with_around_it_ends_it_and_the_next_one_may_have_options(self) -> None:
        before = set(threading.enumerate())
        with front.install(limit="1TiB", leaks=False) as guard:
            assert front.status().running
            assert front.install() is guard
        assert guard.closed
        assert set(threading.enumerate()) == before
        with pytest.raises(LifecycleError, match="no guard is installed"):
            front.status()
        with front.install(limit="2TiB", leaks=False) as other:
            assert other is not guard
            assert other.history is not None

    def test_a_block_within_a_block_does_not_end_the_outer_one(self) -> None:
        with front.install(leaks=False) as guard:
            with pytest.raises(LifecycleError, match="already started"), guard:
                raise AssertionError("entered")
            assert front.status().running

    def test_a_guard_that_was_closed_by_hand_makes_room_for_another(self) -> None:
        front.install(leaks=False).close()
        guard = front.install(leaks=False, limit="1TiB")
        assert guard.status().running
        assert not guard.closed

    def test_memory_can_be_given_back_without_a_guard(self) -> None:
        cache = filled("without a guard", entries=200)
        called: list[int] = []
        with front.on_pressure(lambda: called.append(1)):
            report = front.relieve(1 * MIB)
            assert report.freed >= 1 * MIB
            called.clear()  # it was called if what was freed has not left the process
            front.relieve(2**40)
        assert called == [1]
        assert len(cache) == 0

    def test_with_a_guard_it_is_the_guards_relief_that_does_it(self) -> None:
        guard = front.install(leaks=False, limit="1TiB")
        front.relieve(1)
        assert guard.relief is not None
        assert guard.relief.statistics().runs == 1


def test_a_guard_that_was_started_can_be_given_to_a_block_and_begins_anew_after_it() -> None:
    guard = MemoryGuard(leaks=False, relief=False).start()
    with guard as same:
        assert same is guard
        assert not guard.closed
    assert guard.closed
    assert not guard.status().running
    with guard:
        assert guard.status().running
        assert not guard.closed
    assert guard.closed


def test_a_signal_handler_may_stop_a_guard_that_is_just_being_stopped() -> None:
    """The handler of SIGTERM runs between two instructions of the thread that it interrupts."""
    guard = MemoryGuard(leaks=False, relief=False, history=False)

    def interrupted() -> None:
        with guard._lock:
            guard.stop()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_guard_that_could_not_start_is_not_taken_for_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = MemoryGuard(leaks=False, relief=False, history=False, publish=tmp_path / "published")

    def refuse() -> None:
        raise OSError("of the test")

    monkeypatch.setattr(guard.publisher, "open", refuse)
    with pytest.raises(OSError, match="of the test"):
        guard.start()
    assert not guard.status().running
    monkeypatch.undo()
    with guard:
        assert guard.status().running


def test_a_guard_that_is_stopped_while_it_starts_stays_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handler of SIGTERM interrupts ``start``, stops the guard, and ``start`` goes on."""
    guard = MemoryGuard(relief=False, history=False)
    start = guard.monitor.start

    def interrupted() -> None:
        start()
        guard.stop()

    monkeypatch.setattr(guard.monitor, "start", interrupted)
    guard.start()
    status = guard.status()
    assert status.detector is not None
    assert (status.running, status.monitor.running, status.detector.state) == (
        False,
        False,
        "idle",
    )
    assert not [t.name for t in threading.enumerate() if t.name.startswith("memguard-detector")]


def test_install_shows_the_options_of_a_guard() -> None:
    shown, options = inspect.signature(front.install), inspect.signature(MemoryGuard)
    assert shown.parameters == options.parameters
    assert shown.return_annotation is MemoryGuard
