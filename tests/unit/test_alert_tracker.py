"""From conditions to alerts to messages: when it fires, when it is over, and what is told."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.report.alerting import RateLimit, UsedAbove, When
from memguard.report.alerting.notice import Status
from memguard.report.alerting.notice_policy import NoticePolicy, TokenBucket
from memguard.report.alerting.rules import Condition, Evaluator, Rule
from memguard.report.alerting.tracker import MOST_ALERTS, AlertTracker, Evaluation, TrackedAlert
from tests.alerting import state_of


class Scripted(Rule):
    """Says what a test wants it to say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"name": "scripted", "resolve_after": 0.0, **options})
        self.conditions: list[Condition] = []

    def say(self, active: bool | None, key: str = "", **options: Any) -> None:  # noqa: FBT001 - reason: it is what is said
        self.conditions = [Condition(active=active, summary="words", key=key, **options)]

    def evaluator(self) -> Evaluator:
        return lambda *_: list(self.conditions)


def evaluated(tracker: AlertTracker, now: float) -> Evaluation:
    return tracker.evaluate(state_of(time=1000.0 + now), now)


class TestTracker:
    def test_it_fires_when_it_has_lasted_and_is_over_when_it_was_calm(self) -> None:
        rule = Scripted(fire_after=60, resolve_after=30)
        tracker = AlertTracker([rule])
        rule.say(True)
        assert not evaluated(tracker, 0.0).firing
        assert not evaluated(tracker, 59.0).firing
        (alert,) = evaluated(tracker, 60.0).firing
        assert (alert.since, alert.since_wall) == (0.0, 1000.0)
        rule.say(False)
        assert evaluated(tracker, 70.0).firing
        rule.say(True)
        assert evaluated(tracker, 80.0).firing  # it was not resolve_after for long enough
        rule.say(False)
        assert evaluated(tracker, 90.0).firing
        assert not evaluated(tracker, 119.0).resolved
        found = evaluated(tracker, 120.0)
        assert (found.firing, found.resolved) == ([], [alert])
        assert not tracker.alerts

    def test_what_did_not_last_begins_anew(self) -> None:
        rule = Scripted(fire_after=60)
        tracker = AlertTracker([rule])
        for now, active in ((0.0, True), (50.0, False), (55.0, True), (110.0, None), (112.0, True)):
            rule.say(active)
            assert not evaluated(tracker, now).firing
        assert not evaluated(tracker, 171.0).firing
        assert evaluated(tracker, 172.0).firing

    def test_what_cannot_be_told_is_not_over(self) -> None:
        rule = Scripted(resolve_after=10)
        tracker = AlertTracker([rule])
        rule.say(True)
        evaluated(tracker, 0.0)
        rule.say(False)
        evaluated(tracker, 1.0)
        rule.say(None)
        assert evaluated(tracker, 500.0).firing
        rule.say(False)
        assert evaluated(tracker, 501.0).firing
        assert evaluated(tracker, 511.0).resolved

    def test_a_key_that_is_not_there_any_more_is_over(self) -> None:
        rule = Scripted()
        tracker = AlertTracker([rule])
        rule.say(True, key="a")
        evaluated(tracker, 0.0)
        rule.say(True, key="b")
        found = evaluated(tracker, 1.0)
        assert [alert.key for alert in found.firing] == ["b"]
        assert [alert.key for alert in found.resolved] == ["a"]
        assert found.resolved[0].summary == "words"

    def test_a_rule_that_fails_changes_nothing_and_stops_no_other(self) -> None:
        broken = True

        def check(_: object) -> bool:
            if broken:
                raise ValueError
            return True

        tracker = AlertTracker([When("mine", check), UsedAbove(0.5, fire_after=0)])
        found = tracker.evaluate(state_of(ratio=0.9), 0.0)
        assert [(name, type(error)) for name, error in found.errors] == [("mine", ValueError)]
        assert [alert.rule.name for alert in found.firing] == ["memory_used"]
        broken = False
        assert len(tracker.evaluate(state_of(ratio=0.9), 1.0).firing) == 2
        broken = True
        assert len(tracker.evaluate(state_of(ratio=0.9), 1e6).firing) == 2

    def test_alerts_are_bounded_and_the_rest_is_counted(self) -> None:
        rule = Scripted()
        rule.conditions = [
            Condition(active=True, summary="", key=str(n)) for n in range(MOST_ALERTS + 7)
        ]
        tracker = AlertTracker([rule])
        assert len(evaluated(tracker, 0.0).firing) == MOST_ALERTS
        assert tracker.left_out == 7

    def test_strange_words_are_made_harmless_and_short(self) -> None:
        rule = Scripted()
        tracker = AlertTracker([rule])
        facts = tuple((f"name\n{n}", "x" * 1000) for n in range(50))
        rule.conditions = [
            Condition(active=True, summary="a\nb" + "c" * 999, value=float("nan"), facts=facts)
        ]
        (alert,) = evaluated(tracker, 0.0).firing
        assert "\n" not in alert.summary
        assert len(alert.summary) < 400
        assert len(alert.facts) == 20
        assert all("\n" not in name and len(value) < 250 for name, value in alert.facts)
        assert alert.value is None

    @given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0, 100))))
    def test_whatever_happens_an_alert_fires_before_it_is_over(
        self, story: list[tuple[bool | None, float]]
    ) -> None:
        rule = Scripted(fire_after=30, resolve_after=20)
        tracker = AlertTracker([rule])
        now, fires = 0.0, False
        for active, pause in story:
            now += pause
            rule.say(active)
            found = evaluated(tracker, now)
            assert bool(found.resolved) <= fires
            assert not (found.resolved and found.firing)
            if fires and not found.firing:
                assert found.resolved
            fires = bool(found.firing)


