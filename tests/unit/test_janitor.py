"""The janitor: one thread when it is needed, none when it is not, nothing kept alive."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.lifecycle import janitor

DEADLINE = 10.0


class Container:
    """Counts its sweeps."""

    def __init__(self, naps: list[float | None] | None = None) -> None:
        self.sweeps = 0
        self.naps = naps
        self.thread: str | None = None

    def _sweep(self) -> float | None:
        self.sweeps += 1
        self.thread = threading.current_thread().name
        return self.naps.pop(0) if self.naps else (None if self.naps == [] else 0.02)


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    """Begin and end without a janitor."""
    assert janitor.stop(timeout=DEADLINE)
    yield
    assert janitor.stop(timeout=DEADLINE)


def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*, at most DEADLINE seconds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.002)


def threads() -> list[threading.Thread]:
    """Return the janitor's threads that run; a start that a handler broke off leaves none."""
    named = [thread for thread in threading.enumerate() if thread.name == janitor.THREAD_NAME]
    return [thread for thread in named if thread.ident is not None]


def test_the_first_container_starts_the_one_thread() -> None:
    assert threads() == []
    containers = [Container() for _ in range(5)]
    for container in containers:
        assert janitor.watch(container)
    until(lambda: all(container.sweeps > 1 for container in containers))
    assert len(threads()) == 1
    assert containers[0].thread == janitor.THREAD_NAME
    assert janitor.statistics().running
    assert janitor.statistics().watched == 5


def test_a_container_is_not_kept_alive() -> None:
    container = Container()
    janitor.watch(container)
    there = weakref.ref(container)
    until(lambda: there() is not None and there().sweeps > 0)  # type: ignore[union-attr] # reason: just checked
    del container
    until(lambda: there() is None)


def test_the_thread_ends_when_nothing_is_left_to_watch() -> None:
    container = Container(naps=[0.01, None])
    janitor.watch(container)
    until(lambda: threads() == [])
    assert container.sweeps == 2
    assert not janitor.statistics().running
    janitor.watch(container)
    until(lambda: container.sweeps == 3)


def test_stopping_forgets_everything_and_joins() -> None:
    container = Container()
    janitor.watch(container)
    until(lambda: container.sweeps > 0)
    epoch = janitor.epoch
    assert janitor.stop(timeout=DEADLINE)
    assert threads() == []
    assert janitor.epoch == epoch + 1
    sweeps = container.sweeps
    time.sleep(0.05)
    assert container.sweeps == sweeps
    assert janitor.stop()


def test_a_first_sweep_can_be_put_off() -> None:
    late, soon = Container(), Container()
    janitor.watch(late, after=60)
    janitor.watch(soon)
    until(lambda: soon.sweeps > 3)
    assert late.sweeps == 0


def test_a_sweep_that_raises_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Container):
        def _sweep(self) -> float | None:
            self.sweeps += 1
            raise ZeroDivisionError

    before = janitor.statistics().errors
    failing, fine = Failing(), Container()
    janitor.watch(failing)
    janitor.watch(fine)
    until(lambda: failing.sweeps >= 1 and fine.sweeps > 5)
    assert janitor.statistics().errors > before
    assert caplog.text.count("janitor.sweep_failed") <= 1


def test_a_sweep_that_asks_to_exit_does_not_end_the_thread() -> None:
    class Exiting(Container):
        """Calls code that exits."""

        def _sweep(self) -> float | None:
            super()._sweep()
            raise SystemExit

    before = janitor.statistics().errors
    exiting, other = Exiting(), Container()
    janitor.watch(exiting)
    janitor.watch(other)
    until(lambda: exiting.sweeps == 1 and other.sweeps > 2)
    assert janitor.statistics().errors > before


def test_an_interrupted_start_leaves_one_thread_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        thread._started.clear()  # type: ignore[attr-defined]  # as while it is not yet known
        monkeypatch.setattr(threading.Thread, "start", start)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    container = Container()
    with pytest.raises(KeyboardInterrupt):
        janitor.watch(container)
    assert janitor.watch(container)
    until(lambda: container.sweeps > 5)
    until(lambda: len(threads()) == 1)


def test_expired_entries_leave_memory_without_traffic() -> None:
    cache: BoundedCache[str, Container] = BoundedCache(10, ttl=0.05)
    cache["a"] = value = Container()
    there = weakref.ref(value)
    del value
    gc.collect()
    until(lambda: there() is None)
    until(lambda: not janitor.watches(cache))
    assert cache.statistics().removals["expired"] == 1


def test_a_cache_asks_again_after_the_janitor_was_stopped() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, ttl=0.05)
    cache["a"] = 1
    assert janitor.stop(timeout=DEADLINE)
    cache["b"] = 2
    until(lambda: not cache._map)


def test_entries_that_idle_or_have_a_ttl_of_their_own_leave_too() -> None:
    idle: BoundedCache[str, int] = BoundedCache(10, idle=0.05)
    idle["a"] = 1
    single: BoundedCache[str, int] = BoundedCache(10)
    single.set("a", 1, ttl=0.05)
    single["b"] = 2
    until(lambda: not idle._map and len(single._map) == 1)


def test_stop_from_the_janitors_own_thread_does_not_wait_for_itself() -> None:
    outcomes: list[bool] = []

    class Stops(Container):
        def _sweep(self) -> float | None:
            outcomes.append(janitor.stop())
            return None

    container = Stops()
    janitor.watch(container)
    until(lambda: outcomes == [False])
    until(lambda: threads() == [])
