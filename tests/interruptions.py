"""A signal handler that raises at random moments: for programs in a process of their own."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable

LEAST = 50


class Interruption(Exception):  # noqa: N818 - reason: no error
    """What the handler raises, as timeouts by alarm do."""


def storm(
    work: Callable[[], object],
    other: Callable[[], object],
    *,
    threads: int = 2,
    seconds: float = 1.2,
) -> int:
    """
    Do *work* in this thread, which is interrupted all the time, and *other* in some more.

    Return how often *work* was broken off: goes on until it was, `LEAST` times.
    """
    armed = False

    def strike(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interruption

    sys.unraisablehook = lambda _: None  # an interrupted destructor is reported there,
    logging.lastResort = None  # and an interrupted log line here
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            other()

    others = [threading.Thread(target=go_on) for _ in range(threads)]
    for thread in others:
        thread.start()
    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    interruptions, end = 0, time.monotonic() + seconds
    while time.monotonic() < end or (interruptions <= LEAST and time.monotonic() < end + 20):
        try:
            armed = True
            for _ in range(20):
                work()
            armed = False
        except Interruption:
            interruptions += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # one may be on its way
    over.set()
    for thread in others:
        thread.join()
    return interruptions
