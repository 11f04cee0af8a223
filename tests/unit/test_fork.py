"""What a forked child sets anew: everything that was asked for, whatever fails on the way."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from memguard.lifecycle import at_exit, fork, ticker


class Watcher:
    """Counts how often it was set anew."""

    def __init__(self, *, broken: bool = False) -> None:
        self.resets = 0
        self._broken = broken

    def _reset(self) -> None:
        self.resets += 1
        if self._broken:
            raise ZeroDivisionError


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_calls", {})
    monkeypatch.setattr(fork, "_targets", weakref.WeakSet())


def test_one_that_cannot_be_reset_is_not_in_the_way_of_the_others() -> None:
    watchers = [Watcher(), Watcher(broken=True), Watcher()]
    for watcher in watchers:
        fork.reset_after_fork(watcher)
    with pytest.raises(ZeroDivisionError):
        fork._after_fork_in_child()
    assert [watcher.resets for watcher in watchers] == [1, 1, 1]


def test_a_function_that_is_asked_for_twice_is_called_once_and_before_the_watchers() -> None:
    seen: list[int] = []
    watcher = Watcher()

    def call() -> None:
        seen.append(watcher.resets)

    fork.reset_after_fork(watcher)
    fork.call_in_child(call)
    fork.call_in_child(call)
    fork._after_fork_in_child()
    assert seen == [0]
    assert watcher.resets == 1


def test_a_watcher_is_not_kept_alive() -> None:
    watcher = Watcher()
    fork.reset_after_fork(watcher)
    gone = weakref.ref(watcher)
    del watcher
    gc.collect()
    assert gone() is None


def test_a_child_knows_none_of_its_parents_tickers() -> None:
    class Target:
        def tick(self) -> float:
            return 60.0

        def look_on_request(self) -> None: ...

    ticking = ticker.Ticker(Target(), "memguard-test").start()
    try:
        assert ticking in at_exit._targets
        fork._after_fork_in_child()
        assert not list(at_exit._targets)
    finally:
        assert ticking.stop(20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_real_child_is_set_anew_and_its_parent_is_not() -> None:
    watcher = Watcher()
    fork.reset_after_fork(watcher)
    pid = os.fork()
    if not pid:
        os._exit(watcher.resets)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert watcher.resets == 0


def test_where_fork_wipes_no_memory_the_process_id_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("mmap.mmap", refuse)
    mark = fork._Mark()
    assert mark._page is None
    assert mark.is_ours()
    other = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: other)
    assert not mark.is_ours()
