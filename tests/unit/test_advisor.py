"""Advice to those who run it: with a reason that lasts, once, and never back and forth."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.relief.advice.advisor import AdvisorOptions, AdvisorState, SignalRule, Signals, advise
from memguard.relief.advice.capacity import fit_capacity

OPTIONS = AdvisorOptions(sustain=30, cooldown=300, reversal=900)


def run(
    series: list[dict[str, Any]], *, step: float = 10.0, options: AdvisorOptions = OPTIONS
) -> list[tuple[float, str]]:
    state: AdvisorState | None = None
    given: list[tuple[float, str]] = []
    for number, signals in enumerate(series):
        advice, state = advise(Signals(at=number * step, **signals), state, options)
        if advice is not None:
            given.append((advice.at, advice.kind))
    return given


FULL: dict[str, Any] = {"level": "elevated", "memory_ratio": 0.85}
EMPTY = {"level": "ok", "memory_ratio": 0.1}
CALM = {"level": "ok", "memory_ratio": 0.5}


def test_a_calm_process_gets_no_advice() -> None:
    assert run([CALM] * 100) == []


def test_a_reason_must_last() -> None:
    assert run([FULL] * 3 + [CALM] + [FULL] * 3) == []
    assert run([FULL] * 4) == [(30.0, "scale_up")]


def test_the_same_is_advised_again_after_the_cooldown_only() -> None:
    assert run([FULL] * 40) == [(30.0, "scale_up"), (330.0, "scale_up")]


def test_nobody_is_told_to_scale_up_and_down_in_turns() -> None:
    advice = run(([FULL] * 6 + [EMPTY] * 6) * 30)
    turns = [(b - a, kind, other) for (a, kind), (b, other) in itertools.pairwise(advice)]
    assert all(gap >= 900 for gap, kind, other in turns if kind != other)


def test_a_limit_that_is_near_means_drain_at_once() -> None:
    assert run([{**FULL, "seconds_to_limit": 30.0}]) == [(0.0, "drain")]
    critical = {"level": "critical", "is_ineffective": True, "memory_ratio": 0.95}
    assert run([critical])[0] == (0.0, "drain")


def test_a_process_that_leaks_towards_its_limit_is_recycled_and_not_multiplied() -> None:
    leaking = {**FULL, "leak_found": True, "seconds_to_limit": 300.0}
    assert run([leaking] * 10) == [(30.0, "recycle")]


def test_a_process_that_has_just_begun_is_not_recycled() -> None:
    young = {**FULL, "is_ineffective": True, "uptime_seconds": 60.0}
    assert "recycle" not in {kind for _, kind in run([young] * 10)}


def test_signals_of_ones_own_ask_for_more_and_agree_to_less() -> None:
    rules = (SignalRule(name="connections", high=100, low=10),)
    options = AdvisorOptions(rules=rules)
    busy = {**CALM, "values": {"connections": 120.0}}
    assert run([busy] * 4, options=options) == [(30.0, "scale_up")]
    assert run([{**EMPTY, "values": {"connections": 50.0}}] * 9, options=options) == []
    assert run([EMPTY] * 9, options=options) == [], "what cannot be asked does not agree"
    idle = {**EMPTY, "values": {"connections": 2.0}}
    assert run([idle] * 4, options=options) == [(30.0, "scale_down")]


def test_advice_says_why() -> None:
    rules = (SignalRule(name="response_seconds", high=0.5),)
    signals = Signals(at=0.0, values={"response_seconds": 0.75}, **FULL)
    advice, _ = advise(signals, None, AdvisorOptions(sustain=0, rules=rules))
    assert advice is not None
    assert advice.reasons == (
        "85% of the memory limit is in use",
        "response_seconds is 0.75, 0.5 or more",
    )


@pytest.mark.parametrize(
    "options",
    [{"scale_up_ratio": 0.2}, {"scale_down_ratio": 0.9}, {"sustain": -1}, {"cooldown": math.inf}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AdvisorOptions(**options)


def test_a_rule_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="low must be below high"):
        SignalRule(name="x", high=1, low=2)


@given(st.floats(0, 1e9), st.floats(1, 1e6), st.integers(3, 60))
def test_a_line_is_found_again(base: float, slope: float, count: int) -> None:
    fit = fit_capacity([(float(load), base + slope * load) for load in range(count)])
    assert fit.bytes_per_unit == pytest.approx(slope, rel=1e-3)
    assert fit.predict(1000) == pytest.approx(base + slope * 1000, rel=1e-3)
    assert fit.correlation == 1.0


def test_a_few_outliers_do_not_bend_the_line() -> None:
    points = [(float(load), 1000.0 + 50 * load) for load in range(100)]
    points[10] = (10.0, 1e9)
    points[90] = (90.0, 0.0)
    fit = fit_capacity(points)
    assert fit.bytes_per_unit == pytest.approx(50, rel=0.01)
    assert fit.fits(6000) == pytest.approx(100, rel=0.01)
    assert fit.highest_load == 99


def test_load_that_costs_nothing_fits_without_end_and_no_room_fits_nothing() -> None:
    flat = fit_capacity([(1, 500), (2, 500), (3, 500)])
    assert flat.fits(1000) == math.inf
    assert flat.fits(400) == 0.0
    assert flat.correlation == 0.0


def test_thousands_of_points_are_thinned_out() -> None:
    assert fit_capacity([(n, n) for n in range(5000)]).points <= 400


@pytest.mark.parametrize(
    "points", [[], [(1, 2), (2, 3)], [(1, 2), (1, 3), (1, 4)], [(1, 2), (2, math.nan), (3, 4)]]
)
def test_points_that_tell_nothing_are_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ConfigError, match="points must be"):
        fit_capacity(points)
