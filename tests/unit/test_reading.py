"""Readings: what a status text means, what private memory is, and what happens when it is gone."""

from __future__ import annotations

import gc
import mmap
import os
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.observe import readings
from memguard.observe.readings import Reading, _BlockCounter, parse_status, read_memory
from tests.clock import FakeClock

KIB = 1024
STATUS = b"""Name:\tpython
Umask:\t0022
Groups:\t 4 24
VmPeak:\t  900000 kB
VmSize:\t  800000 kB
VmLck:\t       0 kB
VmHWM:\t  300000 kB
VmRSS:\t  200000 kB
RssAnon:\t  150000 kB
RssFile:\t   40000 kB
RssShmem:\t   10000 kB
VmData:\t  400000 kB
VmStk:\t     132 kB
VmSwap:\t    5000 kB
Threads:\t7
"""


def test_every_line_of_a_status_text_reaches_its_field_in_bytes() -> None:
    assert parse_status(STATUS) == {
        "vms": 800000 * KIB,
        "peak": 300000 * KIB,
        "rss": 200000 * KIB,
        "anon": 150000 * KIB,
        "file": 40000 * KIB,
        "shmem": 10000 * KIB,
        "data": 400000 * KIB,
        "swap": 5000 * KIB,
        "threads": 7,
    }


def test_an_old_kernel_without_the_rss_parts_leaves_them_out() -> None:
    """RssAnon and its sisters came with Linux 4.5; gVisor has none of them."""
    old = b"\n".join(line for line in STATUS.split(b"\n") if not line.startswith(b"Rss"))
    found = parse_status(old)
    assert found["rss"] == 200000 * KIB
    assert found["swap"] == 5000 * KIB
    assert found["threads"] == 7
    assert not {"anon", "file", "shmem"} & set(found)


@given(st.binary(max_size=400))
def test_no_bytes_make_parsing_fail_in_another_way_than_promised(noise: bytes) -> None:
    try:
        found = parse_status(b"Name:\tx\n" + noise)
    except ValueError:
        return
    assert all(isinstance(number, int) for number in found.values())


def test_a_reading_of_this_process_agrees_with_itself() -> None:
    row = read_memory()
    assert row.source == ("status" if sys.platform.startswith("linux") else "psutil")
    assert row.rss is not None
    assert row.vms is not None
    assert 0 < row.rss < row.vms
    assert row.threads is not None
    assert row.threads >= 1
    assert row.private is not None
    assert row.private > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RssAnon is Linux's")
def test_private_memory_follows_what_is_allocated() -> None:
    before = read_memory().private
    # A mapping of its own: a bytearray might find room in what the allocator holds free.
    with mmap.mmap(-1, 32 * 1024 * KIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as ballast:
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        after = read_memory().private
    assert before is not None
    assert after is not None
    assert 31 * 1024 * KIB < after - before < 40 * 1024 * KIB


def test_the_row_carries_the_time_of_the_timer_it_was_given(fake_clock: FakeClock) -> None:
    assert read_memory(timer=fake_clock).at == 1000.0


def test_private_is_anonymous_memory_with_what_was_swapped_out() -> None:
    assert Reading(at=0.0, rss=100, anon=60, swap=7, footprint=999).private == 67


def test_private_falls_back_to_the_systems_own_figure_and_then_to_resident_memory() -> None:
    assert Reading(at=0.0, rss=100, footprint=80).private == 80
    assert Reading(at=0.0, rss=100, swap=5).private == 105
    assert Reading(at=0.0).private is None


def test_tracemalloc_is_asked_only_while_it_traces() -> None:
    idle = read_memory()
    assert idle.traced is None
    assert idle.tracer is None
    tracemalloc.start()
    try:
        kept = bytearray(100_000)
        busy = read_memory()
    finally:
        tracemalloc.stop()
    assert busy.traced is not None
    assert busy.traced >= len(kept)
    assert busy.tracer is not None
    assert busy.tracer > 0


def test_without_a_status_file_psutil_answers_and_the_row_says_so(tmp_path: Path) -> None:
    row = read_memory(status_path=str(tmp_path / "none"))
    assert row.source == "psutil"
    assert row.rss is not None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="compares with RssAnon")
def test_the_fallback_gives_the_same_private_memory_as_the_status_file(tmp_path: Path) -> None:
    """A tick that falls back must not look like a jump of all file pages."""
    direct = read_memory()
    fallback = read_memory(status_path=str(tmp_path / "none"))
    assert direct.private is not None
    assert fallback.private is not None
    assert abs(direct.private - fallback.private) < 2 * 1024 * KIB


@pytest.mark.parametrize("text", [b"", b"Name:\tx\n", b"Name:\tx\nVmRSS:\t many kB\n"])
def test_a_status_file_that_makes_no_sense_counts_as_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "status"
    path.write_bytes(text)
    assert read_memory(status_path=str(path)).source == "psutil"


def test_a_process_that_nobody_can_read_gives_an_empty_row_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise PermissionError("hidden")

    monkeypatch.setattr("psutil.Process", refuse)
    row = read_memory(status_path=str(tmp_path / "none"))
    assert row.source == "none"
    assert row.rss is None
    assert row.private is None


