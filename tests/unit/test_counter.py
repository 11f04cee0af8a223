"""Counters that threads share lose nothing, with or without the GIL."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from memguard.bounded.counter import Tally
from memguard.lifecycle import locks

THREADS, EACH = 4, 50_000


@pytest.mark.parametrize("free_threaded", [locks.FREE_THREADED, True])
def test_no_count_is_lost_between_threads(
    monkeypatch: pytest.MonkeyPatch, *, free_threaded: bool
) -> None:
    monkeypatch.setattr(locks, "FREE_THREADED", free_threaded)
    tally = Tally()

    def bump(once: Callable[[], int]) -> None:
        for _ in range(EACH):
            once()

    threads = [threading.Thread(target=bump, args=(tally.bump,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.read() == THREADS * EACH


def test_reading_does_not_count() -> None:
    tally = Tally()
    tally.bump()
    assert [tally.read(), tally.read()] == [1, 1]
    tally.bump()
    assert tally.read() == 2
