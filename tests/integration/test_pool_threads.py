"""ObjectPool among threads, tasks, forks, the collector, and at the interpreter's exit."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from memguard.bounded.pool.object_pool import ObjectPool
from memguard.bounded.waiting import Waiter
from memguard.errors import LifecycleError, PoolExhaustedError
from tests.waiting import wait_for

DEADLINE = 20.0


class Thing:
    """Notices when two holders have it."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.disposed = 0

    def use(self) -> None:
        assert self.disposed == 0, "lent after it was disposed of"
        assert self.mutex.acquire(blocking=False), "two holders of one object"
        self.mutex.release()

    def dispose(self) -> None:
        self.disposed += 1


@pytest.fixture
def pool() -> Iterator[ObjectPool[Thing]]:
    with ObjectPool(Thing, reset=None, maxsize=2, timeout=DEADLINE, dispose=Thing.dispose) as made:
        yield made


def run(*targets: Any) -> None:
    """Run *targets* in a thread each; fail with the first error."""
    errors: list[BaseException] = []

    def guarded(target: Any) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - reason: told by the main thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


class Noise:
    """A cycle whose destructor uses the pool, in whatever thread the collector runs."""

    def __init__(self, pool: ObjectPool[Thing]) -> None:
        self.pool = pool
        self.me = self

    def __del__(self) -> None:
        with suppress(PoolExhaustedError, LifecycleError):
            thing = self.pool.acquire(timeout=0)
            self.pool.release(thing)
            self.pool.statistics()


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    """Let threads take turns a thousand times more often than usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_switches")
@pytest.mark.parametrize("careful", [False, True])
def test_eight_threads_never_share_an_object_and_never_lose_one(careful: bool) -> None:  # noqa: FBT001 - reason: a parameter of the test
    checks: dict[str, Any] = {}
    if careful:
        checks = {"validate": lambda _: True, "validate_after_idle": 0, "max_lifetime": 0.05}
    pool = ObjectPool(
        Thing,
        reset=Thing.use if careful else None,
        maxsize=3,
        minsize=1,
        timeout=DEADLINE,
        dispose=Thing.dispose,
        **checks,
    )

    def work() -> None:
        thing: Thing | None
        for number in range(1500):
            kind = number % 7
            if kind == 0:
                Noise(pool)
            if kind == 1:
                pool.lease()  # lost, and found again
            elif kind == 2:
                pool.acquire()
            elif kind == 3:
                with pool.lease() as thing, thing.mutex:
                    pass
            elif kind == 4:
                pool.discard(pool.acquire())
            else:
                thing = pool.acquire()
                with thing.mutex:
                    pass
                pool.release(thing)
            thing = None  # or it would keep alive what another thread drops
            if number % 50 == 0:
                gc.collect(0)

    run(*[work] * 8)
    gc.collect()
    # What was lost is on its way back through the janitor.
    wait_for(lambda: pool.statistics().size == pool.statistics().idle)
    statistics = pool.statistics()
    assert (statistics.leased, statistics.waiting) == (0, 0)
    assert statistics.size == statistics.idle <= 3
    assert statistics.created == statistics.size + statistics.disposed + statistics.replaced
    held = [pool.acquire(timeout=0) for _ in range(3)]
    assert len({id(thing) for thing in held}) == 3
    with pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=0)
    pool.close()


def test_waiters_are_served_in_the_order_of_their_arrival(pool: ObjectPool[Thing]) -> None:
    held = [pool.acquire(), pool.acquire()]
    served: list[int] = []

    def wait(number: int) -> None:
        thing = pool.acquire()
        served.append(number)
        pool.release(thing)

    def are_waiting(number: int) -> bool:
        return pool.statistics().waiting == number

    threads = []
    for number in range(5):
        thread = threading.Thread(target=wait, args=(number,))
        thread.start()
        threads.append(thread)
        wait_for(functools.partial(are_waiting, number + 1))
    pool.release(held.pop())
    for thread in threads:
        thread.join(DEADLINE)
    assert served == [0, 1, 2, 3, 4]
    pool.release(held.pop())


def test_a_wait_ends_with_the_holders_when_its_time_is_up(pool: ObjectPool[Thing]) -> None:
    held: list[Thing] = []

    def hold() -> None:
        held.extend([pool.acquire(), pool.acquire()])

    holder = threading.Thread(target=hold, name="the-holder")
    holder.start()
    holder.join()
    began = time.monotonic()
    with pytest.raises(PoolExhaustedError, match=r"2x .*test_pool_threads.py:\d+ hold") as caught:
        pool.acquire(timeout=0.05)
    assert 0.04 < time.monotonic() - began < 5
    assert "(ended)" in str(caught.value), "the thread that took them is over"
    assert pool.statistics().waiting == 0
    for thing in held:
        pool.release(thing)


def test_an_object_that_dies_makes_room_for_who_waits(pool: ObjectPool[Thing]) -> None:
    """The weak reference's callback wakes nobody; the waiter looks again by itself."""
    held = [pool.acquire(), pool.acquire()]
    got: list[Thing] = []

    def wait() -> None:
        got.append(pool.acquire())

    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_for(lambda: pool.statistics().waiting)
    held.pop()
    waiter.join(DEADLINE)
    assert got
    pool.release(held.pop())
    pool.release(got.pop())


