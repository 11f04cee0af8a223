"""Loading through a cache: single flight, errors, deletion, refresh, warming, async."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.loading import cached, decorator, loader, refresh, single_flight
from memguard.bounded.cache.loading.single_flight_async import AsyncFlight
from memguard.errors import ConfigError, ValueTooLargeError
from tests.clock import FakeClock

DEADLINE = 30.0


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """Run *work* on *count* threads at once; return what each returned or raised."""
    barrier = threading.Barrier(count, timeout=DEADLINE)
    results: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - reason: it is what the test looks at
            results.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(results) == count, "some threads hang"
    return results


def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*, at most DEADLINE seconds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.002)


async def turns_until(condition: Callable[[], object]) -> None:
    """Let the loop turn until *condition* holds, a thousand times at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition did not come true")


def test_a_value_is_loaded_once_and_then_found() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    calls: list[str] = []

    def load(key: str) -> int:
        calls.append(key)
        return len(key)

    assert [cache.get_or_load("abc", load) for _ in range(3)] == [3, 3, 3]
    assert calls == ["abc"]
    statistics = cache.statistics()
    assert (statistics.loads, statistics.hits, statistics.misses) == (1, 2, 1)
    assert statistics.load_seconds > 0


def test_eight_threads_that_miss_together_load_once() -> None:
    cache: BoundedCache[str, object] = BoundedCache(2)
    calls: list[str] = []

    def load(key: str) -> object:
        calls.append(key)
        until(lambda: len(single_flight._waiting) == 7)
        return object()

    results = in_threads(8, lambda: cache.get_or_load("k", load))
    assert len(calls) == 1
    assert len(set(map(id, results))) == 1


def test_every_waiter_gets_the_error_and_nothing_is_cached() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    calls: list[str] = []

    def fail(key: str) -> int:
        calls.append(key)
        until(lambda: len(single_flight._waiting) == 3)  # whoever came later would load anew
        raise LookupError(key)

    results = in_threads(4, lambda: cache.get_or_load("k", fail))
    assert all(isinstance(error, LookupError) for error in results)
    assert len(calls) == 1
    assert cache.get_or_load("k", len) == 1
    assert cache.statistics().load_failures == 1


def test_an_interrupt_reaches_only_its_own_thread_and_a_waiter_takes_over() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    calls: list[int] = []

    def load(_: str) -> int:
        calls.append(1)
        if len(calls) == 1:
            until(lambda: len(single_flight._waiting) == 3)
            raise KeyboardInterrupt
        return 7

    results = in_threads(4, lambda: cache.get_or_load("k", load))
    assert sorted(map(repr, results)) == ["7", "7", "7", "KeyboardInterrupt()"]


