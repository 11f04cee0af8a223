"""Faults of the environment switch a part off and say so; they never stop the host."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from memguard import guard as front
from memguard.errors import AdmissionError, ConfigError
from memguard.guard import MemoryGuard
from memguard.guard.environment import VARIABLES
from memguard.leaks.report import Suspect
from memguard.lifecycle.degraded import MOST_REASONS, Degradations
from memguard.observe import limits
from memguard.observe.headroom import read_headroom
from memguard.observe.history import History
from memguard.observe.limits import BY_SYSCONF, Bound, Limit, read_limit
from memguard.observe.readings import Reading
from memguard.relief.admission import Admission
from memguard.relief.gauge import Gauge
from memguard.relief.records import PressureState
from memguard.report.health.health_report import health
from memguard.report.metrics.catalog import PARTS
from memguard.report.state import guard_state
from tests.specimens import leak_report


@pytest.fixture(autouse=True)
def no_guard_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    yield
    front.uninstall()


def reasons(guard: MemoryGuard) -> dict[str, str]:
    return {each.part: each.reason for each in guard.status().degraded}


def small(**options: Any) -> MemoryGuard:
    return MemoryGuard(**{"limit": "1TiB", "leaks": False, "relief": False, **options})


# --- the history file ----------------------------------------------------------------------------


def held_elsewhere(path: Path) -> int:
    """Lock the history file *path* from another process; return that process."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        History(path=path)
        os.write(told, b"1")
        signal_wait = threading.Event()
        signal_wait.wait(60)
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a second process that holds the file")
def test_a_history_file_of_another_worker_leaves_the_history_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history.db"
    other = held_elsewhere(path)
    try:
        with caplog.at_level(logging.WARNING, "memguard"), small(history=path) as guard:
            assert "written by another process" in reasons(guard)["history"]
            assert "{pid}" in reasons(guard)["history"]
            assert guard.history is not None
            assert guard.history.statistics().file is None
            guard.status()
            assert health(guard).degraded[0].part == "history"
            metrics = {m.prometheus: m for m in PARTS["pressure"]}
            state = guard_state(guard)
            assert dict(metrics["memguard_degraded"].values(state))["history"] == 1
            assert dict(metrics["memguard_degradations_total"].values(state))["history"] == 1
    finally:
        os.kill(other, 9)
        os.waitpid(other, 0)
    assert sum("guard.degraded" in r.getMessage() for r in caplog.records) == 1


def test_a_process_number_in_the_path_gives_each_worker_its_own_file(tmp_path: Path) -> None:
    with small(history=tmp_path / "history-{pid}.db") as guard:
        assert reasons(guard) == {}
        assert guard.history is not None
        own = str(tmp_path / f"history-{os.getpid()}.db")
        assert guard.history.statistics().file == own


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    os.mkfifo(path)
    with small(history=path) as guard:
        assert "another kind of file" in reasons(guard)["history"]


def test_a_missing_directory_leaves_the_history_in_memory(tmp_path: Path) -> None:
    with small(history=tmp_path / "no" / "history.db") as guard:
        assert "no such directory" in reasons(guard)["history"]


def test_a_full_disk_leaves_the_history_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        guard = small(history=tmp_path / "history.db")
    with guard:
        assert "disk is full" in reasons(guard)["history"]


