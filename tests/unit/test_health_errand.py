"""One piece of work at a time, for any number who wait, up to a bound."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.report.health.background import MOST_WAITING, Errand, Outcome
from tests.waiting import wait_for


class Gate:
    """Work that goes on until it is let go, and counts itself."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.done = 0

    def __call__(self) -> int:
        assert self.opened.wait(30)
        self.done += 1
        return self.done


@pytest.fixture
def gate() -> Iterator[Gate]:
    here = Gate()
    yield here
    here.opened.set()


def ended(errand: Errand[Any]) -> bool:
    return errand._waiting is None and not any(
        thread.name == errand._name for thread in threading.enumerate()
    )


def test_those_who_join_get_the_one_outcome(gate: Gate) -> None:
    errand = Errand("memguard-test-join", gate)
    told: list[Outcome[int]] = []
    assert [errand.ask(told.append, join=True) for _ in range(5)] == ["accepted"] * 5
    gate.opened.set()
    wait_for(lambda: len(told) == 5)
    assert [outcome.value for outcome in told] == [1] * 5
    wait_for(lambda: ended(errand))


def test_who_does_not_join_is_told_that_it_is_busy(gate: Gate) -> None:
    errand: Errand[int] = Errand("memguard-test-busy")
    told: list[Outcome[int]] = []
    assert errand.ask(told.append, join=False, work=gate) == "accepted"
    assert errand.ask(told.append, join=False, work=gate) == "busy"
    gate.opened.set()
    wait_for(lambda: ended(errand))
    assert errand.ask(told.append, join=False, work=gate) == "accepted"
    wait_for(lambda: ended(errand))
    assert gate.done == len(told) == 2


def test_no_more_wait_than_are_allowed(gate: Gate) -> None:
    errand = Errand("memguard-test-bound", gate)
    told: list[Outcome[int]] = []
    asked = [errand.ask(told.append, join=True) for _ in range(MOST_WAITING + 3)]
    assert asked == ["accepted"] * MOST_WAITING + ["busy"] * 3
    gate.opened.set()
    wait_for(lambda: ended(errand))
    assert len(told) == MOST_WAITING


def test_what_the_work_raises_is_told_by_its_name_alone() -> None:
    def fail() -> int:
        raise ZeroDivisionError("with a secret in its text")

    errand = Errand("memguard-test-error", fail)
    told: list[Outcome[int]] = []
    errand.ask(told.append, join=True)
    wait_for(lambda: told)
    assert told == [Outcome(error="ZeroDivisionError")]
    wait_for(lambda: ended(errand))


def test_work_that_asks_for_the_end_ends_only_itself() -> None:
    def leave() -> int:
        raise SystemExit

    errand = Errand("memguard-test-exit", leave)
    told: list[Outcome[int]] = []
    errand.ask(told.append, join=True)
    wait_for(lambda: ended(errand))
    assert told == [Outcome(error="SystemExit")]


def test_one_who_cannot_be_told_does_not_keep_it_from_the_others(gate: Gate) -> None:
    def closed(_: object) -> None:
        raise RuntimeError("Event loop is closed")

    errand = Errand("memguard-test-closed", gate)
    told: list[Outcome[int]] = []
    errand.ask(closed, join=True)
    errand.ask(told.append, join=True)
    gate.opened.set()
    wait_for(lambda: ended(errand))
    assert [outcome.value for outcome in told] == [1]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_without_a_thread_nothing_hangs(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    errand = Errand("memguard-test-none", lambda: 1)
    told: list[Outcome[int]] = []

    def refuse(_: threading.Thread) -> None:
        # Somebody joins in this very moment: it must be told, too.
        assert errand.ask(told.append, join=True) == "accepted"
        raise error("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert errand.ask(told.append, join=True) == "no thread"
    assert told == [Outcome(error="RuntimeError")]
    assert errand.ask(told.append, join=True) == "accepted"
    wait_for(lambda: ended(errand))


def test_a_forked_child_has_nothing_under_way(gate: Gate) -> None:
    errand = Errand("memguard-test-fork", gate)
    told: list[Outcome[int]] = []
    errand.ask(told.append, join=True)
    before = errand._lock
    errand._reset()  # what `memguard.lifecycle.ticker` calls in a child
    assert errand._lock is not before
    gate.opened.set()
    assert errand.ask(told.append, join=False) == "accepted"
    wait_for(lambda: told)
    wait_for(lambda: ended(errand))
