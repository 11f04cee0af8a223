"""A burst of tracing sees what stays, ends what it began and nothing else."""

from __future__ import annotations

import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.leaks.evidence import tracing
from memguard.leaks.evidence.tracing import Tracer
from memguard.lifecycle import fork


def allocate(size: int) -> bytearray:
    return bytearray(size)


LINE = (__file__, allocate.__code__.co_firstlineno + 1)


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    tracer = Tracer()
    yield tracer
    tracer.abandon()


@pytest.fixture
def somebody_else() -> Iterator[None]:
    """Run a tracemalloc session of the application's own, three frames deep."""
    tracemalloc.start(3)
    yield
    tracemalloc.stop()


def test_a_burst_names_the_line_of_what_stays(tracer: Tracer) -> None:
    tracer.start(1)
    kept = [allocate(10_000) for _ in range(10)]
    for _ in range(100):
        allocate(10_000)
    tracer.photograph()
    assert tracer.origin(kept[0]) == (LINE,)
    trace = tracer.finish()
    assert trace.sites[LINE].bytes == pytest.approx(sum(map(sys.getsizeof, kept)), rel=0.02)
    assert trace.seconds > 0
    assert not tracemalloc.is_tracing()


def test_a_deeper_burst_keeps_the_stack_with_the_allocating_line_first(tracer: Tracer) -> None:
    tracer.start(4)
    kept = allocate(10_000)
    tracer.photograph()
    (file, line), *above = tracer.finish().sites[LINE].stack
    assert (file, line) == LINE
    assert above[0][0] == __file__
    assert len(kept) == 10_000


def test_what_was_there_before_has_no_origin(tracer: Tracer) -> None:
    before = allocate(1000)
    tracer.start(1)
    assert tracer.origin(before) == ()


def test_what_asking_allocates_is_not_in_the_photograph(tracer: Tracer) -> None:
    tracer.start(1)
    tracer.photograph()
    sites = tracer.finish().sites
    assert not any("memguard" in file and "tests" not in file for file, _ in sites)


def test_abandoning_ends_our_session_and_may_be_done_twice(tracer: Tracer) -> None:
    tracer.start(1)
    tracer.abandon()
    tracer.abandon()
    assert not tracemalloc.is_tracing()
    assert tracer.seconds == 0.0


