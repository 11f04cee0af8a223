"""Relief while eight threads use what it takes from."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.pool.buffer_pool import BufferPool
from memguard.guard import MemoryGuard
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.registry import Registration
from memguard.relief.callbacks import Callbacks
from memguard.relief.monitor import PressureMonitor
from memguard.relief.steps import Relief
from tests.relieving import MIB
from tests.specimens import leak_report
from tests.waiting import wait_for

THREADS = 8


def in_threads(work: Callable[[int], None], *, beside: Callable[[], None]) -> list[BaseException]:
    """Run *work* in eight threads until *beside* is over; return what went wrong."""
    errors: list[BaseException] = []
    done = threading.Event()

    def loop(number: int) -> None:
        try:
            while not done.is_set():
                work(number)
        except BaseException as error:  # noqa: BLE001 - reason: collected, and asserted on
            errors.append(error)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        beside()
    finally:
        done.set()
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return errors


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", ["callbacks", "subscribers"])
def test_no_registration_is_lost_and_none_comes_back(kind: str) -> None:
    callbacks, guard = Callbacks(Failures("relief.failed")), MemoryGuard()

    def add() -> Registration[Any]:
        if kind == "callbacks":
            return callbacks.add(int, level="critical", priority=0)
        return guard.subscribe(lambda _: heard.append(1))

    heard: list[int] = []
    kept: list[Registration[Any]] = []

    def work(_: int) -> None:
        for _ in range(20):
            with add():
                pass
        if len(kept) < 50:
            kept.append(add())
            if kind == "callbacks":
                assert kept[-1].entry in callbacks.due("critical")

    errors = in_threads(work, beside=lambda: wait_for(lambda: len(kept) >= 50))
    assert errors == []
    guard._leaked(leak_report())
    assert len(kept) == (len(callbacks) if kind == "callbacks" else len(heard))
    for registration in kept:
        registration.close()
    heard.clear()
    guard._leaked(leak_report())
    assert (len(callbacks), heard) == (0, [])


def test_runs_callbacks_and_registrations_in_eight_threads_do_no_harm() -> None:
    caches = [BoundedCache[int, bytes](maxbytes="8MiB", name=f"c{n}") for n in range(4)]
    entries: BoundedCache[int, bytes] = BoundedCache(5000, ttl=0.05)
    pool = BufferPool([4096], maxbytes="4MiB")
    relief = Relief()
    runs = [0]

    def work(number: int) -> None:
        chance = random.Random()  # noqa: S311 - reason: a workload
        for _ in range(200):
            key = chance.randrange(3000)
            cache = caches[key % 4]
            value = cache.get(key)
            if value is None:
                cache[key] = bytes([key % 256]) * 2000
            else:
                assert value[0] == key % 256
            entries[key] = b"x"
            with pool.lease(4096) as buffer:
                buffer[0] = 1
        with relief.on_pressure(lambda: None, priority=number):
            runs[0] += not relieve()
        relief.hold(MIB)
        relief.regrow(MIB)

    def relieve() -> bool:
        return relief.relieve(200_000, level="elevated", force=False).busy

    def beside() -> None:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            relief.relieve(MIB)
            relief.statistics()
            time.sleep(0.01)

    assert in_threads(work, beside=beside) == []
    assert runs[0] > 0
    assert relief.statistics().errors == 0
    assert relief.statistics().callbacks == 0
    relief.restore()
    assert [cache.maxbytes for cache in caches] == [8 * MIB] * 4
    assert entries.maxsize == 5000


@pytest.mark.stress
def test_a_guard_keeps_eight_filling_threads_below_its_own_limit() -> None:
    """Caches that want ten times the limit; what they hold is bounded, the rest is turned over."""
    base = PressureMonitor("1TiB")
    base.tick()
    own = (base.pressure().private or 0) + 64 * MIB
    caches = [BoundedCache[int, bytes](maxbytes="80MiB", name=f"w{n}") for n in range(8)]
    highest = [0]

    def work(number: int) -> None:
        chance = random.Random()  # noqa: S311 - reason: a workload
        for _ in range(50):
            key = chance.randrange(20_000)
            if caches[number].get(key) is None:
                caches[number][key] = b"x" * 10_000
        time.sleep(0.001)

    with MemoryGuard(limit=own, leaks=False, elevated=0.85, critical=0.95) as guard:

        def beside() -> None:
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                highest[0] = max(highest[0], guard.status().pressure.private or 0)
                time.sleep(0.02)

        errors = in_threads(work, beside=beside)
        status = guard.status()
    assert errors == []
    assert highest[0] < own
    assert status.relief is not None
    assert status.relief.lowered_caches >= 8
    assert status.monitor.errors == status.relief.errors == 0
    assert status.monitor.level_changes <= 6
    assert [cache.maxbytes for cache in caches] == [80 * MIB] * 8


@pytest.mark.stress
def test_caches_grow_back_when_the_pressure_has_passed() -> None:
    """In a process of its own: the levels are shares of what a process uses at all."""
    program = """
        import time
        from memguard import BoundedCache, MemoryGuard, PressureMonitor

        MIB = 2**20
        cache = BoundedCache(maxbytes="40MiB", name="victim")

        def fill():
            for number in range(3500):
                if number not in cache:
                    cache[number] = b"x" * 10_000

        fill()
        base = PressureMonitor("1TiB")
        base.tick()
        own = base.pressure().private + 40 * MIB
        with MemoryGuard(
            limit=own, leaks=False, elevated=0.95, critical=0.98, hold_off=0.3
        ) as guard:
            ballast = [bytearray(b"x" * MIB) for _ in range(60)]
            deadline = time.monotonic() + 20
            while len(cache) == 3500 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(cache) < 3500
            ballast.clear()
            deadline = time.monotonic() + 30
            while len(cache) < 3500 and time.monotonic() < deadline:
                if guard.level == "ok":
                    fill()
                time.sleep(0.05)
            assert len(cache) == 3500, (cache, guard.status().pressure)
            assert cache.maxbytes > 30 * MIB
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
