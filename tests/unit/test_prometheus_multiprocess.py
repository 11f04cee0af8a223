"""The bridge to the client's multiprocess mode, in one process and with the real collector."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from memguard import BoundedCache, ConfigError, LifecycleError, MemoryGuard
from memguard.lifecycle.identity import started
from memguard.report.metrics.prometheus.collector import MemguardCollector
from memguard.report.metrics.prometheus.multiprocess import MultiprocessBridge, WorkerFiles

PID = str(os.getpid())
CACHE = {"container": "bridged", "kind": "BoundedCache"}


@pytest.fixture
def guard() -> Iterator[MemoryGuard]:
    with MemoryGuard(limit="100GiB", leaks=False) as running:
        deadline = time.monotonic() + 20
        while running.monitor.pressure().at is None:  # its thread looks at once
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield running


@pytest.fixture
def cache() -> BoundedCache[int, int]:
    return BoundedCache(maxsize=10, name="bridged")


def value(directory: Path, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]  # reason: theirs is untyped
    return registry.get_sample_value(name, labels)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_the_clients_collector_tells_what_the_bridge_wrote(
    guard: MemoryGuard, cache: BoundedCache[int, int], tmp_path: Path
) -> None:
    cache[1] = 1
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path) as bridge:
        cache.get(1)
        cache.get(2)
        gc.collect()
        bridge.tick()
        assert (value(tmp_path, "memguard_private_bytes", pid=PID) or 0) > 1024 * 1024
        assert value(tmp_path, "memguard_used_ratio", guard="memguard", pid=PID) is not None
        assert value(tmp_path, "memguard_level", guard="memguard", level="ok") is not None
        assert value(tmp_path, "memguard_container_items", **CACHE) == 1
        assert value(tmp_path, "memguard_cache_hits_total", **CACHE) == 1
        assert value(tmp_path, "memguard_cache_misses_total", **CACHE) == 1
        labels = {"guard": "memguard", "generation": "2"}
        assert (value(tmp_path, "memguard_gc_pause_seconds_count", **labels) or 0) >= 1
        assert (value(tmp_path, "memguard_gc_pause_seconds_sum", **labels) or 0) > 0
        bucket = value(tmp_path, "memguard_gc_pause_seconds_bucket", le="+Inf", **labels)
        assert bucket == value(tmp_path, "memguard_gc_pause_seconds_count", **labels)
        assert bridge.errors == 0


def test_it_tells_the_same_names_and_types_as_the_collector(
    guard: MemoryGuard, cache: BoundedCache[int, int], tmp_path: Path
) -> None:
    """Rules and dashboards need not know how the service is served."""
    cache[1] = 1
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path):
        alone = {
            (family.name, family.type, family.documentation)
            for family in MemguardCollector(guard).collect()
            if family.samples
        }
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(tmp_path))  # type: ignore[no-untyped-call]  # reason: theirs is untyped
        found = {(each.name, each.type, each.documentation) for each in registry.collect()}
    blocks = "memguard_allocated_blocks"  # counted now and then, where that is dear
    assert {each[0] for each in alone ^ found} <= {blocks}


def test_a_bridge_that_is_stopped_takes_its_gauges_back_and_leaves_the_counters(
    guard: MemoryGuard, cache: BoundedCache[int, int], tmp_path: Path
) -> None:
    bridge = MultiprocessBridge(guard, interval=3600, directory=tmp_path).start()
    cache.get(1)
    assert bridge.stop()
    assert bridge.stop()
    assert value(tmp_path, "memguard_private_bytes", pid=PID) is None
    assert value(tmp_path, "memguard_cache_misses_total", **CACHE) == 1, "written a last time"
    assert not [name for name in names(tmp_path) if name.startswith("gauge")]


def test_a_successor_goes_on_counting_in_the_same_files(
    guard: MemoryGuard, cache: BoundedCache[int, int], tmp_path: Path
) -> None:
    """Workers that are recycled all day must not make a file each."""
    for _ in range(3):
        with MultiprocessBridge(guard, interval=3600, directory=tmp_path):
            cache.get(1)
    assert value(tmp_path, "memguard_cache_misses_total", **CACHE) == 3
    assert names(tmp_path) == {
        "memguard-0.slot",
        "counter_memguard-0.db",
        "histogram_memguard-0.db",
    }


def test_counting_begins_with_the_start(
    guard: MemoryGuard, cache: BoundedCache[int, int], tmp_path: Path
) -> None:
    """What a preloaded application counted before the fork would be counted by every worker."""
    for _ in range(100):
        cache.get(1)
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path):
        assert value(tmp_path, "memguard_cache_misses_total", **CACHE) == 0


def test_what_is_no_longer_known_is_no_longer_told(guard: MemoryGuard, tmp_path: Path) -> None:
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path) as bridge:
        cache: BoundedCache[int, int] = BoundedCache(maxsize=10, name="bridged")
        bridge.tick()
        assert value(tmp_path, "memguard_container_items", **CACHE) == 0
        del cache
        gc.collect()
        guard.stop()
        bridge.tick()
        assert value(tmp_path, "memguard_container_items", **CACHE) is None
        assert value(tmp_path, "memguard_used_ratio", guard="memguard", pid=PID) is None
        assert value(tmp_path, "memguard_running", guard="memguard", pid=PID) == 0


def test_two_bridges_have_slots_of_their_own(tmp_path: Path) -> None:
    first, second = WorkerFiles(tmp_path), WorkerFiles(tmp_path)
    assert (first._slot, second._slot) == (0, 1)
    first.close()
    third = WorkerFiles(tmp_path)
    assert third._slot == 0
    second.close()
    third.close()


def test_gauges_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    mine, parent = started(os.getpid()), os.getppid()
    stays = [
        f"gauge_liveall_{parent}.db_memguard{started(parent)}-7.db",
        f"gauge_liveall_{PID}.db_memguard{mine}-9.db",
        "gauge_liveall_999999999.db",  # of the host's own metrics: not ours to remove
        "gauge_all_999999999.db",
        "somebody.txt",
    ]
    goes = [
        "gauge_liveall_999999999.db_memguard1-3.db",
        "gauge_livesum_999999999.db_memguard1-3.tmp",
        f"gauge_livemax_{parent}.db_memguard{(started(parent) or 0) + 1}-3.db",
    ]
    for name in (*stays, *goes):
        (tmp_path / name).touch()
    files = WorkerFiles(tmp_path)
    files.remove_dead()
    assert set(stays) <= names(tmp_path)
    assert not set(goes) & names(tmp_path)
    files.close()


def test_a_scrape_never_meets_half_a_file(guard: MemoryGuard, tmp_path: Path) -> None:
    done = threading.Event()
    failures: list[Exception] = []

    def scrape() -> None:
        try:
            while not done.is_set():
                value(tmp_path, "memguard_private_bytes", pid=PID)
        except Exception as error:  # noqa: BLE001 - reason: whatever it is, the test shall say so
            failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    for _ in range(15):
        with MultiprocessBridge(guard, interval=3600, directory=tmp_path) as bridge:
            for _ in range(5):
                bridge.tick()
    done.set()
    thread.join()
    assert not failures


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(
    guard: MemoryGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is made by a write, which may fail, before the file is mapped, which may not."""

    def full(self: Path, data: bytes) -> int:
        assert len(data) >= 4096
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with MultiprocessBridge(guard, interval=3600, directory=tmp_path) as bridge:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            bridge.tick()
        assert bridge.errors == 1
        bridge.tick()
        assert value(tmp_path, "memguard_private_bytes", pid=PID) is not None


