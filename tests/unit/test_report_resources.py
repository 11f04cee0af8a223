"""Reports of threads, tasks, sockets and files: what is shown of them."""

from __future__ import annotations

from dataclasses import replace

from memguard.leaks.report import Frame, LeakReport, ResourceGroup, ResourceGrowth, Verdict
from memguard.report.render import parse_json, render_html, render_json, render_text
from memguard.report.render.text import MAX_LINES
from tests.specimens import leak_report

POLL = Frame(file="/srv/shop/poll.py", line=4, function="poll", in_user_code=True)
THREADS = ResourceGrowth(
    kind="threads",
    count=1411,
    added=882,
    per_minute=1991.0,
    groups=(
        ResourceGroup(
            name="shop.poll.poll",
            count=1400,
            added=880,
            begins_at=POLL,
            waits_at=replace(POLL, line=6),
        ),
    ),
)
SOCKETS = ResourceGrowth(
    kind="sockets",
    count=12_861,
    added=12_848,
    per_minute=24_001.0,
    limit=20_000,
    seconds_to_limit=18.0,
    groups=(ResourceGroup(name="unix socket", count=12_850, added=12_848),),
)


def report(*resources: ResourceGrowth) -> LeakReport:
    verdict = Verdict(kind=resources[0].kind, advice="Close them.")
    return leak_report(verdict=verdict, resources=resources)


def test_text_says_who_piles_up_where_it_begins_and_where_it_waits() -> None:
    text = render_text(report(THREADS), directory="/srv/shop")
    assert "What piles up" in text
    assert "  1,411 threads now, +882, 1,991/min\n" in text
    assert "    +880        shop.poll.poll  (1,400 now)\n" in text
    assert "begins at  poll.py:4  poll; waits at  poll.py:6  poll" in text


def test_text_says_how_many_descriptors_are_allowed_and_when_that_is_reached() -> None:
    text = render_text(report(SOCKETS))
    assert "20,000 descriptors are allowed, reached in about 18.0 s" in text


def test_under_another_verdict_they_only_grow_along() -> None:
    assert "Also growing" in render_text(leak_report(resources=(SOCKETS,)))


def test_html_shows_the_same() -> None:
    page = render_html(report(THREADS, SOCKETS), directory="/srv/shop")
    for words in (
        "What piles up",
        "1,411 threads now, +882, 1,991/min",
        "shop.poll.poll",
        "poll.py:6",
        "12,861 open sockets now",
    ):
        assert words in page


def test_json_keeps_them() -> None:
    first = report(THREADS, SOCKETS)
    assert parse_json(render_json(first)) == first


def test_however_many_there_are_the_text_fits() -> None:
    groups = tuple(
        ResourceGroup(name=f"group {n}", count=9, added=9, begins_at=POLL, waits_at=POLL)
        for n in range(20)
    )
    crowded = leak_report(
        resources=tuple(replace(each, groups=groups) for each in (THREADS, SOCKETS) * 3),
        holders=leak_report().holders * 20,
        suspects=leak_report().suspects * 20,
        types=leak_report().types * 20,
        limits=("a sentence that is not short " * 9,) * 20,
    )
    assert render_text(crowded).count("\n") <= MAX_LINES


def test_a_hostile_name_does_nothing_to_a_terminal_or_a_page() -> None:
    bad = ResourceGroup(name="\x1b[2J<script>", count=1, added=1)
    hostile = report(replace(SOCKETS, groups=(bad,)))
    assert "\x1b" not in render_text(hostile)
    assert "<script>" not in render_html(hostile)


def test_numbers_of_a_sample_are_said_to_be_about_right() -> None:
    first = report(replace(SOCKETS, count=120_000, sampled=True))
    assert "about 120,000 open sockets now" in render_text(first)
    assert "about 120,000 now" in first.headline
