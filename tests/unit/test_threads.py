"""Waiting for a thread that may not have started yet."""

from __future__ import annotations

import threading
import time

import pytest

from memguard.lifecycle import threads


def test_a_thread_that_has_ended_is_waited_for() -> None:
    thread = threading.Thread(target=lambda: time.sleep(0.05))
    thread.start()
    assert threads.join(thread, 30.0)
    assert not thread.is_alive()


def test_one_that_goes_on_is_waited_for_no_longer_than_asked() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert not threads.join(thread, 0.05)
    finally:
        ended.set()
        thread.join()


def test_one_that_was_never_started_does_not_run() -> None:
    assert threads.join(threading.Thread(), 30.0)


def test_a_thread_does_not_wait_for_itself() -> None:
    assert not threads.join(threading.current_thread(), 30.0)


def test_the_end_of_a_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.join` raises between the moment a thread exists and the moment it has started."""
    thread = threading.Thread(target=int)
    monkeypatch.setattr(thread, "_ident", 1)
    with pytest.raises(RuntimeError):
        thread.join()
    assert not threads.join(thread, 0.02)
    monkeypatch.undo()
    starter = threading.Timer(0.05, thread.start)
    starter.start()
    monkeypatch.setattr(thread, "_ident", 1)
    assert threads.join(thread, 30.0)
    starter.join()
