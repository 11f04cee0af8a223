"""Tasks that are held until they are done."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from memguard.bounded import inventory
from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.scope import Scope
from memguard.bounded.timers import tasks
from memguard.bounded.timers.tasks import SpawnedTask, TaskRegistry
from memguard.errors import CapacityError, ConfigError, LifecycleError

pytestmark = pytest.mark.asyncio


class Owner:
    """Can be weakly referenced."""

    async def run(self) -> None:
        await asyncio.Event().wait()


async def forever() -> None:
    await asyncio.Event().wait()


async def soon(value: int = 1) -> int:
    await asyncio.sleep(0)
    return value


async def fail() -> None:
    raise LookupError("as planned")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def finish(registry: TaskRegistry) -> None:
    await registry.aclose()


async def test_a_spawned_task_gives_its_result() -> None:
    registry = TaskRegistry()
    handle = registry.spawn(soon(7), name="seven")
    assert len(registry) == 1
    assert handle.task.get_name() == "seven"
    assert await handle == 7
    assert handle.closed
    await turns()
    assert len(registry) == 0
    assert registry.statistics().finished == 1


async def test_a_task_that_nobody_holds_is_not_collected() -> None:
    """What only waits for an object that only it holds is a circle, and asyncio holds it weakly."""
    registry, done = TaskRegistry(), list[int]()
    waiting: list[weakref.ref[asyncio.Event]] = []

    async def wait() -> None:
        event = asyncio.Event()
        waiting.append(weakref.ref(event))
        await event.wait()
        done.append(1)

    registry.spawn(wait())
    await turns()
    gc.collect()
    event = waiting[0]()
    assert event is not None
    event.set()
    await turns()
    assert done == [1]


async def test_a_registry_with_running_tasks_outlives_whoever_drops_it() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        done.set()

    registry = TaskRegistry()
    seen = weakref.ref(registry)
    registry.spawn(work())
    del registry
    await asyncio.wait_for(done.wait(), 10)
    await turns()
    gc.collect()
    assert seen() is None
    assert not tasks._busy


async def test_a_task_that_is_done_is_not_kept() -> None:
    registry, owner = TaskRegistry(), Owner()
    handle = registry.spawn(soon(), owner=owner)
    seen = weakref.ref(handle.task)
    await handle
    del handle
    await turns()
    gc.collect()
    assert seen() is None


async def test_an_exception_is_counted_and_logged_with_the_place_that_spawned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = TaskRegistry(name="jobs")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            registry.spawn(fail())
        await turns()
        gc.collect()
    assert registry.statistics().failed == 3
    assert len(caplog.records) == 1  # and asyncio says nothing more
    for part in ("tasks.failed", "'LookupError'", "test_tasks.py:", "task='fail'"):
        assert part in caplog.text


async def test_raise_hands_the_exception_to_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    TaskRegistry(on_error="raise").spawn(fail())
    await turns()
    assert [type(context["exception"]) for context in told] == [LookupError]
    assert "spawned at unit/test_tasks.py" in told[0]["message"]
    assert "tasks.failed" in caplog.text


async def test_a_closed_handle_cancels() -> None:
    registry = TaskRegistry()
    handle = registry.spawn(forever())
    handle.close()
    with pytest.raises(asyncio.CancelledError):
        await handle
    handle.close()
    async with registry.spawn(forever()) as inner:
        assert not inner.closed
    assert inner.closed
    assert registry.statistics().cancelled == 2


async def test_a_task_ends_with_its_collected_owner() -> None:
    registry, owner = TaskRegistry(), Owner()
    handle = registry.spawn(forever(), owner=owner)
    await turns()
    del owner
    registry.statistics()  # or the janitor, a second later
    await turns()
    assert handle.task.cancelled()


async def test_a_task_ends_with_its_scope_which_waits_for_it() -> None:
    registry, said = TaskRegistry(), list[str]()

    async def tidy() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            said.append("tidied")

    async with Scope() as scope:
        scope.defer(said.append, "after the task")
        registry.spawn(tidy(), owner=scope)
        await turns()
        assert said == []
    assert said == ["tidied", "after the task"]
    assert len(registry) == 0


async def test_a_plain_scope_cancels_and_does_not_wait() -> None:
    registry = TaskRegistry()
    with Scope() as scope:
        handle = registry.spawn(forever(), owner=scope)
    assert not handle.closed
    await turns()
    assert handle.task.cancelled()


async def test_end_cancels_what_an_owner_has_here() -> None:
    registry, other, owner = TaskRegistry(), TaskRegistry(), Owner()
    mine = [registry.spawn(forever(), owner=owner) for _ in range(2)]
    elsewhere = other.spawn(forever(), owner=owner)
    assert registry.end(owner) == 2
    await turns()
    assert all(handle.closed for handle in mine)
    assert not elsewhere.closed
    assert registry.end(Owner()) == 0
    await finish(other)


async def test_a_coroutine_that_holds_its_owner_is_told(caplog: pytest.LogCaptureFixture) -> None:
    registry, owner = TaskRegistry(), Owner()
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(2):
            registry.spawn(owner.run(), owner=owner)
    assert len(caplog.records) == 1
    assert "tasks.holds_its_owner" in caplog.text
    assert "give a Scope" in caplog.text
    registry.end(owner)
    await finish(registry)


async def test_a_block_waits_for_its_tasks_and_then_is_closed() -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0.01)
        done.append(number)

    async with TaskRegistry() as registry:
        for number in range(5):
            registry.spawn(work(number))
    assert sorted(done) == list(range(5))
    with pytest.raises(LifecycleError, match="is closed and takes no more tasks"):
        registry.spawn(forever())


async def test_a_block_cancels_at_its_deadline() -> None:
    async with TaskRegistry(timeout=0.02) as registry:
        handle = registry.spawn(forever())
    assert handle.task.cancelled()
    assert registry.statistics().stubborn == 0


async def test_a_block_that_fails_cancels_at_once() -> None:
    async def block() -> None:
        async with TaskRegistry(timeout=60) as registry:
            registry.spawn(forever())
            raise LookupError

    with pytest.raises(LookupError):
        await asyncio.wait_for(block(), 10)


async def test_a_cancelled_block_cancels_its_tasks() -> None:
    handles: list[SpawnedTask[None]] = []

    async def block() -> None:
        async with TaskRegistry(timeout=60) as registry:
            handles.append(registry.spawn(forever()))

    task = asyncio.ensure_future(block())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns()
    assert handles[0].task.cancelled()


async def test_a_task_that_ignores_its_cancellation_is_left_behind_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    registry = TaskRegistry(grace=0.02)
    handle = registry.spawn(stubborn(), name="mule")
    await turns()
    with caplog.at_level(logging.WARNING, "memguard"):
        assert await registry.aclose() is False
    assert registry.statistics().stubborn == 1
    assert "'mule' spawned at unit/test_tasks.py:" in caplog.text
    release.set()
    await handle


async def test_a_task_may_close_its_registry() -> None:
    registry = TaskRegistry(grace=5)

    async def work() -> bool:
        return await registry.aclose()

    other = registry.spawn(forever())
    handle = registry.spawn(work())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(handle.task, 10)
    await turns()
    assert other.closed


async def test_a_full_registry_refuses_and_names_who_filled_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = TaskRegistry(maxsize=5, name="jobs")
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(5):
            registry.spawn(forever())
    assert len(caplog.records) == 1
    assert "'5x unit/test_tasks.py:" in caplog.text
    with pytest.raises(CapacityError, match=r"holds maxsize=5 tasks from 5x unit/test_t"):
        registry.spawn(forever())
    assert list(registry.sites().values()) == [5]
    await finish(registry)


async def test_a_task_that_cannot_be_made_leaves_nothing() -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise MemoryError

    registry, owner, loop = TaskRegistry(), Owner(), asyncio.get_running_loop()
    loop.set_task_factory(fail)
    try:
        with pytest.raises(MemoryError):
            registry.spawn(soon(), owner=owner)
    finally:
        loop.set_task_factory(None)
    assert (len(registry), registry.statistics().spawned) == (0, 0)
    owned = owners.owned_by(owner)
    assert owned is not None
    assert not owned.registrations
    assert not tasks._busy
    assert await registry.aclose()


async def test_a_refused_coroutine_is_closed() -> None:
    """Warnings are errors here: one that was never awaited would fail this test."""
    registry, scope = TaskRegistry(), Scope()
    scope.close()
    refusals: list[Callable[[], Any]] = [
        lambda: registry.spawn(forever(), owner=scope),
        lambda: registry.spawn(forever(), owner=[]),
        lambda: registry.spawn(forever(), name=""),
    ]
    for refused in refusals:
        with pytest.raises((LifecycleError, TypeError, ConfigError)):
            refused()
    registry.close()
    with pytest.raises(LifecycleError):
        registry.spawn(forever())
    gc.collect()
    assert len(registry) == 0
    assert not tasks._busy


@pytest.mark.parametrize(
    ("coro", "message"),
    [(forever, r"got function\); call the coroutine function"), (3, r"got int")],
)
async def test_what_is_no_coroutine_is_refused(coro: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TaskRegistry().spawn(coro)


async def test_spawning_without_a_loop_is_refused() -> None:
    registry, errors = TaskRegistry(), list[Exception]()

    def elsewhere() -> None:
        try:
            registry.spawn(forever())
        except LifecycleError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert "needs a running event loop" in str(errors[0])


async def test_close_works_from_another_thread() -> None:
    registry = TaskRegistry()
    handle = registry.spawn(forever())
    thread = threading.Thread(target=registry.close)
    thread.start()
    thread.join(10)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(handle.task, 10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"maxsize": 0}, ConfigError, r"maxsize must be >= 1 \(got 0\)"),
        ({"timeout": -1}, ConfigError, "timeout must be a finite number of seconds"),
        ({"grace": None}, TypeError, "grace must be a number of seconds"),
        ({"on_error": "hide"}, ConfigError, "on_error must be 'log' or 'raise'"),
        ({"name": 1}, TypeError, "name must be a string"),
    ],
)
async def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        TaskRegistry(**options)


async def test_it_tells_reports_what_it_holds() -> None:
    registry = TaskRegistry(name="told tasks")
    registry.spawn(forever())
    assert registry.footprint().items == 1
    assert registry.reclaim(fraction=1.0).items == 0
    assert isinstance(registry, inventory.Reclaimable)
    rows = [row for row in inventory.inventory() if row.name == "told tasks"]
    assert [(row.kind, row.items) for row in rows] == [("TaskRegistry", 1)]
    assert bool(registry)
    assert repr(registry) == "TaskRegistry(name='told tasks', tasks=1)"
    assert TaskRegistry().name.startswith("TaskRegistry@unit/test_tasks.py:")
    await finish(registry)


@pytest.mark.stress
async def test_a_hundred_thousand_tasks_leave_nothing() -> None:
    registry, owner = TaskRegistry(), Owner()

    async def nothing() -> None: ...

    handles: list[Awaitable[None]] = []
    for number in range(100_000):
        handles.append(registry.spawn(nothing(), owner=owner if number % 2 else None))
        if len(handles) == 1000:
            await asyncio.wait([handle.task for handle in handles])  # type: ignore[attr-defined]  # reason: SpawnedTask
            handles.clear()
    await turns()
    assert len(registry) == 0
    assert registry.statistics().finished == 100_000
    assert not tasks._busy
    owned = owners.owned_by(owner)
    assert owned is None or not owned.registrations


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_starts_without_tasks() -> None:
    registry = TaskRegistry()
    registry.spawn(forever())
    child = os.fork()
    if child == 0:
        os._exit(0 if len(registry) == 0 and not tasks._busy else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(registry) == 1
    await finish(registry)
