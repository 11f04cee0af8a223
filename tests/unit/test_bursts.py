"""Bursts of tracing: ended when enough was seen, deeper where that was cheap, never too long."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.leaks.evidence import bursts, census, tracing
from memguard.leaks.evidence.bursts import Bursts, Candidate
from memguard.leaks.evidence.newest import Sample
from tests.detecting import options


def make(candidates: list[Candidate], **chosen: Any) -> Bursts:
    collect = chosen.pop("collect", True)
    return Bursts(
        options(**chosen), candidates, gap=1.0, sample_more=lambda _: None, collect=collect
    )


@pytest.fixture(autouse=True)
def nothing_traced() -> Iterator[None]:
    assert not tracemalloc.is_tracing()
    yield
    assert not tracemalloc.is_tracing()


def growing(gained: int = 1000) -> tuple[list[Any], Candidate]:
    rows: list[Any] = [bytearray(100) for _ in range(10)]
    return rows, Candidate(rows, gained, len(rows), weight=gained * 157.0)


def entry() -> bytearray:
    return bytearray(100)


LINE = entry.__code__.co_firstlineno + 1


def run(burst: Bursts, rows: list[Any], most: int = 10**6) -> int:
    """Feed *rows* until the bursts are over, and return how many polls that took."""
    for polls in range(1, most):
        rows.append(entry())
        if burst.poll():
            return polls
    pytest.fail("the bursts did not come to an end")


def test_a_burst_ends_when_every_weighty_container_has_shown_its_line() -> None:
    rows, candidate = growing()
    burst = make([candidate])
    burst.start()
    run(burst, rows)
    assert burst.note is None
    assert candidate.sample.lines.most_common(1)[0][0] == (__file__, LINE)
    assert burst.seconds < 20


def test_a_cheap_first_burst_is_followed_by_a_deeper_one() -> None:
    rows, candidate = growing()
    burst = make([candidate])
    burst.start()
    run(burst, rows)
    assert len(burst._traces) == 2
    (stack,) = (
        stack for line, stack in candidate.sample.stacks.items() if line == (__file__, LINE)
    )
    assert len(stack) > 1, "who called the line that allocates"


def below(depth: int, function: Any) -> Any:
    return function() if depth == 0 else below(depth - 1, function)


def test_where_libraries_fill_all_frames_a_last_burst_reaches_the_users_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in pandas or an ORM: more frames of theirs than a burst records."""
    monkeypatch.setattr(bursts, "is_user_code", lambda file: file != __file__)
    rows, candidate = growing()
    burst = make([candidate])
    burst.start()
    for _ in range(10**6):
        rows.append(below(20, entry))
        if burst.poll():
            break
    assert len(burst._traces) == 3
    stack = candidate.sample.stacks[__file__, LINE]
    assert len(stack) > 21


def test_a_stack_that_reaches_the_users_code_is_deep_enough() -> None:
    rows, candidate = growing()
    burst = make([candidate])
    burst.start()
    for _ in range(10**6):
        rows.append(below(20, entry))
        if burst.poll():
            break
    assert len(burst._traces) == 2


def test_where_entries_come_slowly_the_only_burst_records_stacks() -> None:
    """One frame, and no time for more, would name a line of a library and not the user's."""
    rows, candidate = growing(gained=2)  # in a second, which is half of what tracing may take
    burst = make([candidate], trace_seconds=2.0)
    burst.start()
    rows.append(below(3, entry))
    burst.end()
    assert len(candidate.sample.stacks[__file__, LINE]) > 3


def test_one_frame_is_enough_where_no_more_are_wanted() -> None:
    rows, candidate = growing()
    burst = make([candidate], trace_frames=1)
    burst.start()
    run(burst, rows)
    assert len(burst._traces) == 1


def test_it_ends_when_its_time_is_up_though_nothing_was_seen() -> None:
    _, candidate = growing()
    burst = make([candidate], trace_seconds=0.1)
    burst.start()
    while not burst.poll():
        pass
    assert not candidate.sample.lines
    trace = burst.trace()
    assert trace is not None
    assert trace.seconds >= 0.1


