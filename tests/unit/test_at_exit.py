"""What still runs at exit is stopped: the latest first, within its time, and weakly held."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from memguard.lifecycle import at_exit
from memguard.lifecycle.at_exit import call_at_exit, not_at_exit, stop_at_exit


class Running:
    def __init__(self, name: str, stopped: list[tuple[str, float]]) -> None:
        self.name = name
        self.stopped = stopped

    def stop(self, timeout: float) -> None:
        self.stopped.append((self.name, timeout))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_exit, "_targets", weakref.WeakKeyDictionary())
    monkeypatch.setattr(at_exit, "_calls", {})


def test_the_latest_is_stopped_first_and_what_was_stopped_is_not_stopped_again() -> None:
    stopped: list[tuple[str, float]] = []
    first, second, third = (Running(name, stopped) for name in ("first", "second", "third"))
    for each in (first, second, third):
        stop_at_exit(each, 1.0)
    stop_at_exit(first, 1.0)  # started anew
    not_at_exit(second)
    at_exit._stop_all()
    assert [name for name, _ in stopped] == ["first", "third"]


def test_all_together_take_no_longer_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[tuple[str, float]] = []
    short, long = Running("short", stopped), Running("long", stopped)
    stop_at_exit(short, 0.5)
    stop_at_exit(long, 3600.0)
    monkeypatch.setattr(at_exit, "MOST_SECONDS", 2.0)
    at_exit._stop_all()
    assert [round(seconds, 1) for _, seconds in stopped] == [2.0, 0.5]


def test_modules_are_called_once_after_all_targets_have_stopped() -> None:
    stopped: list[tuple[str, float]] = []
    module, target = Running("module", stopped), Running("target", stopped)
    call_at_exit(module.stop, 1.0)
    stop_at_exit(target, 1.0)
    call_at_exit(module.stop, 1.0)
    at_exit._stop_all()
    assert [name for name, _ in stopped] == ["target", "module"]


def test_one_that_raises_does_not_keep_the_others_running() -> None:
    class Broken(Running):
        def stop(self, timeout: float) -> None:
            raise OSError(f"no disk within {timeout} s")

    stopped: list[tuple[str, float]] = []
    first, broken = Running("first", stopped), Broken("broken", stopped)
    stop_at_exit(first, 1.0)
    stop_at_exit(broken, 1.0)
    with pytest.raises(OSError, match="no disk"):
        at_exit._stop_all()
    assert [name for name, _ in stopped] == ["first"]


def test_containers_need_one_hook_among_them() -> None:
    program = (
        "import atexit\n"
        "hooks, register = set(), atexit.register\n"
        "atexit.register = lambda hook, *args: (hooks.add(hook), register(hook, *args))\n"
        "from memguard import BoundedCache, TimerRegistry\n"
        "cache = BoundedCache(9, ttl=60)\n"
        "cache[1] = 1\n"
        "cache.get_or_load(1, str, refresh_after=0)\n"
        "timers = TimerRegistry()\n"
        "timers.after(60, print)\n"
        "print([hook.__name__ for hook in hooks if hook.__module__.startswith('memguard')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['_stop_all']\n"


def test_it_keeps_nothing_alive() -> None:
    target = Running("x", [])
    reference = weakref.ref(target)
    stop_at_exit(target, 1.0)
    del target
    gc.collect()
    assert reference() is None


def test_it_happens_when_the_interpreter_exits() -> None:
    program = (
        "from memguard.lifecycle.at_exit import stop_at_exit\n"
        "class Running:\n"
        "    def stop(self, timeout): print('stopped', timeout <= 1.0)\n"
        "running = Running()\n"
        "stop_at_exit(running, 1.0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "stopped True\n"
