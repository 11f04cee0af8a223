"""Who calls C code while memory outside Python grows, as an investigation finds it."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

from memguard.leaks.evidence import calls
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding.investigate import Investigation
from tests.detecting import MiB, options

STRDUP = ctypes.CDLL(None).strdup
STRDUP.restype = ctypes.c_char_p


def lose_a_copy() -> None:
    STRDUP(b"x" * 20_000)


def investigated(growth_per_minute: float) -> Evidence:
    """Return the evidence of an investigation beside a thread that loses memory of C."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.002):
            lose_a_copy()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    investigation = Investigation(
        options(trace_seconds=0.4), containers=dict, growth_per_minute=growth_per_minute
    )
    try:
        investigation.look(time.monotonic())
        time.sleep(0.05)
        investigation.begin(time.monotonic())
        while not investigation.poll():
            time.sleep(0.01)
        return investigation.finish()
    finally:
        investigation.abandon()
        over.set()
        thread.join()


def test_native_growth_names_the_line_that_calls() -> None:
    evidence = investigated(600.0 * MiB)
    reason = calls.unsupported()
    if reason is not None:
        assert reason in evidence.notes
        pytest.skip(reason)
    site = next(each for each in evidence.calls if each.callee == "strdup (ctypes)")
    assert site.stack[0] == (__file__, lose_a_copy.__code__.co_firstlineno + 1)
    assert evidence.functions[site.stack[0]] == "lose_a_copy"
    assert evidence.traced_seconds < 2.0


@pytest.mark.stress
def test_without_growth_no_calls_are_watched() -> None:
    evidence = investigated(0.0)
    assert evidence.calls == []
    assert calls.unsupported() not in evidence.notes
