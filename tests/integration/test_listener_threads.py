"""Listeners and scopes among threads, forks, exits and destructors that come at any time."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from memguard.bounded.events.registry import ListenerRegistry, attach
from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.scope import Scope

DEADLINE = 30.0


class Ear:
    """Hears, and can be weakly referenced."""

    def hear(self, *_args: Any) -> None:
        """Do nothing."""


@contextlib.contextmanager
def noisy_collector() -> Any:
    """Collect all the time, so that destructors run anywhere."""
    thresholds = gc.get_threshold()
    gc.set_threshold(10, 2, 2)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def leftovers(registry: ListenerRegistry) -> tuple[int, ...]:
    """Return how much each part of the registry's table holds."""
    table = registry._table
    return len(table.entries), len(table.buckets), len(table.endings), len(table._dead)


def in_threads(count: int, work: Any) -> None:
    """Run *work* in so many threads, and raise what the first of them raised."""
    errors: list[BaseException] = []

    def run(seed: int) -> None:
        try:
            work(random.Random(seed))  # noqa: S311 - reason: no secret
        except BaseException as error:  # noqa: BLE001 - reason: raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads), "dead-locked"
    if errors:
        raise errors[0]


def test_eight_threads_a_noisy_collector_and_destructors_that_register() -> None:
    registry = ListenerRegistry(maxsize=1_000_000, max_listeners=1_000_000)
    steady = Ear()
    registry.on("steady", steady.hear)

    class Meddler:
        """Uses the registry wherever the collector finds it."""

        def __init__(self, event: str) -> None:
            self.circle = self
            self.event = event
            self.handle = registry.on(event, functools.partial(len, ()))

        def __del__(self) -> None:
            self.handle.close()
            registry.on(self.event, functools.partial(len, ())).close()
            registry.emit("other")
            registry.count(self.event)

    def work(chance: random.Random) -> None:
        for number in range(400):
            event = f"event {chance.randrange(5)}"
            Meddler(event)
            ear = Ear()
            registry.on(event, ear.hear, once=chance.random() < 0.3)
            with Scope() as scope:
                registry.on(event, functools.partial(len, ()), owner=scope)
                scope.defer(registry.emit, event)
                registry.on(event, functools.partial(len, ()), owner=ear, until="over")
            if number % 50 == 0:
                registry.emit("over")
            registry.off(event, ear.hear)

    with noisy_collector():
        in_threads(8, work)
    gc.collect()
    assert registry.events() == ["steady"]
    assert len(registry) == 1
    assert registry.statistics().errors == 0
    assert leftovers(registry) == (1, 1, 0, 0)


def test_eight_threads_share_scopes_and_owners() -> None:
    scope = Scope(maxsize=1_000_000)
    ran: list[int] = []

    class Meddler:
        def __init__(self) -> None:
            self.circle = self

        def __del__(self) -> None:
            scope.defer(ran.append, 1)
            owners.end_collected()

    def work(chance: random.Random) -> None:
        for _ in range(300):
            Meddler()
            handle = scope.defer(ran.append, 1)
            if chance.random() < 0.5:
                handle.close()
            owner = Ear()
            attach(ran.append, ran.append, 1, owner=owner).forget()

    with noisy_collector():
        in_threads(8, work)
        gc.collect()
    scope.close()
    # 2400 deferred by hand, 2400 by destructors, 2400 attached.
    assert len(ran) == 7200
    assert scope.statistics().errors == 0


