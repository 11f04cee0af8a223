"""From samples to a level: rises at once, falls slowly, never flaps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.relief.levels import SEVERITY, Level, LevelRules, Levels, Sample

LIMIT = 1_000_000


def sample(at: float, ratio: float | None, **more: Any) -> Sample:
    if ratio is None:
        return Sample(at=at)
    return Sample(at=at, used=round(ratio * LIMIT), limit=LIMIT, source="test", **more)


def run(ratios: Sequence[float | None], *, step: float = 1.0, **rules: Any) -> list[Level]:
    levels = Levels(LevelRules(**rules))
    return [levels.judge(sample(n * step, ratio)).level for n, ratio in enumerate(ratios)]


def changes(levels: list[Level]) -> int:
    return sum(a != b for a, b in itertools.pairwise(levels))


def test_one_calm_look_is_not_enough_to_say_ok() -> None:
    assert run([0.3, 0.3]) == ["insufficient_data", "ok"]


def test_nothing_known_is_insufficient_data_for_ever() -> None:
    assert set(run([None] * 20)) == {"insufficient_data"}


@pytest.mark.parametrize(
    ("ratio", "level"), [(0.74, "ok"), (0.75, "elevated"), (0.89, "elevated"), (0.9, "critical")]
)
def test_a_level_is_reached_at_its_threshold_and_at_once(ratio: float, level: Level) -> None:
    assert run([0.5, 0.5, ratio])[-1] == level


def test_a_first_look_at_a_full_process_is_an_alarm_already() -> None:
    assert run([0.95]) == ["critical"]


def test_a_level_is_left_only_after_the_hold_off() -> None:
    levels = run([0.5, 0.5, 0.8] + [0.5] * 12, hold_off=10.0)
    assert levels[3:13] == ["elevated"] * 10
    assert levels[13] == "ok"


def test_one_sample_near_the_threshold_starts_the_hold_off_anew() -> None:
    levels = run([0.5, 0.5, 0.8, *[0.5] * 9, 0.74, *[0.5] * 9], hold_off=10.0)
    assert set(levels[2:]) == {"elevated"}


def test_what_stays_where_relief_aims_is_calm() -> None:
    rules = LevelRules()
    assert run([0.5, 0.8] + [rules.target] * 12)[-1] == "ok"


def test_critical_falls_to_elevated_while_that_is_what_it_is() -> None:
    assert run([0.95] + [0.8] * 11)[-1] == "elevated"


def test_losing_sight_of_the_limit_does_not_end_an_alarm_at_once() -> None:
    levels = run([0.95, None, None], hold_off=10.0)
    assert levels == ["critical"] * 3
    assert run([0.95] + [None] * 12, hold_off=10.0)[-1] == "insufficient_data"


def test_a_noisy_signal_at_the_threshold_changes_the_level_a_few_times_a_minute_at_most() -> None:
    chance = random.Random(1)  # noqa: S311 - reason: noise, not a secret
    for step in (0.02, 0.1, 1.0):
        ratios = [0.75 + chance.gauss(0, 0.05) for _ in range(3000)]
        minutes = len(ratios) * step / 60
        assert changes(run(ratios, step=step)) <= max(4, 4 * minutes)


def test_a_signal_that_keeps_coming_back_is_held_for_longer_each_time() -> None:
    wave = ([0.85] * 2 + [0.4] * 13) * 20
    levels = run(wave, hold_off=10.0)
    first, last = levels[:75], levels[-75:]
    assert changes(first) > changes(last)
    assert changes(last) <= 1


@given(
    st.lists(
        st.tuples(st.floats(0.01, 30.0), st.one_of(st.none(), st.floats(0, 1.2))), max_size=200
    )
)
def test_whatever_the_signal_there_is_a_hold_off_between_a_rise_and_the_fall_after_it(
    series: list[tuple[float, float | None]],
) -> None:
    levels = Levels(LevelRules(hold_off=10.0))
    now, risen_at = 0.0, 0.0
    for step, ratio in series:
        now += step
        before = levels.level
        after = levels.judge(sample(now, ratio)).level
        if SEVERITY[after] > SEVERITY[before]:
            risen_at = now
        elif SEVERITY[after] < SEVERITY[before] and before != "ok":
            assert now - risen_at >= 10.0
        if ratio is not None and ratio >= 0.9:
            assert after == "critical", "an alarm is never held back"


def test_rapid_growth_is_an_alarm_before_the_threshold() -> None:
    levels = Levels(LevelRules())
    judged = [levels.judge(sample(n * 0.1, 0.3 + 0.05 * n)) for n in range(8)]
    assert judged[-1].level == "elevated"
    assert judged[-1].reasons[0].startswith("rapid growth: critical in 5")
    assert judged[-1].bytes_per_second == pytest.approx(0.5 * LIMIT)


def test_a_program_that_starts_quickly_and_stays_below_half_is_no_alarm() -> None:
    assert set(run([0.06 * n for n in range(8)] + [0.42] * 5, step=0.1)) <= {
        "insufficient_data",
        "ok",
    }


def test_loading_a_model_while_a_third_is_left_is_no_alarm() -> None:
    assert set(run([0.1 + 0.05 * n for n in range(11)] + [0.62] * 5, step=0.1)) <= {
        "insufficient_data",
        "ok",
    }


def test_a_change_of_the_bound_is_no_growth() -> None:
    levels = Levels(LevelRules())
    for n in range(6):
        levels.judge(sample(n * 0.1, 0.1))
    other = Sample(at=0.7, used=6 * LIMIT, limit=10 * LIMIT, source="another")
    judgement = levels.judge(other)
    assert judgement.level == "ok"
    assert judgement.bytes_per_second == 0.0


@pytest.mark.parametrize(
    ("full", "some", "own", "ratio", "level"),
    [
        (15.0, 30.0, True, 0.3, "critical"),
        (15.0, 30.0, False, 0.6, "elevated"),
        (15.0, 30.0, False, 0.3, "ok"),
        (0.0, 25.0, True, 0.3, "elevated"),
        (0.0, 5.0, True, 0.3, "ok"),
    ],
)
def test_waiting_for_memory_counts_more_in_a_group_of_ones_own(
    full: float,
    some: float,
    own: bool,  # noqa: FBT001 - reason: a column of the table
    ratio: float,
    level: Level,
) -> None:
    levels = Levels(LevelRules())
    for n in range(3):
        judged = levels.judge(
            sample(float(n), ratio, stall_some=some, stall_full=full, stall_is_own=own)
        )
    assert judged.level == level


def test_collisions_with_the_limit_count_only_where_it_is_not_the_page_cache() -> None:
    for ratio, level in ((0.4, "ok"), (0.8, "critical")):
        levels = Levels(LevelRules())
        for n in range(3):
            judged = levels.judge(sample(float(n), ratio, collisions=7 + n))
        assert judged.level == level


def test_old_collisions_are_no_alarm() -> None:
    levels = Levels(LevelRules())
    assert levels.judge(sample(0.0, 0.8, collisions=900)).level == "elevated"
    assert levels.judge(sample(1.0, 0.8, collisions=None)).level == "elevated"
    assert levels.judge(sample(2.0, 0.8, collisions=900)).level == "elevated"


def test_the_reasons_say_how_much_of_what() -> None:
    levels = Levels(LevelRules())
    judged = levels.judge(replace(sample(0.0, 0.93), source="memory.max"))
    assert judged.reasons == ("93% of 976.6 KiB in use (memory.max)",)
    assert judged.highest_used == 930_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"elevated": 0.9, "critical": 0.8}, "elevated < critical"),
        ({"elevated": 0.05}, "elevated < critical"),
        ({"critical": 1.5}, "elevated < critical"),
        ({"hysteresis": 0.0}, "hysteresis"),
        ({"hysteresis": 0.8}, "hysteresis"),
        ({"hold_off": 0.0}, "hold_off must be from 0.1 to 3600"),
        ({"stall_full": 101.0}, "stall_full"),
        ({"rapid_seconds": float("nan")}, "rapid_seconds"),
    ],
)
def test_thresholds_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LevelRules(**options)


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="elevated must be a number"):
        LevelRules(elevated="0.8")  # type: ignore[arg-type]  # reason: what is refused
