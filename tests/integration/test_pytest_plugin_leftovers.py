"""Tests that leave threads, tasks, timers, listeners and pools behind, in a real pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugged import PLUGIN, run_pytest

pytestmark = pytest.mark.timeout(180)  # a whole pytest, on a machine that may be busy

LEFT = """
    import asyncio, threading
    import pytest, pytest_asyncio
    from memguard import AsyncTimerRegistry, ListenerRegistry, ObjectPool, TimerRegistry

    END = threading.Event()
    BUS = ListenerRegistry(name="bus")
    TIMERS = TimerRegistry(name="clock")
    POOL = ObjectPool(object, reset=None, maxsize=4, name="old pool")
    HELD = []

    def teardown_module():
        END.set()
        TIMERS.close()

    def serve():
        END.wait(60)

    def test_a_thread_is_left():
        threading.Thread(target=serve, name="server", daemon=True).start()

    def test_a_thread_with_a_name_that_may_stay():
        threading.Thread(target=serve, name="allowed-1", daemon=True).start()

    def test_a_failure_is_not_made_two():
        threading.Thread(target=serve, name="of a failure", daemon=True).start()
        assert 1 == 2

    def test_a_timer_thread_is_left():
        timer = threading.Timer(60, print)
        timer.daemon = True
        timer.start()
        HELD.append(timer)

    def listen(*_):
        pass

    def test_listeners_are_left():
        BUS.on("x", listen)
        BUS.on("y", listen)

    def test_listeners_that_go():
        with BUS.on("z", listen):
            pass

    def test_timers_are_left():
        TIMERS.after(60, listen)

    def test_a_pool_is_left_open():
        HELD.append(ObjectPool(object, reset=None, maxsize=1, name="new pool"))

    def test_a_pool_that_nobody_holds():
        cycle = [ObjectPool(object, reset=None, maxsize=1)]
        cycle.append(cycle)

    def test_an_object_is_not_given_back():
        HELD.append(POOL.acquire())

    @pytest.fixture
    def served():
        end = threading.Event()
        thread = threading.Thread(target=end.wait)
        thread.start()
        yield
        end.set()
        thread.join()

    def test_what_a_fixture_ends(served):
        pass

    @pytest.fixture(scope="module")
    def server():
        threading.Thread(target=serve, name="shared server", daemon=True).start()
        listener = BUS.on("shared", listen)
        yield
        END.set()
        listener.close()

    def test_what_a_wider_fixture_starts_is_its_own(server):
        pass

    def test_of_which_it_may_have_it_as_long_as_it_is_up(server):
        pass

    async def forever():
        await asyncio.sleep(60)

    @pytest.mark.asyncio
    async def test_a_task_is_left():
        HELD.append(asyncio.create_task(forever(), name="poller"))
        await asyncio.sleep(0)

    @pytest.mark.asyncio
    async def test_a_task_that_is_done():
        await asyncio.create_task(asyncio.sleep(0))

    @pytest_asyncio.fixture
    async def polled():
        task = asyncio.create_task(forever())
        yield
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    @pytest.mark.asyncio
    async def test_a_task_that_its_fixture_ends(polled):
        await asyncio.sleep(0)

    @pytest.mark.anyio
    async def test_that_anyio_runs(anyio_backend):
        await asyncio.sleep(0)

    @pytest.mark.memguard(fail_on="none")
    def test_that_may():
        threading.Thread(target=serve, name="may stay", daemon=True).start()

    @pytest.mark.memguard(leaks="1MiB", warmup=1, repeat=2)
    def test_that_is_run_again_too():
        threading.Thread(target=serve, name="again", daemon=True).start()
"""
OUTLIVED = """
    import threading
    import pytest

    @pytest.fixture(scope="module")
    def careless():
        end = threading.Event()
        threading.Thread(target=end.wait, name="careless", daemon=True).start()
        yield

    def test_one(careless):
        pass

    def test_two(careless):
        pass
"""
SETTINGS = """
    memguard_fail_on = all
    memguard_grace = 0s
    memguard_ignore_threads = allowed-*
    asyncio_default_fixture_loop_scope = function
"""


def test_what_a_test_leaves_behind_fails_it_at_its_teardown(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, LEFT, plugins=[PLUGIN, "asyncio", "anyio"], ini=SETTINGS)
    left = {
        "test_a_thread_is_left": "thread 'server' (daemon), which is at test_it.py:",
        "test_a_timer_thread_is_left": "thread 'Thread-",
        "test_listeners_are_left": "2 listeners of 'bus'",
        "test_timers_are_left": "1 timer of 'clock'",
        "test_a_pool_is_left_open": "pool 'new pool', which was not closed",
        "test_an_object_is_not_given_back": "1 object of pool 'old pool', not released",
        "test_a_task_is_left": "task 'poller', which is at test_it.py:",
        "test_that_is_run_again_too": "thread 'again' (daemon)",
    }
    for name, case in result.cases.items():
        if name == "test_a_failure_is_not_made_two":
            assert case.outcome == "failed", result.output
            assert "left behind" not in case.text
        elif name in left:
            assert (name, case.outcome) == (name, "error"), result.output
            assert left[name] in case.text
            assert "memguard: left behind by this test:" in case.text
            assert case.properties["memguard.left_behind"]
        else:
            assert (name, case.outcome) == (name, "passed"), result.output
    assert len(result.cases) == 19
    line = 1 + LEFT.splitlines().index('        BUS.on("x", listen)')
    assert f"test_it.py:{line}" in result.cases["test_listeners_are_left"].text
    assert result.output.count("thread 'again'") < 4, "once, and not for each run"


def test_what_outlives_a_wider_fixture_is_told_when_that_is_torn_down(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, OUTLIVED, "--memguard-fail-on=threads", ini="memguard_grace = 0s")
    assert result.outcomes() == {"test_one": "passed", "test_two": "error"}, result.output
    assert "outlives the fixture 'test_it.py::careless'" in result.cases["test_two"].text