def test_an_emit_is_not_held_up_by_a_listener_of_another_thread() -> None:
    registry, release, heard = ListenerRegistry(), threading.Event(), threading.Event()
    registry.on("slow", functools.partial(release.wait, DEADLINE))
    thread = threading.Thread(target=registry.emit, args=("slow",))
    thread.start()
    registry.on("quick", heard.set)
    registry.emit("quick")
    assert heard.is_set()
    release.set()
    thread.join(DEADLINE)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.filterwarnings(  # raised in a death callback, the exception goes to nobody
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_signal_handler_that_raises_leaves_the_registry_whole() -> None:
    registry = ListenerRegistry()

    class Interrupted(Exception):  # noqa: N818 - reason: no error of anybody
        """Raised out of nowhere."""

    def handler(*_args: Any) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, handler)
    interrupted = 0
    soon, at_last = time.monotonic() + 3, time.monotonic() + DEADLINE
    try:
        while interrupted < 300 and time.monotonic() < (soon if interrupted > 10 else at_last):
            ear = Ear()
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00005 + interrupted % 10 * 0.00001)
                for _ in range(50):
                    registry.on("saved", ear.hear, once=True)
                    registry.emit("saved")
                    registry.on("saved", print, owner=ear).close()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
            except KeyError as error:  # threading's own, where a start of the janitor was hit
                if not isinstance(error.__context__, Interrupted):
                    raise
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:  # between two of the lines above
        pass
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    del ear
    registry.clear()
    assert not registry._table._changing
    assert not registry._table._torn
    assert registry._table.lock.acquire(blocking=False)
    registry._table.lock.release()
    assert leftovers(registry) == (0, 0, 0, 0)
    done = threading.Event()

    def use() -> None:
        registry.on("saved", len).close()
        done.set()

    thread = threading.Thread(target=use)
    thread.start()
    assert done.wait(DEADLINE), "the lock is held by nobody"
    thread.join(DEADLINE)
    assert registry.count() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_threads_use_the_registry_can_use_it() -> None:
    registry, stop = ListenerRegistry(), threading.Event()
    ear = Ear()
    registry.on("steady", ear.hear)

    def churn() -> None:
        while not stop.is_set():
            other = Ear()
            registry.on("churn", other.hear)
            with registry.muted("steady"), Scope() as scope:
                registry.on("churn", functools.partial(len, ()), owner=scope)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    signal.alarm(40)  # a child that dead-locks is killed
                    heard = registry.emit("steady", 1).results == (None,)
                    with Scope() as scope:
                        registry.on("new", print, owner=scope)
                        ok = registry.count("new") == 1
                    code = 0 if heard and ok and registry.count("new") == 0 else 2
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("room", "called_under_the_lock", "use"),
    [
        ("janitor", "_Watch", "janitor.watch(ListenerRegistry())"),
        ("owners", "_OwnerRef", "owners.adopt(Ear(), Ear(), 1)"),
        ("refresh", "len", "refresh.in_background(print)"),
    ],
)
def test_a_fork_beside_the_first_use_of_a_process_leaves_no_lock_held(
    room: str, called_under_the_lock: str, use: str
) -> None:
    """A thread that is gone in the child may be within its first steps with a lock of ours."""
    program = f"""
import os, signal, threading, warnings
warnings.simplefilter("ignore")  # forking with threads is what is tested
from memguard.bounded.cache.loading import refresh
from memguard.bounded.events.registry import ListenerRegistry
from memguard.bounded.lifetime import owners
from memguard.lifecycle import janitor
class Ear: pass
inside, go_on = threading.Event(), threading.Event()
here = threading.get_ident()
real = vars({room}).get("{called_under_the_lock}", len)
def slow(*arguments):
    if threading.get_ident() != here:
        inside.set()
        go_on.wait(40)
    return real(*arguments)
{room}.{called_under_the_lock} = slow
thread = threading.Thread(target=lambda: {use})
thread.start()
assert inside.wait(40)
child = os.fork()
if child == 0:
    signal.alarm(20)  # a child that dead-locks is killed
    {use}
    os._exit(0)
status = os.waitpid(child, 0)[1]
go_on.set()
thread.join()
janitor.stop()
refresh.stop()
print(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=55, check=False
    )
    assert (done.returncode, done.stdout.split()[-1:], done.stderr) == (0, ["0"], "")


def test_an_exit_with_open_scopes_and_listeners_is_quick_and_silent() -> None:
    program = (
        "from memguard.bounded.events.registry import ListenerRegistry\n"
        "from memguard.bounded.lifetime.scope import Scope\n"
        "class Ear:\n"
        "    def hear(self): pass\n"
        "    def __del__(self): registry.on('late', len).close()\n"
        "registry, ears, scope = ListenerRegistry(), [Ear() for _ in range(100)], Scope()\n"
        "for ear in ears:\n"
        "    registry.on('x', ear.hear)\n"
        "    registry.on('x', print, owner=ear)\n"
        "scope.defer(print, 'not run at exit')\n"
        "ears.append(ears)\n"
        "print('bye')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
