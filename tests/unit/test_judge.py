"""The one judge: what growth is, from numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.leaks.finding.judge import Signs, judge, leak_among
from memguard.leaks.finding.resources import ResourceSigns
from memguard.leaks.growth.trend import Trend, TrendKind, TrendOptions
from memguard.leaks.report import VERDICTS

MiB = 1024**2
rates = st.floats(0, 2**40)
optional_rates = st.none() | rates
changes = st.none() | st.integers(-(2**40), 2**40)


@pytest.mark.parametrize(
    ("signs", "kind"),
    [
        (Signs(growth_per_minute=MiB, explained_per_minute=0.9 * MiB), "live_objects"),
        (Signs(growth_per_minute=MiB, traced_per_minute=0.9 * MiB), "live_objects"),
        (Signs(growth_per_minute=MiB, traced_per_minute=100.0), "native"),
        (
            Signs(
                growth_per_minute=MiB,
                traced_per_minute=0.0,
                heap_in_use_growth=0,
                heap_free_growth=9 * MiB,
            ),
            "fragmentation",
        ),
        (
            Signs(
                growth_per_minute=MiB,
                minutes=10.0,
                traced_per_minute=0.0,
                heap_in_use_growth=0,
                heap_free_growth=MiB // 10,
            ),
            "native",
        ),
        (
            Signs(
                growth_per_minute=MiB,
                traced_per_minute=0.0,
                heap_in_use_growth=9 * MiB,
                heap_free_growth=MiB,
            ),
            "native",
        ),
        (
            Signs(growth_per_minute=MiB, traced_per_minute=MiB, collector_enabled=False),
            "cycles",
        ),
        (
            Signs(growth_per_minute=MiB, explained_per_minute=MiB, collector_enabled=False),
            "live_objects",
        ),
        (Signs(growth_per_minute=MiB), "unknown"),
    ],
)
def test_the_kind_follows_the_evidence(signs: Signs, kind: str) -> None:
    verdict = judge(signs).verdict
    assert verdict.kind == kind
    assert verdict.advice.endswith(".")
    assert verdict.reasons


@given(
    st.builds(
        Signs,
        growth_per_minute=st.floats(-(2**40), 2**40),
        explained_per_minute=rates,
        traced_per_minute=optional_rates,
        blocks_bytes_per_minute=st.none() | st.floats(-(2**40), 2**40),
        heap_in_use_growth=changes,
        heap_free_growth=changes,
        collector_enabled=st.booleans(),
        garbage_per_minute=optional_rates,
        unseen_per_minute=rates,
        collected_bytes=st.integers(0, 2**40),
    )
)
def test_any_signs_lead_to_a_verdict_with_reasons_and_advice(signs: Signs) -> None:
    verdict = judge(signs).verdict
    assert verdict.kind in set(VERDICTS)
    assert verdict.advice
    assert verdict.reasons
    assert not any("nan" in reason for reason in verdict.reasons)


def test_growth_is_called_native_only_where_python_was_looked_at() -> None:
    """Without tracing and without a census nothing is known of Python's share."""
    assert judge(Signs(growth_per_minute=MiB)).verdict.kind == "unknown"
    assert judge(Signs(growth_per_minute=MiB, blocks_bytes_per_minute=0.0)).verdict.kind == "native"


@pytest.mark.parametrize(("gained", "kind"), [(10 * MiB, "live_objects"), (0.1 * MiB, "none")])
def test_entries_that_fill_a_hole_are_told_though_readings_did_not_grow(
    gained: float, kind: str
) -> None:
    """A process that was larger before has room; what is added now shows in no reading."""
    verdict = judge(
        Signs(growth_per_minute=0.0, minutes=1 / 60, explained_per_minute=60 * gained)
    ).verdict
    assert verdict.kind == kind
    assert any("gained" in reason for reason in verdict.reasons)


def test_a_trend_calls_for_evidence_by_the_ratio_or_when_a_whole_window_has_seen_it() -> None:
    options = TrendOptions(growth_threshold=1.5)

    def trend(current: int, kind: TrendKind = TrendKind.LEAK) -> Trend:
        return Trend(
            kind=kind,
            bytes_per_hour=1.0,
            confidence=1.0,
            baseline_bytes=100,
            current_bytes=current,
            samples=10,
            span_seconds=10.0,
        )

    slow, steep, warming = trend(149), trend(150), trend(900, TrendKind.WARMING_UP)
    assert leak_among([slow], options, whole_window=False) is None
    assert leak_among([slow], options, whole_window=True) is slow
    lasting = replace(slow, rising_seconds=45.0)
    assert leak_among([slow, lasting], options, whole_window=False, enough_seconds=45.0) is lasting
    assert leak_among([warming, slow, steep], options, whole_window=False) is steep
    assert leak_among([warming], options, whole_window=True) is None
    assert leak_among([], options, whole_window=True) is None


