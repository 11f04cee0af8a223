"""Child processes: what they hold, with pages that a fork left shared counted once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from memguard.observe.children import Family, FamilyMeter, read_family
from tests.clock import FakeClock

MIB = 1024**2

linux = pytest.mark.skipif(sys.platform != "linux", reason="proportional set sizes are Linux's")


def run(program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux
def test_pages_that_a_fork_left_shared_count_once() -> None:
    found = run(
        """
        import json, os
        from memguard.observe.children import read_family
        from memguard.observe.readings import read_memory

        alone = read_family()
        ballast = bytearray(b"x") * (80 << 20)
        held = read_memory().held
        pipes = []
        for own in (0, 20):
            there, here = os.pipe()
            go, wait = os.pipe()
            pid = os.fork()
            if not pid:
                more = bytearray(b"y") * (own << 20)
                os.write(here, b"1")
                os.read(go, 1)
                os._exit(0)
            os.read(there, 1)
            pipes.append((pid, wait))
        family = read_family()
        for pid, wait in pipes:
            os.write(wait, b"1")
            os.waitpid(pid, 0)
        print(json.dumps([alone.children, family.children, held, family.bytes, family.shared]))
        """
    )
    alone, children, held, size, shared = found
    assert (alone, children) == (0, 2)
    total = held - shared + size
    assert total == pytest.approx(held + 20 * MIB, rel=0.1)
    assert size > 20 * MIB + 2 * 80 * MIB / 3 * 0.9


@linux
def test_a_limit_counts_the_children_if_asked_to() -> None:
    found = run(
        """
        import json, subprocess, sys, time
        import memguard
        child = "x = bytearray(b'x') * (150 << 20); print(1, flush=True); input()"
        with memguard.install(limit="200MiB", children=True, leaks=False, interval=0.05) as guard:
            started = subprocess.Popen(
                [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            started.stdout.readline()
            deadline = time.monotonic() + 30
            while guard.level not in ("elevated", "critical") and time.monotonic() < deadline:
                time.sleep(0.01)
            with_child = guard.level, guard.monitor.pressure().used
            children = memguard.components.breakdown().children
            started.communicate(b"1")
            while guard.monitor.pressure().used > 100 << 20 and time.monotonic() < deadline:
                time.sleep(0.01)
            print(json.dumps([*with_child, children, guard.monitor.pressure().used]))
        """
    )
    level, used, children, after = found
    assert level in ("elevated", "critical")
    assert used > 150 * MIB
    assert children == pytest.approx(155 * MIB, rel=0.1)
    assert after < 100 * MIB


def test_one_that_has_no_children_has_none(tmp_path: Path) -> None:
    found = read_family(root=str(tmp_path))  # where nothing can be read, either
    assert found.bytes == 0 or sys.platform != "linux"


def test_without_smaps_rollup_private_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel before 4.14, or of a child that may not be looked at."""

    class Child:
        pid = 7

    class Parent:
        def children(self, *, recursive: bool) -> list[Child]:
            assert recursive
            return [Child(), Child()]

    monkeypatch.setattr("memguard.observe.children.psutil.Process", Parent)
    for pid, kib in ((7, 500), (os.getpid(), 900)):
        directory = tmp_path / str(pid)
        directory.mkdir()
        (directory / "status").write_text(
            f"Name:\tx\nVmRSS:\t{kib} kB\nRssAnon:\t{kib - 100} kB\nRssShmem:\t50 kB\n"
        )
    found = read_family(root=str(tmp_path))
    assert found == Family(children=2, bytes=2 * 450 * 1024, shared=0)


def test_looking_takes_a_fiftieth_of_the_time_at_most(fake_clock: FakeClock) -> None:
    looks: list[float] = []
    spent = [0.0]

    def read() -> Family:
        looks.append(fake_clock())
        spent[0] += 0.1
        return Family(children=1, bytes=len(looks), shared=0)

    meter = FamilyMeter(timer=fake_clock, read=read, cost=lambda: spent[0])
    for _ in range(20):
        meter.read()
        fake_clock.advance(1)
    assert len(looks) == 4
    assert meter.read().bytes == 5
