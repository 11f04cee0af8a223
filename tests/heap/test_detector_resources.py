"""A detector finds real sockets, threads and tasks that pile up, and who made them."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from memguard.leaks.detector import LeakDetector
from memguard.leaks.report import LeakReport
from memguard.lifecycle import locks
from memguard.observe import counts
from memguard.observe.readings import Reading, read_memory
from tests.clock import FakeClock

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="who opened a descriptor is read from /proc"
)

OPEN: list[tuple[socket.socket, socket.socket]] = []
PENDING: list[asyncio.Task[None]] = []
STOP = threading.Event()


@pytest.fixture
def closed() -> Iterator[None]:
    yield
    for pair in OPEN:
        for end in pair:
            end.close()
    OPEN.clear()


def open_more() -> None:
    if len(OPEN) < 400:
        OPEN.extend(socket.socketpair() for _ in range(6))


def found_while(leak: Callable[[], object], clock: FakeClock, **fixed: Any) -> LeakReport:
    """Tick a detector by hand while *leak* goes on, and return its first report."""
    flat = read_memory()

    def read() -> Reading:
        now = read_memory()
        return replace(now, at=clock(), anon=flat.anon, swap=0, open_files_limit=1024, **fixed)

    detector = LeakDetector(interval=1.0, warmup=0, trace_seconds=0.3, timer=clock, read=read)
    for _ in range(2000):
        leak()
        clock.advance(detector.tick())
        if detector.reports:
            break
    detector.stop()
    return detector.reports[0]


@pytest.mark.usefixtures("closed")
def test_sockets_are_found_though_memory_stands_still(fake_clock: FakeClock) -> None:
    report = found_while(open_more, fake_clock)
    assert report.verdict.kind == "sockets"
    (growth,) = report.resources
    assert growth.limit == 1024
    assert growth.count < 900, "far from the limit"
    assert growth.groups[0].name == "unix socket"
    assert report.holders[0].path == f"{__name__}.OPEN"
    if not locks.FREE_THREADED:  # where nothing can be traced
        frames = [frame for suspect in report.suspects for frame in suspect.frames]
        assert any(frame.function == "open_more" for frame in frames)


def wait_for_ever() -> None:
    STOP.wait()


def test_threads_are_found_with_the_line_where_they_wait(fake_clock: FakeClock) -> None:
    threads: list[threading.Thread] = []

    def start_more() -> None:
        for _ in range(4):
            if len(threads) < 300:
                threads.append(threading.Thread(target=wait_for_ever))
                threads[-1].start()

    STOP.clear()
    try:
        report = found_while(start_more, fake_clock, open_files=9)
    finally:
        STOP.set()
        for thread in threads:
            thread.join()
    assert report.verdict.kind == "threads"
    group = report.resources[0].groups[0]
    assert group.name == f"{__name__}.wait_for_ever"
    assert group.begins_at is not None
    assert group.begins_at.line == wait_for_ever.__code__.co_firstlineno
    if not locks.FREE_THREADED:
        assert group.waits_at is not None
        assert group.waits_at.line == group.begins_at.line + 1


async def job(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.skipif(locks.FREE_THREADED, reason="tasks cannot be counted without a GIL")
def test_tasks_are_found_by_the_line_they_await_at(
    fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock of the detector runs ahead of that by which counting is rationed.
    monkeypatch.setattr(counts._of_loops, "SHARE", 0)
    monkeypatch.setattr(counts._of_loops, "_due", 0)

    async def main() -> LeakReport:
        event = asyncio.Event()

        async def spawn(count: int) -> None:
            PENDING.extend(asyncio.create_task(job(event)) for _ in range(count))
            await asyncio.sleep(0)

        def spawn_more() -> None:
            if len(PENDING) < 6_000:
                asyncio.run_coroutine_threadsafe(spawn(80), loop).result()

        loop = asyncio.get_running_loop()
        try:
            return await asyncio.to_thread(found_while, spawn_more, fake_clock, open_files=9)
        finally:
            event.set()
            await asyncio.gather(*PENDING)
            PENDING.clear()

    report = asyncio.run(main())
    assert report.verdict.kind == "tasks"
    group = report.resources[0].groups[0]
    assert group.name.startswith("job at line ")
    assert group.waits_at is not None
    assert group.waits_at.line == job.__code__.co_firstlineno + 1
