"""Limits, on fake trees: groups of both versions, namespaces, ancestors, and things that lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.observe.cgroups import find_groups, parse_stat
from memguard.observe.limits import Limit, read_limit

MIB = 1024**2
V2_MOUNT = "30 24 0:26 {root} {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "35 31 0:32 {root} {point} rw,relatime - cgroup cgroup rw,{controllers}"
PAGE_COUNTER_MAX = 9223372036854771712


class Tree:
    """A file system with just the files that limits are read from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n")

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def proc(self, cgroup: str, *mounts: str) -> None:
        self.write("proc/self/cgroup", cgroup + "\n")
        self.write("proc/self/mountinfo", "\n".join(mounts) + "\n")

    def limit(self, **rlimits: int | None) -> Limit:
        rlimit: Callable[[], Mapping[str, int | None]] = lambda: {  # noqa: E731 - reason: one line in a helper
            name.rstrip("_"): value for name, value in rlimits.items()
        }
        return read_limit(root=str(self.root), rlimits=rlimit)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def v2(tree: Tree, path: str, *, root: str = "/", point: str = "/sys/fs/cgroup") -> None:
    tree.proc(f"0::{path}", V2_MOUNT.format(root=root, point=point))


def test_without_groups_the_host_is_the_limit(tree: Tree) -> None:
    limit = tree.limit()
    assert (limit.bytes, limit.kind, limit.source) == (16384 * MIB, "host", "MemTotal")


def test_the_own_version_2_group_is_read(tree: Tree) -> None:
    v2(tree, "/app.slice/web")
    tree.write("sys/fs/cgroup/app.slice/web/memory.max", f"{300 * MIB}\n")
    limit = tree.limit()
    assert limit.bytes == 300 * MIB
    assert limit.kind == "cgroup2.max"
    assert limit.source.endswith("app.slice/web/memory.max")
    assert limit.directory is not None
    assert limit.directory.endswith("app.slice/web")


def test_an_ancestor_may_be_the_tightest(tree: Tree) -> None:
    v2(tree, "/pod/container")
    tree.write("sys/fs/cgroup/pod/container/memory.max", "max\n")
    tree.write("sys/fs/cgroup/pod/memory.max", f"{200 * MIB}\n")
    assert tree.limit().bytes == 200 * MIB


def test_memory_high_counts_because_it_stalls_before_max_kills(tree: Tree) -> None:
    v2(tree, "/web")
    tree.write("sys/fs/cgroup/web/memory.max", f"{300 * MIB}\n")
    tree.write("sys/fs/cgroup/web/memory.high", f"{250 * MIB}\n")
    limit = tree.limit()
    assert (limit.bytes, limit.kind) == (250 * MIB, "cgroup2.high")
    assert [bound.bytes for bound in limit.bounds] == [250 * MIB, 300 * MIB, 16384 * MIB]


def test_a_group_namespace_shows_its_own_group_as_the_root(tree: Tree) -> None:
    """In a container: the path is ``/`` and the mount is the container's group."""
    v2(tree, "/")
    tree.write("sys/fs/cgroup/memory.max", f"{100 * MIB}\n")
    assert tree.limit().bytes == 100 * MIB


def test_the_root_of_the_mount_is_taken_off_the_path(tree: Tree) -> None:
    """Docker without a private namespace: the host's path, a mount of the group alone."""
    v2(tree, "/docker/abc/worker", root="/docker/abc")
    tree.write("sys/fs/cgroup/memory.max", f"{100 * MIB}\n")
    tree.write("sys/fs/cgroup/worker/memory.max", f"{90 * MIB}\n")
    limit = tree.limit()
    assert [bound.bytes for bound in limit.bounds][:2] == [90 * MIB, 100 * MIB]


def test_a_name_that_only_begins_like_the_mounts_root_is_not_inside_it(tree: Tree) -> None:
    v2(tree, "/docker/abcdef", root="/docker/abc")
    tree.write("sys/fs/cgroup/def/memory.max", f"{1 * MIB}\n")
    tree.write("sys/fs/cgroup/memory.max", f"{100 * MIB}\n")
    assert tree.limit().bytes == 100 * MIB