def test_a_discarded_object_makes_room_for_who_waits(pool: ObjectPool[Thing]) -> None:
    held = [pool.acquire(), pool.acquire()]
    waiter = threading.Thread(target=lambda: pool.release(pool.acquire()))
    waiter.start()
    wait_for(lambda: pool.statistics().waiting)
    pool.discard(held.pop())
    waiter.join(DEADLINE)
    assert not waiter.is_alive()
    pool.release(held.pop())


def test_closing_wakes_who_waits(pool: ObjectPool[Thing]) -> None:
    held = [pool.acquire(), pool.acquire()]
    errors: list[Exception] = []

    def wait() -> None:
        try:
            pool.acquire()
        except LifecycleError as error:
            errors.append(error)

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    wait_for(lambda: pool.statistics().waiting == 3)
    pool.close()
    for waiter in waiters:
        waiter.join(DEADLINE)
    assert len(errors) == 3
    for thing in held:
        pool.release(thing)
        assert thing.disposed == 1


def test_an_object_released_while_the_pool_closes_is_disposed_of(pool: ObjectPool[Thing]) -> None:
    thing = pool.acquire()
    releasing = threading.Thread(target=pool.release, args=(thing,))
    with pool._slots.lock:
        releasing.start()
        time.sleep(0.1)  # it waits for the lock now, having seen the pool open
        pool.close()
    releasing.join(DEADLINE)
    assert (thing.disposed, pool.statistics().size) == (1, 0)


def test_one_pool_serves_threads_and_tasks(pool: ObjectPool[Thing]) -> None:
    used: list[str] = []

    async def task() -> None:
        for _ in range(50):
            async with pool.alease() as thing:
                thing.use()
                await asyncio.sleep(0)
        used.append("task")

    async def many() -> None:
        await asyncio.gather(*(task() for _ in range(5)))

    def thread() -> None:
        for _ in range(200):
            with pool.lease() as thing:
                thing.use()
        used.append("thread")

    run(lambda: asyncio.run(many()), thread, thread)
    assert sorted(used) == ["task"] * 5 + ["thread"] * 2
    statistics = pool.statistics()
    assert (statistics.leased, statistics.waiting, statistics.lost) == (0, 0, 0)


def test_waiting_for_an_object_does_not_block_the_loop(pool: ObjectPool[Thing]) -> None:
    async def main() -> int:
        beats = 0
        beaten = asyncio.Event()

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                if beats > 10:
                    beaten.set()
                await asyncio.sleep(0.001)

        async def wait_on() -> None:
            async with pool.alease():
                pass

        async with pool.alease(), pool.alease():
            beating = asyncio.create_task(beat())
            waiting = asyncio.create_task(wait_on())
            await asyncio.wait_for(beaten.wait(), DEADLINE)
            assert pool.statistics().waiting == 1
            assert not waiting.done()
            with pytest.raises(PoolExhaustedError, match="task the-holder"):
                async with pool.alease(timeout=0.1):
                    pass
            beating.cancel()
        await asyncio.wait_for(waiting, DEADLINE)
        return beats

    async def named() -> int:
        return await asyncio.create_task(main(), name="the-holder")

    assert asyncio.run(named()) > 10


