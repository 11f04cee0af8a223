"""A queue between threads and tasks: order, bounds, waiting, dropping, closing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import threading
import time
import tracemalloc
from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import memguard
from memguard import BoundedQueue, QueueEmptyError, QueueFullError, ValueTooLargeError
from memguard.bounded import inventory
from memguard.bounded.queue import backlog, bounded_queue
from memguard.bounded.sizing.entries import Parts
from memguard.errors import ConfigError, LifecycleError

DEADLINE = 20.0


@pytest.mark.parametrize(
    ("options_", "error", "message"),
    [
        ({}, ConfigError, "maxsize or maxbytes is required: BoundedQueue refuses to be unbounded"),
        ({"maxsize": 0}, ConfigError, "maxsize must be >= 1"),
        ({"maxsize": 1.5}, TypeError, "maxsize must be"),
        ({"maxbytes": "0B"}, ConfigError, "maxbytes must be >= 1 byte"),
        ({"maxsize": 1, "when_full": "lose"}, ConfigError, "when_full must be"),
        ({"maxsize": 1, "timeout": -1}, ConfigError, "timeout must be"),
        ({"maxsize": 1, "sizer": 5}, TypeError, "sizer must be callable"),
        ({"maxsize": 1, "on_drop": print}, ConfigError, "on_drop is only called with when_full="),
        ({"maxsize": 1, "name": ""}, ConfigError, "name must not be empty"),
    ],
)
def test_a_bad_option_is_refused(
    options_: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BoundedQueue(**options_)


def test_items_come_out_in_the_order_in_which_they_went_in() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=3)
    for number in range(3):
        queue.put(number)
    assert len(queue) == 3
    assert [queue.get() for _ in range(3)] == [0, 1, 2]


def test_without_room_or_items_it_raises_in_time() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=1, timeout="20ms")
    with pytest.raises(QueueEmptyError, match="had no item within 20"):
        queue.get()
    queue.put(1)
    with pytest.raises(QueueFullError, match=r"it has 1 items \(maxsize=1\); get faster"):
        queue.put(2)
    with pytest.raises(QueueFullError):
        queue.put_nowait(2)
    assert queue.get_nowait() == 1
    with pytest.raises(QueueEmptyError):
        queue.get_nowait()
    statistics = queue.statistics()
    assert (statistics.puts, statistics.gets, statistics.refused) == (1, 1, 2)
    assert (statistics.waiting_to_put, statistics.waiting_to_get) == (0, 0)


def test_bytes_are_bounded_and_what_items_share_counts_once() -> None:
    shared = bytes(100_000)
    queue: BoundedQueue[Any] = BoundedQueue(maxbytes="150KiB", when_full="refuse")
    queue.put((1, shared))
    one = queue.statistics().bytes
    assert one is not None
    assert 100_000 < one < 102_000
    with pytest.raises(QueueFullError, match="no room for an item of"):
        queue.put((2, bytes(100_000)))
    queue.get()
    assert queue.statistics().bytes == 0
    large: BoundedQueue[Any] = BoundedQueue(maxbytes="1MiB")
    for number in range(8):
        large.put((number, shared))
    assert (large.statistics().bytes or 0) < 110_000


def test_an_item_larger_than_the_bound_is_an_error_at_once() -> None:
    queue: BoundedQueue[bytes] = BoundedQueue(maxbytes="1KiB")
    with pytest.raises(ValueTooLargeError, match=r"is larger than maxbytes=1\.0 KiB"):
        queue.put(bytes(5000))


@pytest.mark.parametrize(
    ("size", "error"), [(1.5, TypeError), (True, TypeError), (-1, ConfigError)]
)
def test_a_sizer_must_give_bytes(size: Any, error: type[Exception]) -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxbytes="1KiB", sizer=lambda _: size)
    with pytest.raises(error, match="sizer must give a"):
        queue.put(1)
    assert len(queue) == 0


def test_opaque_items_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    etree = pytest.importorskip("lxml.etree")
    queue: BoundedQueue[Any] = BoundedQueue(maxbytes="1MiB", name="trees")
    with caplog.at_level(logging.WARNING, logger="memguard"):
        for _ in range(3):
            queue.put(etree.fromstring("<a/>"))
    assert len([text for text in caplog.messages if "queue.items_opaque" in text]) == 1
    assert queue.statistics().opaque == ("lxml.etree._Element",)
    assert queue.footprint().opaque


def test_the_oldest_are_dropped_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    dropped: list[int] = []
    queue: BoundedQueue[int] = BoundedQueue(
        maxsize=2, when_full="drop_oldest", on_drop=dropped.append
    )
    with caplog.at_level(logging.WARNING, logger="memguard"):
        for number in range(5):
            queue.put(number)
    assert dropped == [0, 1, 2]
    assert [queue.get(), queue.get()] == [3, 4]
    assert queue.statistics().dropped == 3
    assert len([text for text in caplog.messages if "queue.dropped" in text]) == 1


def test_a_callback_that_fails_loses_nothing_else() -> None:
    def fail(_: int) -> None:
        raise OSError

    queue: BoundedQueue[int] = BoundedQueue(maxsize=1, when_full="drop_oldest", on_drop=fail)
    queue.put(1)
    queue.put(2)
    queue.put(3)
    assert queue.get() == 3
    assert queue.statistics().errors == 2


def test_a_put_waits_until_there_is_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=1)
    queue.put(1)
    thread = threading.Thread(target=queue.put, args=(2,))
    thread.start()
    wait_for(lambda: queue.statistics().waiting_to_put == 1)
    assert queue.get() == 1
    thread.join(DEADLINE)
    assert queue.get(DEADLINE) == 2


def test_a_large_item_is_not_overtaken_by_small_ones() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxbytes=100, sizer=lambda item: item)
    queue.put(60)
    large = threading.Thread(target=queue.put, args=(90,))
    large.start()
    wait_for(lambda: queue.statistics().waiting_to_put == 1)
    with pytest.raises(QueueFullError):
        queue.put_nowait(10)  # there is room, and somebody before it
    assert queue.get() == 60
    large.join(DEADLINE)
    queue.put(10)
    assert [queue.get(), queue.get()] == [90, 10]


def test_what_was_waited_for_in_vain_lets_the_next_go_on() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxbytes=100, sizer=lambda item: item)
    queue.put(60)
    failed: list[Exception] = []

    def put_large() -> None:
        try:
            queue.put(90, timeout=0.2)
        except QueueFullError as error:
            failed.append(error)

    large = threading.Thread(target=put_large)
    large.start()
    wait_for(lambda: queue.statistics().waiting_to_put == 1)
    small = threading.Thread(target=queue.put, args=(10,))
    small.start()
    large.join(DEADLINE)
    small.join(DEADLINE)
    assert len(failed) == 1
    assert len(queue) == 2


def test_a_closed_queue_gives_out_what_it_has_and_takes_nothing() -> None:
    with BoundedQueue[int](maxsize=5) as queue:
        queue.put(1)
        queue.put(2)
    assert queue.closed
    with pytest.raises(LifecycleError, match="is closed; make a new one"):
        queue.put(3)
    assert list(queue) == [1, 2]
    with pytest.raises(LifecycleError):
        queue.get()
    queue.close()


@pytest.mark.parametrize("end", ["put", "get"])
def test_closing_ends_every_wait(end: str) -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=1)
    if end == "put":
        queue.put(1)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            queue.put(2) if end == "put" else queue.get()
        except LifecycleError as error:
            ended.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: sum(queue._backlog.waiting()) == 3)
    queue.close()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(ended) == 3


def test_clearing_makes_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=2)
    queue.put(1)
    queue.put(2)
    thread = threading.Thread(target=queue.put, args=(3,))
    thread.start()
    wait_for(lambda: queue.statistics().waiting_to_put == 1)
    assert queue.clear() == 2
    thread.join(DEADLINE)
    assert queue.get() == 3


def test_a_task_gets_what_a_thread_puts_and_the_other_way_round() -> None:
    there: BoundedQueue[int] = BoundedQueue(maxsize=2)
    back: BoundedQueue[int] = BoundedQueue(maxsize=2)

    def work() -> None:
        for number in there:
            back.put(number * 2)
        back.close()

    async def main() -> list[int]:
        async def feed() -> None:
            for number in range(50):
                await there.aput(number)
            there.close()

        task = asyncio.create_task(feed())
        found = [number async for number in back]
        await task
        return found

    thread = threading.Thread(target=work)
    thread.start()
    assert asyncio.run(main()) == [number * 2 for number in range(50)]
    thread.join(DEADLINE)


def test_a_cancelled_task_puts_and_takes_nothing() -> None:
    async def main() -> None:
        queue: BoundedQueue[int] = BoundedQueue(maxsize=1)
        getting = [asyncio.create_task(queue.aget()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.put(1)  # wakes the first, which is cancelled before it runs
        getting[0].cancel()
        assert await asyncio.wait_for(getting[1], DEADLINE) == 1
        queue.put(1)
        putting = [asyncio.create_task(queue.aput(number)) for number in (2, 3)]
        await asyncio.sleep(0)
        assert queue.get() == 1
        putting[0].cancel()
        await asyncio.wait_for(putting[1], DEADLINE)
        assert queue.get() == 3
        assert len(queue) == 0

    asyncio.run(main())


def test_a_task_waits_no_longer_than_asked() -> None:
    async def main() -> None:
        queue: BoundedQueue[int] = BoundedQueue(maxsize=1, timeout=0.02)
        with pytest.raises(QueueEmptyError):
            await queue.aget()
        await queue.aput(1)
        with pytest.raises(QueueFullError):
            await queue.aput(2)
        assert queue.statistics().refused == 1

    asyncio.run(main())


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_loop_that_is_gone_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, *, is_closed: bool
) -> None:
    monkeypatch.setattr(bounded_queue, "NAP", 0.05)
    monkeypatch.setattr(backlog, "NAP", 0.05)
    queue: BoundedQueue[int] = BoundedQueue(maxsize=1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.aget())
    loop.run_until_complete(asyncio.sleep(0))  # it waits now, and its loop stands still
    if is_closed:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(queue.get(DEADLINE)))
    thread.start()
    wait_for(lambda: queue.statistics().waiting_to_get >= 1)
    queue.put(1)
    thread.join(DEADLINE)
    assert found == [1]
    if not is_closed:
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()


def test_it_is_listed_with_its_bytes_and_relief_takes_nothing() -> None:
    counted: BoundedQueue[bytes] = BoundedQueue(maxbytes="1MiB", name="counted")
    sampled: BoundedQueue[bytes] = BoundedQueue(maxsize=100, name="sampled")
    for _ in range(10):
        counted.put(bytes(10_000))
        sampled.put(bytes(10_000))
    rows = {row.name: row for row in memguard.inventory()}
    for queue in (counted, sampled):
        assert rows[queue.name].items == 10
        assert 100_000 < (rows[queue.name].bytes or 0) < 115_000
    memguard.relieve()
    assert (len(counted), len(sampled)) == (10, 10)
    listed = {row.name for row in memguard.components.breakdown().components}
    assert {"counted", "sampled"} <= listed


def test_many_small_items_take_what_is_counted() -> None:
    """Each takes a place besides its own bytes."""
    queue: BoundedQueue[bytes] = BoundedQueue(maxbytes="2MiB", when_full="refuse")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with contextlib.suppress(QueueFullError):
            while True:
                queue.put(bytes(20))
        real = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert real == pytest.approx(2 << 20, rel=0.15)


def test_reports_know_what_grows_by_the_name_of_the_queue() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=5, name="jobs")
    assert inventory.names()[id(queue._backlog.items)] == ("jobs", "BoundedQueue")


def test_a_task_that_ends_in_the_middle_of_a_change_leaves_it_alone() -> None:
    """Its coroutine may be closed by the collector, in a thread that has the lock."""
    queue: BoundedQueue[int] = BoundedQueue(maxbytes=100, sizer=lambda item: item)
    queue.put(60)
    loop = asyncio.new_event_loop()
    waiting = queue.aput(90)
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    assert queue.statistics().waiting_to_put == 1
    backlog = queue._backlog
    with backlog._lock:
        backlog._is_dirty = True  # in the middle of it
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        assert backlog._is_dirty
    loop.close()
    del task, waiting
    gc.collect()
    assert queue.statistics().waiting_to_put == 0
    assert queue.get() == 60


def test_it_keeps_nothing_that_was_got() -> None:
    class Thing:
        pass

    queue: BoundedQueue[Thing] = BoundedQueue(maxsize=3)
    for _ in range(3):
        queue.put(Thing())
    while len(queue):
        queue.get()
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Thing]


def test_a_signal_handler_that_breaks_a_change_off_leaves_sums_that_are_counted_anew() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxbytes=100, sizer=lambda item: item)
    queue.put(40)
    backlog = queue._backlog
    backlog._is_dirty = True
    backlog.items.append((30, 30))
    assert queue.statistics().bytes == 70
    queue.put(30)
    assert [queue.get(), queue.get(), queue.get()] == [40, 30, 30]
    assert queue.statistics().bytes == 0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
@pytest.mark.parametrize("step", ["take", "drop"])
def test_a_handler_that_interrupts_a_change_is_refused(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxbytes=100, sizer=lambda item: item)
    queue.put(5)
    said: list[type[Exception]] = []

    def handler(*_: object) -> None:
        for call in (lambda: queue.put(10, 5), lambda: queue.get(5), queue.clear):
            try:
                call()
            except (QueueFullError, QueueEmptyError, LifecycleError) as error:
                said.append(type(error))
        queue.statistics()
        queue.footprint()

    original = getattr(Parts, step)

    def interrupted(parts: Parts, size: int) -> Any:
        monkeypatch.setattr(Parts, step, original)
        signal.raise_signal(signal.SIGUSR1)
        return original(parts, size)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(Parts, step, interrupted)
        queue.put(20)
        assert queue.get() == 5
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert said == [QueueFullError, QueueEmptyError, LifecycleError]
    assert (len(queue), queue.statistics().bytes) == (1, 20)


def test_who_naps_does_not_overtake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_queue, "NAP", 0.02)
    queue: BoundedQueue[int] = BoundedQueue(maxbytes=100, sizer=lambda item: item)
    queue.put(50)
    threads = [threading.Thread(target=queue.put, args=(size,)) for size in (80, 10)]
    for waiting, thread in enumerate(threads):
        thread.start()
        wait_for(lambda waiting=waiting: queue.statistics().waiting_to_put == waiting + 1)
    time.sleep(0.2)
    assert len(queue) == 1
    assert [queue.get(DEADLINE) for _ in range(3)] == [50, 80, 10]
    for thread in threads:
        thread.join(DEADLINE)


def test_a_task_that_was_woken_is_served_before_who_comes_later() -> None:
    async def main() -> None:
        queue: BoundedQueue[int] = BoundedQueue(maxsize=1)
        await queue.aput(0)
        task = asyncio.create_task(queue.aput(-1))
        await asyncio.sleep(0)

        async def rival() -> None:
            for number in range(1, 1000):
                await queue.aput(number)

        other = asyncio.create_task(rival())
        got: list[int] = []
        while -1 not in got:
            got.append(await queue.aget())
        other.cancel()
        await task
        assert len(got) <= 3

    asyncio.run(main())


def test_what_is_refused_stands_in_nobodys_way() -> None:
    queue: BoundedQueue[int] = BoundedQueue(
        maxbytes=100, sizer=lambda item: item, when_full="refuse"
    )
    queue.put(50)
    over = threading.Event()

    def refused() -> None:
        while not over.is_set():
            with contextlib.suppress(QueueFullError):
                queue.put(95)

    thread = threading.Thread(target=refused)
    thread.start()
    try:
        for _ in range(3000):
            queue.put(10)
            assert queue.get_nowait() in (10, 50)
            assert len(queue) == 1
    finally:
        over.set()
        thread.join(DEADLINE)


def test_waiters_of_a_closed_loop_are_passed_over_however_many() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=1)
    queue.put(-1)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(queue.aput(number)) for number in range(1500)]
    loop.run_until_complete(asyncio.sleep(0))
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert queue.get() == -1
    queue.put(2)
    assert queue.get() == 2
    assert queue.statistics().waiting_to_put == 0


def test_a_shared_part_needs_room_once() -> None:
    shared = bytes(1_000_000)
    queue: BoundedQueue[Any] = BoundedQueue(maxbytes="1.5MB", when_full="refuse")
    for _ in range(5):
        queue.put({"shared": shared})
    assert len(queue) == 5


def test_a_loop_over_a_queue_waits_until_it_is_closed_whatever_its_timeout() -> None:
    queue: BoundedQueue[int] = BoundedQueue(maxsize=1, timeout=0.01)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(queue))
    thread.start()
    time.sleep(0.1)
    queue.put(1, DEADLINE)
    queue.close()
    thread.join(DEADLINE)
    assert found == [1]


class QueueMachine(RuleBasedStateMachine):
    """Any order of calls leaves the queue as a plain deque is."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: BoundedQueue[int] = BoundedQueue(
            maxsize=4, maxbytes=50, sizer=lambda item: item, when_full="refuse"
        )
        self.model: deque[int] = deque()
        self.closed = False

    @rule(size=st.integers(0, 30))
    def put(self, size: int) -> None:
        if self.closed:
            with pytest.raises(LifecycleError):
                self.queue.put(size)
        elif len(self.model) == 4 or sum(self.model) + size > 50:
            with pytest.raises(QueueFullError):
                self.queue.put(size)
        else:
            self.queue.put(size)
            self.model.append(size)

    @rule()
    def get(self) -> None:
        if self.model:
            assert self.queue.get_nowait() == self.model.popleft()
        else:
            with pytest.raises(LifecycleError if self.closed else QueueEmptyError):
                self.queue.get_nowait()

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == len(self.model)
        self.model.clear()

    @rule(yes=st.booleans())
    def close(self, yes: bool) -> None:  # noqa: FBT001 - reason: hypothesis draws it
        if yes:
            self.queue.close()
            self.closed = True

    @invariant()
    def adds_up(self) -> None:
        statistics = self.queue.statistics()
        assert statistics.items == len(self.queue) == len(self.model)
        assert statistics.bytes == sum(self.model)


QueueMachine.TestCase.settings = settings(max_examples=40, deadline=None)
TestQueueAgainstAModel = QueueMachine.TestCase


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