def test_what_is_mapped_is_there_before(guard: MemoryGuard, tmp_path: Path) -> None:
    """The client would make a file longer by truncate, which leaves a hole."""
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path):
        files = list(tmp_path.glob("*.db"))
        assert len(files) == 5
        for file in files:
            (used,) = struct.unpack_from("i", file.read_bytes(), 0)
            assert 8 < used <= file.stat().st_size < used + 8192


def test_counters_of_many_earlier_workers_are_bounded(
    guard: MemoryGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memguard.report.metrics.prometheus.multiprocess.MOST_COUNTERS", 48)
    dropped = []
    for number in range(10):
        cache: BoundedCache[int, int] = BoundedCache(maxsize=1, name=f"of worker {number}")
        with MultiprocessBridge(guard, interval=3600, directory=tmp_path) as bridge:
            cache.get(1)
            bridge.tick()
            dropped.append(bridge.dropped)
        del cache
    assert dropped[0] == 0
    assert dropped[-1] > 0
    assert value(tmp_path, "memguard_looks_total", guard="memguard") is not None


def test_a_file_that_is_none_is_begun_anew(guard: MemoryGuard, tmp_path: Path) -> None:
    (tmp_path / "counter_memguard-0.db").write_bytes(b"\xff" * 100)
    (tmp_path / "histogram_memguard-0.db").write_bytes(b"")
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path) as bridge:
        assert bridge.errors == 0
        assert value(tmp_path, "memguard_looks_total", guard="memguard") is not None


