"""A detector in a process that forks, ends, is interrupted: it never stands in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.timeout(150)  # whole programs, on a machine that may be busy

PRELUDE = """
import gc, os, signal, sys, threading, time, tracemalloc
from memguard.leaks.detector import LeakDetector

LEAK = []

def leak_until(detector, state, seconds=40):
    deadline = time.monotonic() + seconds
    while detector.statistics().state != state:
        assert time.monotonic() < deadline, detector.statistics()
        LEAK.extend(bytearray(2000) for _ in range(20))
        time.sleep(0.002)

def detector_in(state, **options):
    chosen = dict(interval=0.05, min_growth_bytes="1MiB", growth_threshold=1.03, trace_seconds=20)
    detector = LeakDetector(**{**chosen, **options})
    if state != "idle":
        detector.start()
        leak_until(detector, state)
    return detector
"""


def run(source: str, *, timeout: float = 120, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", PRELUDE + textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **options},
    )


def assert_clean(done: subprocess.CompletedProcess[str], out: str = "") -> None:
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("state", ["idle", "watching", "tracing", "cooling"])
def test_a_forked_child_starts_idle_and_untraced_and_can_start_anew(state: str) -> None:
    done = run(
        f"""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads at a fork
        detector = detector_in({state!r}, trace_seconds={0.25 if state == "cooling" else 60})
        before = len(detector.reports)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert detector.statistics().state == "idle", detector.statistics().state
                assert not tracemalloc.is_tracing()
                assert threading.active_count() == 1
                assert len(detector.reports) == before
                detector.start()
                leak_until(detector, "tracing")
                assert tracemalloc.is_tracing()
                assert detector.stop()
                assert not tracemalloc.is_tracing()
                code = 0
            except BaseException as error:
                sys.stderr.write(repr(error))
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        if {state!r} == "tracing":
            assert tracemalloc.is_tracing()
        assert detector.stop()
        assert not tracemalloc.is_tracing()
        """
    )
    assert_clean(done)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.stress
def test_children_forked_at_any_moment_of_an_investigation_do_not_hang() -> None:
    """Whatever lock the detector's thread holds at that moment is gone with the thread."""
    done = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        detector = detector_in("watching", trace_seconds=0.3, cooldown=0.05)
        ended = time.monotonic() + 6
        while time.monotonic() < ended or not detector.statistics().investigations:
            LEAK.extend(bytearray(2000) for _ in range(50))
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                detector.tick()
                ok = not tracemalloc.is_tracing() and detector.statistics().state == "watching"
                os._exit(0 if ok else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            time.sleep(0.005)
        assert detector.statistics().errors == 0, detector.statistics()
        assert detector.statistics().investigations > 0
        detector.stop()
        """
    )
    assert_clean(done)


def seconds_to_end(program: str, most: float) -> float:
    """
    Return how long a process takes to end after *program*, which prints the time as its last act.

    Other work on this machine may hold up one run; the fastest of up to three tells.
    """
    best = float("inf")
    for _ in range(3):
        done = run(program)
        ended = time.time()
        assert (done.returncode, done.stderr) == (0, "")
        best = min(best, ended - float(done.stdout))
        if best < most:
            break
    return best


@pytest.mark.parametrize("state", ["watching", "tracing", "cooling"])
def test_an_interpreter_ends_with_a_running_detector(state: str) -> None:
    """Exit code 0, nothing on stderr, in less than three seconds."""
    program = f"""
        detector = detector_in({state!r}, trace_seconds={0.25 if state == "cooling" else 20})
        print(time.time())
        """
    assert seconds_to_end(program, 3) < 3


def test_an_interpreter_ends_in_the_middle_of_a_walk() -> None:
    program = """
        ROWS = [[n] for n in range(600_000)]
        detector = detector_in("watching", interval=0.02)
        leak_until(detector, "watching", 1)
        until = time.monotonic() + 20
        while not detector._search._investigation and time.monotonic() < until:
            LEAK.extend(bytearray(2000) for _ in range(50))
            time.sleep(0.001)
        print(time.time())
        """
    assert seconds_to_end(program, 4) < 4


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
@pytest.mark.parametrize("state", ["watching", "tracing"])
def test_an_interrupt_ends_the_program_as_ever(state: str) -> None:
    done = run(
        f"""
        detector = detector_in({state!r})
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert_clean(done, "interrupted")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
def test_an_interrupt_that_nobody_catches_kills_as_ever() -> None:
    done = run(
        """
        detector = detector_in("tracing")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        """
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.strip().endswith("KeyboardInterrupt")


def test_a_detector_left_running_by_a_thread_of_its_own_does_no_harm() -> None:
    done = run(
        """
        thread = threading.Thread(target=lambda: LeakDetector(interval=0.01, name="two").start())
        thread.start()
        thread.join()  # CPython 3.12 starts no thread, anybody's, once the main thread has ended
        """
    )
    assert_clean(done)


@pytest.mark.stress
def test_tuples_that_are_being_filled_survive_any_number_of_walks() -> None:
    """Held by anybody else for a moment, such a tuple makes its maker fail with a SystemError."""
    done = run(
        """
        import itertools
        from memguard.leaks.evidence import census, frames
        from memguard.leaks.holders.paths import find_paths

        failures, ended = [], threading.Event()

        def slow():
            for number in range(40):
                [[n] for n in range(800)]
                time.sleep(0.001)
                yield number

        def fill():
            try:
                while not ended.is_set():
                    assert tuple(slow()) == tuple(range(40))
            except BaseException as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=fill) for _ in range(3)]
        for thread in threads:
            thread.start()
        rows = [[n] for n in range(100_000)]
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline and not failures:
            census.take_look(0.0)
            find_paths({id(rows[5]): rows[5]}, seconds=5)
            frames.functions_at([("nowhere.py", 1)])
            gc.collect()
        ended.set()
        for thread in threads:
            thread.join()
        print(failures)
        """
    )
    assert_clean(done, "[]")


@pytest.mark.stress
def test_the_collector_still_ends_after_a_walk_over_asyncio() -> None:
    """A reference to the dead futures that _asyncio keeps sends CPython 3.12.1 round in circles."""
    done = run(
        """
        import asyncio

        async def main():
            detector = detector_in("watching", trace_seconds=0.3)
            loop = asyncio.get_running_loop()
            ended = time.monotonic() + 4
            kept = []
            while time.monotonic() < ended:
                future = loop.create_future()
                loop.call_later(0.0005, future.set_result, bytearray(4000))
                kept.append(await future)
            await asyncio.to_thread(detector.check, seconds=0.1)
            detector.stop()
            return len(detector.reports)

        assert asyncio.run(main()) >= 1
        signal.alarm(20)
        gc.collect()
        gc.collect()
        """
    )
    assert_clean(done)


def test_a_heap_that_was_frozen_before_a_fork_is_looked_at() -> None:
    done = run(
        """
        import types
        SESSIONS = {}
        gc.freeze()
        detector = detector_in("watching", trace_seconds=0.5)
        until = time.monotonic() + 60
        while not detector.reports and time.monotonic() < until:
            for _ in range(20):
                SESSIONS[len(SESSIONS)] = [bytearray(2000)]
            time.sleep(0.002)
        detector.stop()
        print(detector.reports[0].holders[0].path)
        """
    )
    assert_clean(done, "__main__.SESSIONS")