@pytest.mark.parametrize(
    "fields",
    [
        {"summary": None},
        {"summary": "", "key": 7},
        {"summary": "", "facts": (("name", 7),)},
        {"summary": "", "value": "many"},
        {"summary": "", "severity": "fatal"},
        {"summary": "", "unit": None},
    ],
)
def test_a_rule_that_says_nonsense_is_an_error_and_the_others_are_looked_at(
    fields: dict[str, Any],
) -> None:
    odd = Scripted(name="odd")
    odd.conditions = [Condition(**{"active": True, **fields})]
    found = AlertTracker([odd, UsedAbove(0.85, fire_after=0)]).evaluate(state_of(ratio=0.9), 0.0)
    assert [alert.rule.name for alert in found.firing] == ["memory_used"]
    assert [name for name, _ in found.errors] == ["odd"]


def test_a_rule_that_wants_to_exit_is_an_error_and_the_others_are_looked_at() -> None:
    rules = [When("leaver", lambda _: sys.exit(3)), UsedAbove(0.85, fire_after=0)]
    found = AlertTracker(rules).evaluate(state_of(ratio=0.9), 0.0)
    assert [alert.rule.name for alert in found.firing] == ["memory_used"]
    assert [(name, type(error)) for name, error in found.errors] == [("leaver", SystemExit)]


def policy(**options: Any) -> NoticePolicy:
    given: dict[str, Any] = {
        "repeat": 3600.0,
        "resolved": True,
        "rate": RateLimit(100, 1),
        "rate_per_rule": RateLimit(100, 1),
    }
    return NoticePolicy(**{**given, **options})


class Story:
    """A tracker and an policy, driven by a scripted rule."""

    def __init__(self, *rules: Scripted, **options: Any) -> None:
        self.tracker = AlertTracker(rules)
        self.policy = policy(**options)

    def at(self, now: float) -> list[tuple[TrackedAlert, Status]]:
        return self.policy.decide(evaluated(self.tracker, now), now)

    def kinds(self, now: float) -> list[tuple[str, str]]:
        return [(status, alert.key) for alert, status in self.at(now)]


