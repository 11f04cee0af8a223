"""Headroom: page cache is no pressure, every bound is compared with what it bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from memguard.observe.headroom import parse_stall, read_headroom, version_1_use, version_2_use
from memguard.observe.limits import read_limit
from memguard.observe.readings import Reading

MIB = 1024**2
ROW = Reading(at=0.0, rss=120 * MIB, anon=100 * MIB, vms=900 * MIB, data=400 * MIB)


def group_tree(root: Path, **files: str) -> None:
    """A version 2 group ``/web`` with *files* (dots as underscores)."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/web\n")
    (root / "proc/self/mountinfo").write_text(
        "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    )
    group = root / "sys/fs/cgroup/web"
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name.replace("_", ".", 1)).write_text(text)


def test_page_cache_is_no_pressure(tmp_path: Path) -> None:
    """A group at 96 % by memory.current is at a quarter by what cannot be dropped."""
    group_tree(
        tmp_path,
        memory_max=f"{1000 * MIB}\n",
        memory_current=f"{960 * MIB}\n",
        memory_stat=f"anon {200 * MIB}\nfile {700 * MIB}\nkernel {60 * MIB}\n"
        f"slab_reclaimable {10 * MIB}\ninactive_file {600 * MIB}\n",
    )
    fullest = read_headroom(ROW, root=str(tmp_path), limit=None).fullest
    assert fullest is not None
    assert fullest.used == 250 * MIB
    assert fullest.ratio == 0.25
    assert fullest.headroom == 750 * MIB
    assert fullest.working_set == 360 * MIB
    assert fullest.current == 960 * MIB
    assert fullest.scope == "group"


def test_shared_memory_counts_because_it_cannot_be_dropped() -> None:
    assert version_2_use({"anon": 10, "shmem": 5, "sock": 2, "kernel": 4}) == (21, 0)


def test_before_linux_5_18_the_kernel_memory_is_added_up_from_its_parts() -> None:
    stat = {"anon": 10, "kernel_stack": 1, "pagetables": 2, "percpu": 3, "slab_unreclaimable": 4}
    assert version_2_use(stat) == (20, 0)


def test_a_group_that_tells_nothing_is_left_out(tmp_path: Path) -> None:
    group_tree(tmp_path, memory_max=f"{10 * MIB}\n")
    assert read_headroom(ROW, root=str(tmp_path)).fills == ()


def test_version_1_counts_the_group_and_all_below_it() -> None:
    stat = {"rss": 1, "total_rss": 100, "total_shmem": 20, "total_inactive_file": 7}
    assert version_1_use(stat, 5) == (125, 7)
    assert version_1_use({"rss": 9}, None) == (9, 0)
    assert version_1_use({}, 5) == (None, 0)


def test_each_bound_is_compared_with_what_it_bounds(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 2048 kB\nMemAvailable: 1536 kB\n")
    limit = read_limit(root=str(tmp_path), rlimits=lambda: {"as": 1000 * MIB, "data": 800 * MIB})
    fills = {
        fill.bound.kind: fill for fill in read_headroom(ROW, limit=limit, root=str(tmp_path)).fills
    }
    assert fills["rlimit.as"].used == ROW.vms
    assert fills["rlimit.data"].used == ROW.data
    assert fills["host"].used == 512 * 1024
    assert [fills["rlimit.as"].scope, fills["host"].scope] == ["process", "host"]


def test_the_fullest_bound_comes_first_not_the_smallest(tmp_path: Path) -> None:
    """An address space at 90 % is nearer to its end than a larger share of a smaller bound."""
    limit = read_limit(root=str(tmp_path), rlimits=lambda: {"as": 1000 * MIB, "data": 800 * MIB})
    assert limit.kind == "rlimit.data"
    fullest = read_headroom(ROW, limit=limit, root=str(tmp_path)).fullest
    assert fullest is not None
    assert fullest.bound.kind == "rlimit.as"


def test_a_bound_below_what_is_used_leaves_no_headroom(tmp_path: Path) -> None:
    limit = read_limit(root=str(tmp_path), rlimits=lambda: {"as": 450 * MIB})
    fullest = read_headroom(ROW, limit=limit, root=str(tmp_path)).fullest
    assert fullest is not None
    assert fullest.headroom == 0
    assert fullest.ratio == 2.0


def test_a_row_without_sizes_fills_nothing(tmp_path: Path) -> None:
    limit = read_limit(root=str(tmp_path), rlimits=lambda: {"as": 450 * MIB, "data": MIB})
    assert read_headroom(Reading(at=0.0), limit=limit, root=str(tmp_path)).fullest is None


def test_collisions_with_the_bound_are_counted(tmp_path: Path) -> None:
    group_tree(
        tmp_path,
        memory_max=f"{100 * MIB}\n",
        memory_stat="anon 1\n",
        memory_events="low 0\nhigh 12\nmax 3\noom 2\noom_kill 1\n",
    )
    events = read_headroom(ROW, root=str(tmp_path)).events
    assert events is not None
    assert (events.high, events.limit, events.oom, events.oom_kill) == (12, 3, 2, 1)


def test_the_groups_own_stall_is_read_before_the_machines(tmp_path: Path) -> None:
    machine = "some avg10=50.00 avg60=0 avg300=0 total=0\nfull avg10=40.00 total=0\n"
    own = "some avg10=1.50 avg60=0 avg300=0 total=0\nfull avg10=0.25 total=0\n"
    group_tree(tmp_path, memory_pressure=own)
    (tmp_path / "proc/pressure").mkdir()
    (tmp_path / "proc/pressure/memory").write_text(machine)
    stall = read_headroom(ROW, root=str(tmp_path)).stall
    assert stall is not None
    assert (stall.some, stall.full) == (1.5, 0.25)
    (tmp_path / "sys/fs/cgroup/web/memory.pressure").unlink()
    stall = read_headroom(ROW, root=str(tmp_path)).stall
    assert stall is not None
    assert (stall.some, stall.full) == (50.0, 40.0)


@pytest.mark.parametrize("text", ["", "some avg60=1.0", "some avg10=high", "full avg10=1.0"])
def test_a_pressure_file_without_the_figure_is_none(text: str) -> None:
    assert parse_stall(text, source="x") is None
