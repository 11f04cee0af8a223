"""Children without a guard: noted in shared memory, noticed by their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from memguard.guard.children import PATIENCE, Children
from tests.clock import FakeClock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@contextmanager
def forked(*work: str, of: Children) -> Iterator[int]:
    """Fork a child that calls methods of *of*, and waits to be killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        for each in work:
            getattr(of, each)()
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_a_child_is_unguarded_when_its_time_is_up(fake_clock: FakeClock) -> None:
    children = Children(clock=fake_clock)
    children.open()
    assert children.unguarded() is None
    with forked("enter", of=children) as pid:
        fake_clock.advance(PATIENCE - 1)
        assert children.unguarded() is None
        fake_clock.advance(1)
        assert children.unguarded() == pid
    assert children.unguarded() is None, "it has ended"


@pytest.mark.parametrize("ends_by", ["open", "leave"])
def test_a_child_that_starts_or_stops_its_guard_is_none(
    ends_by: str, fake_clock: FakeClock
) -> None:
    children = Children(clock=fake_clock)
    children.open()
    with forked("enter", ends_by, of=children):
        fake_clock.advance(PATIENCE + 1)
        assert children.unguarded() is None


def test_a_child_of_a_guarded_child_is_its_business(fake_clock: FakeClock) -> None:
    children = Children(clock=fake_clock)
    children.open()
    page = children._page
    with forked("enter", "open", "enter", of=children):
        fake_clock.advance(PATIENCE + 1)
        assert children.unguarded() is None
    assert children._page is page


def test_neither_another_program_nor_a_stranger_is_a_child(fake_clock: FakeClock) -> None:
    children = Children(clock=fake_clock)
    children.open()
    other = subprocess.Popen(["/bin/sleep", "60"])
    try:
        for pid in (other.pid, os.getppid()):
            children._pid = 0
            real = os.getpid
            os.getpid = lambda pid=pid: pid  # type: ignore[misc]
            try:
                children.enter()
            finally:
                os.getpid = real
            fake_clock.advance(PATIENCE + 1)
            assert children.unguarded() is None
    finally:
        other.kill()
        other.wait()


def test_without_a_page_nothing_is_noted() -> None:
    children = Children()
    children.enter()
    children.leave()
    assert children.unguarded() is None


def test_the_parent_says_once_that_a_child_has_no_guard() -> None:
    program = """
import logging, os, signal, sys, time
logging.basicConfig(format="%(process)d %(message)s", stream=sys.stdout)
import memguard
from memguard.guard import children
restarts = eval(sys.argv[1])
children.PATIENCE = 2.0 if restarts else 0.05  # a restart takes 50 ms, and the machine may be busy
said = []
class Handler(logging.Handler):
    def emit(self, record):
        if "child_unguarded" in record.getMessage():
            said.append(os.getpid())
logging.getLogger("memguard").addHandler(Handler())
guard = memguard.install(interval=0.02, leaks=False, restart_in_children=restarts)
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    pids.append(pid)
before = guard.status().monitor.ticks
deadline = time.monotonic() + 30
time.sleep(1.2 * children.PATIENCE)
while not said and guard.status().monitor.ticks < before + 30 and time.monotonic() < deadline:
    time.sleep(0.01)
ticks = guard.status().monitor.ticks
while guard.status().monitor.ticks < ticks + 5 and time.monotonic() < deadline:
    time.sleep(0.01)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
memguard.uninstall()
assert set(said) <= {os.getpid()}
print("said", len(said))
"""
    for option, times in (("None", 1), ("False", 0), ("True", 0)):
        done = subprocess.run(
            [sys.executable, "-c", program, option],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.splitlines()[-1] == f"said {times}", (option, done.stdout, done.stderr)
