"""When growth from run to run is called a leak: of numbers alone."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.integrations.testing.leaks import judge, thirds

steps = st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=40)


def levels(*grown: int) -> list[int]:
    return list(accumulate(grown, initial=1_000_000))


@pytest.mark.parametrize(
    ("grown", "kind", "per_run"),
    [
        ((0, 0, 0, 0, 0), "clean", 0),
        ((2000, 2000, 2100, 2000, 2000), "leak", 2000),
        ((900, 900, 900, 900, 900), "clean", 900),
        ((1001, 1001, 1001, 1001, 1001), "leak", 1001),
        ((-50_000, -10, 0, 5, 0), "clean", 0),
        # A late import; the next series will tell.
        ((0, 0, 80_000, 0, 0), "undecided", 16_000),
        # Something else was freed meanwhile.
        ((2000, 2000, -90_000, 2000, 2000), "undecided", 0),
    ],
)
def test_a_short_series_is_a_leak_clean_or_undecided(
    grown: tuple[int, ...], kind: str, per_run: int
) -> None:
    found = judge(levels(*grown), 1000)
    assert (found.kind, found.bytes_per_run) == (kind, per_run)


@pytest.mark.parametrize(
    ("grown", "kind"),
    [
        ((0, 0, 80_000, *[0] * 12), "clean"),
        ((80_000, 0, 0, 0, 0, 0, 90_000, *[0] * 8), "clean"),
        # A buffer that doubles its room: nothing for some runs, then a leap.
        ((0, 0, 6000, 0, 0) * 3, "leak"),
        # A cache that fills ever more slowly.
        ((9000, 8000, 4000, 2000, 1500, 900, 800, *[0] * 8), "clean"),
        ((2000, 2000, -90_000, *[2000] * 12), "leak"),
        ((2000, 0) * 7 + (2000,), "clean"),
    ],
)
def test_a_long_series_is_decided(grown: tuple[int, ...], kind: str) -> None:
    assert len(grown) == 15
    assert judge(levels(*grown), 1000, final=True).kind == kind


@given(steps, st.integers(0, 10**6))
def test_what_shrinks_on_the_whole_and_in_most_runs_is_clean(
    grown: list[int], allowed: int
) -> None:
    found = judge(levels(*(-abs(step) for step in grown)), allowed)
    assert (found.kind, found.bytes_per_run) == ("clean", 0)


@given(steps, st.integers(0, 10**6))
def test_growth_beyond_what_is_allowed_in_each_run_is_a_leak(
    grown: list[int], allowed: int
) -> None:
    found = judge(levels(*(allowed + 1 + abs(step) for step in grown)), allowed)
    assert found.kind == "leak"
    assert found.bytes_per_run > allowed


@given(steps, st.integers(0, 10**6))
def test_allowing_more_never_makes_a_leak(grown: list[int], allowed: int) -> None:
    strict = judge(levels(*grown), allowed, final=True)
    lax = judge(levels(*grown), allowed * 2 + 1, final=True)
    assert strict.kind == "leak" or lax.kind == "clean"


@given(steps, st.integers(0, 10**6))
def test_a_final_verdict_leaves_nothing_undecided_and_is_above_what_is_allowed(
    grown: list[int], allowed: int
) -> None:
    found = judge(levels(*grown), allowed, final=True)
    assert found.kind != "undecided"
    assert found.bytes_per_run >= 0


@given(st.integers(2, 1000))
def test_thirds_end_with_the_last_run_and_none_is_empty(runs: int) -> None:
    ends = thirds(runs)
    assert ends[-1] == runs
    assert ends[0] > 0
    assert sorted(set(ends)) == ends
    assert len(ends) == min(3, runs)
