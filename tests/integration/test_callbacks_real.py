"""Callbacks of relief in real threads, event loops, forked children and processes that end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.guard import MemoryGuard
from memguard.relief.records import ReliefReport
from memguard.relief.steps import Relief
from tests.waiting import wait_for


@pytest.fixture
def relief() -> Iterator[Relief]:
    relief = Relief()
    yield relief
    assert relief.stop_callbacks(30)


@contextlib.contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in another thread; closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def step(report: ReliefReport, name: str) -> Any:
    return next(each for each in report.steps if each.name == name)


def run(program: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


# -- event loops ----------------------------------------------------------------------------------


def test_a_coroutine_function_runs_on_the_loop_it_was_registered_on(relief: Relief) -> None:
    seen: list[Any] = []

    async def shed(goal: int, level: str) -> int:
        await asyncio.sleep(0.01)
        seen.append((asyncio.get_running_loop(), threading.get_ident(), level))
        return goal

    async def main() -> tuple[ReliefReport, asyncio.AbstractEventLoop]:
        relief.on_pressure(shed)
        report = await asyncio.to_thread(relief.relieve, 2**40)
        return report, asyncio.get_running_loop()

    report, loop = asyncio.run(main())
    assert seen == [(loop, threading.get_ident(), "critical")]
    assert step(report, "callbacks").freed == pytest.approx(2**40, rel=0.01)


def test_a_plain_function_runs_on_a_loop_that_is_given(relief: Relief) -> None:
    """A dict that only its loop touches needs no lock."""
    seen: list[Any] = []
    with running_loop() as loop:
        relief.on_pressure(lambda: seen.append(asyncio.get_running_loop()), loop=loop)
        relief.relieve(2**40)
        assert seen == [loop]


def test_many_loops_at_once(relief: Relief) -> None:
    seen: list[Any] = []

    async def shed() -> None:
        await asyncio.sleep(0)
        seen.append(asyncio.get_running_loop())

    with contextlib.ExitStack() as stack:
        loops = [stack.enter_context(running_loop()) for _ in range(5)]
        for loop in loops:
            relief.on_pressure(shed, loop=loop)
        relief.relieve(2**40)
        assert seen == loops


def test_relieve_in_the_thread_of_the_loop_does_not_wait_for_it(relief: Relief) -> None:
    seen: list[int] = []

    async def shed() -> None:
        seen.append(1)

    async def main() -> float:
        relief.on_pressure(shed, deadline=30)
        began = time.monotonic()
        report = relief.relieve(2**40)
        took = time.monotonic() - began
        assert step(report, "callbacks").running == 1
        while not seen:  # noqa: ASYNC110 - reason: nothing signals it, on purpose
            await asyncio.sleep(0.001)
        return took

    assert asyncio.run(main()) < 10


def test_a_loop_that_stands_still_holds_up_nobody(relief: Relief) -> None:
    opened, called = threading.Event(), []

    async def never_yields() -> None:
        opened.wait(30)

    with running_loop() as loop:
        relief.on_pressure(never_yields, loop=loop, deadline=0.05)
        relief.on_pressure(lambda: called.append(1))
        relief.relieve(2**40, level="critical", force=False)
        wait_for(lambda: called)
        wait_for(lambda: relief.settle() is None or relief.statistics().callback_overruns)
        report = relief.relieve(2**40, level="critical", force=False)
        assert step(report, "callbacks").running == 1
        opened.set()
        wait_for(lambda: not relief._means.calls._under_way)
    assert relief.statistics().callback_overruns == 1


@pytest.mark.parametrize("when", ["before the run", "while it waits for it"])
def test_a_loop_that_was_closed_drops_its_callbacks_with_one_warning(
    relief: Relief, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    called: list[int] = []

    async def shed() -> None:
        called.append(1)

    loop = asyncio.new_event_loop()
    relief.on_pressure(shed, loop=loop, deadline=0.05)
    if when == "while it waits for it":
        relief.relieve(2**40)
    loop.close()
    for _ in range(3):
        relief.relieve(2**40)
    assert relief.statistics().callbacks == 0
    assert relief.statistics().errors == 0
    said = [line for line in caplog.messages if "relief.callback_dropped" in line]
    assert len(said) == 1
    assert "its event loop is closed" in said[0]
    assert not called


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
def test_a_task_that_fails_is_counted_and_comes_again(relief: Relief, how: str) -> None:
    calls: list[int] = []

    async def shed() -> None:
        calls.append(1)
        if how == "raises":
            raise ValueError
        raise asyncio.CancelledError

    with running_loop() as loop:
        relief.on_pressure(shed, loop=loop)
        for _ in range(2):
            relief.relieve(2**40)
    assert len(calls) == 2
    counted = (("callback: ValueError", 2),) if how == "raises" else ()
    assert relief.statistics().errors_by_kind == counted


# -- threads --------------------------------------------------------------------------------------


def test_a_callback_that_blocks_for_ever_holds_up_neither_the_monitor_nor_others() -> None:
    opened, quick = threading.Event(), [0]

    def count() -> None:
        quick[0] += 1

    with MemoryGuard(limit="1MiB", leaks=False, interval=0.05) as guard:  # critical at once
        guard.on_pressure(lambda: opened.wait(60), stage="free", deadline=0.1)
        guard.on_pressure(count)
        wait_for(lambda: quick[0] >= 3)
        before = guard.monitor.statistics().ticks
        wait_for(lambda: guard.monitor.statistics().ticks > before + 3)
        wait_for(lambda: guard.status().relief.callback_overruns == 1)  # type: ignore[union-attr] # reason: it has relief
        opened.set()


def test_one_that_blocks_costs_a_manual_run_its_deadline_and_no_more(relief: Relief) -> None:
    opened, called = threading.Event(), [0]

    def count() -> None:
        called[0] += 1

    relief.on_pressure(lambda: opened.wait(60), deadline=0.2)
    for _ in range(10):
        relief.on_pressure(count, deadline=30)
    report = relief.relieve(2**40)
    assert called == [10]
    assert step(report, "callbacks").items == 11
    assert step(report, "callbacks").running == 1
    assert report.seconds < 20
    opened.set()


def test_the_thread_ends_with_the_guard() -> None:
    names: list[str] = []
    with MemoryGuard(limit="1MiB", leaks=False, interval=0.05) as guard:
        guard.on_pressure(lambda: names.append(threading.current_thread().name))
        wait_for(lambda: names)
    assert set(names) == {"memguard-callbacks"}
    assert "memguard-callbacks" not in {each.name for each in threading.enumerate()}


def test_eight_threads_relieve_register_and_close_while_callbacks_run(relief: Relief) -> None:
    errors: list[BaseException] = []
    called = [0]

    def shed(goal: int, level: str) -> int:
        called[0] += 1
        assert goal >= 0
        assert level in ("elevated", "critical")
        return 1000

    def work(number: int) -> None:
        try:
            for turn in range(60):
                with relief.on_pressure(shed, stage="cheap" if turn % 2 else "costly"):
                    relief.relieve(2**40, level="critical", force=bool(number % 2))
                    relief.settle()
        except BaseException as error:  # noqa: BLE001 - reason: collected, and asserted on
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert called[0] > 0
    assert relief.statistics().callbacks == 0
    assert relief.statistics().errors == 0
    wait_for(lambda: not relief._means.calls._under_way)


# -- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["in a thread", "on a loop"])
def test_an_exit_is_not_held_up_by_a_callback_that_runs(kind: str) -> None:
    began = time.monotonic()
    done = run(
        f"""
        import asyncio, threading, memguard
        begun = threading.Event()

        def hang():
            begun.set()
            threading.Event().wait()

        async def hang_on_loop():
            begun.set()
            await asyncio.sleep(3600)

        guard = memguard.install(limit="1MiB", leaks=False, interval=0.05)
        if {kind == "in a thread"}:
            guard.on_pressure(hang)
        else:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True).start()
            guard.on_pressure(hang_on_loop, loop=loop)
        assert begun.wait(30)
        print("end")
        """
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_calls_callbacks_in_a_thread_of_its_own() -> None:
    """Also those that ran in the parent at that moment; a loop of the parent's is not touched."""
    done = run(
        """
        import asyncio, logging, os, threading, warnings
        from memguard.relief import Relief
        logging.basicConfig(level=logging.WARNING)
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point

        relief, opened, begun, called = Relief(), threading.Event(), threading.Event(), []

        def slow():
            begun.set()
            called.append(os.getpid())
            opened.wait(30 if os.getpid() == parent else 0)

        async def on_loop():
            called.append("loop")

        parent = os.getpid()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        relief.on_pressure(slow, deadline=60)
        relief.on_pressure(on_loop, loop=loop)
        relief.relieve(2**40, level="critical", force=False)
        assert begun.wait(30)
        child = os.fork()
        if not child:
            called.clear()
            relief.relieve(2**40)
            relief.relieve(2**40)
            good = called == [os.getpid()] * 2 and relief.statistics().callbacks == 1
            os._exit(0 if good else 1)
        _, status = os.waitpid(child, 0)
        opened.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        assert relief.stop_callbacks(30)
        print(os.waitstatus_to_exitcode(status), relief.statistics().callbacks)
        """
    )
    assert (done.returncode, done.stdout) == (0, "0 2\n"), done.stderr
    assert done.stderr.count("relief.callback_dropped") == 1
    assert "that of the parent process" in done.stderr


