"""Timers on an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import weakref
from typing import Any

import pytest

from memguard.bounded.lifetime.scope import Scope
from memguard.bounded.timers.on_loop import AsyncTimerRegistry
from memguard.errors import ConfigError, LifecycleError
from tests.clock import FakeClock

pytestmark = pytest.mark.asyncio

DEADLINE = 20.0


class Thing:
    """Can be weakly referenced."""

    def __init__(self) -> None:
        self.ticks = 0
        self.ticked = asyncio.Event()

    def tick(self) -> None:
        self.ticks += 1
        self.ticked.set()

    async def tick_async(self) -> None:
        await asyncio.sleep(0)
        self.tick()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_functions_and_coroutine_functions_are_called_on_the_loop() -> None:
    plain, awaited = Thing(), Thing()
    async with AsyncTimerRegistry() as timers:
        timers.after(3600, print)
        timers.after(0.01, plain.tick)
        timers.after("5ms", awaited.tick_async)
        await asyncio.wait_for(plain.ticked.wait(), DEADLINE)
        await asyncio.wait_for(awaited.ticked.wait(), DEADLINE)
        assert len(timers) == 1
    assert timers.statistics().fired == 2
    assert timers.statistics().cancelled == 1


async def test_every_repeats_until_it_is_closed() -> None:
    thing, timers = Thing(), AsyncTimerRegistry()
    handle = timers.every(0.002, thing.tick)
    while thing.ticks < 3:
        thing.ticked.clear()
        await asyncio.wait_for(thing.ticked.wait(), DEADLINE)
    handle.close()
    seen = thing.ticks
    await asyncio.sleep(0.02)
    assert thing.ticks == seen


async def test_a_coroutine_that_takes_longer_than_its_interval_does_not_overlap(
    fake_clock: FakeClock,
) -> None:
    release, running = asyncio.Event(), list[int]()

    async def slow() -> None:
        running.append(1)
        await release.wait()

    timers = AsyncTimerRegistry(timer=fake_clock)
    timers.every(1, slow)
    for _ in range(3):
        fake_clock.advance(1)
        timers._look()
        await turns()
    assert running == [1]
    assert timers.statistics().coalesced == 2
    assert timers.statistics().waiting == 1
    release.set()
    await turns()
    fake_clock.advance(1)
    timers._look()
    await turns()
    assert running == [1, 1]
    await timers.aclose()


async def test_a_task_that_cannot_be_made_is_an_error_of_its_timer(fake_clock: FakeClock) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise MemoryError

    async def answer() -> None: ...

    loop, timers = asyncio.get_running_loop(), AsyncTimerRegistry(timer=fake_clock)
    timers.every(1, answer)
    loop.set_task_factory(fail)
    try:
        for _ in range(2):
            fake_clock.advance(1)
            timers._look()
    finally:
        loop.set_task_factory(None)
    statistics = timers.statistics()
    assert (statistics.errors, statistics.waiting, statistics.coalesced) == (2, 0, 0)
    await timers.aclose()


async def test_a_sooner_timer_is_not_kept_waiting(fake_clock: FakeClock) -> None:
    thing = Thing()
    timers = AsyncTimerRegistry(timer=fake_clock)
    timers.after(3600, print)
    await turns()
    timers.after(0, thing.tick)
    await turns()
    assert thing.ticks == 1
    timers.close()


async def test_a_timer_does_not_keep_the_context_that_started_it() -> None:
    request: contextvars.ContextVar[Thing] = contextvars.ContextVar("request")
    thing = Thing()
    seen = weakref.ref(thing)
    timers = AsyncTimerRegistry()
    values: list[Any] = []

    def start(thing: Thing) -> None:
        request.set(thing)
        timers.after(3600, print)
        timers.after(0, lambda: values.append(request.get(None)))

    contextvars.Context().run(start, thing)
    await turns()
    del thing
    gc.collect()
    assert seen() is None
    assert values == [None]
    await timers.aclose()


async def test_exceptions_of_both_kinds_are_counted_and_told_to_the_loop(
    fake_clock: FakeClock,
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    async def fail() -> None:
        raise LookupError

    timers = AsyncTimerRegistry(timer=fake_clock, on_error="raise")
    timers.every(1, lambda: 1 / 0)
    timers.every(1, fail)
    for _ in range(2):
        fake_clock.advance(1)
        timers._look()
        await turns()
    assert timers.statistics().errors == 4
    kinds = {type(context["exception"]) for context in told}
    assert kinds == {ZeroDivisionError, LookupError}
    assert "test_timers_async.py:" in told[0]["message"]
    timers.close()


async def test_timers_end_with_owners_and_scopes() -> None:
    timers, owner = AsyncTimerRegistry(), Thing()
    seen = weakref.ref(owner)
    timers.every(3600, owner.tick, owner=owner)
    async with Scope() as scope:
        timers.every(3600, print, owner=scope)
        assert len(timers) == 2
    assert len(timers) == 1
    del owner
    assert seen() is None
    assert len(timers) == 0


async def test_a_dropped_registry_ends_its_timers() -> None:
    thing = Thing()
    timers = AsyncTimerRegistry()
    seen = weakref.ref(timers)
    handle = timers.every(0.001, thing.tick)
    await asyncio.wait_for(thing.ticked.wait(), DEADLINE)
    del timers
    gc.collect()
    assert seen() is None
    assert handle.closed


async def test_closing_cancels_coroutines_under_way_and_waits_for_them() -> None:
    said: list[str] = []
    started = asyncio.Event()

    async def tidy() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("tidied")

    async with AsyncTimerRegistry() as timers:
        timers.after(0, tidy)
        await asyncio.wait_for(started.wait(), DEADLINE)
    assert said == ["tidied"]
    with pytest.raises(LifecycleError, match="is closed"):
        timers.after(1, print)


async def test_handles_and_the_registry_may_be_closed_from_another_thread() -> None:
    timers = AsyncTimerRegistry()
    handles = [timers.after(3600, print) for _ in range(200)]
    await turns()

    def close() -> None:
        for handle in handles:
            handle.close()
        timers.close()

    thread = threading.Thread(target=close)
    thread.start()
    await asyncio.to_thread(thread.join, DEADLINE)
    await turns()
    assert len(timers) == 0
    assert len(timers._schedule._heap) <= 64


async def test_a_timer_is_started_on_a_loop_only() -> None:
    timers, errors = AsyncTimerRegistry(), list[Exception]()

    def elsewhere() -> None:
        try:
            timers.after(1, print)
        except LifecycleError as error:
            errors.append(error)

    await asyncio.to_thread(elsewhere)
    assert "started on a running event loop; elsewhere use TimerRegistry" in str(errors[0])


async def test_another_loop_is_refused_while_timers_wait_and_welcome_after() -> None:
    timers = AsyncTimerRegistry(name="timers")
    handle = timers.after(3600, print)
    results: list[Any] = []

    async def use() -> None:
        try:
            timers.after(0, results.append, "called")
            await asyncio.sleep(0.01)
        except LifecycleError as error:
            results.append(str(error))

    await asyncio.to_thread(asyncio.run, use())
    assert results == ["timers belongs to another event loop, where timers of it are waiting"]
    handle.close()
    await asyncio.to_thread(asyncio.run, use())
    assert results[1:] == ["called"]


async def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"maxsize must be >= 1 \(got 0\)"):
        AsyncTimerRegistry(maxsize=0)
    with pytest.raises(TypeError, match=r"timer must be callable \(got int\)"):
        AsyncTimerRegistry(timer=3)  # type: ignore[arg-type]  # reason: the point
    with pytest.raises(ConfigError, match="on_error must be 'log' or 'raise'"):
        AsyncTimerRegistry(on_error="no")  # type: ignore[arg-type]  # reason: the point


@pytest.mark.stress
async def test_a_hundred_thousand_timers_leave_nothing() -> None:
    timers, thing = AsyncTimerRegistry(), Thing()
    for number in range(100_000):
        if number % 2:
            timers.after(3600, thing.tick).close()
        else:
            timers.after(0, thing.tick_async if number % 10 == 0 else thing.tick)
        if number % 1000 == 0:
            await turns()
    await turns(10)
    assert (len(timers), len(timers._running)) == (0, 0)
    assert len(timers._schedule._heap) <= 64
    assert thing.ticks == 50_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_starts_without_timers() -> None:
    timers = AsyncTimerRegistry()
    handle = timers.after(3600, print)
    child = os.fork()
    if child == 0:
        os._exit(0 if len(timers) == 0 and handle.closed else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(timers) == 1
    timers.close()
