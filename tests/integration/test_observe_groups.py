"""Limits and headroom in a real version 1 memory group, where this machine lets us make one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard.observe.cgroups import find_groups
from memguard.observe.headroom import read_headroom
from memguard.observe.limits import Bound, Limit
from memguard.observe.readings import Reading

MIB = 1024**2


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory group below this process's own, so that every limit above it still holds."""
    own = [found for found in find_groups() if found.version == 1]
    if not own:
        pytest.skip("this machine has no version 1 memory hierarchy")
    path = Path(own[0].directories[0], f"memguard-test-{os.getpid()}-{time.monotonic_ns()}")
    try:
        path.mkdir()
        (path / "memory.limit_in_bytes").write_text(str(512 * MIB))
    except OSError as error:
        if path.is_dir():
            path.rmdir()
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        yield path
    finally:
        deadline = time.monotonic() + 10
        while True:
            try:
                path.rmdir()
                break
            except OSError:
                # The kernel lets go of a dead process's group a moment after its parent hears.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def run(script: str, group: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run *script* in *group*; ``join()`` moves the interpreter there before anything is made."""
    head = f"""
        import json, os, sys
        from pathlib import Path
        Path({str(group)!r}, "cgroup.procs").write_text(str(os.getpid()))
        """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_limit_of_a_real_group_is_found_from_inside(group: Path) -> None:
    (group / "memory.limit_in_bytes").write_text(str(200 * MIB))
    found = told(
        run(
            """
            from memguard.observe.limits import read_limit
            limit = read_limit()
            print(json.dumps([limit.bytes, limit.kind, limit.directory, list(limit.unread)]))
            """,
            group,
        )
    )
    assert found == [200 * MIB, "cgroup1.limit", str(group), []]


def test_in_a_real_group_memory_that_is_held_counts_and_page_cache_does_not(
    group: Path, tmp_path: Path
) -> None:
    (group / "memory.limit_in_bytes").write_text(str(256 * MIB))
    start, held, cached = told(
        run(
            """
            from memguard.observe.headroom import read_headroom
            from memguard.observe.readings import read_memory

            def look():
                # Not the fullest: of a small machine the host may be that at first.
                fills = read_headroom(read_memory()).fills
                fill = next(fill for fill in fills if fill.scope == "group")
                return {"used": fill.used, "current": fill.current, "set": fill.working_set,
                        "headroom": fill.headroom, "ratio": fill.ratio}

            start = look()
            ballast = bytearray(b"x" * (64 << 20))
            held = look()
            with open(sys.argv[1], "wb") as file:
                for _ in range(64):
                    file.write(b"y" * (1 << 20))
                file.flush()
                os.fsync(file.fileno())
            print(json.dumps([start, held, look()]))
            """,
            group,
            str(tmp_path / "cache"),
        )
    )
    assert 60 * MIB < held["used"] - start["used"] < 72 * MIB
    assert held["headroom"] == 256 * MIB - held["used"]
    assert held["ratio"] == pytest.approx(held["used"] / (256 * MIB))
    assert cached["current"] - held["current"] > 55 * MIB, "the kernel did charge the cache"
    assert cached["used"] - held["used"] < 8 * MIB, "and we do not call it pressure"


def test_a_group_that_ran_into_its_bound_says_how_often(group: Path) -> None:
    (group / "memory.limit_in_bytes").write_text(str(64 * MIB))
    killed = run("ballast = bytearray(b'x' * (300 << 20))", group)
    assert killed.returncode == -9, "the kernel kills what does not fit"
    bound = Bound(bytes=64 * MIB, kind="cgroup1.limit", source="the test", directory=str(group))
    limit = Limit(bytes=bound.bytes, source=bound.source, bounds=(bound,))
    events = read_headroom(Reading(at=0.0), limit=limit).events
    assert events is not None
    assert events.limit > 0
    assert events.oom_kill == 1