@pytest.mark.usefixtures("somebody_else")
class TestSomebodyElsesSession:
    """It is used as it is, and never stopped, cleared or shortened."""

    def test_it_goes_on_with_its_depth_and_its_traces(self, tracer: Tracer) -> None:
        theirs = allocate(50_000)
        tracer.start(1)
        kept = allocate(20_000)
        tracer.photograph()
        trace = tracer.finish()
        assert trace.foreign
        assert trace.sites[LINE].bytes == pytest.approx(sys.getsizeof(kept), rel=0.05)
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 3
        assert tracemalloc.get_object_traceback(theirs) is not None

    def test_abandoning_leaves_it_alone(self, tracer: Tracer) -> None:
        tracer.start(1)
        tracer.abandon()
        assert tracemalloc.is_tracing()

    def test_a_large_one_is_not_copied(
        self, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> Any:
            raise AssertionError("this would stall the process")

        kept = allocate(100_000)
        monkeypatch.setattr(tracing, "FOREIGN_LIMIT_BYTES", 1000)
        monkeypatch.setattr(tracemalloc, "take_snapshot", refuse)
        tracer.start(1)
        tracer.photograph()
        assert tracer.finish().sites == {}
        assert len(kept) == 100_000


def test_a_session_that_was_stopped_under_us_is_no_error(tracer: Tracer) -> None:
    tracer.start(1)
    tracemalloc.stop()
    assert tracer.own_bytes == 0
    tracer.photograph()
    assert tracer.finish().sites == {}


@pytest.fixture
def clean_up() -> Iterator[None]:
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("clean_up")
def test_a_session_that_the_host_starts_meanwhile_is_as_it_asked_for(tracer: Tracer) -> None:
    start, stop = tracemalloc.start, tracemalloc.stop
    tracer.start(1)
    tracemalloc.start(25)
    assert tracer.is_lost
    assert tracemalloc.get_traceback_limit() == 25
    assert (tracemalloc.start, tracemalloc.stop) == (start, stop)
    kept = allocate(10_000)
    tracer.photograph()
    assert tracer.finish().sites == {}, "what the host traces is no burst of ours"
    assert tracemalloc.is_tracing()
    assert tracemalloc.get_object_traceback(kept) is not None


@pytest.mark.usefixtures("clean_up")
def test_a_session_that_the_host_restarts_meanwhile_is_left_running(tracer: Tracer) -> None:
    tracer.start(1)
    tracemalloc.stop()
    assert not tracemalloc.is_tracing()
    tracemalloc.start(1)
    tracer.abandon()
    assert tracemalloc.is_tracing()


@pytest.mark.usefixtures("clean_up")
@pytest.mark.parametrize("frames", [1, 25])
def test_one_that_is_restarted_behind_our_back_is_left_running(tracer: Tracer, frames: int) -> None:
    """A program may have imported the functions by name before."""
    start, stop = tracemalloc.start, tracemalloc.stop
    tracer.start(1)
    stop()
    start(frames)
    tracer.photograph()
    tracer.finish()
    assert tracemalloc.is_tracing()
    assert tracemalloc.get_traceback_limit() == frames
    assert (tracemalloc.start, tracemalloc.stop) == (start, stop)


def test_the_host_ends_tracing_whoever_began_it(tracer: Tracer) -> None:
    other = Tracer()
    tracer.start(1)
    other.start(1)
    tracemalloc.stop()
    assert not tracemalloc.is_tracing()
    again = Tracer()
    again.start(1)
    tracer.abandon()
    other.abandon()
    assert tracemalloc.is_tracing(), "those of a session that is over do not end the next one"
    again.abandon()
    assert not tracemalloc.is_tracing()


def test_a_start_that_the_host_gets_wrong_is_its_error(tracer: Tracer) -> None:
    tracer.start(1)
    with pytest.raises(ValueError, match="number of frames"):
        tracemalloc.start(0)
    assert not tracemalloc.is_tracing()


def test_what_the_host_took_from_the_module_meanwhile_works_afterwards(tracer: Tracer) -> None:
    tracer.start(1)
    start, stop = tracemalloc.start, tracemalloc.stop
    tracer.abandon()
    start(3)
    assert tracemalloc.get_traceback_limit() == 3
    stop()
    assert not tracemalloc.is_tracing()


def test_the_child_of_a_fork_ends_its_copy_of_our_session(tracer: Tracer) -> None:
    tracer.start(1)
    tracing.session.after_fork_in_child()
    assert not tracemalloc.is_tracing()
    tracer.abandon()
    again = Tracer()
    again.start(1)
    assert tracemalloc.is_tracing()
    again.abandon()
    assert not tracemalloc.is_tracing()


@pytest.mark.usefixtures("somebody_else")
def test_the_child_of_a_fork_keeps_somebody_elses_session(tracer: Tracer) -> None:
    tracer.start(1)
    tracing.session.after_fork_in_child()
    assert tracemalloc.is_tracing()


def test_without_the_gil_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert "without the GIL" in (tracing.unsupported() or "")
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert tracing.unsupported() is None


def test_a_session_of_ours_ends_with_its_last_user(tracer: Tracer) -> None:
    other = Tracer()
    tracer.start(1)
    other.start(1)
    tracer.abandon()
    assert tracemalloc.is_tracing()
    other.abandon()
    assert not tracemalloc.is_tracing()


def test_stacks_tell_what_was_gained_and_what_was_given_back() -> None:
    """Unlike a burst, the difference of two snapshots has both signs and leaves nobody out."""
    tracer = tracing.Tracer()
    assert tracing.snapshot() is None
    tracer.start(4)
    try:
        freed = bytearray(100_000)
        before = tracing.snapshot()
        del freed
        kept = bytearray(50_000)
        after = tracing.snapshot()
    finally:
        tracer.abandon()
    assert len(kept) == 50_000
    assert before is not None
    assert after is not None
    mine = {site.bytes // 1000 for site in tracing.stacks(after, before) if abs(site.bytes) > 9999}
    assert mine == {50, -101}
    assert [site.location[0] for site in tracing.stacks(after) if site.bytes > 49_000] == [__file__]


def test_a_forked_child_ends_its_copy_of_our_session_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fork, "_calls", {})
    monkeypatch.setattr(fork, "_targets", weakref.WeakSet())
    monkeypatch.setattr(tracing, "session", tracing._Session())
    tracemalloc.start()
    try:
        assert tracing.session.join(1) == "foreign"
        fork._after_fork_in_child()
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    assert tracing.session.join(1) == "ours"
    fork._after_fork_in_child()
    assert not tracemalloc.is_tracing()
    tracing.session.leave()