def test_a_damaged_file_leaves_the_history_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    History(path=path).close()
    content = bytearray(path.read_bytes())
    content[100:] = b"\xff" * len(content[100:])
    path.write_bytes(content)
    with small(history=path) as guard:
        assert "cannot be used now" in reasons(guard)["history"]


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal", "-shm"])
@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_a_history_file_follows_no_planted_link(tmp_path: Path, suffix: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    (tmp_path / f"history.db{suffix}").symlink_to(victim)
    with pytest.raises(ConfigError, match="must not be a symbolic link"):
        History(path=tmp_path / "history.db")
    assert victim.read_bytes() == b""


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_a_history_file_has_one_name_only(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    (tmp_path / "history.db").hardlink_to(victim)
    with pytest.raises(ConfigError, match="one name only"):
        small(history=tmp_path / "history.db")
    assert victim.read_bytes() == b""


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps such rights in access control lists")
def test_a_history_file_is_not_put_where_others_may_write(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(ConfigError, match="must not be writable by others"):
        small(history=shared / "history.db")
    assert list(shared.iterdir()) == []


# --- reports and published files -----------------------------------------------------------------


def test_a_status_that_cannot_be_published_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with small(publish=tmp_path / "file" / "published") as guard:
        assert "no status can be written" in reasons(guard)["publish"]


# --- threads -------------------------------------------------------------------------------------


def test_without_a_thread_the_host_goes_on_and_the_guard_says_that_it_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        guard = front.install(limit="1TiB")
        assert not front.status().running
        assert set(reasons(guard)) == {"leaks", "pressure"}
        assert not health(guard).watching
    assert front.install() is guard  # there are threads again
    assert front.status().running
    assert reasons(guard) == {}


def test_with_a_thread_for_one_part_that_part_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def one(thread: threading.Thread) -> None:
        if "detector" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one)
    with MemoryGuard(limit="1TiB") as guard:
        assert guard.status().running
        assert set(reasons(guard)) == {"leaks"}
        assert guard.status().monitor.running


# --- /proc ---------------------------------------------------------------------------------------


def test_where_meminfo_is_hidden_the_host_is_known_by_sysconf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden() -> Any:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(limits, "read_text", lambda _: None)
    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    limit = read_limit(rlimits=dict)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (limit.bytes, limit.kind, limit.source) == (total, "host", BY_SYSCONF)
    fullest = read_headroom(Reading(at=0.0, anon=5), limit=limit, root=str(tmp_path)).fullest
    assert fullest is not None
    assert (fullest.used, fullest.scope) == (5, "process")


HOST = Limit(
    bytes=100,
    source=BY_SYSCONF,
    kind="host",
    bounds=(Bound(bytes=100, kind="host", source=BY_SYSCONF),),
)


def gauge_of(root: Path, reading: Reading, limit: Limit) -> Gauge:
    return Gauge(
        limit=None,
        interval=1.0,
        timer=lambda: 0.0,
        read=lambda: reading,
        glance=lambda: reading,
        bounds=lambda: limit,
        headroom=lambda found, limit: read_headroom(found, limit=limit, root=str(root)),
    )


def test_a_gauge_says_what_it_cannot_see(tmp_path: Path) -> None:
    hidden = gauge_of(tmp_path, Reading(at=0.0), HOST)
    assert hidden.look_now().sample.used is None
    assert "memory of this process cannot be read" in str(hidden.trouble)
    partly = gauge_of(tmp_path, Reading(at=0.0, anon=5), HOST)
    assert partly.look_now().sample.used == 5
    assert "/proc/meminfo is hidden" in str(partly.trouble)


def test_a_blind_guard_warns_and_admits_or_refuses_as_it_was_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    guard = small(limit="auto", when_blind="refuse")
    blind = gauge_of(tmp_path, Reading(at=0.0), HOST)
    monkeypatch.setattr(guard.monitor, "_gauge", blind)
    with caplog.at_level(logging.WARNING, "memguard"), guard:
        guard.monitor.tick()
        assert "admit() refuses work meanwhile" in reasons(guard)["pressure"]
        with pytest.raises(AdmissionError, match="cannot be read how full memory is"):
            guard.admit()
        assert guard.status().admission.blind == 1
    assert sum("guard.degraded" in r.getMessage() for r in caplog.records) == 1


def test_a_blind_admission_counts_what_it_admits() -> None:
    admission = Admission(PressureState)
    admission.admit("1GiB").close()
    assert admission.statistics().blind == 1
    with pytest.raises(ConfigError, match="when_blind"):
        Admission(PressureState, when_blind="maybe")  # type: ignore[arg-type]  # reason: the test


# --- variables -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MEMGUARD_LIMIT", "foo"),
        ("MEMGUARD_LIMIT", "0"),
        ("MEMGUARD_INTERVAL", "soon"),
        ("MEMGUARD_INTERVAL", "-1"),
        ("MEMGUARD_INTERVAL", "99h"),
        ("MEMGUARD_ELEVATED", "3"),
        ("MEMGUARD_WHEN_BLIND", "x"),
    ],
)
def test_an_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        front.install()


def test_an_unknown_variable_is_logged_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MEMGUARD_LIMT", "1TiB")
    monkeypatch.setenv("MEMGUARD_TOKEN", "of the command line")
    with caplog.at_level(logging.WARNING, "memguard"):
        front.install(limit="1TiB", leaks=False)
    (said,) = [r.getMessage() for r in caplog.records if "unknown_variable" in r.getMessage()]
    assert "MEMGUARD_LIMT" in said
    assert "nearest='MEMGUARD_LIMIT'" in said


# --- the list itself -----------------------------------------------------------------------------


def test_a_part_that_fails_again_and_again_is_logged_once_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Degradations("g")
    with caplog.at_level(logging.INFO, "memguard"):
        for _ in range(3):
            found.set("history", "full")
            found.set("history", "full")
            found.set("history", None)
            found.set("history", None)
    assert found.now == ()
    assert found.counts == (("history", 3),)
    assert sum("guard.degraded" in r.getMessage() for r in caplog.records) == 1


def test_reasons_that_differ_each_time_are_not_logged_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Degradations("g")
    with caplog.at_level(logging.WARNING, "memguard"):
        for number in range(MOST_REASONS + 20):
            found.set("history", f"reason {number}")
    assert len(caplog.records) == MOST_REASONS


def test_the_history_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with History(path=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reports_quote_no_line_of_code_if_that_is_unwanted() -> None:
    line = Suspect(
        file="shop.py",
        line=3,
        function=None,
        bytes=1,
        count=1,
        bytes_per_minute=1.0,
        source="login('of the test')",
    )
    report = leak_report(suspects=(line,))
    for quoted in (True, False):
        with small(leaks=True, source_lines=quoted) as guard:
            assert guard.detector is not None
            shown = guard.detector._shown(report)
        assert any(suspect.source for suspect in shown.suspects) is quoted
        assert [s.line for s in shown.suspects] == [s.line for s in report.suspects]
