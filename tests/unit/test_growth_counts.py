"""Which counts pile up, at which growth; what fills to a maximum does not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from memguard.leaks.growth.counts import Counted, Counts, least_growth
from memguard.observe.readings import Reading
from tests.unit.test_windows import options


def first_alarm(
    levels: Iterable[float], *, counted: Counted = "descriptors", limit: int | None = 20_000
) -> int | None:
    """Return the level at which *counted* is first found to pile up, or None."""
    counts = Counts(options())
    for at, level in enumerate(levels):
        number = round(level)
        counts.add(
            float(at),
            Reading(
                at=float(at),
                threads=number if counted == "threads" else 3,
                tasks=number if counted == "tasks" else 0,
                open_files=number if counted == "descriptors" else 9,
                open_files_limit=limit,
            ),
        )
        found = counts.growing()
        if found:
            assert [each.counted for each in found] == [counted]
            return number
    return None


def test_sockets_that_pile_up_fast_are_found_at_a_thousand() -> None:
    found = first_alarm(range(20, 60_000, 300))
    assert found is not None
    assert found < 4_000, "a few readings later: ten are needed for any trend"


def test_a_slow_pile_is_found_far_from_the_limit_of_1024() -> None:
    noise = itertools.cycle((0, 3, 0, 1, 0, 0, 2))
    found = first_alarm((20 + at + next(noise) for at in range(1000)), limit=1024)
    assert found is not None
    assert found <= 1024 // 4


def test_threads_that_never_end_are_found_at_some_fifty() -> None:
    found = first_alarm((8 + at for at in range(1000)), counted="threads")
    assert found is not None
    assert found <= 100


def test_tasks_that_never_finish_are_found() -> None:
    assert first_alarm(range(0, 100_000, 50), counted="tasks") is not None


@pytest.mark.parametrize("rate", [1, 3, 10, 50])
def test_a_pool_of_usual_size_that_fills_and_stops_is_no_pile(rate: int) -> None:
    for size, counted in ((100, "descriptors"), (40, "threads"), (400, "tasks")):
        levels = (10 + min(size, at * rate) for at in range(500))
        assert first_alarm(levels, counted=counted) is None  # type: ignore[arg-type] # reason: a tuple of literals widens


def test_counts_that_go_up_and_down_are_no_pile() -> None:
    rhythm = itertools.cycle([*range(10, 4000, 400), *range(4000, 10, -400)])
    assert first_alarm(itertools.islice(rhythm, 10, 610)) is None


def test_what_a_reading_does_not_know_is_left_out() -> None:
    counts = Counts(options())
    for at in range(100):
        counts.add(float(at), Reading(at=float(at)))
    assert counts.growth_share() == 0.0
    assert counts.growing() == ()
    assert counts.trend("tasks") is None


def test_the_time_to_the_limit_is_known() -> None:
    counts = Counts(options())
    for at in range(20):
        counts.add(float(at), Reading(at=float(at), open_files=100 * at, open_files_limit=4096))
    found = counts.trend("descriptors")
    assert found is not None
    assert found.per_minute == pytest.approx(6000)
    assert found.seconds_to_limit == pytest.approx((4096 - 1700) / 100)


def test_a_low_limit_lowers_what_counts_and_no_limit_does_not() -> None:
    assert least_growth("descriptors", None, whole_window=False) == 1000
    assert least_growth("descriptors", 256, whole_window=False) == 128
    assert least_growth("descriptors", 256, whole_window=True) == 32
    assert least_growth("descriptors", 10, whole_window=True) == 16


def test_counting_again_forgets_what_was_named_only() -> None:
    counts = Counts(options())
    for at in range(20):
        counts.add(float(at), Reading(at=float(at), threads=at * 100, open_files=at * 100))
    counts.clear("threads")
    assert counts.trend("threads") is None
    assert counts.trend("descriptors") is not None
    assert len(counts.storage_ids()) == 6