def test_a_path_that_is_not_there_leaves_what_is_above_it(tree: Tree) -> None:
    v2(tree, "/kubepods/pod1/missing")
    tree.write("sys/fs/cgroup/kubepods/pod1/memory.max", f"{64 * MIB}\n")
    assert tree.limit().bytes == 64 * MIB


def test_a_process_outside_its_namespace_reads_the_mount_point(tree: Tree) -> None:
    v2(tree, "/../../other")
    tree.write("sys/fs/cgroup/memory.max", f"{77 * MIB}\n")
    limit = tree.limit()
    assert limit.bytes == 77 * MIB
    assert limit.groups[0].directories == (str(tree.root / "sys/fs/cgroup"),)


def test_of_two_mounts_the_one_that_shows_more_ancestors_is_read(tree: Tree) -> None:
    tree.proc(
        "0::/pod/web",
        V2_MOUNT.format(root="/pod/web", point="/mnt/part"),
        V2_MOUNT.format(root="/", point="/sys/fs/cgroup"),
    )
    tree.write("mnt/part/memory.max", f"{500 * MIB}\n")
    tree.write("sys/fs/cgroup/pod/web/memory.max", f"{500 * MIB}\n")
    tree.write("sys/fs/cgroup/pod/memory.max", f"{400 * MIB}\n")
    assert tree.limit().bytes == 400 * MIB


def test_a_mount_point_with_a_space_is_unescaped(tree: Tree) -> None:
    v2(tree, "/web", point=r"/my\040groups")
    tree.write("my groups/web/memory.max", f"{10 * MIB}\n")
    assert tree.limit().bytes == 10 * MIB


def test_a_version_1_group_is_read_with_its_ancestors(tree: Tree) -> None:
    tree.proc(
        "5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/",
        V1_MOUNT.format(root="/", point="/sys/fs/cgroup/memory", controllers="memory"),
        V1_MOUNT.format(root="/", point="/sys/fs/cgroup/cpu", controllers="cpu,cpuacct"),
    )
    base = "sys/fs/cgroup/memory"
    tree.write(f"{base}/a/b/memory.limit_in_bytes", f"{PAGE_COUNTER_MAX}\n")
    tree.write(f"{base}/a/memory.limit_in_bytes", f"{150 * MIB}\n")
    tree.write(f"{base}/memory.limit_in_bytes", f"{PAGE_COUNTER_MAX}\n")
    limit = tree.limit()
    assert (limit.bytes, limit.kind) == (150 * MIB, "cgroup1.limit")
    assert [group.version for group in limit.groups] == [1]


def test_the_kernels_own_sum_tells_of_ancestors_outside_the_mount(tree: Tree) -> None:
    tree.proc(
        "4:memory:/docker/abc",
        V1_MOUNT.format(root="/docker/abc", point="/sys/fs/cgroup/memory", controllers="memory"),
    )
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{PAGE_COUNTER_MAX}\n")
    tree.write(
        "sys/fs/cgroup/memory/memory.stat",
        f"cache 12\nrss 34\nhierarchical_memory_limit {80 * MIB}\n",
    )
    limit = tree.limit()
    assert limit.bytes == 80 * MIB
    assert limit.source.endswith("hierarchical_memory_limit")


def test_ancestors_that_do_not_charge_their_children_do_not_limit_them(tree: Tree) -> None:
    tree.proc(
        "4:memory:/a/b",
        V1_MOUNT.format(root="/", point="/sys/fs/cgroup/memory", controllers="memory"),
    )
    base = "sys/fs/cgroup/memory"
    tree.write(f"{base}/a/b/memory.limit_in_bytes", f"{150 * MIB}\n")
    tree.write(f"{base}/a/memory.use_hierarchy", "0\n")
    tree.write(f"{base}/a/memory.limit_in_bytes", f"{10 * MIB}\n")
    assert tree.limit().bytes == 150 * MIB


def test_a_removed_group_is_found_under_its_old_name(tree: Tree) -> None:
    v2(tree, "/web (deleted)")
    tree.write("sys/fs/cgroup/web/memory.max", f"{33 * MIB}\n")
    assert tree.limit().bytes == 33 * MIB


