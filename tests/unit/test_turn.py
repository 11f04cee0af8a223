"""One thread at a time, and the one that works is never made to wait for itself."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from memguard.errors import LifecycleError
from memguard.lifecycle.turn import Turn


def test_work_is_done_and_its_result_returned() -> None:
    turn = Turn()
    assert turn.run(lambda: 7, busy=None) == 7
    assert turn.wait(lambda: "done") == "done"
    assert not turn.is_taken


def test_the_turn_is_free_again_when_the_work_failed() -> None:
    turn = Turn()
    with pytest.raises(ZeroDivisionError):
        turn.run(lambda: 1 / 0, busy=None)
    assert not turn.is_taken
    assert not turn.is_mine
    assert turn.run(lambda: True, busy=False)


def test_the_thread_that_works_is_refused_and_not_made_to_wait() -> None:
    turn = Turn()
    assert turn.run(lambda: turn.is_mine, busy=None)
    assert (
        turn.run(lambda: turn.run(lambda: "nested", busy="busy", timeout=-1), busy=None) == "busy"
    )
    with pytest.raises(LifecycleError, match="inside that very work"):
        turn.run(lambda: turn.wait(lambda: None), busy=None)
    assert not turn.is_taken


def test_another_greenlet_of_the_thread_that_works_is_refused_and_not_made_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gevent, patched in after the import: each greenlet has a number of its own then."""
    turn = Turn()
    refused: list[BaseException] = []

    def in_another_greenlet() -> None:
        number = threading.get_ident() + 1
        with monkeypatch.context() as patch:
            patch.setattr(threading, "get_ident", lambda: number)
            assert turn.run(lambda: "worked", busy="busy") == "busy"
            with pytest.raises(LifecycleError) as raised:
                turn.wait(lambda: None)
        refused.append(raised.value)

    thread = threading.Thread(target=lambda: turn.wait(in_another_greenlet), daemon=True)
    thread.start()
    thread.join(10)
    assert len(refused) == 1, "it waits for itself"


def test_another_thread_is_refused_while_one_works_and_served_afterwards() -> None:
    turn, entered, leave = Turn(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait(10)

    worker = threading.Thread(target=turn.run, args=(work,), kwargs={"busy": None})
    worker.start()
    assert entered.wait(10)
    assert turn.is_taken
    assert not turn.is_mine
    assert turn.run(lambda: "mine", busy="busy") == "busy"
    assert turn.run(lambda: "mine", busy="busy", timeout=0.01) == "busy"
    leave.set()
    assert turn.wait(lambda: "mine") == "mine"
    worker.join(10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no interval timer")
def test_signal_handlers_that_raise_never_leave_the_turn_taken() -> None:
    class Interrupted(Exception):  # noqa: N818 - reason: it is no error
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    turn, hits, calls = Turn(), 0, 0
    former = signal.signal(signal.SIGALRM, interrupt)
    ends = time.monotonic() + 1.0
    patience = ends + 29.0  # a busy machine brings fewer in a second
    try:
        while (now := time.monotonic()) < ends or (hits <= 100 and now < patience):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + calls % 50 * 1e-6)
                for _ in range(100):
                    calls += 1
                    turn.run(int, busy=None)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                hits += 1
            assert not turn.is_taken
            assert not turn.is_mine
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert hits > 100
