"""The hint that a holder gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memguard.leaks.report import Holder, Verdict
from memguard.report.render import render_html, render_text
from memguard.report.render.content import hints
from tests.specimens import leak_report


def holder(**changes: object) -> Holder:
    return replace(leak_report().holders[0], **changes)  # type: ignore[arg-type] # reason: fields by name


@pytest.mark.parametrize(
    ("kind", "entry_types", "word"),
    [
        ("dict", ("str", "shop.Session"), "BoundedCache"),
        ("collections.OrderedDict", (), "BoundedCache"),
        ("dict", ("int", "function"), "ListenerRegistry"),
        ("list", ("method",), "ListenerRegistry"),
        ("set", ("_asyncio.Task",), "TaskRegistry"),
        ("list", ("threading.Timer",), "TimerRegistry"),
        ("list", ("threading.Thread",), "threads pile up"),
        ("list", ("asyncio.events.TimerHandle",), "scheduled calls pile up"),
        ("list", ("shop.Job", "function"), "deque(maxlen=...)"),
    ],
)
def test_what_a_holder_is_and_holds_decides_its_hint(
    kind: str, entry_types: tuple[str, ...], word: str
) -> None:
    report = leak_report(holders=(holder(type=kind, entry_types=entry_types),))
    (hint,) = hints(report, most=3)
    assert hint.startswith("leaky_shop.app.SESSIONS: ")
    assert word in hint


def test_a_bounded_holder_is_not_told_to_be_bounded() -> None:
    (hint,) = hints(leak_report(holders=(holder(bound=20_000),)), most=3)
    assert "it is bounded, at 20,000 entries" in hint
    assert "BoundedCache" not in hint


def test_a_container_of_memguard_is_not_told_to_become_one() -> None:
    """One bounded by bytes alone has no bound on entries but the largest number there is."""
    own = holder(inventory_name="sessions", bound=2**63 - 1)
    (hint,) = hints(leak_report(holders=(own,)), most=3)
    assert "a container of memguard" in hint
    assert "BoundedCache" not in hint


def test_a_number_that_stands_for_no_limit_is_shown_nowhere() -> None:
    report = leak_report(holders=(holder(bound=2**63 - 1),))
    assert "BoundedCache(maxsize" in hints(report, most=1)[0]
    for shown in (render_text(report), render_html(report)):
        assert "its owner allows" not in shown
        assert "9,223,372" not in shown


def test_a_functools_cache_is_told_apart_from_a_dict() -> None:
    cache = holder(path="shop.price<functools._lru_cache_wrapper>", type="dict")
    (hint,) = hints(leak_report(holders=(cache,)), most=3)
    assert "maxsize" in hint
    assert "functools" in hint.partition(": ")[2]


def test_weak_references_hold_nothing_and_get_no_hint() -> None:
    weak = holder(
        path="asyncio._all_tasks.data", type="set", entry_types=("weakref.ReferenceType",)
    )
    assert hints(leak_report(holders=(weak,)), most=3) == ()


def test_nothing_is_said_of_an_unknown_type_or_of_another_kind_of_growth() -> None:
    assert hints(leak_report(holders=(holder(type="shop.Ring", entry_types=()),)), most=3) == ()
    native = Verdict(kind="native", advice="Look there.")
    assert hints(leak_report(verdict=native), most=3) == ()


def test_no_more_than_the_most_are_said_and_the_first_holders_come_first() -> None:
    holders = tuple(holder(path=f"shop.{name}") for name in "abc")
    said = hints(leak_report(holders=holders), most=2)
    assert [hint.partition(":")[0] for hint in said] == ["shop.a", "shop.b"]


def test_both_renderings_say_it() -> None:
    (hint,) = hints(leak_report(), most=1)
    assert hint in " ".join(render_text(leak_report()).split())
    assert hint in render_html(leak_report())
