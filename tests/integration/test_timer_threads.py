"""Timers on real threads: slow callbacks, ends of registries, forks, exits."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from memguard.bounded.timers.threaded import TimerRegistry
from memguard.bounded.timers.workers import CLOCK_NAME, WORKER_NAME

DEADLINE = 20.0


def memguard_threads() -> set[str]:
    return {
        thread.name
        for thread in threading.enumerate()
        if thread.name in (CLOCK_NAME, WORKER_NAME) and thread.is_alive()
    }


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_a_slow_callback_delays_no_other_timer() -> None:
    release, quick = threading.Event(), threading.Event()
    with TimerRegistry(workers=4) as timers:
        for _ in range(3):
            timers.after(0, release.wait, DEADLINE)
        timers.after(0.05, quick.set)
        assert quick.wait(DEADLINE)
        assert timers.statistics().waiting >= 3
        release.set()
    assert not memguard_threads()


def test_a_sooner_timer_wakes_the_clock_thread() -> None:
    called = threading.Event()
    with TimerRegistry() as timers:
        timers.after(3600, print)
        timers.after(0.01, called.set)
        assert called.wait(DEADLINE)
        assert len(timers) == 1


def test_no_thread_before_the_first_timer_and_none_after_close() -> None:
    timers = TimerRegistry()
    assert not memguard_threads()
    timers.every(0.01, lambda: None)
    wait_until(lambda: timers.statistics().fired > 2)
    assert CLOCK_NAME in memguard_threads()
    assert timers.close(timeout=DEADLINE)
    assert not memguard_threads()


def test_threads_end_when_there_is_nothing_to_do_and_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memguard.bounded.timers.workers._IDLE_SECONDS", 0.05)
    with TimerRegistry() as timers:
        for _ in range(3):
            done = threading.Event()
            timers.after(0, done.set)
            assert done.wait(DEADLINE)
            wait_until(lambda: not memguard_threads())


def test_close_tells_when_a_callback_is_still_running() -> None:
    release, running = threading.Event(), threading.Event()

    def callback() -> None:
        running.set()
        release.wait(DEADLINE)

    timers = TimerRegistry()
    timers.after(0, callback)
    assert running.wait(DEADLINE)
    assert timers.close(timeout=0.05) is False
    release.set()
    assert timers.close(timeout=DEADLINE) is True


def test_a_callback_may_close_its_registry() -> None:
    timers, closed = TimerRegistry(), threading.Event()

    def callback() -> None:
        timers.close(timeout=0.1)
        closed.set()

    timers.after(0, callback)
    assert closed.wait(DEADLINE)
    wait_until(lambda: not memguard_threads())


def test_a_dropped_registry_ends_its_threads_and_drops_its_callbacks() -> None:
    class Thing:
        def tick(self) -> None: ...

    timers, thing = TimerRegistry(), Thing()
    seen = weakref.ref(thing)
    timers.every(3600, thing.tick)
    wait_until(memguard_threads)
    circle: list[Any] = [timers]
    circle.append(circle)  # the collector finds it, not the count of references
    del timers, thing, circle
    gc.collect()
    wait_until(lambda: not memguard_threads())
    assert seen() is None


def test_an_exception_goes_to_the_hook_of_threads_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    called = threading.Event()

    def hook(args: Any) -> None:
        told.append(args.exc_type)
        called.set()

    monkeypatch.setattr(threading, "excepthook", hook)
    with TimerRegistry(on_error="raise") as timers:
        timers.after(0, functools.partial(int, "no number"))
        assert called.wait(DEADLINE)
        assert timers.statistics().errors == 1
    assert told == [ValueError]


def test_a_hook_that_raises_ends_no_thread_and_no_timer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(_args: object) -> None:
        raise RuntimeError("as planned")

    monkeypatch.setattr(threading, "excepthook", hook)
    done = threading.Event()
    with TimerRegistry(workers=2, on_error="raise") as timers:
        timers.every(0.005, lambda: 1 / 0)
        wait_until(lambda: timers.statistics().errors > 5)
        timers.after(0, done.set)
        assert done.wait(DEADLINE)
    assert caplog.text.count("timers.excepthook_failed") == 1


def test_a_clock_that_fails_once_ends_no_timer() -> None:
    calls = [0]

    def clock() -> float:
        calls[0] += 1
        if calls[0] == 4:
            raise OSError("as planned")
        return time.monotonic()

    done = threading.Event()
    with TimerRegistry(timer=clock) as timers:
        with contextlib.suppress(OSError):  # asked by this thread, it is an error of the caller
            timers.every(0.01, lambda: None)
            wait_until(lambda: calls[0] > 4)
        timers.after(0.01, done.set)
        assert done.wait(DEADLINE)


def test_where_no_thread_can_start_timers_are_late_and_nobody_is_hurt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = threading.Thread.start
    names: list[str] = []

    def start(thread: threading.Thread) -> None:
        if thread.name == WORKER_NAME:
            names.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    called = threading.Event()
    with TimerRegistry() as timers:
        timers.after(0, called.set)
        assert called.wait(DEADLINE)
    assert names


def test_an_interrupted_start_leaves_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        monkeypatch.setattr(threading.Thread, "start", start)
        raise KeyboardInterrupt  # as a signal handler could once the thread runs

    with TimerRegistry() as timers:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            timers.every(0.01, lambda: None)
        called = threading.Event()
        timers.after(0.01, called.set)
        assert called.wait(DEADLINE)
        wait_until(lambda: [one.name for one in threading.enumerate()].count(CLOCK_NAME) == 1)


def test_a_clock_whose_start_was_interrupted_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    timers = TimerRegistry()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        wait_until(lambda: thread in timers._workers.threads)
        time.sleep(0.05)  # it has noted itself by now, and waits for the next timer
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            timers.every(3600, int)
    [clock] = [one for one in threading.enumerate() if one.name == CLOCK_NAME]
    assert clock in timers._workers.threads
    assert timers.close()
    assert not clock.is_alive()


def test_eight_threads_a_noisy_collector_and_destructors_that_cancel() -> None:
    timers = TimerRegistry(workers=2)
    errors: list[BaseException] = []

    class Canceller:
        def __init__(self) -> None:
            self.circle = self  # so that the collector runs the destructor, at any time
            self.handle = timers.after(3600, print)

        def __del__(self) -> None:
            self.handle.close()
            timers.after(0, int)

    def work(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - reason: no secret
        mine = []
        try:
            for _ in range(400):
                Canceller()
                owner = type("Owner", (), {})()
                timers.every(3600, int, owner=owner)
                mine.append(timers.after(chance.random() / 100, int))
                if chance.random() < 0.5:
                    mine.pop(chance.randrange(len(mine))).close()
        except BaseException as error:  # noqa: BLE001 - reason: told to the test
            errors.append(error)

    thresholds = gc.get_threshold()
    gc.set_threshold(10, 2, 2)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
    finally:
        gc.set_threshold(*thresholds)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)

    def is_empty() -> bool:
        gc.collect()
        return len(timers) == 0

    wait_until(is_empty)
    assert timers.statistics().errors == 0
    assert timers.close(timeout=DEADLINE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_without_timers_and_can_have_its_own() -> None:
    parents, called = threading.Event(), threading.Event()
    with TimerRegistry() as timers:
        handle = timers.every(0.02, parents.set)
        assert parents.wait(DEADLINE)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                parents.clear()
                empty = len(timers) == 0 and handle.closed
                timers.after(0.05, called.set)
                ok = called.wait(DEADLINE) and not parents.is_set()
                code = 0 if empty and ok else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert not handle.closed


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_an_exit_with_waiting_and_running_timers_is_quick_and_silent() -> None:
    began = time.monotonic()
    done = run(
        "import time\n"
        "from memguard.bounded.timers.threaded import TimerRegistry\n"
        "timers = TimerRegistry()\n"
        "timers.every(0.01, time.sleep, 0.01)\n"
        "timers.after(3600, print, 'never')\n"
        "time.sleep(0.2)\n"
        "print('bye')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
    assert time.monotonic() - began < 15


def test_a_callback_that_never_ends_holds_up_an_exit_for_two_seconds_only() -> None:
    began = time.monotonic()
    done = run(
        "import threading, time\n"
        "from memguard.bounded.timers.threaded import TimerRegistry\n"
        "timers = TimerRegistry()\n"
        "timers.after(0, threading.Event().wait)\n"
        "time.sleep(0.2)\n"
        "print('bye')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
    assert time.monotonic() - began < 15


def test_a_destructor_that_starts_a_timer_at_the_very_end_hangs_nothing() -> None:
    done = run(
        "from memguard.bounded.timers.threaded import TimerRegistry\n"
        "class Late:\n"
        "    def __del__(self): timers.after(0, print, 'never')\n"
        "timers, late = TimerRegistry(), Late()\n"
        "late.circle = late\n"
        "print('bye')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
