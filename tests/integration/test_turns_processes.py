"""Turns among real processes, some of which are killed while they hold one."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from memguard.integrations.workers.recycle_policy import RecycleOptions, TurnRecord
from memguard.integrations.workers.turns import Turns
from tests.clock import FakeClock

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

OPTIONS = RecycleOptions(limit=1, interval=60)


class Child:
    """A forked process that does *work*, says what came of it, and stays until it is killed."""

    def __init__(self, work: Callable[[], str]) -> None:
        told, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.write(tell, work().encode())
                signal.pause()
            finally:
                os._exit(1)
        os.close(tell)
        self.said = os.read(told, 200).decode()
        os.close(told)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_only_one_process_has_a_turn_and_its_death_gives_it_back(fake_clock: FakeClock) -> None:
    turns = Turns(timer=fake_clock)

    def take() -> str:
        turn = turns.take(OPTIONS, at_once=False)
        return "granted" if turn.granted else turn.reason

    first = Child(take)
    second = Child(take)
    try:
        fake_clock.advance(10_000)
        third = Child(take)  # much later, and still: the first one has not ended
        third.kill()
    finally:
        first.kill()
        second.kill()
    assert first.said == "granted"
    assert {second.said, third.said} == {"another worker is ending"}
    assert turns.record().granted == 1
    fourth = Child(take)
    fourth.kill()
    assert fourth.said == "granted"


def test_many_processes_are_all_counted_as_ready() -> None:
    turns = Turns()

    def ready_often() -> str:
        return str(sum(turns.ready() for _ in range(50)))

    children = [Child(ready_often) for _ in range(4)]
    for child in children:
        child.kill()
    assert [child.said for child in children] == ["50"] * 4
    assert turns.record().ready == 200


def test_a_half_written_file_is_mended_and_costs_one_interval(fake_clock: FakeClock) -> None:
    turns = Turns(timer=fake_clock)
    os.pwrite(turns._descriptor, b"\xff", 3)
    assert turns.record() == TurnRecord()
    first = turns.take(OPTIONS, at_once=False)
    assert (first.granted, first.wait) == (False, 60.0)
    fake_clock.advance(61)
    assert turns.take(OPTIONS, at_once=False).granted


def test_a_child_of_a_worker_does_not_end_its_turn(fake_clock: FakeClock) -> None:
    """Record locks are not inherited, nor does a copy of the descriptor give them back."""
    turns = Turns(timer=fake_clock)
    assert turns.take(OPTIONS, at_once=False).granted

    def close() -> str:
        os.close(turns._descriptor)
        return "closed"

    grandchild = Child(close)
    grandchild.kill()
    fake_clock.advance(10_000)
    other = Child(lambda: turns.take(OPTIONS, at_once=False).reason)
    other.kill()
    assert other.said == "another worker is ending"


def test_it_leaves_no_descriptor_and_no_file() -> None:
    program = """
    import gc, os
    from memguard.integrations.workers.turns import Turns
    before = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else None
    turns = Turns()
    assert not os.get_inheritable(turns._descriptor)
    del turns
    gc.collect()
    after = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else None
    assert before == after, (before, after)
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(program)], check=True)


def test_a_host_that_closes_all_descriptors_does_not_have_its_next_file_written_to(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    turns = Turns(timer=fake_clock)
    number = turns._descriptor
    os.close(number)
    file = tmp_path / "of the host"
    file.write_bytes(b"precious")
    theirs = os.open(file, os.O_RDWR)
    if theirs != number:
        os.dup2(theirs, number)
        os.close(theirs)
    assert not turns.take(OPTIONS, at_once=False).granted
    turns._timer = iter(range(1000)).__next__
    assert not turns.ready()
    assert turns.record() == TurnRecord()
    del turns
    gc.collect()
    assert os.pread(number, 100, 0) == file.read_bytes() == b"precious"
    os.close(number)
