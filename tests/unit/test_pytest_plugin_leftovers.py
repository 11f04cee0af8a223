"""The ledger of what a test leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from memguard import BufferPool, ListenerRegistry
from memguard.integrations.testing.leftovers import Leftovers, pending_tasks
from memguard.integrations.testing.options import KINDS
from tests.clock import FakeClock

ALL = frozenset(KINDS)


def nobody(_: str) -> bool:
    return False


@contextmanager
def waiting(name: str) -> Iterator[threading.Event]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name=name)
    thread.start()
    try:
        yield end
    finally:
        end.set()
        thread.join()


def ledger(clock: FakeClock, sleep: Callable[[float], object]) -> Leftovers:
    found = Leftovers(nobody, 2.0, timer=clock, sleep=sleep)
    found.begin(ALL)
    return found


def test_a_thread_that_ends_in_time_is_not_left_behind(fake_clock: FakeClock) -> None:
    def sleep(_: float) -> None:
        end.set()
        threading.Event().wait(0.01)

    left = ledger(fake_clock, sleep)
    with waiting("ending") as end:
        assert left.found() == []


def test_a_thread_is_waited_for_no_longer_than_the_grace(fake_clock: FakeClock) -> None:
    began = fake_clock()
    left = ledger(fake_clock, fake_clock.advance)
    with waiting("staying"):
        (text,) = left.found()
    assert text.startswith("thread 'staying', which is at ")
    assert 2.0 <= fake_clock() - began < 2.1


def test_nobody_waits_for_listeners(fake_clock: FakeClock) -> None:
    bus = ListenerRegistry(name="bus")
    bus.on("x", print)
    left = ledger(fake_clock, fake_clock.advance)
    began = fake_clock()
    handles = [bus.on("x", repr), bus.on("y", repr)]
    (text,) = left.found()
    first, *places = text.splitlines()
    assert first == "2 listeners of 'bus'"
    assert len(places) == 1, "the place of the listener that was there before is not named"
    assert "test_pytest_plugin_leftovers.py:" in places[0]
    assert fake_clock() == began
    del handles


def test_a_lent_buffer_is_left_behind_with_its_place(fake_clock: FakeClock) -> None:
    with BufferPool((1024,), maxbytes=1 << 20, name="buffers") as pool:
        left = ledger(fake_clock, fake_clock.advance)
        lease = pool.lease(100)
        (text,) = left.found()
        assert text.startswith("1 buffer of pool 'buffers', not released\n    made at ")
        assert "test_pytest_plugin_leftovers.py" in text
        lease.release()
        assert left.found() == []


def test_what_a_fixture_starts_is_its_own_until_it_is_down(fake_clock: FakeClock) -> None:
    bus = ListenerRegistry(name="bus")
    left = ledger(fake_clock, fake_clock.advance)
    outer = left.fixture_begins()
    bus.on("outer", print)
    inner = left.fixture_begins()
    handle = bus.on("inner", print)
    left.fixture_is_up("inner", inner)
    left.fixture_is_up("outer", outer)
    assert left.found() == []
    handle.close()
    left.fixture_is_down("inner")
    assert left.found() == []
    left.fixture_is_down("outer")
    (text,) = left.found()
    assert text.startswith("1 listener of 'bus'")
    assert text.endswith("outlives the fixture 'outer'")
    left.begin(ALL)
    assert left.found() == [], "it is told once"


def test_kinds_that_are_not_asked_for_do_not_count(fake_clock: FakeClock) -> None:
    left = Leftovers(nobody, 0.0, timer=fake_clock, sleep=fake_clock.advance)
    left.begin(frozenset({"tasks"}))
    bus = ListenerRegistry(name="bus")
    bus.on("x", print)
    with waiting("some"):
        assert left.found() == []


def test_a_task_that_is_pending_when_its_loop_is_closed_was_left_behind(
    fake_clock: FakeClock,
) -> None:
    async def poll() -> None:
        await asyncio.sleep(60)

    left = ledger(fake_clock, fake_clock.advance)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(poll(), name=name) for name in ("left", "ended", "asked")]
    loop.run_until_complete(asyncio.sleep(0))
    left.call_is_over()
    tasks[1].cancel()
    tasks[2].cancel()
    loop.run_until_complete(asyncio.gather(tasks[1], return_exceptions=True))
    left.look_at_tasks()
    tasks[0].cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    left.look_at_tasks()
    (text,) = left.found()
    assert text.startswith("task 'left', which is at ")
    assert text.endswith("  poll")


def test_tasks_are_found_in_every_loop_and_done_ones_are_not() -> None:
    async def started() -> list[str]:
        task = asyncio.create_task(asyncio.sleep(60), name="pending one")
        done = asyncio.create_task(asyncio.sleep(0), name="done one")
        await done
        names = [found.get_name() for found in pending_tasks()]
        task.cancel()
        return names

    names = asyncio.run(started())
    assert "pending one" in names
    assert "done one" not in names


@pytest.mark.parametrize("name", ["memguard-janitor", "memguard-timers"])
def test_threads_that_serve_containers_are_told_by_their_containers(
    fake_clock: FakeClock, name: str
) -> None:
    left = ledger(fake_clock, fake_clock.advance)
    with waiting(name):
        assert left.found() == []
