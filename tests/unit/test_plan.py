"""Who gives how much, and who may grow again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memguard.relief.plan import Holding, Lowered, plan_regrowth, plan_shrink

MIB = 1024**2
holdings = st.lists(
    st.builds(
        Holding,
        ident=st.integers(),
        bytes=st.integers(0, 10**9),
        floor=st.integers(0, 10**9),
        heat=st.floats(0, 1e6),
    ),
    max_size=12,
    unique_by=lambda holding: holding.ident,
)


def test_the_coldest_cache_gives_first() -> None:
    hot = Holding(ident=1, bytes=100 * MIB, heat=50.0)
    cold = Holding(ident=2, bytes=100 * MIB, heat=0.5)
    assert plan_shrink([hot, cold], 30 * MIB) == {2: 30 * MIB}


def test_of_equally_cold_caches_the_largest_gives_first() -> None:
    small = Holding(ident=1, bytes=10 * MIB, heat=1.0)
    large = Holding(ident=2, bytes=90 * MIB, heat=1.1)
    assert plan_shrink([small, large], 5 * MIB) == {2: 5 * MIB}


def test_no_cache_is_emptied_while_another_is_full() -> None:
    hot = Holding(ident=1, bytes=100 * MIB, heat=50.0)
    cold = Holding(ident=2, bytes=100 * MIB)
    assert plan_shrink([hot, cold], 80 * MIB) == {2: 50 * MIB, 1: 30 * MIB}


def test_what_is_missing_after_a_first_round_comes_from_a_second() -> None:
    hot = Holding(ident=1, bytes=100, heat=50.0)
    cold = Holding(ident=2, bytes=100)
    assert plan_shrink([hot, cold], 130) == {2: 80, 1: 50}


def test_nothing_is_taken_for_no_goal() -> None:
    assert plan_shrink([Holding(ident=1, bytes=100)], 0) == {}


@given(holdings, st.integers(0, 10**10))
def test_floors_are_kept_and_the_goal_is_met_or_all_is_given(
    rows: list[Holding], goal: int
) -> None:
    takes = plan_shrink(rows, goal)
    spare = {row.ident: max(0, row.bytes - row.floor) for row in rows}
    assert all(0 < take <= spare[ident] for ident, take in takes.items())
    assert sum(takes.values()) == min(goal, sum(spare.values()))


lowered = st.builds(
    lambda ident, size, slack, more: Lowered(
        ident=ident, bytes=size, bound=size + slack, original=size + slack + more
    ),
    st.integers(),
    st.integers(0, 10**9),
    st.integers(0, 10**8),
    st.integers(1, 10**9),
)


@given(st.lists(lowered, max_size=8, unique_by=lambda row: row.ident), st.integers(0, 10**9))
def test_bounds_that_are_raised_together_never_allow_more_than_the_room(
    rows: list[Lowered], room: int
) -> None:
    raised = plan_regrowth(rows, room)
    after = {row.ident: raised.get(row.ident, row.bound) for row in rows}
    before = sum(max(0, row.bound - row.bytes) for row in rows)
    allowed = sum(max(0, after[row.ident] - row.bytes) for row in rows)
    assert allowed <= max(room, before)
    assert all(row.bound < after[row.ident] <= row.original for row in rows if row.ident in raised)


def test_where_everything_fits_bounds_are_as_they_were() -> None:
    rows = [Lowered(ident=1, bytes=10, bound=20, original=500)]
    assert plan_regrowth(rows, 1000) == {1: 500}


def test_a_cache_that_does_not_fill_its_bound_is_not_given_more() -> None:
    idle = Lowered(ident=1, bytes=1 * MIB, bound=50 * MIB, original=500 * MIB)
    full = Lowered(ident=2, bytes=50 * MIB, bound=50 * MIB, original=500 * MIB)
    raised = plan_regrowth([idle, full], 149 * MIB)
    assert raised == {2: 100 * MIB}


def test_raising_again_and_again_comes_near_the_room_and_not_past_it() -> None:
    size, room = 50 * MIB, 100 * MIB
    for _ in range(40):
        rows = [Lowered(ident=1, bytes=size, bound=size, original=10**12)]
        size = plan_regrowth(rows, 150 * MIB - size).get(1, size)
    assert 0.99 * (50 * MIB + room) < size <= 50 * MIB + room