@pytest.mark.parametrize("interrupted", [("land",), ("land", "abandon")])
@pytest.mark.parametrize("kind", ["cache", "decorator"])
def test_a_call_that_is_interrupted_while_it_ends_its_load_leaves_no_key_hanging(
    kind: str, interrupted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def load(key: str) -> int:
        calls.append(key)
        if len(calls) == 1:
            until(lambda: len(single_flight._waiting) == 3)
        return 7

    cache: BoundedCache[str, int] = BoundedCache(2)
    remembered = cached(maxsize=2)(load)

    def ask() -> object:
        try:
            return cache.get_or_load("k", load) if kind == "cache" else remembered("k")
        except KeyboardInterrupt:
            return "interrupted"

    module = loader if kind == "cache" else decorator
    for name in interrupted:
        real = getattr(module, name)

        def interrupt_once(*_: Any, name: str = name, real: Any = real) -> None:
            monkeypatch.setattr(module, name, real)
            raise KeyboardInterrupt  # as a signal handler could before the first line

        monkeypatch.setattr(module, name, interrupt_once)
    assert sorted(map(str, in_threads(4, ask))) == ["7", "7", "7", "interrupted"]
    assert ask() == 7


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signals to send here")
def test_a_handler_that_waits_for_a_load_does_not_hide_what_its_thread_waits_for() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10)
    here = threading.get_ident()
    handled = threading.Event()
    led = threading.Event()

    def beside(key: str, work: Callable[[str], int]) -> threading.Thread:
        thread = threading.Thread(target=cache.get_or_load, args=(key, work), daemon=True)
        thread.start()
        return thread

    def other(_: str) -> int:
        led.set()
        assert handled.wait(DEADLINE)
        return cache.get_or_load("mine", lambda _: 1)  # which this thread's caller waits for

    def third(_: str) -> int:
        until(lambda: single_flight._waiting.get(here) is cache._flights["third"])
        return 3

    def handle(*_: object) -> None:
        thread = beside("third", third)
        until(lambda: "third" in cache._flights)
        assert cache.get_or_load("third", lambda _: 0) == 3
        thread.join(DEADLINE)
        handled.set()

    def mine(_: str) -> int:
        beside("other", other)
        assert led.wait(DEADLINE)
        threading.Thread(target=interrupt, daemon=True).start()
        return cache.get_or_load("other", lambda _: 0) + 1

    def interrupt() -> None:
        until(lambda: here in single_flight._waiting)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        assert cache.get_or_load("mine", mine) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_loader_may_ask_for_its_own_key() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)

    def outer(_: str) -> int:
        return cache.get_or_load("k", lambda _: 1) + 1

    assert cache.get_or_load("k", outer) == 2


def test_crossed_loads_compute_instead_of_waiting_for_each_other() -> None:
    cache: BoundedCache[int, int] = BoundedCache(4)
    meet = threading.Barrier(2, timeout=DEADLINE)
    first = threading.local()

    def load(key: int) -> int:
        if not hasattr(first, "done"):
            first.done = True
            meet.wait()
            cache.get_or_load(3 - key, load)
        return key

    keys = iter((1, 2))
    assert sorted(in_threads(2, lambda: cache.get_or_load(next(keys), load))) == [1, 2]


def test_a_circle_of_loads_through_two_caches_does_not_deadlock() -> None:
    caches: list[BoundedCache[str, int]] = [BoundedCache(4), BoundedCache(4)]
    meet = threading.Barrier(2, timeout=DEADLINE)
    first = threading.local()

    def load_from(number: int) -> int:
        def load(_: str) -> int:
            if not hasattr(first, "done"):
                first.done = True
                meet.wait()
                load_from(1 - number)
            return number

        return caches[number].get_or_load("k", load)

    numbers = iter((0, 1))
    assert sorted(in_threads(2, lambda: load_from(next(numbers)))) == [0, 1]


@pytest.mark.parametrize(
    "remove",
    [
        lambda cache: cache.pop("k", None),
        lambda cache: cache.clear(),
        lambda cache: cache.invalidate(lambda *_: True),
        lambda cache: cache.close(),
    ],
)
def test_what_is_removed_during_its_load_stays_removed(remove: Callable[[Any], Any]) -> None:
    cache: BoundedCache[str, int] = BoundedCache(4)

    def load(_: str) -> int:
        remove(cache)
        return 1

    assert cache.get_or_load("k", load) == 1
    assert "k" not in cache


def test_a_value_stored_during_a_load_is_not_overwritten() -> None:
    cache: BoundedCache[str, int] = BoundedCache(4)

    def load(key: str) -> int:
        cache[key] = 2
        return 1

    assert cache.get_or_load("k", load) == 1
    assert cache["k"] == 2


def test_a_full_cache_loses_nothing_to_a_load_that_turns_out_to_be_superfluous() -> None:
    cache: BoundedCache[int, int] = BoundedCache(10)
    cache.update((number, number) for number in range(9))

    def load(key: int) -> int:
        cache[key] = key
        return key

    assert cache.get_or_load(9, load) == 9
    assert len(cache) == 10


