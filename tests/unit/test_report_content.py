"""The hints that the renderings of a report show."""

from __future__ import annotations

from dataclasses import replace

from memguard.leaks.report import Holder, Verdict
from memguard.report.render import render_html, render_text
from memguard.report.render.content import hints
from tests.specimens import leak_report


def holder(**changes: object) -> Holder:
    return replace(leak_report().holders[0], **changes)  # type: ignore[arg-type] # reason: fields by name


def test_a_number_that_stands_for_no_limit_is_shown_nowhere() -> None:
    report = leak_report(holders=(holder(bound=2**63 - 1),))
    for shown in (render_text(report), render_html(report)):
        assert "its owner allows" not in shown
        assert "9,223,372" not in shown


def test_nothing_is_said_of_a_holder_without_advice_or_of_another_kind_of_growth() -> None:
    assert hints(leak_report(holders=(holder(advice=None),)), most=3) == ()
    native = Verdict(kind="native", advice="Look there.")
    assert hints(leak_report(verdict=native), most=3) == ()


def test_the_verdicts_advice_is_not_said_twice() -> None:
    first = holder(path="shop.a")
    said = Verdict(kind="live_objects", advice=f"shop.a: {first.advice}.")
    report = leak_report(verdict=said, holders=(first, holder(path="shop.b")))
    assert [hint.partition(":")[0] for hint in hints(report, most=2)] == ["shop.b"]


def test_no_more_than_the_most_are_said_and_the_first_holders_come_first() -> None:
    holders = tuple(holder(path=f"shop.{name}", advice=f"mind {name}") for name in "abc")
    said = hints(leak_report(holders=holders), most=2)
    assert said == ("shop.a: mind a", "shop.b: mind b")


def test_what_several_holders_call_for_is_said_once() -> None:
    holders = tuple(holder(path=f"shop.{name}", advice="bound it") for name in "abcde")
    assert hints(leak_report(holders=holders), most=3) == (
        "shop.a, shop.b, shop.c and 2 more: bound it",
    )


def test_both_renderings_say_it() -> None:
    (hint,) = hints(leak_report(), most=1)
    assert hint in " ".join(render_text(leak_report()).split())
    assert hint in render_html(leak_report())