def test_a_cancelled_wait_loses_nothing(pool: ObjectPool[Thing]) -> None:
    async def take() -> None:
        async with pool.alease():
            await asyncio.sleep(0)

    async def main() -> None:
        for pause in range(300):
            held = [pool.acquire(), pool.acquire()]
            tasks = [asyncio.create_task(take()) for _ in range(3)]
            for _ in range(pause % 5):
                await asyncio.sleep(0)
            pool.release(held.pop())  # the hand-over is on its way ...
            tasks[0].cancel()  # ... when its receiver is cancelled
            if pause % 2:
                await asyncio.sleep(0)
                tasks[1].cancel()
            pool.release(held.pop())
            results = await asyncio.wait_for(
                asyncio.gather(*tasks, return_exceptions=True), DEADLINE
            )
            assert results[2] is None
        statistics = pool.statistics()
        assert (statistics.leased, statistics.waiting, statistics.lost) == (0, 0, 0)
        assert statistics.idle == statistics.size == 2

    asyncio.run(main())


def test_a_waiter_of_a_closed_loop_is_passed_over(pool: ObjectPool[Thing]) -> None:
    held = [pool.acquire(), pool.acquire()]
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.alease().__aenter__())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert pool.statistics().waiting == 1
    loop.close()
    for thing in held:
        pool.release(thing)
    assert pool.statistics().idle == 2
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # reason: abandoned on purpose
    task.get_coro().close()
    assert pool.statistics().idle == 2


def test_a_loop_closed_in_the_midst_of_a_hand_over_costs_no_object(pool: ObjectPool[Thing]) -> None:
    held = [pool.acquire(), pool.acquire()]
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.alease().__aenter__())
    loop.run_until_complete(asyncio.sleep(0.01))
    for thing in held:
        pool.release(thing)  # given to the task, which never runs again
    loop.close()
    assert pool.statistics().idle == 2
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # reason: abandoned on purpose
    task.get_coro().close()
    assert pool.statistics().idle == 2


