"""
Raise from a signal handler at random instants while a lock is taken and released.

``python -m tests.lock_storm FORM ROUNDS [contended]`` prints how often the lock was left held.
It runs in a process of its own: the exceptions may come between any two lines.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from memguard.lifecycle import locks
from memguard.lifecycle.turn import Turn


class Interruption(BaseException):
    """What the handler raises."""


class _Storm:
    armed = False

    def strike(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise Interruption


def _take(lock: Any) -> None:
    with lock:
        pass


def _take_and_work(lock: Any) -> None:
    with lock:
        len(list(range(3)))


def _take_twice(lock: Any) -> None:
    with lock, lock:
        len("")


def _run(turn: Turn) -> None:
    turn.run(lambda: None, busy=None)


def _run_in_time(turn: Turn) -> None:
    turn.run(lambda: None, busy=None, timeout=0.001)


FORMS: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "threading.Lock": (threading.Lock, _take),
    "threading.RLock": (threading.RLock, _take),
    "threading.Condition": (threading.Condition, _take),
    "Lock": (locks.Lock, _take),
    "Lock, working": (locks.Lock, _take_and_work),
    "RLock": (locks.RLock, _take),
    "RLock, working": (locks.RLock, _take_and_work),
    "RLock, twice": (locks.RLock, _take_twice),
    "Condition": (locks.Condition, _take),
    "Condition, twice": (locks.Condition, _take_twice),
    "Turn": (Turn, _run),
    "Turn, in time": (Turn, _run_in_time),
}


def storm(form: str, rounds: int, *, contended: bool) -> int:
    """Interrupt *form* in each of *rounds*; return how often its lock was left held."""
    make, use = FORMS[form]
    lock = make()
    inner: Any = getattr(lock, "_lock", lock)  # that of a Condition or a Turn
    with _other_thread(inner) if contended else contextlib.nullcontext():
        return sum(_is_left_held(use, lock, inner) for _ in range(rounds))


@contextlib.contextmanager
def _other_thread(lock: Any) -> Iterator[None]:
    over = threading.Event()

    def take_in_turns() -> None:
        while not over.is_set():
            if lock.acquire(timeout=0.01):
                lock.release()

    other = threading.Thread(target=take_in_turns)
    other.start()
    try:
        yield
    finally:
        over.set()
        other.join()


def _is_left_held(use: Callable[[Any], None], lock: Any, inner: Any) -> bool:
    weather = _Storm()
    signal.signal(signal.SIGALRM, weather.strike)
    try:
        weather.armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-4))  # noqa: S311 - reason: no secret
        while True:
            use(lock)
    except Interruption:
        pass
    held = _is_held_by_us(inner)
    while _is_held_by_us(inner):
        inner.release()
    return held


def _is_held_by_us(lock: Any) -> bool:
    if hasattr(lock, "_is_owned"):
        return bool(lock._is_owned())
    # The other thread holds it for microseconds; but it may have to wait for a processor.
    if lock.acquire(timeout=5.0 if threading.active_count() > 1 else 0.0):
        lock.release()
        return False
    return True


if __name__ == "__main__":
    left = storm(sys.argv[1], int(sys.argv[2]), contended="contended" in sys.argv[3:])
    print(left)  # noqa: T201 - reason: it is the answer
