"""From signs to alerts to messages: when it fires, when it is over, and what is told."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.report.alerting import RateLimit, UsedAbove, When
from memguard.report.alerting.announcer import Announcer, TokenBucket, Told
from memguard.report.alerting.judge import MOST_ALERTS, Judge, Judged
from memguard.report.alerting.rule import Look, Rule, Sign
from tests.alerting import figures_of


class Scripted(Rule):
    """Says what a test wants it to say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"name": "scripted", "calm": 0.0, **options})
        self.signs: list[Sign] = []

    def say(self, active: bool | None, key: str = "", **options: Any) -> None:  # noqa: FBT001 - reason: it is what is said
        self.signs = [Sign(active=active, summary="words", key=key, **options)]

    def probe(self) -> Look:
        return lambda *_: list(self.signs)


def evaluated(judge: Judge, now: float) -> Judged:
    return judge.evaluate(figures_of(time=1000.0 + now), now)


class TestJudge:
    def test_it_fires_when_it_has_lasted_and_is_over_when_it_was_calm(self) -> None:
        rule = Scripted(lasting=60, calm=30)
        judge = Judge([rule])
        rule.say(True)
        assert not evaluated(judge, 0.0).firing
        assert not evaluated(judge, 59.0).firing
        (alert,) = evaluated(judge, 60.0).firing
        assert (alert.since, alert.since_wall) == (0.0, 1000.0)
        rule.say(False)
        assert evaluated(judge, 70.0).firing
        rule.say(True)
        assert evaluated(judge, 80.0).firing  # it was not calm for long enough
        rule.say(False)
        assert evaluated(judge, 90.0).firing
        assert not evaluated(judge, 119.0).over
        found = evaluated(judge, 120.0)
        assert (found.firing, found.over) == ([], [alert])
        assert not judge.tracked

    def test_what_did_not_last_begins_anew(self) -> None:
        rule = Scripted(lasting=60)
        judge = Judge([rule])
        for now, active in ((0.0, True), (50.0, False), (55.0, True), (110.0, None), (112.0, True)):
            rule.say(active)
            assert not evaluated(judge, now).firing
        assert not evaluated(judge, 171.0).firing
        assert evaluated(judge, 172.0).firing

    def test_what_cannot_be_told_is_not_over(self) -> None:
        rule = Scripted(calm=10)
        judge = Judge([rule])
        rule.say(True)
        evaluated(judge, 0.0)
        rule.say(False)
        evaluated(judge, 1.0)
        rule.say(None)
        assert evaluated(judge, 500.0).firing
        rule.say(False)
        assert evaluated(judge, 501.0).firing
        assert evaluated(judge, 511.0).over

    def test_a_key_that_is_not_there_any_more_is_over(self) -> None:
        rule = Scripted()
        judge = Judge([rule])
        rule.say(True, key="a")
        evaluated(judge, 0.0)
        rule.say(True, key="b")
        found = evaluated(judge, 1.0)
        assert [alert.key for alert in found.firing] == ["b"]
        assert [alert.key for alert in found.over] == ["a"]
        assert found.over[0].summary == "words"

    def test_a_rule_that_fails_changes_nothing_and_stops_no_other(self) -> None:
        broken = True

        def check(_: object) -> bool:
            if broken:
                raise ValueError
            return True

        judge = Judge([When("mine", check), UsedAbove(0.5, lasting=0)])
        found = judge.evaluate(figures_of(ratio=0.9), 0.0)
        assert [(name, type(error)) for name, error in found.errors] == [("mine", ValueError)]
        assert [alert.rule.name for alert in found.firing] == ["memory_used"]
        broken = False
        assert len(judge.evaluate(figures_of(ratio=0.9), 1.0).firing) == 2
        broken = True
        assert len(judge.evaluate(figures_of(ratio=0.9), 1e6).firing) == 2

    def test_alerts_are_bounded_and_the_rest_is_counted(self) -> None:
        rule = Scripted()
        rule.signs = [Sign(active=True, summary="", key=str(n)) for n in range(MOST_ALERTS + 7)]
        judge = Judge([rule])
        assert len(evaluated(judge, 0.0).firing) == MOST_ALERTS
        assert judge.left_out == 7

    def test_strange_words_are_made_harmless_and_short(self) -> None:
        rule = Scripted()
        judge = Judge([rule])
        facts = tuple((f"name\n{n}", "x" * 1000) for n in range(50))
        rule.signs = [
            Sign(active=True, summary="a\nb" + "c" * 999, value=float("nan"), facts=facts)
        ]
        (alert,) = evaluated(judge, 0.0).firing
        assert "\n" not in alert.summary
        assert len(alert.summary) < 400
        assert len(alert.facts) == 20
        assert all("\n" not in name and len(value) < 250 for name, value in alert.facts)
        assert alert.value is None

    @given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0, 100))))
    def test_whatever_happens_an_alert_fires_before_it_is_over(
        self, story: list[tuple[bool | None, float]]
    ) -> None:
        rule = Scripted(lasting=30, calm=20)
        judge = Judge([rule])
        now, fires = 0.0, False
        for active, pause in story:
            now += pause
            rule.say(active)
            found = evaluated(judge, now)
            assert bool(found.over) <= fires
            assert not (found.over and found.firing)
            if fires and not found.firing:
                assert found.over
            fires = bool(found.firing)


