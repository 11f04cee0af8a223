"""Which worker is worth replacing, and when: every rule by itself, and in long lives."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.integrations.workers.recycle_policy import (
    PACKED_BYTES,
    RecycleOptions,
    Seen,
    TurnRecord,
    Verdict,
    WorkerState,
    ask_for_turn,
    judge,
)

MIB = 1 << 20
OPTIONS = RecycleOptions(limit=100 * MIB, min_age=300, min_requests=20, interval=60)


def life(
    *looks: tuple[float, int], requests: int | None = 1000, options: RecycleOptions = OPTIONS
) -> list[Verdict]:
    """Return the verdicts on a worker that needed so many MiB at such an age."""
    state, verdicts = WorkerState(), []
    for age, mib in looks:
        seen = Seen(at=5000 + age, age=age, private=mib * MIB, requests=requests)
        verdict, state = judge(seen, state, options)
        verdicts.append(verdict)
    return verdicts


def kinds(verdicts: list[Verdict]) -> list[str]:
    return [verdict.kind for verdict in verdicts]


def test_a_worker_below_its_limit_is_left_alone() -> None:
    assert kinds(life((0, 20), (10_000, 100))) == ["ok", "ok"]


def test_a_worker_that_has_grown_over_its_limit_tries_relief_first_and_is_then_due() -> None:
    looks = life((0, 20), (1000, 101), (1001, 101), (1302, 101), (1303, 101))
    assert kinds(looks) == ["ok", "relieve", "due", "relieve", "due"]
    assert looks[2].reason == "101.0 MiB of 100.0 MiB, 81.0 MiB more than a fresh worker needs"
    assert not looks[2].at_once


def test_relief_that_helped_is_the_end_of_it() -> None:
    assert kinds(life((0, 20), (1000, 101), (1001, 80))) == ["ok", "relieve", "ok"]


def test_a_young_worker_is_never_replaced() -> None:
    looks = life((0, 20), (299, 500))
    assert looks[-1].kind == "young"
    assert "4 min 59 s old" in looks[-1].reason


def test_a_worker_that_has_served_little_is_never_replaced() -> None:
    assert kinds(life((0, 20), (1000, 500), requests=19)) == ["ok", "young"]
    assert kinds(life((0, 20), (1000, 500), requests=20)) == ["ok", "relieve"]


def test_where_nobody_counts_requests_age_alone_decides() -> None:
    assert kinds(life((0, 20), (1000, 500), requests=None)) == ["ok", "relieve"]


def test_memory_that_cannot_be_read_is_no_reason() -> None:
    state = WorkerState()
    verdict, after = judge(Seen(at=1, age=1, private=None), state, OPTIONS)
    assert (verdict.kind, after) == ("ok", state)


def test_a_limit_below_what_every_worker_needs_replaces_nobody() -> None:
    looks = life((0, 150), (200, 150), (400, 150), (10_000, 159))
    assert kinds(looks) == ["young", "young", "futile", "futile"]
    assert "a fresh worker needs 150.0 MiB" in looks[-1].reason


def test_a_worker_that_loads_its_model_with_the_first_request_is_not_leaking() -> None:
    """It was small when it was ready, and is over the limit before it is old enough: so is each."""
    assert kinds(life((0, 20), (200, 180), (400, 181), (9000, 181)))[2:] == ["futile", "futile"]


def test_one_that_goes_on_growing_after_that_is_due_and_says_that_it_was_at_once() -> None:
    looks = life((0, 20), (200, 180), (400, 195), (401, 195))
    assert kinds(looks)[2:] == ["relieve", "due"]
    assert looks[-1].at_once


def test_a_worker_first_seen_when_it_was_old_is_measured_by_that() -> None:
    assert kinds(life((5000, 180), (6000, 181))) == ["futile", "futile"]


@given(
    st.lists(st.tuples(st.floats(0, 5000), st.integers(0, 400)), min_size=1, max_size=30),
    st.one_of(st.none(), st.integers(0, 40)),
)
def test_whoever_is_due_is_over_the_limit_old_enough_and_worth_it(
    looks: list[tuple[float, int]], requests: int | None
) -> None:
    looks = sorted(looks)
    for (age, mib), verdict in zip(looks, life(*looks, requests=requests), strict=True):
        if verdict.kind == "due":
            assert mib * MIB > OPTIONS.limit
            assert age >= OPTIONS.min_age
            assert requests is None or requests >= OPTIONS.min_requests
            assert verdict.gain >= OPTIONS.limit / 10
        if mib * MIB <= OPTIONS.limit:
            assert verdict.kind == "ok"


# --- turns ---------------------------------------------------------------------------------------


def test_the_first_turn_is_given_and_the_next_after_an_interval() -> None:
    turn, ledger = ask_for_turn(TurnRecord(ready=2), at=1000.0, at_once=False, options=OPTIONS)
    assert turn.granted
    ledger = dataclasses.replace(ledger, ready=3)  # the replacement
    early, same = ask_for_turn(ledger, at=1059.0, at_once=False, options=OPTIONS)
    assert (early.granted, early.wait, same) == (False, 1.0, ledger)
    assert ask_for_turn(ledger, at=1060.0, at_once=False, options=OPTIONS)[0].granted


def test_no_turn_before_the_replacement_of_the_last_one_is_ready() -> None:
    _, ledger = ask_for_turn(TurnRecord(ready=2), at=1000.0, at_once=False, options=OPTIONS)
    turn, _ = ask_for_turn(ledger, at=1100.0, at_once=False, options=OPTIONS)
    assert (turn.granted, turn.reason) == (False, "the replacement of the last one is not ready")


def test_a_replacement_that_never_comes_is_not_waited_for_for_ever() -> None:
    """The operator may have asked for one worker less."""
    _, ledger = ask_for_turn(TurnRecord(ready=2), at=1000.0, at_once=False, options=OPTIONS)
    assert ask_for_turn(ledger, at=1600.0, at_once=False, options=OPTIONS)[0].granted


def test_while_replacing_does_not_help_the_interval_doubles_up_to_its_most() -> None:
    gaps: list[float] = []
    ledger, at = TurnRecord(ready=1), 1000.0
    for _ in range(10):
        before = at
        while not (answer := ask_for_turn(ledger, at=at, at_once=True, options=OPTIONS))[0].granted:
            assert answer[0].backing_off == (at - before < 0 or len(gaps) > 0)
            at += answer[0].wait
        ledger = dataclasses.replace(answer[1], ready=answer[1].ready + 1)
        gaps.append(at - before)
    assert gaps == [0, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]


def test_one_worker_that_lived_long_ends_the_back_off() -> None:
    ledger = TurnRecord(granted_at=1000.0, granted=5, ready=9, ready_at_grant=8, in_vain=5)
    turn, after = ask_for_turn(ledger, at=9000.0, at_once=False, options=OPTIONS)
    assert (turn.granted, after.in_vain) == (True, 0)


@given(
    st.builds(
        TurnRecord,
        granted_at=st.floats(-1, 1e9),
        granted=st.integers(0, 2**63),
        ready=st.integers(0, 2**63),
        ready_at_grant=st.integers(0, 2**63),
        in_vain=st.integers(0, 2**63),
    )
)
def test_a_ledger_comes_back_as_it_was_written(ledger: TurnRecord) -> None:
    assert TurnRecord.unpack(ledger.pack()) == ledger


@given(st.integers(0, PACKED_BYTES - 1), st.integers(1, 255))
def test_a_ledger_that_is_not_whole_is_not_believed(place: int, difference: int) -> None:
    packed = bytearray(TurnRecord(granted_at=7.0, granted=3, ready=4).pack())
    packed[place] ^= difference
    assert TurnRecord.unpack(bytes(packed)) is None
    assert TurnRecord.unpack(bytes(packed[:place])) is None


@given(
    st.lists(st.tuples(st.floats(0, 500), st.booleans(), st.booleans()), min_size=1, max_size=40)
)
def test_two_turns_are_never_nearer_than_the_interval(
    asked: list[tuple[float, bool, bool]],
) -> None:
    ledger, at, given_at = TurnRecord(), 1000.0, []
    for pause, at_once, replaced in asked:
        at += pause
        turn, ledger = ask_for_turn(ledger, at=at, at_once=at_once, options=OPTIONS)
        if turn.granted:
            given_at.append(at)
        if replaced:
            ledger = dataclasses.replace(ledger, ready=ledger.ready + 1)
    assert all(b - a >= OPTIONS.interval - 1e-6 for a, b in itertools.pairwise(given_at))


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 1, "min_age": -1},
        {"limit": 1, "interval": 8 * 86400},
        {"limit": 1, "min_requests": -1},
    ],
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="got"):
        RecycleOptions(**wrong)
