"""The locks of `memguard.lifecycle.locks` behave as those of ``threading``."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from memguard.lifecycle import locks


@pytest.mark.parametrize("make", [locks.Lock, locks.RLock, locks.Condition])
def test_it_excludes_other_threads_and_is_released_on_an_exception(make: Any) -> None:
    lock = make()
    taken: list[bool] = []

    def attempt() -> None:
        taken.append(lock.acquire(blocking=False))
        if taken[-1]:
            lock.release()

    def attempt_elsewhere() -> None:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    def fail() -> None:
        with lock:
            attempt_elsewhere()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    attempt_elsewhere()
    assert taken == [False, True]


@pytest.mark.parametrize("make", [locks.RLock, locks.Condition])
def test_a_reentrant_one_may_be_taken_again_by_its_holder(make: Any) -> None:
    lock = make()
    with lock, lock:
        assert lock._is_owned()
    assert not lock._is_owned()


@pytest.mark.parametrize("make", [locks.Lock, locks.RLock])
def test_a_condition_waits_with_its_lock_released(make: Any) -> None:
    lock = make()
    condition = locks.Condition(lock)
    ready = []

    def announce() -> None:
        with condition:
            ready.append(True)
            condition.notify()

    thread = threading.Thread(target=announce)
    with condition:
        thread.start()
        assert condition.wait_for(lambda: ready, timeout=5)
    thread.join()
    assert lock.acquire(blocking=False)


@pytest.mark.skipif(sys.version_info[:2] == (3, 14), reason="3.14 alone needs classes of ours")
def test_the_locks_are_those_of_threading_where_with_has_no_gap() -> None:
    assert locks.Lock is threading.Lock
    assert locks.RLock is threading.RLock