def test_a_loaded_value_that_is_too_large_is_returned_but_not_kept() -> None:
    cache: BoundedCache[str, str] = BoundedCache(3, getsizeof=len)
    assert cache.get_or_load("k", lambda _: "xxxx") == "xxxx"
    assert "k" not in cache
    assert cache.statistics().refused == 1
    with pytest.raises(ValueTooLargeError):
        cache["k"] = "xxxx"


def test_a_load_can_give_its_entry_a_ttl(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(3, timer=fake_clock)
    assert cache.get_or_load("k", len, ttl=5) == 1
    fake_clock.advance(6)
    assert "k" not in cache
    with pytest.raises(ConfigError, match="ttl must be > 0"):
        cache.get_or_load("k", len, ttl=0)


def test_a_clock_that_fails_during_a_load_leaves_no_key_hanging() -> None:
    now = 0.0
    fails: Iterator[bool] = iter(())

    def timer() -> float:
        if next(fails, False):
            raise OSError
        return now

    cache: BoundedCache[str, int] = BoundedCache(10, ttl=5, timer=timer)
    cache["k"] = 1
    now = 10.0
    for good in range(4):
        fails = iter([False] * good + [True])
        with contextlib.suppress(OSError):
            cache.get_or_load("k", lambda _: 2)
        fails = iter(())
        assert cache._flights == {}
        assert in_threads(1, lambda: cache.get_or_load("k", lambda _: 2)) == [2]
        cache.clear()


def test_a_key_whose_equality_fails_during_a_load_leaves_no_key_hanging() -> None:
    fails: Iterator[bool] = iter(())

    class Key:
        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if next(fails, False):
                raise LookupError
            return isinstance(other, Key) and other.number == self.number

    for good in range(8):
        cache: BoundedCache[Key, int] = BoundedCache(10)
        cache[Key(0)] = 0
        fails = iter([False] * good + [True])
        with contextlib.suppress(LookupError):
            cache.get_or_load(Key(1), lambda _: 1)
        fails = iter(())
        found = in_threads(1, lambda cache=cache: cache.get_or_load(Key(1), lambda _: 1))  # type: ignore[misc]
        assert found == [1]


def test_a_failed_load_leaves_no_cycle_behind() -> None:
    """The error of a load must not keep the caller's frame alive until the collector comes."""

    class Big:
        """Stands for a large local variable."""

    cache: BoundedCache[str, int] = BoundedCache(3)

    def fail(_: str) -> int:
        raise LookupError

    def use() -> weakref.ref[Big]:
        big = Big()
        with contextlib.suppress(LookupError):
            cache.get_or_load("k", fail)
        return weakref.ref(big)

    gc.disable()
    try:
        assert use()() is None
    finally:
        gc.enable()


def test_no_trace_of_a_load_stays_in_the_cache() -> None:
    cache: BoundedCache[int, int] = BoundedCache(3)
    for number in range(100):
        cache.get_or_load(number, lambda key: key)
        with pytest.raises(ZeroDivisionError):
            cache.get_or_load(-number - 1, lambda _: 1 // 0)
    assert cache._flights == {}


# -- refresh ------------------------------------------------------------------------------------


def test_a_stale_value_is_served_while_one_load_renews_it(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(3, timer=fake_clock)
    release = threading.Event()
    calls: list[int] = []

    def load(_: str) -> int:
        calls.append(1)
        if len(calls) > 1:
            release.wait(DEADLINE)
        return len(calls)

    def get() -> int:
        return cache.get_or_load("k", load, refresh_after=10)

    assert get() == 1
    fake_clock.advance(9)
    assert get() == 1
    assert len(calls) == 1
    fake_clock.advance(2)
    assert [get() for _ in range(5)] == [1] * 5
    until(lambda: len(calls) == 2)
    release.set()
    until(lambda: cache.statistics().refreshes == 1)
    assert get() == 2
    assert cache.info("k").age == 0
    assert refresh.stop(DEADLINE)


def test_a_failed_refresh_keeps_the_old_value_and_pauses(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(3, timer=fake_clock)
    cache["k"] = 1
    fake_clock.advance(100)
    calls: list[int] = []

    def fail(_: str) -> int:
        calls.append(1)
        raise LookupError

    assert cache.get_or_load("k", fail, refresh_after=10) == 1
    until(lambda: cache.statistics().load_failures == 1)
    for _ in range(20):
        assert cache.get_or_load("k", fail, refresh_after=10) == 1
    assert refresh.stop(DEADLINE)
    assert len(calls) == 1


def test_what_is_deleted_during_its_refresh_stays_deleted(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(3, timer=fake_clock)
    cache["k"] = 1
    fake_clock.advance(100)
    started, release = threading.Event(), threading.Event()

    def load(_: str) -> int:
        started.set()
        release.wait(DEADLINE)
        return 2

    assert cache.get_or_load("k", load, refresh_after=10) == 1
    assert started.wait(DEADLINE)
    del cache["k"]
    release.set()
    assert refresh.stop(DEADLINE)
    assert "k" not in cache


def test_what_is_written_during_its_refresh_is_not_overwritten(fake_clock: FakeClock) -> None:
    """What the background load gives was read before the write, and is older."""
    cache: BoundedCache[str, int] = BoundedCache(3, timer=fake_clock)
    cache["k"] = 1
    fake_clock.advance(100)
    started, release = threading.Event(), threading.Event()

    def load(_: str) -> int:
        started.set()
        release.wait(DEADLINE)
        return 2

    assert cache.get_or_load("k", load, refresh_after=10) == 1
    assert started.wait(DEADLINE)
    cache["k"] = 3
    release.set()
    assert refresh.stop(DEADLINE)
    assert cache["k"] == 3


def test_refreshes_that_could_not_start_leave_room_for_others(
    monkeypatch: pytest.MonkeyPatch, fake_clock: FakeClock
) -> None:
    cache: BoundedCache[int, int] = BoundedCache(10, timer=fake_clock)
    cache.update((key, 0) for key in range(10))
    fake_clock.advance(20)

    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        for key in range(refresh.MOST_THREADS):
            with pytest.raises(KeyboardInterrupt):
                cache.get_or_load(key, lambda _: 1, refresh_after=10)
    assert cache.get_or_load(9, lambda _: 1, refresh_after=10) == 0
    until(lambda: cache[9] == 1)
    assert refresh.stop(DEADLINE)


def test_background_refreshes_are_bounded(fake_clock: FakeClock) -> None:
    cache: BoundedCache[int, int] = BoundedCache(100, timer=fake_clock)
    cache.update((number, number) for number in range(20))
    fake_clock.advance(100)
    release = threading.Event()
    running: list[int] = []

    def load(key: int) -> int:
        running.append(key)
        release.wait(DEADLINE)
        return key

    for number in range(20):
        assert cache.get_or_load(number, load, refresh_after=10) == number
    until(lambda: len(running) == refresh.MOST_THREADS)
    release.set()
    assert refresh.stop(DEADLINE)
    assert len(running) == refresh.MOST_THREADS
    assert cache._flights == {}


# -- warming ------------------------------------------------------------------------------------


def test_warming_loads_the_rest_when_some_keys_fail() -> None:
    cache: BoundedCache[int, float] = BoundedCache(100)
    cache[1] = 1.0
    progress: list[tuple[int, int | None]] = []
    report = cache.warm(
        range(10),
        lambda key: 1 / (key % 5),
        workers=3,
        progress=lambda done, total: progress.append((done, total)),
    )
    assert (report.loaded, report.present) == (7, 1)
    assert sorted(key for key, _ in report.failed) == [0, 5]
    assert all(isinstance(error, ZeroDivisionError) for _, error in report.failed)
    assert all(error.__traceback__ is None for _, error in report.failed)
    assert progress == [(done, 10) for done in range(1, 11)]
    assert len(cache) == 8


def test_warming_takes_few_keys_in_advance_and_leaves_no_thread() -> None:
    cache: BoundedCache[int, int] = BoundedCache(1000)
    finished: list[int] = []
    ahead: list[int] = []

    def endless_but_for_this() -> Any:
        for number in range(200):
            ahead.append(number - len(finished))
            yield number

    def load(key: int) -> int:
        finished.append(key)
        return key

    assert cache.warm(endless_but_for_this(), load, workers=2).loaded == 200
    assert max(ahead) <= 4
    assert not [each for each in threading.enumerate() if each.name.startswith("memguard-warm")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": 0}, ConfigError, r"workers must be >= 1 \(got 0\)"),
        ({"workers": 1.5}, TypeError, r"workers must be an int \(got float\)"),
        ({"progress": 3}, TypeError, "progress must be callable"),
    ],
)
def test_bad_options_of_warm_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BoundedCache[int, int](3).warm([1], lambda key: key, **options)


# -- async --------------------------------------------------------------------------------------


def test_tasks_that_miss_together_load_once() -> None:
    cache: BoundedCache[str, object] = BoundedCache(3)
    calls: list[str] = []

    async def load(key: str) -> object:
        calls.append(key)
        await asyncio.sleep(0.01)
        return object()

    async def main() -> list[object]:
        return await asyncio.gather(*(cache.aget_or_load("k", load) for _ in range(8)))

    results = asyncio.run(main())
    assert len(calls) == 1
    assert len(set(map(id, results))) == 1
    again = asyncio.run(main())
    assert again == results, "results are shared by event loops"
    assert len(calls) == 1


def test_a_cancelled_leader_does_not_cancel_those_who_wait() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)
    calls: list[str] = []

    async def load(key: str) -> int:
        calls.append(key)
        await asyncio.sleep(0.02)
        return 7

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(cache.aget_or_load("k", load)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [7, 7]
    assert calls == ["k"]


def test_a_load_that_nobody_waits_for_any_more_is_cancelled() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)
    begun: list[str] = []
    ended: list[str] = []

    async def load(_: str) -> int:
        begun.append("begun")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 7

    async def main() -> None:
        task = asyncio.create_task(cache.aget_or_load("k", load))
        await turns_until(lambda: begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns_until(lambda: not any(flights for _, flights in cache._async_flights.values()))

    asyncio.run(main())
    assert ended == ["cancelled"]
    assert all(not flights for _, flights in cache._async_flights.values())


def test_who_comes_while_a_load_is_being_cancelled_starts_another() -> None:
    """A caller whom nobody cancelled must not be cancelled with those who left."""
    cache: BoundedCache[str, str] = BoundedCache(3)

    async def slow(_: str) -> str:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.01)  # such as closing a connection
        return "slow"

    async def fast(_: str) -> str:
        return "fast"

    async def main(turns: int) -> list[Any]:
        cache.clear()
        first = asyncio.create_task(cache.aget_or_load("k", slow))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        second = asyncio.create_task(cache.aget_or_load("k", fast))
        return list(await asyncio.gather(first, second, return_exceptions=True))

    for turns in range(4):
        first, second = asyncio.run(main(turns))
        assert isinstance(first, asyncio.CancelledError)
        assert second == "fast"


def test_a_task_factory_that_fails_leaves_no_key_hanging() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)

    async def load(_: str) -> int:
        return 1

    async def main() -> int:
        loop = asyncio.get_running_loop()

        def fail(_loop: Any, coroutine: Any, **_: Any) -> Any:
            coroutine.close()
            raise LookupError

        loop.set_task_factory(fail)
        with pytest.raises(LookupError):
            await cache.aget_or_load("k", load)
        loop.set_task_factory(None)
        return await asyncio.wait_for(cache.aget_or_load("k", load), DEADLINE)

    assert asyncio.run(main()) == 1


def test_async_errors_reach_every_waiter_and_are_not_cached() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)

    async def fail(_: str) -> int:
        await asyncio.sleep(0)
        raise LookupError

    async def main() -> list[Any]:
        return await asyncio.gather(
            *(cache.aget_or_load("k", fail) for _ in range(3)), return_exceptions=True
        )

    assert [type(error) for error in asyncio.run(main())] == [LookupError] * 3
    assert "k" not in cache


def test_an_async_loader_may_ask_for_its_own_key_even_through_another_task() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)
    depth = 0

    async def load(key: str) -> int:
        nonlocal depth
        depth += 1
        if depth > 2:
            return 1
        if depth == 2:
            return await cache.aget_or_load(key, load) + 1
        return await asyncio.create_task(cache.aget_or_load(key, load)) + 1

    async def main() -> int:
        return await asyncio.wait_for(cache.aget_or_load("k", load), DEADLINE)

    assert asyncio.run(main()) == 3