def test_resource_limits_take_part(tree: Tree) -> None:
    limit = tree.limit(as_=2048 * MIB, data=1024 * MIB)
    assert (limit.bytes, limit.kind, limit.source) == (1024 * MIB, "rlimit.data", "RLIMIT_DATA")
    assert "rlimit.as" in [bound.kind for bound in limit.bounds]


@pytest.mark.parametrize("value", [None, 0, -1, 2**63 - 1])
def test_a_resource_limit_that_limits_nothing_is_left_out(tree: Tree, value: int | None) -> None:
    assert tree.limit(as_=value).kind == "host"


@pytest.mark.parametrize("text", ["", "lots", "-5", "12 MB"])
def test_a_file_that_cannot_be_understood_is_named(tree: Tree, text: str) -> None:
    v2(tree, "/web")
    tree.write("sys/fs/cgroup/web/memory.max", text)
    limit = tree.limit()
    assert limit.kind == "host"
    assert len(limit.unread) == 1
    assert limit.unread[0].endswith("web/memory.max")


def test_max_is_no_limit_and_no_complaint(tree: Tree) -> None:
    v2(tree, "/web")
    tree.write("sys/fs/cgroup/web/memory.max", "max\n")
    tree.write("sys/fs/cgroup/web/memory.high", "0\n")
    limit = tree.limit()
    assert limit.kind == "host"
    assert limit.unread == ()


def test_a_file_that_is_a_directory_is_named_and_does_not_stop_the_rest(tree: Tree) -> None:
    v2(tree, "/web")
    (tree.root / "sys/fs/cgroup/web/memory.max").mkdir(parents=True)
    tree.write("sys/fs/cgroup/memory.max", f"{55 * MIB}\n")
    limit = tree.limit()
    assert limit.bytes == 55 * MIB
    assert len(limit.unread) == 1


def test_an_empty_file_system_has_no_limit_and_no_error(tmp_path: Path) -> None:
    limit = read_limit(root=str(tmp_path), rlimits=dict)
    assert (limit.bytes, limit.kind, limit.source) == (None, "none", "unknown")


@given(cgroup=st.text(max_size=200), mounts=st.text(max_size=300))
def test_whatever_the_kernel_writes_reading_does_not_fail(
    tmp_path_factory: pytest.TempPathFactory, cgroup: str, mounts: str
) -> None:
    root = tmp_path_factory.mktemp("noise")
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup, encoding="utf-8", errors="replace")
    (root / "proc/self/mountinfo").write_text(mounts, encoding="utf-8", errors="replace")
    assert read_limit(root=str(root), rlimits=dict).bytes is None


@given(
    parts=st.lists(st.text("abc.-", min_size=1, max_size=5), min_size=1, max_size=5),
    cut=st.integers(0, 5),
)
def test_wherever_the_mount_begins_the_own_group_is_found(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], cut: int
) -> None:
    """The translation of a path by its mount's root, for every root above the group."""
    parts = [part for part in parts if part.strip(".")] or ["a"]
    root = tmp_path_factory.mktemp("tree")
    tree = Tree(root)
    mount_root = "/" + "/".join(parts[: min(cut, len(parts))])
    v2(tree, "/" + "/".join(parts), root=mount_root)
    own = root.joinpath("sys/fs/cgroup", *parts[min(cut, len(parts)) :])
    own.mkdir(parents=True, exist_ok=True)
    (group,) = find_groups(root=str(root))
    assert group.directories[0] == str(own)
    assert group.directories[-1] == str(root / "sys/fs/cgroup")


def test_stat_lines_that_are_no_numbers_are_left_out() -> None:
    assert parse_stat("anon 5\nbad\nnegative -1\nfile 7 8\nslab 9\n") == {"anon": 5, "slab": 9}


def test_this_machine_has_a_limit() -> None:
    limit = read_limit()
    assert limit.bytes is not None
    assert limit.bytes >= 64 * MIB
    assert limit.bytes == min(bound.bytes for bound in limit.bounds)
    assert limit.unread == ()