class TestPolicy:
    def test_an_alert_is_told_once_again_after_a_while_and_at_its_end(self) -> None:
        rule = Scripted()
        story = Story(rule, repeat=100.0)
        rule.say(True)
        assert [status for _, status in story.at(0.0)] == ["firing"]
        for now in range(1, 100):
            assert not story.at(float(now))
        ((alert, _),) = story.at(100.0)
        assert alert.notices == 2
        rule.say(False)
        assert [status for _, status in story.at(101.0)] == ["resolved"]
        assert not story.at(102.0)

    def test_what_cannot_be_seen_is_not_told_again(self) -> None:
        rule = Scripted()
        story = Story(rule, repeat=10.0)
        rule.say(True)
        story.at(0.0)
        rule.say(None)
        assert not story.at(50.0)  # the number of a minute ago may be no more
        assert story.tracker.alerts[0].fires
        rule.say(True)
        assert [alert.notices for alert, _ in story.at(51.0)] == [2]

    def test_a_rule_may_repeat_at_a_pace_of_its_own(self) -> None:
        rule = Scripted(repeat=10)
        story = Story(rule)
        rule.say(True)
        assert [bool(story.at(float(now))) for now in (0, 9, 10, 19, 20)] == [1, 0, 1, 0, 1]

    def test_no_end_is_told_where_that_is_not_wanted(self) -> None:
        rule = Scripted()
        story = Story(rule, resolved=False)
        rule.say(True)
        story.at(0.0)
        rule.say(False)
        assert not story.at(1.0)

    def test_one_that_gets_graver_is_told_again_at_once(self) -> None:
        rule = Scripted()
        story = Story(rule)
        rule.say(True)
        story.at(0.0)
        rule.say(True, severity="critical")
        ((alert, _),) = story.at(1.0)
        assert alert.notified_severity == "critical"
        rule.say(True)
        assert not story.at(2.0)
        rule.say(False)
        ((alert, _),) = story.at(3.0)
        assert alert.notified_severity == "critical"

    def test_what_exceeds_the_rate_is_told_later_and_counted_once(self) -> None:
        rule = Scripted()
        rule.conditions = [Condition(active=True, summary="", key=str(n)) for n in range(5)]
        story = Story(rule, rate_per_rule=RateLimit(2, every=60))
        assert len(story.at(0.0)) == 2
        assert not story.at(1.0)
        assert story.policy.suppressed == 3
        assert len(story.at(60.0)) == 1
        assert len(story.at(180.0)) == 2
        assert story.policy.suppressed == 3

    def test_what_was_held_back_and_is_over_was_never_told(self) -> None:
        rule = Scripted()
        rule.conditions = [Condition(active=True, summary="", key=str(n)) for n in range(2)]
        story = Story(rule, rate_per_rule=RateLimit(1, every=1000))
        assert story.kinds(0.0) == [("firing", "0")]
        rule.conditions = []
        assert story.kinds(1.0) == [("resolved", "0")]

    def test_the_end_needs_no_token_and_the_gravest_get_the_first(self) -> None:
        minor, major = Scripted(name="minor"), Scripted(name="major", severity="critical")
        story = Story(minor, major, rate=RateLimit(1, every=1000))
        minor.say(True)
        major.say(True)
        ((alert, _),) = story.at(0.0)
        assert alert.rule is major
        major.say(False)
        assert [status for _, status in story.at(1.0)] == ["resolved"]

    def test_one_rule_that_flaps_does_not_take_the_tokens_of_others(self) -> None:
        flapping, other = Scripted(name="flapping"), Scripted(name="other")
        story = Story(
            flapping, other, rate=RateLimit(10, 1000), rate_per_rule=RateLimit(2, every=1000)
        )
        told = []
        for now in range(100):
            flapping.say(now % 2 == 0)
            told += story.at(float(now))
        assert len([status for _, status in told if status == "firing"]) == 2
        other.say(True)
        assert [alert.rule.name for alert, _ in story.at(100.0)] == ["other"]

    def test_one_that_is_calming_down_is_not_repeated(self) -> None:
        rule = Scripted(resolve_after=1000)
        story = Story(rule, repeat=10.0)
        rule.say(True)
        story.at(0.0)
        rule.say(False)
        assert not story.at(50.0)


@given(st.lists(st.floats(0, 50), max_size=200), st.integers(1, 5), st.floats(1, 20))
def test_a_bucket_never_gives_more_than_it_may(
    pauses: list[float], burst: int, every: float
) -> None:
    bucket = TokenBucket(RateLimit(burst, every))
    now, given_at = 0.0, []
    for pause in pauses:
        now += pause
        if bucket.has(now):
            bucket.take()
            given_at.append(now)
    for start in range(len(given_at)):
        for end in range(start, len(given_at)):
            allowed = burst + (given_at[end] - given_at[start]) / every
            assert end - start + 1 <= allowed + 1e-6


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 1), ConfigError), ((1, 0), ConfigError), (("x", 1), TypeError), ((True, 1), TypeError)],
)
def test_a_wrong_rate_is_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        RateLimit(*arguments)


def test_a_rate_shows_itself() -> None:
    assert repr(RateLimit(3, "1m")) == "RateLimit(3, every=60)"