def test_where_no_container_can_show_anything_it_does_not_wait() -> None:
    slow = Candidate([1], gained=0, now=1)
    burst = make([slow], trace_seconds=1.0, trace_frames=1)
    burst.start()
    while not burst.poll():
        pass
    assert burst.seconds < 0.75


def test_it_stops_early_at_its_bytes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing.Tracer, "own_bytes", property(lambda _: 2**40))
    _, candidate = growing()
    burst = make([candidate])
    burst.start()
    assert burst.poll()
    assert burst.note == "tracing stopped early: it reached trace_bytes"


def test_somebody_elses_session_is_used_and_left_running() -> None:
    tracemalloc.start(2)
    try:
        rows, candidate = growing()
        burst = make([candidate])
        burst.start()
        run(burst, rows)
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 2
        assert burst.note is not None
        assert "another tracemalloc session" in burst.note
        assert burst.seconds == 0.0, "its time is not ours"
        assert candidate.sample.lines
    finally:
        tracemalloc.stop()


def test_a_container_that_is_emptied_is_not_steady_and_a_queue_with_a_slow_reader_is() -> None:
    rows, candidate = growing(gained=8)
    candidate.measure()
    del rows[:3]
    candidate.measure()
    assert candidate.steady
    del rows[:2]
    candidate.measure()
    assert not candidate.steady
    rows.extend(range(100))
    candidate.measure()
    assert not candidate.steady, "once is enough"


def test_an_abandoned_burst_leaves_nothing_traced() -> None:
    burst = make([growing()[1]])
    burst.start()
    burst.abandon()
    burst.abandon()
    assert burst.poll()
    assert burst.trace() is None
    assert burst.growth_per_minute() is None


def test_growth_is_between_the_lowest_levels_so_that_requests_in_flight_cancel_out() -> None:
    levels = [(0.0, 100), (0.1, 900), (0.2, 110), (0.3, 150), (0.4, 950), (0.5, 160)]
    grown, seconds = bursts._growth([*levels, (0.6, 200), (0.7, 990), (0.8, 210)])
    assert (grown, round(seconds, 3)) == (100.0, 0.6)
    assert bursts._growth(levels[:2]) == (0.0, 0.0)


def test_the_deeper_stack_wins_when_bursts_are_summed() -> None:
    line, caller = ("a.py", 1), ("b.py", 2)
    first = tracing.Trace(seconds=1.0, sites={line: tracing.Site(line, 10, 1, (line,))})
    second = tracing.Trace(seconds=2.0, sites={line: tracing.Site(line, 20, 2, (line, caller))})
    total = bursts._combined([first, second])
    assert (total.seconds, total.sites[line].bytes, total.sites[line].count) == (3.0, 30, 3)
    assert total.sites[line].stack == (line, caller)
    assert total.foreign is False


def test_samples_of_two_bursts_add_up() -> None:
    total = Sample(entries=2, bytes=10)
    total.add(Sample(entries=3, bytes=20))
    assert (total.entries, total.bytes) == (5, 30)


@pytest.mark.parametrize(("collect", "times"), [(True, 1), (False, 0)])
def test_nothing_is_collected_where_garbage_is_what_grows(
    monkeypatch: pytest.MonkeyPatch, *, collect: bool, times: int
) -> None:
    collected: list[int] = []

    def note(generation: int) -> int:
        collected.append(generation)
        return 1000

    monkeypatch.setattr(census, "collect", note)
    burst = make([], collect=collect, trace_seconds=0.05, trace_frames=1)
    burst.start()
    while not burst.poll():
        pass
    assert collected == [1] * times
    assert burst.collected_bytes == (1000 if collect else None)


@pytest.mark.parametrize("buffer", [bytearray(), array("d")])
def test_a_buffer_grows_by_what_comes_in_not_by_the_room_it_has(buffer: Any) -> None:
    """Its block has room for more, and is seen to be a new one only when that is used up."""
    buffer.extend([1] * 100_000)
    candidate = Candidate(buffer, 0, 0)
    candidate.measure()
    before, candidate.at_start = candidate.now, candidate.taken
    for _ in range(50):
        buffer.append(1)
        candidate.measure()
    assert candidate.now - before == 50 * memoryview(buffer).itemsize
    assert candidate.taken > candidate.now
    assert candidate.added == candidate.taken - candidate.at_start