def test_windows_private_bytes_become_the_footprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Process:
        def oneshot(self) -> Any:
            return self

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

        def memory_info(self) -> Any:
            return SimpleNamespace(rss=100, vms=400, private=80, peak_wset=120)

        def num_threads(self) -> int:
            return 3

    monkeypatch.setattr("psutil.Process", Process)
    monkeypatch.setattr("sys.platform", "win32")
    row = read_memory(status_path=str(tmp_path / "none"))
    assert (row.rss, row.footprint, row.peak, row.private) == (100, 80, 120, 80)


def stage_a_mac(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let this system look like macOS, where libproc gives *answer*."""

    class Process:
        def oneshot(self) -> Any:
            return self

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

        def memory_info(self) -> Any:
            return SimpleNamespace(rss=15, vms=400_000)

        def num_threads(self) -> int:
            return 3

    monkeypatch.setattr("psutil.Process", Process)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(readings, "_proc_pid_rusage", lambda: answer)


def test_on_macos_compressed_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of gigabytes may be resident with some MiB there."""

    def libproc(pid: int, flavor: int, buffer: bytearray) -> int:
        assert (pid, flavor, len(buffer)) == (os.getpid(), 0, 96)
        buffer[:] = struct.pack("16s10Q", b"uuid", 1, 2, 3, 4, 5, 6, 15, 3100, 9, 10)
        return 0

    stage_a_mac(monkeypatch, libproc)
    row = read_memory(status_path=str(tmp_path / "none"))
    assert (row.rss, row.footprint, row.private) == (15, 3100, 3100)


def fail(*_: object) -> int:
    """Stand in for a call that breaks."""
    raise OSError("not here")


@pytest.mark.parametrize("answer", [None, lambda *_: -1, lambda *_: 0, fail])
def test_on_a_mac_that_does_not_tell_resident_memory_has_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    stage_a_mac(monkeypatch, answer)
    row = read_memory(status_path=str(tmp_path / "none"))
    assert (row.footprint, row.private) == (None, 15)


@pytest.mark.skipif(sys.platform == "darwin", reason="libproc is there")
def test_a_system_without_libproc_has_no_footprint() -> None:
    assert readings.footprint() is None


class Costs:
    """An allocator whose walk takes a planned time."""

    def __init__(self, *microseconds: int) -> None:
        self._plan: Iterator[int] = iter(microseconds)
        self.now = 0
        self.walks = 0

    def walk(self) -> int:
        self.walks += 1
        self.now += next(self._plan) * 1000
        return 42

    def counter(self) -> _BlockCounter:
        return _BlockCounter(self.walk, lambda: self.now)


def test_blocks_are_counted_while_counting_is_cheap() -> None:
    costs = Costs(*[49] * 500)
    counter = costs.counter()
    assert [counter.count() for _ in range(500)] == [42] * 500


def test_one_slow_walk_is_a_neighbours_doing() -> None:
    costs = Costs(1, 900, 1, 900, 1)
    counter = costs.counter()
    assert [counter.count() for _ in range(5)] == [42] * 5


def test_a_walk_that_stays_dear_is_given_up_until_the_readings_have_paid_for_it() -> None:
    """At 2000 µs a walk, one in 2000 readings: a microsecond each."""
    costs = Costs(2000, 2000, 1, 1)
    counter = costs.counter()
    assert counter.count() == 42
    assert counter.count() == 42
    assert [counter.count() for _ in range(2000)] == [None] * 2000
    assert costs.walks == 2
    assert counter.count() == 42, "it has become cheap again, and is found out"
    assert counter.count() == 42


def test_an_interpreter_that_cannot_count_blocks_says_none() -> None:
    assert _BlockCounter(None).count() is None


def test_details_are_read_only_when_asked_for() -> None:
    plain = read_memory()
    assert plain.limit is None
    assert plain.uss is None
    full = read_memory(include=("limit", "malloc", "faults", "files", "uss"))
    assert full.limit is not None
    assert full.limit_source
    assert full.open_files is not None
    assert full.open_files > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux tells")
def test_the_details_of_this_process_agree_with_each_other() -> None:
    gc.collect()  # files that earlier tests left in cycles are not to be closed meanwhile
    row = read_memory(include=("limit", "faults", "files", "uss"))
    assert row.uss is not None
    assert row.rss is not None
    assert 0 < row.uss <= row.rss * 1.1
    assert row.minor_faults is not None
    assert row.minor_faults > 0
    assert row.limit is not None
    assert row.headroom is not None
    assert row.used_ratio is not None
    assert 0 < row.used_ratio < 1
    assert row.headroom == pytest.approx(row.limit * (1 - row.used_ratio), rel=0.001)
    with Path(__file__).open():
        more = read_memory(include={"files"})
    assert row.open_files is not None
    assert more.open_files == row.open_files + 1


@pytest.mark.parametrize("include", [("limits",), ["uss", "pss"], {1}])
def test_an_unknown_detail_is_refused_with_the_known_ones(include: Any) -> None:
    with pytest.raises(ConfigError, match="include may name faults, files, limit, malloc, uss"):
        read_memory(include=include)


@pytest.mark.parametrize("include", ["limit", 7, None])
def test_a_detail_that_is_no_collection_is_refused(include: Any) -> None:
    with pytest.raises(TypeError, match="collection of detail names"):
        read_memory(include=include)
