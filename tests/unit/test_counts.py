"""Counts of descriptors and tasks: what they say, what they cost, and what they leave alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from memguard.lifecycle import locks
from memguard.observe import counts
from memguard.observe.counts import Thrifty
from memguard.observe.readings import read_memory
from tests.clock import FakeClock

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_a_reading_counts_sockets_that_are_open() -> None:
    before = read_memory().open_files
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            for end in socket.socketpair():
                stack.enter_context(end)
        after = read_memory().open_files
    assert before is not None
    assert after is not None
    assert after - before == 100


@linux
def test_both_ways_to_count_descriptors_agree(tmp_path: Path) -> None:
    assert counts.open_descriptors() == counts.count_descriptors()
    assert counts.open_descriptors(str(tmp_path / "none")) is None
    assert counts.count_descriptors(str(tmp_path / "none")) is None


@linux
def test_the_limit_of_descriptors_is_that_of_the_process() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (77, 77));"
        "from memguard.observe.readings import read_memory; print(read_memory().open_files_limit)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "77"


def test_counting_takes_a_thousandth_of_the_time_at_most() -> None:
    clock, cpu = FakeClock(), FakeClock()
    counted: list[float] = []

    def slow() -> int:
        counted.append(clock())
        cpu.advance(0.005)
        return len(counted)

    thrifty = Thrifty(slow, clock, cpu)
    for _ in range(100):
        thrifty()
        clock.advance(0.25)
    assert len(counted) == 5
    assert all(after - before >= 4.99 for before, after in itertools.pairwise(counted))
    assert thrifty() == thrifty() == len(counted), "between two counts the last number is returned"


def test_without_asyncio_there_are_no_tasks_and_it_is_not_imported() -> None:
    code = (
        "import sys; from memguard.observe.counts import task_count;"
        "print(task_count(), 'asyncio' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "0 False"


@pytest.mark.skipif(
    sys.version_info >= (3, 14) and locks.FREE_THREADED,
    reason="tasks cannot be counted from outside of their loop without a GIL",
)
def test_tasks_that_wait_in_a_loop_of_another_thread_are_counted() -> None:
    ready, done = threading.Event(), threading.Event()

    async def main() -> None:
        never = asyncio.Event()
        waiting = [asyncio.create_task(never.wait()) for _ in range(100)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(ready.set)
        while not done.is_set():  # noqa: ASYNC110 - reason: set by another thread
            await asyncio.sleep(0.001)
        never.set()
        await asyncio.gather(*waiting)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10)
        found = counts._tasks_of_loops()
        assert found is not None
        assert found >= 101
        counts._of_loops._due = float("-inf")  # now, though it was counted a moment ago
        count = counts.task_count()
        assert count is not None
        assert count >= 101
    finally:
        done.set()
        thread.join()


class HostileLoop(asyncio.SelectorEventLoop):
    """A loop whose own code runs only in the thread that runs it; others are noted."""

    asked: ClassVar[list[str]] = []

    def note(self, what: str) -> None:
        if threading.current_thread() is threading.main_thread():
            self.asked.append(what)

    def __hash__(self) -> int:
        self.note("__hash__")
        return 1

    def __eq__(self, other: object) -> bool:
        self.note("__eq__")
        return True

    def __getattr__(self, name: str) -> object:
        self.note(name)
        raise AttributeError(name)

    def __bool__(self) -> bool:
        self.note("__bool__")
        return False


def test_a_look_for_loops_runs_no_code_of_a_loop() -> None:
    ready = threading.Barrier(3)
    done = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(ready.wait)
        while not done.is_set():  # noqa: ASYNC110 - reason: set by another thread
            await asyncio.sleep(0.001)

    def run() -> None:
        with asyncio.Runner(loop_factory=HostileLoop) as runner:
            runner.run(main())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        ready.wait(10)
        HostileLoop.asked.clear()
        loops = {id(loop) for loop in counts.known_loops() if type(loop) is HostileLoop}
        tasks = counts._tasks_of_loops()
        assert HostileLoop.asked == []
        assert len(loops) == 2, "that they say they are equal is no reason"
        if sys.version_info >= (3, 14):
            assert tasks is not None
            assert tasks >= 2
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_loops_are_remembered_while_they_are_alive() -> None:
    async def look() -> int:
        counts.known_loops()
        return id(asyncio.get_running_loop())

    key = asyncio.run(look())
    gc.collect()
    assert key not in [id(loop) for loop in counts.known_loops()]
    for _ in range(counts._LOOPS + 1):
        asyncio.run(look())
    assert len(counts._seen_loops) <= counts._LOOPS