CYCLES = Signs(
    growth_per_minute=MiB,
    growth_bytes=20 * MiB,
    minutes=1.0,
    traced_per_minute=MiB,
    blocks_bytes_per_minute=MiB,
    garbage_per_minute=0.9 * MiB,
    garbage_cycle="shop.Node.me",
)


@pytest.mark.parametrize(
    ("collector", "said", "kind"),
    [
        ({"collector_enabled": False}, "gc.disable()", "leak"),
        ({"collector_threshold": 0}, "gc.set_threshold(0)", "leak"),
        ({"collector_threshold": 10**9, "minutes_to_collection": 10**5}, "1,000,000,000", "leak"),
        ({"collector_threshold": 10**6, "minutes_to_collection": 20.0}, "1,000,000", "growth"),
        ({"minutes_to_collection": 0.1}, "shop.Node.me", "growth"),
        ({"minutes_to_collection": 20.0, "seconds_to_limit": 600.0}, "shop.Node.me", "leak"),
    ],
)
def test_garbage_is_cycles_and_a_leak_where_no_collection_comes_in_time(
    collector: dict[str, Any], said: str, kind: str
) -> None:
    judgement = judge(replace(CYCLES, **collector))
    assert judgement.verdict.kind == "cycles"
    assert judgement.kind == kind
    assert any(said in reason for reason in judgement.verdict.reasons)
    assert judgement.explained_ratio == 0.0
    assert judgement.garbage_ratio == pytest.approx(0.9)


def test_live_objects_are_no_cycles_because_the_collector_is_off() -> None:
    signs = Signs(
        growth_per_minute=MiB,
        traced_per_minute=MiB,
        garbage_per_minute=0.0,
        collector_enabled=False,
    )
    assert judge(signs).verdict.kind == "live_objects"


def test_holders_and_garbage_together_explain_no_more_than_all() -> None:
    judgement = judge(replace(CYCLES, explained_per_minute=0.6 * MiB))
    assert judgement.explained_ratio == pytest.approx(0.6)
    assert judgement.garbage_ratio == pytest.approx(0.4)


def test_objects_that_nothing_in_python_holds_are_an_extensions() -> None:
    held = Signs(growth_per_minute=MiB, explained_per_minute=0.9 * MiB)
    assert judge(held).verdict.kind == "live_objects"
    assert judge(replace(held, unseen_per_minute=0.8 * MiB)).verdict.kind == "extension"
    assert judge(replace(held, unseen_per_minute=0.2 * MiB)).verdict.kind == "live_objects"


def test_growth_that_this_interpreter_does_not_show_may_be_another_ones() -> None:
    signs = Signs(growth_per_minute=MiB, blocks_bytes_per_minute=MiB, traced_per_minute=MiB)
    assert judge(replace(signs, interpreters=2)).verdict.kind == "interpreter"
    explained = replace(signs, interpreters=2, explained_per_minute=0.9 * MiB)
    assert judge(explained).verdict.kind == "live_objects"


def test_growth_that_no_measurement_shows_is_not_called_a_leak() -> None:
    unseen = Signs(
        growth_per_minute=MiB,
        minutes=1.0,
        explained_per_minute=0.1 * MiB,
        traced_per_minute=0.1 * MiB,
        blocks_bytes_per_minute=0.0,
        heap_in_use_growth=0,
        heap_free_growth=0,
        data_growth=0,
    )
    assert judge(unseen).kind == "growth"
    for sign in (
        {"explained_per_minute": 0.3 * MiB},
        {"traced_per_minute": 0.3 * MiB},
        {"blocks_bytes_per_minute": 0.3 * MiB},
        {"heap_in_use_growth": MiB},
        {"data_growth": MiB},
        {"garbage_per_minute": 0.3 * MiB, "collector_enabled": False},
    ):
        assert judge(replace(unseen, **sign)).kind == "leak", sign


def test_an_update_says_what_it_sees_though_nothing_was_traced_for_it() -> None:
    standing = judge(Signs(growth_per_minute=MiB, traced_per_minute=0.0)).verdict
    assert standing.kind == "native"
    inferred = judge(Signs(growth_per_minute=MiB, blocks_bytes_per_minute=0.0), standing=standing)
    assert inferred.verdict is standing
    seen = judge(replace(CYCLES, collector_enabled=False), standing=standing)
    assert seen.verdict.kind == "cycles"


def test_tasks_that_still_pile_up_are_no_growth_that_has_ended() -> None:
    """Memory that stands still for a while was taken for the end of what was reported of them."""
    tasks = ResourceSigns(kind="tasks", gained=500, per_minute=6000.0, piles_up=True)
    signs = Signs(
        growth_per_minute=200_000.0,
        minutes=1.0,
        data_growth=0,
        heap_in_use_growth=0,
        resources=(tasks,),
    )
    assert judge(signs).kind == "growth"
    update = judge(signs, about="tasks")
    assert (update.kind, update.verdict.kind) == ("leak", "tasks")
    ended = replace(signs, resources=(replace(tasks, piles_up=False),))
    assert judge(ended, about="tasks").kind == "growth"
