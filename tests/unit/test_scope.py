"""Scopes, and what owners own."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.scope import Scope
from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.lifecycle import janitor


class Thing:
    """Can be weakly referenced."""


def sweep() -> None:
    """Do what the janitor would do in a second."""
    owners._owners._sweep()


def adopt(owner: object, thing: owners.Registration) -> owners.Owned:
    return owners.adopt(owner, thing, next(owners.serials))


def fail(kind: type[BaseException]) -> None:
    raise kind("as planned")


class Door:
    """Counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class AsyncDoor(Door):
    """Prefers to be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = 0

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.awaited += 1


def test_a_scope_ends_what_it_holds_in_reverse_order() -> None:
    said: list[int] = []
    with Scope() as scope:
        for number in range(3):
            scope.defer(said.append, number)
        assert said == []
    assert said == [2, 1, 0]
    assert scope.closed


def test_a_failing_disposer_does_not_stop_the_rest() -> None:
    said: list[int] = []
    with Scope() as scope:
        scope.defer(said.append, 1)
        scope.defer(fail, ValueError)
        scope.defer(said.append, 2)
    assert said == [2, 1]
    statistics = scope.statistics()
    assert (statistics.ended, statistics.errors, statistics.held) == (3, 1, 0)


def test_raise_raises_the_first_failure_when_all_have_run() -> None:
    said: list[int] = []
    scope = Scope(on_error="raise")
    scope.defer(said.append, 1)
    scope.defer(fail, KeyError)
    scope.defer(fail, ValueError)
    with pytest.raises(ValueError, match="as planned"):
        scope.close()
    assert said == [1]


def test_an_exception_of_the_block_is_not_hidden_by_one_of_a_disposer() -> None:
    def block() -> None:
        with Scope(on_error="raise") as scope:
            scope.defer(fail, ValueError)
            raise LookupError

    with pytest.raises(LookupError):
        block()


def test_an_interrupt_in_a_disposer_is_raised_when_all_have_run() -> None:
    said: list[int] = []
    scope = Scope()
    scope.defer(said.append, 1)
    scope.defer(fail, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        scope.close()
    assert said == [1]


def test_closing_twice_runs_nothing_twice() -> None:
    door = Door()
    scope = Scope()
    assert scope.add(door) is door
    scope.close()
    scope.close()
    assert door.closed == 1


def test_a_closed_scope_accepts_nothing() -> None:
    scope = Scope()
    scope.close()
    with pytest.raises(LifecycleError, match="has ended; open a new one"):
        scope.defer(print)


def test_a_disposer_cannot_add_to_the_scope_that_ends_it() -> None:
    scope = Scope()
    scope.defer(lambda: scope.defer(print))
    scope.close()
    assert scope.statistics().errors == 1


def test_a_handle_runs_its_call_early_or_never() -> None:
    said: list[str] = []
    with Scope() as scope:
        early = scope.defer(said.append, "early")
        never = scope.defer(said.append, "never")
        scope.defer(said.append, "late")
        with early:
            assert said == []
        assert said == ["early"]
        never.forget()
        assert scope.statistics().held == 1
    early.close()
    assert said == ["early", "late"]


def test_nothing_of_a_call_that_has_run_is_kept() -> None:
    thing = Thing()
    seen = weakref.ref(thing)
    scope = Scope()
    handle = scope.defer(id, thing)
    del thing
    assert seen() is not None
    handle.close()
    assert seen() is None


def test_scopes_nest() -> None:
    said: list[str] = []
    with Scope() as outer:
        inner = outer.add(Scope())
        inner.defer(said.append, "inner")
        outer.defer(said.append, "outer")
    assert said == ["outer", "inner"]
    assert inner.closed


def test_a_scope_cannot_hold_itself() -> None:
    scope = Scope()
    with pytest.raises(ConfigError, match="cannot hold itself"):
        scope.add(scope)


def test_a_full_scope_refuses_and_says_what_to_do() -> None:
    scope = Scope(maxsize=2)
    scope.defer(print)
    handle = scope.defer(print)
    with pytest.raises(CapacityError, match=r"holds maxsize=2 registrations; .* larger maxsize"):
        scope.defer(print)
    handle.forget()
    scope.defer(print).forget()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"maxsize": 0}, ConfigError, r"maxsize must be >= 1 \(got 0\)"),
        ({"maxsize": None}, TypeError, r"maxsize must be an int \(got NoneType\)"),
        ({"name": ""}, ConfigError, "name must not be empty"),
        ({"name": 3}, TypeError, r"name must be a string \(got int\)"),
        (
            {"on_error": "ignore"},
            ConfigError,
            r"on_error must be 'log' or 'raise' \(got 'ignore'\)",
        ),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Scope(**options)


def test_what_cannot_be_called_or_closed_is_refused() -> None:
    scope = Scope()
    with pytest.raises(TypeError, match=r"fn must be callable \(got int\)"):
        scope.defer(3)  # type: ignore[arg-type]  # reason: the point
    with pytest.raises(TypeError, match=r"close or aclose method \(got Thing\); .* defer"):
        scope.add(Thing())


def test_a_scope_is_named_after_the_line_that_made_it() -> None:
    scope = Scope()
    assert scope.name.startswith("Scope@unit/test_scope.py:")
    assert Scope(name="request").name == "request"
    assert repr(Scope(name="request")) == "Scope(name='request', held=0)"
    scope.close()
    assert repr(scope).endswith(", closed)")


def test_a_collected_scope_ends_what_it_held_on_the_janitor() -> None:
    done = threading.Event()
    threads: list[str] = []

    def dispose() -> None:
        threads.append(threading.current_thread().name)
        done.set()

    scope = Scope()
    scope.defer(dispose)
    assert owners._owners.epoch == janitor.epoch
    del scope
    assert done.wait(30)
    assert threads == [janitor.THREAD_NAME]


def test_a_disposer_that_fails_on_the_janitor_is_counted_and_the_rest_run() -> None:
    said: list[int] = []
    before = owners.failures.count
    scope = Scope()
    scope.defer(said.append, 1)
    scope.defer(fail, ValueError)
    del scope
    sweep()
    assert said == [1]
    assert owners.failures.count == before + 1


def test_the_janitor_has_nothing_to_do_when_all_owners_are_done() -> None:
    gc.collect()
    sweep()
    owner = Thing()
    scope = Scope()
    handle = scope.defer(print)
    assert owners._owners._sweep() is not None
    handle.forget()
    del scope
    sweep()
    assert owners.owned_by(owner) is None
    assert not owners._owners.collected
    assert not owners._owners.disposers


class Counted:
    """A registration of ours, as an owner sees it."""

    is_ours = True

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_registrations_of_a_collected_owner_end_without_the_janitor() -> None:
    owner, ours = Thing(), Counted()
    adopt(owner, ours)
    owned = owners.owned_by(owner)
    assert owned is not None
    assert len(owned.registrations) == 1
    del owner
    assert owners.collected
    owners.end_collected()
    assert ours.closed == 1


def test_what_was_released_is_not_ended_with_its_owner() -> None:
    owner, ours = Thing(), Counted()
    owned = adopt(owner, ours)
    (serial,) = owned.registrations
    assert owned.release(serial)
    assert not owned.release(serial)
    sweep()
    assert owners.owned_by(owner) is None
    again = Counted()
    adopt(owner, again)
    del owner
    owners.end_collected()
    assert (ours.closed, again.closed) == (0, 1)


def test_an_owner_at_the_address_of_a_dead_one_inherits_nothing() -> None:
    for _ in range(200):
        first, ours = Thing(), Counted()
        adopt(first, ours)
        del first
        second, others = Thing(), Counted()  # most likely where the first one was
        adopt(second, others)
        owners.end_collected()
        assert (ours.closed, others.closed) == (1, 0)


def test_an_owner_that_cannot_be_weakly_referenced_is_refused() -> None:
    with pytest.raises(TypeError, match=r"owner cannot be .* \(got list\); give a Scope"):
        adopt([], Counted())


def test_an_interruption_while_idle_owners_are_forgotten_loses_nothing() -> None:
    """As a destructor would that the collector runs between two steps."""
    owner, ours = Thing(), Counted()
    owned = adopt(owner, Counted())
    owned.registrations.clear()

    class Interrupting(dict[int, Any]):
        asked = 0

        def __bool__(self) -> bool:
            self.asked += 1
            if self.asked == 2:
                adopt(held[0], ours)
            return len(self) > 0

    held = [owner]
    owned.registrations = Interrupting()
    owners._owners.forget_idle()
    del owner, held[:]
    owners.end_collected()
    assert ours.closed == 1


def test_a_callable_that_would_keep_its_owner_alive_is_refused() -> None:
    owner = Thing()

    def closure() -> Thing:
        return owner

    def default(_held: Thing = owner) -> None: ...

    def harmless(value: object = None) -> object:
        return value

    class Callable(Thing):
        def __call__(self) -> None: ...

        def method(self) -> None: ...

    called = Callable()
    for holder, fn, how in (
        (owner, closure, "its closure"),
        (owner, default, "its defaults"),
        (owner, functools.partial(harmless, owner), "the arguments of a partial"),
        (owner, functools.partial(harmless, value=owner), "the arguments of a partial"),
        (called, called, "being it"),
        (called, called.method, "its bound method"),
    ):
        with pytest.raises(ConfigError, match=rf"fn holds its owner through {how}, .* Scope"):
            owners.refuse_cycle(holder, fn)
        owners.refuse_cycle(Thing(), fn)
    owners.refuse_cycle(owner, harmless)
    scope = Scope()
    owners.refuse_cycle(scope, lambda: scope)


def test_a_closure_not_yet_assigned_is_no_obstacle() -> None:
    def early() -> object:
        return late

    owners.refuse_cycle(Thing(), early)
    late = 1
    assert early() == 1


async def note(said: list[Any], value: Any) -> None:
    await asyncio.sleep(0)
    said.append(value)


@pytest.mark.asyncio
async def test_an_async_scope_awaits_what_is_asynchronous() -> None:
    said: list[int] = []
    async with Scope() as scope:
        door = scope.add(AsyncDoor())
        plain = scope.add(Door())
        scope.defer(note, said, 1)
        scope.defer(said.append, 2)
        early = scope.defer(note, said, 0)
        await early.aclose()
    assert said == [0, 2, 1]
    assert (door.awaited, door.closed, plain.closed) == (1, 0, 1)
    await early.aclose()
    assert said == [0, 2, 1]


@pytest.mark.asyncio
async def test_a_cancelled_scope_runs_the_rest_and_stays_cancelled() -> None:
    said: list[int] = []
    waiting = asyncio.Event()

    async def stuck() -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def work() -> None:
        async with Scope() as scope:
            scope.defer(note, said, 1)
            scope.defer(stuck)

    task = asyncio.ensure_future(work())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == [1]


@pytest.mark.asyncio
async def test_async_failures_follow_the_same_policy() -> None:
    async def fails() -> None:
        raise ValueError("as planned")

    scope = Scope(on_error="raise")
    scope.defer(fails)
    with pytest.raises(ValueError, match="as planned"):
        await scope.aclose()
    await scope.aclose()


def test_an_asynchronous_disposer_in_a_plain_scope_is_an_error_not_a_silence() -> None:
    said: list[int] = []
    scope = Scope(on_error="raise")
    scope.defer(note, said, 1)
    with pytest.raises(LifecycleError, match="is asynchronous: end it with `async with`"):
        scope.close()
    assert said == []


def test_two_threads_closing_share_the_work() -> None:
    said: list[int] = []
    scope = Scope()
    for number in range(2000):
        scope.defer(said.append, number)
    threads = [threading.Thread(target=scope.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(said) == list(range(2000))


@given(st.lists(st.sampled_from(["defer", "forget", "close", "fail"]), max_size=30))
def test_every_call_runs_once_or_was_forgotten(steps: list[str]) -> None:
    said: list[int] = []
    expected_early: list[int] = []
    handles: list[tuple[int, Any]] = []
    scope = Scope()
    for number, step in enumerate(steps):
        if step == "defer" or not handles:
            handles.append((number, scope.defer(said.append, number)))
        elif step == "fail":
            scope.defer(fail, ValueError)
        else:
            held, handle = handles.pop()
            handle.close() if step == "close" else handle.forget()
            if step == "close":
                expected_early.append(held)
    scope.close()
    assert said == expected_early + [number for number, _ in reversed(handles)]


@pytest.mark.stress
def test_a_hundred_thousand_scopes_leave_nothing() -> None:
    def cycle() -> None:
        with Scope() as scope:
            scope.defer(len, ())
        Scope().defer(len, ())
        owner = Thing()
        adopt(owner, Counted()).registrations.clear()

    def size() -> int:
        sweep()
        gc.collect()
        registry = owners._owners
        return len(registry.refs) + len(registry.collected) + len(registry.disposers)

    before = size()
    for number in range(100_000):
        cycle()
        if number % 1000 == 0:
            owners.end_collected()
            sweep()
    assert size() <= before
