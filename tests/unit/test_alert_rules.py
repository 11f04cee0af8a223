"""Rules: figures and a time in, signs out."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from memguard.errors import ConfigError
from memguard.leaks.report import FindingState
from memguard.report.alerting import (
    GcShareAbove,
    GrowthAbove,
    LeakSuspected,
    LevelReached,
    ReliefIneffective,
    Rule,
    UsedAbove,
    When,
    default_rules,
)
from memguard.report.alerting.rules import Condition
from tests.alerting import MIB, pressure_alert, state_of
from tests.specimens import leak_report

FIRING = frozenset({""})
NONE = frozenset[str]()


def ANY(value: Any) -> Any:  # noqa: N802 - reason: it marks what a type checker would refuse
    return value


def one(
    rule: Rule, *, now: float = 0.0, firing: frozenset[str] = NONE, **figures: Any
) -> Condition:
    (sign,) = rule.evaluator()(state_of(**figures), now, firing)
    return sign


class TestUsed:
    @pytest.mark.parametrize(
        ("ratio", "firing", "active"),
        [
            (0.86, NONE, True),
            (0.85, NONE, False),
            (0.82, FIRING, True),  # not before it is clearly below
            (0.82, NONE, False),
            (0.80, FIRING, False),
            (None, NONE, None),
        ],
    )
    def test_it_is_above_until_it_is_clearly_below(
        self, ratio: float | None, firing: frozenset[str], active: object
    ) -> None:
        assert one(UsedAbove(0.85), ratio=ratio, firing=firing).active is active

    def test_its_words_say_how_much_of_what(self) -> None:
        sign = one(UsedAbove(0.85), ratio=0.9)
        assert sign.summary == "90.0% of 1000.0 MiB used (here), above 85% for 5 min"
        assert (sign.value, sign.unit) == (0.9, "ratio")
        assert ("of this process", "100.0 MiB") in sign.facts

    def test_it_does_not_say_above_where_it_only_is_not_below_yet(self) -> None:
        sign = one(UsedAbove(0.85), ratio=0.82, firing=FIRING)
        assert sign.summary == "82.0% of 1000.0 MiB used (here), not yet down to 80%"

    def test_a_stopped_guard_knows_nothing(self) -> None:
        """Its last look may be of an hour ago."""
        for rule in (UsedAbove(), LevelReached(), ReliefIneffective()):
            assert one(rule, ratio=0.99, level="critical", running=False).active is None


@pytest.mark.parametrize(
    ("wanted", "level", "active"),
    [
        ("critical", "critical", True),
        ("critical", "elevated", False),
        ("elevated", "elevated", True),
        ("elevated", "critical", True),
        ("elevated", "ok", False),
        ("elevated", "insufficient_data", None),
    ],
)
def test_a_level_is_reached_by_itself_and_by_graver_ones(
    wanted: str, level: str, active: object
) -> None:
    assert one(LevelReached(wanted), level=level).active is active


class TestRelief:
    def test_relief_in_vain_is_told_and_a_restart_makes_it_critical(self) -> None:
        rule = ReliefIneffective()
        alerts = (pressure_alert("level"), pressure_alert("ineffective"))
        sign = one(rule, level="critical", alerts=alerts)
        assert (sign.active, sign.severity) == (True, None)
        sign = one(rule, level="critical", alerts=(*alerts, pressure_alert("recycle")))
        assert (sign.active, sign.severity) == (True, "critical")
        assert "a restart is due" in sign.summary

    def test_it_is_over_when_memory_is_not_short_any_more(self) -> None:
        vain = pressure_alert("ineffective")
        assert one(ReliefIneffective(), level="ok", alerts=(vain,)).active is False

    def test_what_was_before_memory_was_ok_is_another_time(self) -> None:
        alerts = (
            pressure_alert("ineffective"),
            pressure_alert("level", "ok"),
            pressure_alert("level", "elevated"),
        )
        assert one(ReliefIneffective(), level="elevated", alerts=alerts).active is False

    def test_what_fell_off_the_end_of_the_list_is_not_over(self) -> None:
        alerts = (pressure_alert("level", "elevated"), pressure_alert("level"))
        rule = ReliefIneffective()
        assert one(rule, level="critical", alerts=alerts, firing=FIRING).active is None
        assert one(rule, level="ok", alerts=alerts, firing=FIRING).active is False


class TestLeaks:
    def test_each_leak_is_an_alert_and_growth_that_is_none_is_not(self) -> None:
        reports = (
            leak_report(id="a"),
            leak_report(id="b"),
            leak_report(id="c", kind="growth"),
            leak_report(id="d", kind="snapshot"),
        )
        signs = LeakSuspected().evaluator()(state_of(reports=reports), 0.0, NONE)
        assert [(sign.key, sign.active) for sign in signs] == [("a", True), ("b", True)]

    def test_its_words_name_the_line_and_the_holder(self) -> None:
        (sign,) = LeakSuspected().evaluator()(state_of(reports=(leak_report(),)), 0.0, NONE)
        assert sign.summary.startswith(
            "leak suspected: leaky_shop.app.SESSIONS grows 1.9 MiB/min, +61.0 MiB in all"
        )
        assert "app.py:57" in sign.summary
        assert dict(sign.facts)["report"] == "20261120T050714-4242-1"
        assert dict(sign.facts)["what"] == "leaky_shop.app.SESSIONS grows 1.9 MiB/min"
        assert "BoundedCache" in dict(sign.facts)["advice"]

    @pytest.mark.parametrize("detector", ["watching", "tracing", "cooling", "idle"])
    @pytest.mark.parametrize("ending", ["ended", "retracted"])
    def test_it_is_over_at_once_when_the_leak_is_and_says_so(
        self, ending: FindingState, detector: str
    ) -> None:
        look = LeakSuspected().evaluator()
        firing = frozenset({"a"})
        leaking = leak_report(id="a", state="leaking", fingerprint="00ff00ff00ff00ff")
        (sign,) = look(state_of(reports=(leaking,)), 0.0, firing)
        assert sign.active
        assert dict(sign.facts)["leak fingerprint"] == "00ff00ff00ff00ff"
        over = replace(leaking, revision=2, state=ending)
        (sign,) = look(state_of(reports=(over,), detector=detector), 1.0, firing)
        assert sign.active is False
        assert sign.summary.startswith("leak ended" if ending == "ended" else "no leak")

    def test_what_is_only_suspected_raises_none(self) -> None:
        report = leak_report(kind="growth", state="suspected")
        assert LeakSuspected().evaluator()(state_of(reports=(report,)), 0.0, NONE) == []

    def test_a_slow_leak_that_is_seldom_confirmed_is_not_over(self) -> None:
        look = LeakSuspected().evaluator()
        report = leak_report(id="a", state="leaking")
        for hours in range(48):
            (sign,) = look(state_of(reports=(report,)), hours * 3600.0, frozenset({"a"}))
            assert sign.active

    def test_it_is_over_when_it_was_not_confirmed_for_long_while_somebody_watched(self) -> None:
        look = LeakSuspected(resolve_after="1h").evaluator()
        report = leak_report(id="a", revision=1)
        firing = frozenset({"a"})

        def state(now: float, detector: str = "watching") -> bool | None:
            (sign,) = look(state_of(reports=(report,), detector=detector), now, firing)
            return sign.active

        assert state(0.0)
        assert state(3599.0)
        assert state(3601.0, "cooling") is None
        assert state(3601.0) is False
        report = replace(report, revision=2)
        assert state(3700.0)
        assert state(7299.0)
        assert state(7301.0) is False

    def test_a_report_without_line_and_holder_has_words_too(self) -> None:
        report = leak_report(suspects=(), holders=())
        (sign,) = LeakSuspected().evaluator()(state_of(reports=(report,)), 0.0, NONE)
        assert sign.summary == (
            "leak suspected: memory grows 2.0 MiB/min: live Python objects, +61.0 MiB in all"
        )

    def test_what_it_remembers_goes_with_the_reports(self) -> None:
        look = LeakSuspected().evaluator()
        for number in range(1000):
            look(state_of(reports=(leak_report(id=f"r{number}"),)), float(number), NONE)
        assert len(look.__self__._seen) == 1  # type: ignore[attr-defined] # reason: a bound method


class TestGrowth:
    def grown(self, rule: GrowthAbove, values: Any, *, seconds: float) -> list[bool | None]:
        look = rule.evaluator()
        found = []
        firing = NONE
        for number, value in enumerate(values):
            (sign,) = look(state_of(private=int(value)), number * seconds, firing)
            found.append(sign.active)
            firing = FIRING if sign.active else NONE
        return found

    def test_steady_growth_is_seen_and_its_rate_is_right(self) -> None:
        rule = GrowthAbove("64MiB", window="1h")
        look = rule.evaluator()
        for second in range(0, 3600, 10):
            private = int((100 + second / 3600 * 100) * MIB)
            (sign,) = look(state_of(private=private), float(second), NONE)
        assert sign.active
        assert sign.value == pytest.approx(100 * MIB, rel=0.02)
        assert sign.unit == "bytes/hour"

    def test_nothing_is_said_before_half_the_window_has_passed(self) -> None:
        values = [(100 + second / 36) * MIB for second in range(0, 1500, 10)]
        assert set(self.grown(GrowthAbove(window="1h"), values, seconds=10.0)) == {None}

    def test_slower_growth_one_step_and_noise_are_none(self) -> None:
        dice = random.Random(4)  # noqa: S311 - reason: noise, the same in each run
        slow = [(100 + second / 3600 * 30) * MIB for second in range(0, 7200, 10)]
        step = [(100 if second < 2000 else 400) * MIB for second in range(0, 7200, 10)]
        noise = [(100 + dice.random() * 200) * MIB for second in range(0, 7200, 10)]
        for values in (slow, step, noise):
            assert True not in self.grown(GrowthAbove("64MiB", window="1h"), values, seconds=10.0)

    def test_it_is_over_when_the_growth_has_left_the_window(self) -> None:
        values = [(100 + min(second, 3600) / 3600 * 200) * MIB for second in range(0, 14400, 10)]
        found = self.grown(GrowthAbove("64MiB", window="1h"), values, seconds=10.0)
        assert found[350]
        assert found[-1] is False

    def test_the_tracer_of_a_leak_search_is_no_growth(self) -> None:
        look = GrowthAbove("64MiB", window="1h").evaluator()
        for second in range(0, 3600, 10):
            extra = second * MIB
            found = state_of(private=100 * MIB + extra, tracer=extra)
            (sign,) = look(found, float(second), NONE)
        assert sign.active is False

    def test_a_long_pause_forgets_what_was_before(self) -> None:
        look = GrowthAbove("64MiB", window="1h").evaluator()
        for second in range(0, 3600, 10):
            (sign,) = look(state_of(private=(100 + second) * MIB), float(second), NONE)
        assert sign.active
        for second in range(90_000, 90_300, 10):
            (sign,) = look(state_of(private=5000 * MIB), float(second), NONE)
        assert sign.active is None

    def test_a_system_that_tells_nothing_makes_no_alarm(self) -> None:
        look = GrowthAbove().evaluator()
        for second in range(0, 7200, 100):
            (sign,) = look(state_of(private=None), float(second), NONE)
        assert sign.active is None


@pytest.mark.parametrize("window", ["1m", "2h", "7d"])
def test_the_longest_interval_is_short_enough_to_tell(window: str) -> None:
    growth, share = GrowthAbove("1MiB", window=window), GcShareAbove(0.1, window=window)
    at, look = 0.0, growth.evaluator()
    for number in range(30):
        (sign,) = look(state_of(private=int(100 * MIB + at * MIB)), at, NONE)
        at += growth.longest_interval * (1.05 if number % 2 else 0.95)
    assert sign.active
    at, look = 0.0, share.evaluator()
    for _ in range(5):
        (sign,) = look(state_of(watched=at, paused=at / 2), at, NONE)
        at += share.longest_interval
    assert sign.active


class TestGcShare:
    def test_only_the_last_window_counts(self) -> None:
        """An hour without a pause does not hide that now half of the time goes into them."""
        look = GcShareAbove(0.10, window="5m").evaluator()
        for second in range(0, 3600, 10):
            (sign,) = look(state_of(watched=float(second), paused=0.0), 0.0, NONE)
        assert sign.active is False
        for second in range(3600, 3900, 10):
            paused = (second - 3600) * 0.5
            (sign,) = look(state_of(watched=float(second), paused=paused), 0.0, NONE)
        assert sign.active
        assert sign.value == pytest.approx(0.5, abs=0.05)

    def test_a_watch_that_began_anew_or_is_not_there_cannot_tell(self) -> None:
        look = GcShareAbove(window="5m").evaluator()
        assert look(state_of(watched=None), 0.0, NONE)[0].active is None
        look(state_of(watched=1000.0, paused=900.0), 0.0, NONE)
        assert look(state_of(watched=10.0, paused=9.0), 0.0, NONE)[0].active is None

    def test_its_memory_is_bounded_however_often_it_is_asked(self) -> None:
        look = GcShareAbove(window="5m").evaluator()
        for number in range(5000):
            look(state_of(watched=number * 0.1), 0.0, NONE)
        assert len(look.__self__._points) <= 41  # type: ignore[attr-defined] # reason: a bound method


class TestWhen:
    @pytest.mark.parametrize(
        ("answer", "active", "summary"),
        [
            (True, True, "my_rule"),
            (False, False, "my_rule"),
            (None, None, "my_rule"),
            ("it is so", True, "it is so"),
            ("", False, "my_rule"),
        ],
    )
    def test_a_condition_of_ones_own_says_yes_no_or_nothing(
        self, answer: Any, active: object, summary: str
    ) -> None:
        sign = one(When("my_rule", lambda _: answer))
        assert (sign.active, sign.summary) == (active, summary)

    def test_what_is_neither_is_no_alarm_for_ever(self) -> None:
        with pytest.raises(TypeError, match="check must return True, False, None or a text"):
            one(When("mine", lambda _: ANY(object())))

    def test_it_is_given_the_figures(self) -> None:
        def many(figures: Any) -> bool:
            return bool(figures.pressure.used_ratio > 0.4)

        assert one(When("many", many), ratio=0.5).active


def test_the_rules_that_come_along_have_names_of_their_own() -> None:
    names = [rule.name for rule in default_rules()]
    assert len(set(names)) == 6
    assert repr(default_rules()[0]) == "UsedAbove(name='memory_used', severity='critical')"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: UsedAbove(1.5), ConfigError, "ratio must be from 0.01 to 1 "),
        (lambda: UsedAbove(float("nan")), ConfigError, "ratio must be"),
        (lambda: UsedAbove(0.8, clear=0.9), ConfigError, "clear must be from 0 to 0.8"),
        (lambda: UsedAbove(ANY("much")), TypeError, "ratio must be a number"),
        (lambda: UsedAbove(name="no spaces"), ConfigError, "name must be"),
        (lambda: UsedAbove(name=ANY(1)), TypeError, "name must be a string"),
        (lambda: UsedAbove(severity=ANY("bad")), ConfigError, "severity must be 'info', 'warning'"),
        (lambda: UsedAbove(fire_after=-1), ConfigError, "fire_after"),
        (lambda: UsedAbove(repeat=0), ConfigError, "repeat must be >= 1 second"),
        (lambda: LevelReached("ok"), ConfigError, "level must be"),
        (lambda: GrowthAbove(0), ConfigError, "bytes_per_hour must be > 0"),
        (lambda: GrowthAbove(window=1), ConfigError, "window must be"),
        (lambda: GcShareAbove(0), ConfigError, "share must be"),
        (lambda: LeakSuspected(resolve_after=0), ConfigError, "resolve_after must be"),
        (lambda: When("x", ANY(1)), TypeError, "check must be callable"),
        (lambda: When("x", print, summary=ANY(1)), TypeError, "summary must be a string"),
    ],
)
def test_wrong_options_are_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