def test_those_who_wait_sleep_until_they_are_served(
    pool: ObjectPool[Thing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait, none of them looks by itself what has come free."""
    naps = 0
    sleep_async = Waiter.sleep_async

    async def counted(waiter: Waiter, seconds: float) -> None:
        nonlocal naps
        naps += 1
        await sleep_async(waiter, seconds)

    monkeypatch.setattr(Waiter, "sleep_async", counted)

    async def take() -> None:
        async with pool.alease():
            pass

    async def main() -> None:
        held = [pool.acquire(), pool.acquire()]
        tasks = [asyncio.create_task(take()) for _ in range(50)]
        await asyncio.sleep(0.5)
        assert pool.statistics().waiting == naps == 50
        for thing in held:
            pool.release(thing)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert naps == 50


def test_who_interrupts_the_pool_itself_is_not_made_to_wait(pool: ObjectPool[Thing]) -> None:
    """A destructor that runs while its thread has the lock: nobody could give anything back."""
    held = [pool.acquire(), pool.acquire()]
    with pool._slots.lock, pytest.raises(PoolExhaustedError):
        pool.acquire(timeout=DEADLINE)
    for thing in held:
        pool.release(thing)


@pytest.mark.usefixtures("hasty_switches")
def test_a_sweep_takes_no_idle_object_from_those_who_need_one() -> None:
    with ObjectPool(Thing, reset=None, minsize=30, maxsize=60, max_idle=60) as pool:
        swept = threading.Event()

        def use() -> None:
            while not swept.is_set():
                pool.release(pool.acquire())

        def sweep() -> None:
            for _ in range(500):
                pool._sweep()
            swept.set()

        run(use, use, sweep)
        assert pool.statistics().created == 30


def test_an_async_lease_is_entered_once(pool: ObjectPool[Thing]) -> None:
    async def main() -> None:
        lease = pool.alease()
        async with lease:
            with pytest.raises(LifecycleError, match="entered before"):
                await lease.__aenter__()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_empty_and_leaves_the_parents_objects_alone() -> None:
    program = """
import os, sys, threading
from memguard.bounded.pool.object_pool import ObjectPool

class Connection:
    def __init__(self):
        self.made_by = os.getpid()
    def close(self):
        assert self.made_by == os.getpid(), "the child closed a connection of the parent"
    def __del__(self):
        if self.made_by != os.getpid():
            os.write(2, b"the child finalized a connection of the parent")

pool = ObjectPool(Connection, reset=None, maxsize=3, minsize=2, dispose=Connection.close,
                  timeout=30, name="forked")
stop = threading.Event()
def churn():
    while not stop.is_set():
        with pool.lease():
            pass
threads = [threading.Thread(target=churn) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(20):
    lease = pool.lease()
    mine = pool.acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert pool.statistics().size == 0
            with pool.lease() as connection:
                assert connection.made_by == os.getpid()
            lease.release()
            pool.release(mine)
            held = [pool.acquire() for _ in range(3)]
            assert {c.made_by for c in held} == {os.getpid()}
            for c in held:
                pool.release(c)
            pool.close()
            status = 0
        finally:
            os._exit(status)
    lease.release()
    pool.release(mine)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
statistics = pool.statistics()
assert statistics.idle == statistics.size <= 3
pool.close()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
@pytest.mark.parametrize("kind", ["Thing", "Firm"])
@pytest.mark.parametrize("options", ["", "reset=use", "validate=use, validate_after_idle=0"])
@pytest.mark.stress
def test_a_signal_handler_that_raises_costs_no_place_and_gives_no_object_to_two(
    kind: str, options: str
) -> None:
    """As timeouts by alarm do; thousands of them, at any step of ours."""
    program = f"""
import gc, threading, time
from memguard.bounded.pool.object_pool import ObjectPool
from tests.interruptions import LEAST, storm

class Thing:
    def __init__(self):
        self.mutex = threading.Lock()
class Firm:
    __slots__ = ("mutex",)  # cannot be weakly referenced
    __init__ = Thing.__init__
acquires = {kind} is Thing  # a firm one that is dropped is only noticed with a lease

def use(thing):
    if not thing.mutex.acquire(blocking=False):
        print("two holders of one object")
        return False
    thing.mutex.release()
    return True

pool = ObjectPool({kind}, **dict(dict(reset=None, maxsize=3, timeout=30), {options}))

def other():
    with pool.lease() as thing, thing.mutex:
        time.sleep(0)

def work():
    if acquires:
        pool.release(pool.acquire())
    with pool.lease():
        pass

interruptions = storm(work, other, threads=3)
gc.collect()
held = [pool.acquire(timeout=20) for _ in range(3)]
assert len(set(map(id, held))) == 3
try:
    pool.acquire(timeout=0)
except TimeoutError:
    print("three places", interruptions > LEAST)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "three places True\n", "")


def test_an_interpreter_exits_with_a_pool_in_use() -> None:
    program = """
import threading, time
from memguard.bounded.pool.object_pool import ObjectPool
class Thing: pass
pool = ObjectPool(Thing, reset=None, maxsize=2, minsize=1, leak_after=0.01, max_idle=0.02)
lease, thing = pool.lease(), pool.acquire()
threading.Thread(target=lambda: pool.acquire(timeout=60), daemon=True).start()
print(time.time())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    ended = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 20


def test_the_janitor_finds_what_was_dropped_without_anybody_asking() -> None:
    with ObjectPool(Thing, reset=None, maxsize=1, max_idle=0.1) as pool:
        pool.lease()
        wait_for(lambda: pool._lender.counts["recovered"] == 1)
        wait_for(lambda: pool._lender.counts["expired"] == 1)
        assert pool.footprint().items == 0


def test_a_pool_that_is_dropped_is_collected_with_its_objects() -> None:
    pool = ObjectPool(Thing, reset=None, maxsize=2, minsize=2, name="dropped")
    thing = pool._slots.idle[0].obj
    ident = id(pool)
    del pool
    gc.collect()
    from memguard.bounded import inventory  # noqa: PLC0415 - reason: looked at after the drop

    assert ident not in inventory.names()
    assert not [holder for holder in gc.get_referrers(thing) if isinstance(holder, tuple)]