@pytest.mark.parametrize(
    "sign",
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
    sign: dict[str, Any],
) -> None:
    odd = Scripted(name="odd")
    odd.signs = [Sign(**{"active": True, **sign})]
    found = Judge([odd, UsedAbove(0.85, lasting=0)]).evaluate(figures_of(ratio=0.9), 0.0)
    assert [alert.rule.name for alert in found.firing] == ["memory_used"]
    assert [name for name, _ in found.errors] == ["odd"]


def test_a_rule_that_wants_to_exit_is_an_error_and_the_others_are_looked_at() -> None:
    rules = [When("leaver", lambda _: sys.exit(3)), UsedAbove(0.85, lasting=0)]
    found = Judge(rules).evaluate(figures_of(ratio=0.9), 0.0)
    assert [alert.rule.name for alert in found.firing] == ["memory_used"]
    assert [(name, type(error)) for name, error in found.errors] == [("leaver", SystemExit)]


def announcer(**options: Any) -> Announcer:
    given: dict[str, Any] = {
        "repeat": 3600.0,
        "resolved": True,
        "rate": RateLimit(100, 1),
        "rate_per_rule": RateLimit(100, 1),
    }
    return Announcer(**{**given, **options})


class Story:
    """A judge and an announcer, driven by a scripted rule."""

    def __init__(self, *rules: Scripted, **options: Any) -> None:
        self.judge = Judge(rules)
        self.announcer = announcer(**options)

    def at(self, now: float) -> list[Told]:
        return self.announcer.decide(evaluated(self.judge, now), now)

    def kinds(self, now: float) -> list[tuple[str, str]]:
        return [(told.status, told.alert.key) for told in self.at(now)]


class TestAnnouncer:
    def test_an_alert_is_told_once_again_after_a_while_and_at_its_end(self) -> None:
        rule = Scripted()
        story = Story(rule, repeat=100.0)
        rule.say(True)
        assert [told.status for told in story.at(0.0)] == ["firing"]
        for now in range(1, 100):
            assert not story.at(float(now))
        (again,) = story.at(100.0)
        assert again.alert.told == 2
        rule.say(False)
        assert [told.status for told in story.at(101.0)] == ["resolved"]
        assert not story.at(102.0)

    def test_what_cannot_be_seen_is_not_told_again(self) -> None:
        rule = Scripted()
        story = Story(rule, repeat=10.0)
        rule.say(True)
        story.at(0.0)
        rule.say(None)
        assert not story.at(50.0)  # the number of a minute ago may be no more
        assert story.judge.tracked[0].fires
        rule.say(True)
        assert [told.alert.told for told in story.at(51.0)] == [2]

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
        (told,) = story.at(1.0)
        assert told.alert.told_severity == "critical"
        rule.say(True)
        assert not story.at(2.0)
        rule.say(False)
        (over,) = story.at(3.0)
        assert over.alert.told_severity == "critical"

    def test_what_exceeds_the_rate_is_told_later_and_counted_once(self) -> None:
        rule = Scripted()
        rule.signs = [Sign(active=True, summary="", key=str(n)) for n in range(5)]
        story = Story(rule, rate_per_rule=RateLimit(2, every=60))
        assert len(story.at(0.0)) == 2
        assert not story.at(1.0)
        assert story.announcer.suppressed == 3
        assert len(story.at(60.0)) == 1
        assert len(story.at(180.0)) == 2
        assert story.announcer.suppressed == 3

    def test_what_was_held_back_and_is_over_was_never_told(self) -> None:
        rule = Scripted()
        rule.signs = [Sign(active=True, summary="", key=str(n)) for n in range(2)]
        story = Story(rule, rate_per_rule=RateLimit(1, every=1000))
        assert story.kinds(0.0) == [("firing", "0")]
        rule.signs = []
        assert story.kinds(1.0) == [("resolved", "0")]

    def test_the_end_needs_no_token_and_the_gravest_get_the_first(self) -> None:
        minor, major = Scripted(name="minor"), Scripted(name="major", severity="critical")
        story = Story(minor, major, rate=RateLimit(1, every=1000))
        minor.say(True)
        major.say(True)
        (told,) = story.at(0.0)
        assert told.alert.rule is major
        major.say(False)
        assert [told.status for told in story.at(1.0)] == ["resolved"]

    def test_one_rule_that_flaps_does_not_take_the_tokens_of_others(self) -> None:
        flapping, other = Scripted(name="flapping"), Scripted(name="other")
        story = Story(
            flapping, other, rate=RateLimit(10, 1000), rate_per_rule=RateLimit(2, every=1000)
        )
        told = []
        for now in range(100):
            flapping.say(now % 2 == 0)
            told += story.at(float(now))
        assert len([one for one in told if one.status == "firing"]) == 2
        other.say(True)
        assert [one.alert.rule.name for one in story.at(100.0)] == ["other"]

    def test_one_that_is_calming_down_is_not_repeated(self) -> None:
        rule = Scripted(calm=1000)
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
