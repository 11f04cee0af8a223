"""A queue under threads, tasks, forks and signals."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from memguard import BoundedQueue

DEADLINE = 60.0
STOP = -1


def test_eight_threads_and_two_loops_lose_nothing_and_do_nothing_twice() -> None:  # noqa: C901 - reason: four ways to use it
    queue: BoundedQueue[int] = BoundedQueue(maxsize=7, maxbytes=2000, sizer=lambda n: n % 97)
    got: list[int] = []
    each, makers = 3000, 4

    def make(first: int) -> None:
        for number in range(first, first + each):
            queue.put(number, DEADLINE)

    async def make_in_tasks(first: int) -> None:
        async def some(start: int) -> None:
            for number in range(start, start + each // 10):
                await queue.aput(number, DEADLINE)

        await asyncio.gather(*(some(first + place * each // 10) for place in range(10)))

    def take() -> None:
        got.extend(queue)

    async def take_in_tasks() -> None:
        async def some() -> None:
            got.extend([number async for number in queue])

        await asyncio.gather(*(some() for _ in range(10)))

    producers = [threading.Thread(target=make, args=(place * each,)) for place in range(makers)]
    producers.append(threading.Thread(target=lambda: asyncio.run(make_in_tasks(makers * each))))
    consumers = [threading.Thread(target=take) for _ in range(3)]
    consumers.append(threading.Thread(target=lambda: asyncio.run(take_in_tasks())))
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join(DEADLINE)
    queue.close()
    for thread in consumers:
        thread.join(DEADLINE)
    assert sorted(got) == list(range((makers + 1) * each))
    statistics = queue.statistics()
    assert (statistics.items, statistics.bytes) == (0, 0)
    assert statistics.most <= 7


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_has_the_items_and_nobody_who_waits() -> None:
    printed = run(
        """
        import os, threading, memguard
        queue = memguard.BoundedQueue(maxsize=2)
        queue.put(1); queue.put(2)
        threading.Thread(target=queue.put, args=(3,), daemon=True).start()
        while not queue.statistics().waiting_to_put: pass
        held, go = threading.Event(), threading.Event()
        def hold():
            with queue._backlog._lock:
                held.set(); go.wait()
        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        if not os.fork():
            assert queue.get(5) == 1 and queue.get(5) == 2
            assert queue.statistics().waiting_to_put == 0
            queue.put(4, 5)
            assert queue.get(5) == 4
            os._exit(0)
        _, status = os.wait()
        go.set()
        print(status)
        """
    )
    assert printed == "0"


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
def test_interrupted_calls_leave_no_lock_held_and_sums_that_are_right() -> None:
    printed = run(
        """
        import contextlib, memguard
        from tests.interruptions import LEAST, storm
        queue = memguard.BoundedQueue(maxsize=5, maxbytes=1000, sizer=lambda item: 10)

        def use():
            with contextlib.suppress(memguard.QueueFullError):
                queue.put(1, 0.001)
            with contextlib.suppress(memguard.QueueEmptyError):
                queue.get(0.001)

        interruptions = storm(use, use, seconds=2)
        statistics = queue.statistics()
        assert statistics.bytes == 10 * len(queue) <= 50, statistics
        assert statistics.waiting_to_put == statistics.waiting_to_get == 0, statistics
        queue.clear()
        queue.put(3)
        assert queue.get() == 3
        print("whole", interruptions > LEAST)
        """
    )
    assert printed == "whole True"
