"""One piece of work at a time, for any number who wait, up to a bound."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from memguard.report.health.background import MOST_WAITING, BackgroundWork, WorkFailedError
from tests.waiting import wait_for

PATIENCE = 30.0


class Gate:
    """Work that goes on until it is let go, and counts itself."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.done = 0

    def __call__(self) -> int:
        assert self.opened.wait(PATIENCE)
        self.done += 1
        return self.done


@pytest.fixture
def gate() -> Iterator[Gate]:
    here = Gate()
    yield here
    here.opened.set()


def begun(asked: Future[Any] | str) -> Future[Any]:
    assert isinstance(asked, Future)
    return asked


def ended(background: BackgroundWork[Any]) -> bool:
    return background._future is None and background.stop(0.0)


def test_those_who_join_get_the_one_outcome(gate: Gate) -> None:
    background: BackgroundWork[int] = BackgroundWork("memguard-test-join")
    futures = [begun(background.ask(gate, join=True)) for _ in range(5)]
    gate.opened.set()
    assert [future.result(PATIENCE) for future in futures] == [1] * 5
    wait_for(lambda: ended(background))


def test_who_does_not_join_is_refused_while_it_is_busy(gate: Gate) -> None:
    background: BackgroundWork[int] = BackgroundWork("memguard-test-busy")
    first = begun(background.ask(gate, join=False))
    assert background.ask(gate, join=False) == "busy"
    gate.opened.set()
    assert first.result(PATIENCE) == 1
    wait_for(lambda: ended(background))
    assert begun(background.ask(gate, join=False)).result(PATIENCE) == 2
    wait_for(lambda: ended(background))


def test_no_more_wait_than_are_allowed(gate: Gate) -> None:
    background: BackgroundWork[int] = BackgroundWork("memguard-test-bound")
    asked = [background.ask(gate, join=True) for _ in range(MOST_WAITING + 3)]
    assert asked[MOST_WAITING:] == ["busy"] * 3
    assert all(isinstance(each, Future) for each in asked[:MOST_WAITING])
    gate.opened.set()
    wait_for(lambda: ended(background))


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_what_the_work_raises_is_known_by_its_name_alone(error: type[BaseException]) -> None:
    def fail() -> int:
        raise error("with a secret in its text")

    background: BackgroundWork[int] = BackgroundWork("memguard-test-error")
    future = begun(background.ask(fail, join=True))
    with pytest.raises(WorkFailedError, match=f"^{error.__name__}$"):
        future.result(PATIENCE)
    wait_for(lambda: ended(background))


def test_one_who_gives_up_waiting_does_not_keep_it_from_the_others(gate: Gate) -> None:
    """Neither a cancelled wait of an event loop nor one whose loop is closed by now."""
    background: BackgroundWork[int] = BackgroundWork("memguard-test-cancel")
    future = begun(background.ask(gate, join=True))

    async def give_up() -> None:
        wrapped = asyncio.wrap_future(future)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wrapped, 0.01)
        asyncio.wrap_future(future)  # waits still when the loop is closed

    asyncio.run(give_up())
    gate.opened.set()
    assert future.result(PATIENCE) == 1
    wait_for(lambda: ended(background))


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_without_a_thread_nothing_hangs(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    background: BackgroundWork[int] = BackgroundWork("memguard-test-none")
    joined: list[Future[int]] = []

    def refuse(_: threading.Thread) -> None:
        # Somebody joins in this very moment: the outcome is theirs, too.
        joined.append(begun(background.ask(lambda: 2, join=True)))
        raise error("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert background.ask(lambda: 1, join=True) == "no thread"
    with pytest.raises(WorkFailedError, match=error.__name__):
        joined[0].result(PATIENCE)
    assert begun(background.ask(lambda: 1, join=True)).result(PATIENCE) == 1
    wait_for(lambda: ended(background))


def test_a_forked_child_has_nothing_under_way(gate: Gate) -> None:
    background: BackgroundWork[int] = BackgroundWork("memguard-test-fork")
    parents = begun(background.ask(gate, join=True))
    before, thread = background._lock, background._thread
    background._reset()  # what `memguard.lifecycle.fork` calls in a child
    assert background._lock is not before
    childs = begun(background.ask(gate, join=False))
    assert childs is not parents
    gate.opened.set()
    assert {parents.result(PATIENCE), childs.result(PATIENCE)} == {1, 2}
    wait_for(lambda: ended(background))
    assert thread is not None
    thread.join(PATIENCE)