def test_a_bridge_that_is_stopped_from_inside_a_write_ends_with_it(
    guard: MemoryGuard, tmp_path: Path
) -> None:
    bridge = MultiprocessBridge(guard, interval=3600, directory=tmp_path).start()
    ask = guard.monitor.pressure
    took: list[float] = []

    def stopping() -> Any:
        began = time.monotonic()
        bridge.stop(timeout=30)
        took.append(time.monotonic() - began)
        return ask()

    guard.monitor.pressure = stopping  # type: ignore[method-assign]  # reason: called during a write
    bridge.tick()
    assert took[0] < 20, "it did not wait for itself"
    assert not [name for name in names(tmp_path) if name.startswith("gauge")]


def test_a_directory_that_goes_away_is_counted_logged_once_and_survived(
    guard: MemoryGuard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    bridge = MultiprocessBridge(guard, interval=3600, directory=directory).start()
    with caplog.at_level(logging.WARNING, logger="memguard"):
        shutil.rmtree(directory)
        bridge.tick()
        bridge.tick()
        assert bridge.errors >= 2
        directory.mkdir()
        bridge.tick()
    assert value(directory, "memguard_private_bytes", pid=PID) is not None
    assert len([line for line in caplog.messages if "prometheus.failed" in line]) == 1
    bridge.stop()


def test_the_thread_writes_by_itself(
    guard: MemoryGuard, cache: BoundedCache[int, int], tmp_path: Path
) -> None:
    with MultiprocessBridge(guard, interval=0.1, directory=tmp_path):
        assert "memguard-prometheus-memguard" in {each.name for each in threading.enumerate()}
        cache.get(1)
        deadline = time.monotonic() + 20
        while value(tmp_path, "memguard_cache_misses_total", **CACHE) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_tick_of_a_bridge_that_was_not_started_writes_nothing(
    guard: MemoryGuard, tmp_path: Path
) -> None:
    assert MultiprocessBridge(guard, interval=7, directory=tmp_path).tick() == 7
    assert not names(tmp_path)


def test_it_is_started_once(guard: MemoryGuard, tmp_path: Path) -> None:
    with (
        MultiprocessBridge(guard, directory=tmp_path) as bridge,
        pytest.raises(LifecycleError, match=r"stop\(\) first"),
    ):
        bridge.start()


def test_the_directory_is_that_of_the_client(
    guard: MemoryGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with MultiprocessBridge(guard):
        assert "memguard-0.slot" in names(tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"directory": None}, ConfigError, "PROMETHEUS_MULTIPROC_DIR is not set"),
        ({"directory": "/nowhere/at/all"}, ConfigError, "must be a directory"),
        ({"directory": 7}, TypeError, "must be a path"),
        ({"interval": 0}, ConfigError, "0.1 to 3600"),
        ({"interval": "soon"}, ConfigError, "interval"),
        ({"max_containers": -1}, ConfigError, "max_containers"),
    ],
)
def test_a_wrong_option_is_refused(
    options: Any, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    guard = MemoryGuard(leaks=False, history=False)
    with pytest.raises(error, match=words):
        MultiprocessBridge(guard, **{"directory": "/", **options})


def test_a_name_with_anything_in_it_survives_the_way(guard: MemoryGuard, tmp_path: Path) -> None:
    cache: BoundedCache[int, int] = BoundedCache(maxsize=1, name='a "b" \\ {c="d"} é')
    with MultiprocessBridge(guard, interval=3600, directory=tmp_path):
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(tmp_path))  # type: ignore[no-untyped-call]  # reason: theirs is untyped
        labels = {"container": 'a "b" \\ {c="d"} é', "kind": "BoundedCache"}
        assert registry.get_sample_value("memguard_container_items", labels) == 0
        assert generate_latest(registry)
    del cache
