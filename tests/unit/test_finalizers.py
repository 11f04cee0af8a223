"""Calls after an object has been collected."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import weakref

import pytest

from memguard.bounded.lifetime.finalizers import on_collect
from memguard.bounded.lifetime.scope import Scope
from memguard.errors import ConfigError
from tests.waiting import wait_for

DEADLINE = 10.0


class Thing:
    """Can be weakly referenced; equal to all its kind, and unhashable for that."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("an object was compared")

    __hash__ = None  # type: ignore[assignment]  # reason: the point of these tests


class Plain:
    """An ordinary object."""


class Counter:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def hit(self, by: int = 1) -> int:
        self.calls += by
        return self.calls


def test_the_call_comes_after_the_death_on_the_janitor() -> None:
    said: list[tuple[str, str]] = []

    def say(word: str, *, to: str) -> None:
        said.append((word, to))
        said.append(("thread", threading.current_thread().name))

    thing = Thing()
    handle = on_collect(thing, say, "bye", to="you")
    assert handle.is_pending
    del thing
    wait_for(lambda: len(said) == 2)
    assert said == [("bye", "you"), ("thread", "memguard-janitor")]
    assert not handle.is_pending


def test_it_keeps_neither_the_object_nor_after_the_call_its_arguments() -> None:
    argument = Plain()
    reference = weakref.ref(argument)
    done = threading.Event()
    thing = Plain()
    on_collect(thing, lambda _: done.set(), argument)
    del argument
    gc.collect()
    assert reference() is not None
    del thing
    assert done.wait(DEADLINE)
    wait_for(lambda: reference() is None)


def test_a_closed_handle_calls_nothing_and_drops_its_arguments_at_once() -> None:
    argument = Plain()
    reference = weakref.ref(argument)
    said: list[int] = []
    thing = Plain()
    handle = on_collect(thing, lambda _: said.append(1), argument)
    handle.close()
    handle.close()
    del argument
    assert reference() is None
    marker = threading.Event()
    on_collect(thing, marker.set)
    del thing
    assert marker.wait(DEADLINE)
    assert not said


def test_several_calls_of_one_object_all_come_even_if_one_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[int] = []

    def fail() -> None:
        raise OSError

    thing = Plain()
    on_collect(thing, said.append, 1)
    on_collect(thing, fail)
    on_collect(thing, said.append, 2)
    with caplog.at_level(logging.WARNING):
        del thing
        wait_for(lambda: len(said) == 2)
    assert sorted(said) == [1, 2]


def test_an_object_that_dies_in_a_cycle_is_noticed_too() -> None:
    done = threading.Event()
    thing = Plain()
    thing.me = thing  # type: ignore[attr-defined]  # reason: makes a cycle
    on_collect(thing, done.set)
    del thing
    gc.collect()
    assert done.wait(DEADLINE)


def test_the_end_of_a_scope_is_an_end_as_well() -> None:
    said: list[int] = []
    with Scope() as scope:
        on_collect(scope, said.append, 1)
    assert said == [1]


def test_what_would_keep_the_object_alive_is_refused() -> None:
    counter = Counter()
    with pytest.raises(ConfigError, match="holds its owner through its bound method"):
        on_collect(counter, counter.hit)
    with pytest.raises(ConfigError, match="its closure"):
        on_collect(counter, lambda: counter.hit(2))
    with pytest.raises(ConfigError, match="an argument is the object itself"):
        on_collect(counter, print, counter)
    with pytest.raises(TypeError, match=r"fn must be callable \(got int\)"):
        on_collect(counter, 3)  # type: ignore[arg-type]  # reason: the point of the test
    with pytest.raises(TypeError, match="cannot be weakly referenced"):
        on_collect(3, print)


@pytest.mark.stress
def test_a_hundred_thousand_calls_leave_nothing() -> None:
    count = 0

    def bump() -> None:
        nonlocal count
        count += 1

    def settled() -> int:
        gc.collect()
        return len(gc.get_objects())

    before = settled()
    for _ in range(100_000):
        on_collect(Plain(), bump)
    wait_for(lambda: count == 100_000)
    wait_for(lambda: settled() - before < 500)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_no_calls_of_the_parent() -> None:
    program = """
import gc, os, sys, time
from memguard.lifecycle import janitor
from memguard import on_collect, WeakValueCache, WeakIdentityMap
class Thing: pass
said = []
def say(word):
    os.write(1, word.encode())
    said.append(word)
def wait_for(word):
    end = time.monotonic() + 40
    while word not in said and time.monotonic() < end:
        time.sleep(0.01)
things = [Thing(), Thing()]
cache, notes = WeakValueCache(5), WeakIdentityMap()
cache["a"], notes[things[0]] = things[0], 1
on_collect(things[1], say, "parent ")
if os.fork() == 0:
    status = 1
    try:
        assert cache["a"] is things[0] and notes[things[0]] == 1 and cache.statistics().hits == 1
        del things[1]
        mine = Thing()
        on_collect(mine, say, "child ")
        del mine
        wait_for("child ")  # what died before it would have been said before it
        status = 0
    finally:
        janitor.stop()
        os._exit(status)
assert os.wait()[1] == 0
del things[1]
wait_for("parent ")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "child parent ", "")