PATIENT = """
    import threading, time
    import memguard

    need, calls, store, top = threading.Event(), [0], [], 0

    def shed():
        calls[0] += 1
        need.set()

    guard = memguard.install(limit="200MiB", leaks=False)
    guard.on_pressure(shed, {options})
    end = time.monotonic() + 6
    while time.monotonic() < end:
        store.append(bytearray(600_000))
        time.sleep(0.005)
        top = max(top, len(store) * 600_000)
        if need.is_set():
            need.clear()
            store.clear()
    status = guard.status().relief
    memguard.uninstall()
    print(calls[0], top >> 20, status.callback_freed >> 20)
"""


@pytest.mark.stress
@pytest.mark.parametrize("options", ["", "stage='free'"])
def test_a_flag_that_another_thread_obeys_keeps_a_process_below_its_limit(options: str) -> None:
    """As an event loop's own dict: the callback itself frees nothing, and is asked all the same."""
    done = run(PATIENT.format(options=options))
    assert done.returncode == 0, done.stderr
    calls, top, freed = map(int, done.stdout.split())
    assert top < 180
    assert calls >= 2
    assert freed >= 100


def test_a_backlog_of_tasks_is_shed_on_its_loop(relief: Relief) -> None:
    """The callback runs on the loop that owns the backlog, while the loop goes on."""
    shed_by: list[int] = []
    backlog = [bytearray(1_000_000) for _ in range(50)]

    async def main(register: Callable[..., Any]) -> float:
        async def shed(goal: int) -> int:
            count = min(len(backlog), goal // 1_000_000 + 1)
            del backlog[:count]
            await asyncio.sleep(0)
            shed_by.append(threading.get_ident())
            return count * 1_000_000

        register(shed, stage="cheap")
        worst, waiting = 0.0, asyncio.ensure_future(asyncio.to_thread(relief.relieve, "20MB"))
        while not waiting.done():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - began)
        assert step(await waiting, "cheap-callbacks").freed >= 20_000_000
        return worst

    assert asyncio.run(main(relief.on_pressure)) < 1
    assert len(backlog) < 32
    assert shed_by == [threading.get_ident()]
