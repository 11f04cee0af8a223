"""One verdict with evidence, now."""

from __future__ import annotations

import threading

import pytest

import memguard
from memguard.errors import ConfigError

KEPT: list[list[str]] = []


def test_what_grows_while_it_looks_is_named_with_its_line_and_holder() -> None:
    ended = threading.Event()

    def leak() -> None:
        count = 0
        while not ended.wait(0.002):
            count += 1
            KEPT.append([f"order {count} line {line}" for line in range(400)])

    thread = threading.Thread(target=leak)
    thread.start()
    try:
        report = memguard.diagnose(seconds=0.6)
    finally:
        ended.set()
        thread.join(10)
        KEPT.clear()
    assert report.kind == "snapshot"
    holder = next(holder for holder in report.holders if holder.path.endswith(".KEPT"))
    assert holder.type == "list"
    assert holder.site is not None
    assert (holder.site.file, holder.site.function) == (__file__, "leak")
    assert report.verdict.kind == "live_objects", report  # whether or not it fills a hole


def test_a_quiet_process_gets_the_verdict_none() -> None:
    report = memguard.diagnose(seconds=0.1)
    assert report.verdict.kind in ("none", "fragmentation", "cycles")
    assert report.holders == ()


@pytest.mark.stress
def test_what_comes_and_goes_is_no_growth() -> None:
    """A process at work: each request holds a few MiB for a moment."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.01):
            body = [bytes(4096) for _ in range(1000)]
            ended.wait(0.01)
            del body

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        reports = [memguard.diagnose(seconds=0.3) for _ in range(3)]
    finally:
        ended.set()
        thread.join(10)
    assert {report.verdict.kind for report in reports} <= {"none", "fragmentation", "cycles"}


@pytest.mark.parametrize("seconds", [-1, 3601])
def test_seconds_out_of_range_are_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds must be from 0 to 3600"):
        memguard.diagnose(seconds=seconds)