def test_crossed_async_loads_compute_instead_of_waiting_for_each_other() -> None:
    cache: BoundedCache[int, int] = BoundedCache(3)

    async def load(key: int) -> int:
        await asyncio.sleep(0.01)
        if key in (1, 2):
            await cache.aget_or_load(3 - key, load_plain)
        return key

    async def load_plain(key: int) -> int:
        await asyncio.sleep(0)
        return key

    async def main() -> list[int]:
        crossed = asyncio.gather(cache.aget_or_load(1, load), cache.aget_or_load(2, load))
        return await asyncio.wait_for(crossed, DEADLINE)  # type: ignore[arg-type]  # reason: a test reaches past the types

    assert asyncio.run(main()) == [1, 2]


def test_an_async_load_deleted_meanwhile_stays_deleted() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)

    async def load(_: str) -> int:
        await asyncio.sleep(0)
        del_result.append(cache.pop("k", None))
        return 1

    del_result: list[Any] = []
    assert asyncio.run(cache.aget_or_load("k", load)) == 1
    assert "k" not in cache


def test_a_stale_value_is_renewed_by_a_task_of_the_loop(fake_clock: FakeClock) -> None:
    cache: BoundedCache[str, int] = BoundedCache(3, timer=fake_clock)
    calls: list[int] = []

    async def load(_: str) -> int:
        calls.append(1)
        await asyncio.sleep(0)
        return len(calls)

    async def main() -> list[int]:
        results = [await cache.aget_or_load("k", load, refresh_after=10)]
        fake_clock.advance(11)
        results += [await cache.aget_or_load("k", load, refresh_after=10) for _ in range(2)]
        await turns_until(lambda: cache.statistics().refreshes)
        return [*results, await cache.aget_or_load("k", load, refresh_after=10)]

    assert asyncio.run(main()) == [1, 1, 1, 2]
    assert cache.statistics().refreshes == 1


def test_a_loop_that_dies_during_a_load_leaves_nothing_for_the_next_one() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)

    async def never(_: str) -> int:
        await asyncio.sleep(1000)
        return 0

    async def quick(_: str) -> int:
        return 1

    async def abandon() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.aget_or_load("k", never), 0.01)

    asyncio.run(abandon())
    assert asyncio.run(cache.aget_or_load("k", quick)) == 1
    gc.collect()
    asyncio.run(cache.aget_or_load("other", quick))
    assert len(cache._async_flights) == 1, "rows of dead loops leave"


def test_a_plain_function_may_load_for_async_callers() -> None:
    cache: BoundedCache[str, int] = BoundedCache(3)
    assert asyncio.run(cache.aget_or_load("abc", len)) == 3  # type: ignore[arg-type]


def test_reachability_of_flights_survives_circles() -> None:
    one, two, three = AsyncFlight(), AsyncFlight(), AsyncFlight()
    one.awaits.append(two)
    two.awaits.append(one)
    assert one.reaches((two,))
    assert not one.reaches((three,))
