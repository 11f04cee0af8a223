from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from memguard.leaks.report import CurvePoint, LeakReport, Verdict
from memguard.report.render.html.components import MOST_ENTRIES
from memguard.report.render.html.page import render_html, render_reports_html
from memguard.report.render.html.style import STYLE, content_policy
from tests.html_page import Page
from tests.specimens import MiB, leak_report
from tests.strategies import leak_reports

HOSTILE = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\" ' & \u202e\x1b\udcff"
)


def hostile(report: LeakReport, name: str) -> LeakReport:
    """Return *report* with *name* in every place that the watched program can fill."""
    frame = replace(report.suspects[0].frames[0], file=name, function=name)
    holder = report.holders[0]
    return replace(
        report,
        id=name,
        detector=name,
        python=name,
        started_at=name,
        updated_at=name,
        limits=(name,),
        holders=(
            replace(holder, path=name, type=name, entry_types=(name,), inventory_name=name),
            replace(holder, path=name + ".x", anchored=False, site=frame),
        ),
        suspects=(
            replace(
                report.suspects[0],
                file=name,
                function=name,
                source=name,
                held_by=name,
                frames=(frame, frame),
            ),
        ),
        types=(replace(report.types[0], name=name),),
        trend=replace(report.trend, kind=name, limit_source=name),
        verdict=Verdict(kind="unknown", advice=name, reasons=(name,)),
    )


@settings(max_examples=40)
@given(leak_reports)
def test_every_report_is_a_well_formed_page_of_known_elements(report: LeakReport) -> None:
    page = render_html(report)
    page.encode("utf-8")
    assert Page.of(page).strangers() == []
    assert "nan" not in "".join(value or "" for _, _, value in Page.of(page).attributes)


@settings(max_examples=40)
@given(leak_reports)
def test_a_hostile_name_stays_text_wherever_it_stands(report: LeakReport) -> None:
    name = "<img src=x onerror=alert(1)>"
    base = replace(
        leak_report(), trend=report.trend, explained_ratio=report.explained_ratio, kind=report.kind
    )
    page = Page.of(render_html(hostile(base, name)))
    assert page.strangers() == []
    assert page.text.count(name) >= 14


def test_a_name_with_every_trick_is_shown_letter_by_letter() -> None:
    page = Page.of(render_html(hostile(leak_report(), HOSTILE)))
    assert page.strangers() == []
    assert page.text.count("</style></title><script>alert(1)</script><img src=x onerror") >= 14
    assert page.text.count(r"\u202e\x1b\udcff") >= 14
    assert not re.search("[\u202e\x1b\udcff]", page.text)


def test_a_page_needs_no_script_and_names_nothing_outside_itself() -> None:
    page = render_html(leak_report())
    assert not re.search(r"<script|https?:|url\(|@import|\bsrc=|\bhref=|javascript:", page)


def test_the_policy_allows_the_style_by_its_hash_and_nothing_else() -> None:
    policy = content_policy()
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    page = Page.of(render_html(leak_report()))
    shown = {value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")}
    assert policy in shown
    assert "</" not in STYLE  # it would end the element, and nothing escapes a style


def test_everything_that_the_report_knows_is_on_the_page() -> None:
    full = leak_report()
    suspect = replace(full.suspects[0], source="\tSESSIONS[key] = Session(user)")
    text = Page.of(
        render_html(replace(full, suspects=(suspect, *full.suspects[1:])), directory="/srv/shop")
    ).text
    for said in (
        "Leak",
        "Live Python objects",
        "+61.0 MiB over a baseline of 96.0 MiB, within 30 min",
        "2.0 MiB/min",
        "confidence 0.99",
        "Limit reached in about2 h 55 min",
        "512.0 MiB (cgroup v2 memory.max)",
        "79 %",
        "Bound leaky_shop.app.SESSIONS: give it a maxsize and a ttl (BoundedCache).",
        "11,240 entries added to one dict and none removed",
        "leaky_shop.app.SESSIONS",
        "leaky_shop.app.SESSIONS grows 1.9 MiB/min",
        "+48.2 MiB, +11,240 entries",
        "13,002 entries now, about 55.8 MiB, 4.4 KiB each; 1.9 MiB/min in the last 5 min",
        "new ones are str, Session",
        "in 25 min from the first look to the last",
        "leaky_shop/app.py:57 remember_session",
        "app.py:31 checkout",
        "    SESSIONS[key] = Session(user)",
        "3 frames, the allocating one first, 2 in your code",
        "starlette/routing.py:72 app",
        "Session",
        "+11,240",
        "12.8 MiB outside Python's allocators",
        "310 ms",
        "CPython 3.11.7",
        "20261120T050714-4242-1",
        "updated 2026-11-20T05:09:14Z",
    ):
        assert said in text, said


def test_only_frames_of_the_users_own_code_are_marked() -> None:
    page = render_html(leak_report())
    assert page.count('<li class="user">') == 2
    assert Page.of(page).text.count("your code") == 3  # two marks, and the summary that counts them


def test_an_empty_report_has_no_empty_sections() -> None:
    report = leak_report(
        kind="snapshot",
        revision=1,
        suspects=(),
        holders=(),
        types=(),
        limits=(),
        explained_ratio=None,
        verdict=Verdict(kind="none", advice=""),
    )
    text = Page.of(render_html(report)).text
    assert "Nothing that lasts" in text
    for heading in (
        "Held by",
        "Allocated at",
        "Growing types",
        "What to do",
        "Not seen",
        "updated",
    ):
        assert heading not in text


def test_what_is_unknown_is_called_unknown() -> None:
    full = leak_report()
    holder = replace(
        full.holders[0],
        bytes_added=None,
        bytes_per_entry=None,
        bytes_per_minute=None,
        anchored=False,
        inventory_name="sessions",
        bound=50_000,
    )
    trend = replace(full.trend, confidence=math.nan, seconds_to_limit=None, bytes_per_hour=math.nan)
    report = replace(full, holders=(holder,), explained_ratio=math.nan, trend=trend)
    text = Page.of(render_html(report)).text
    assert "size unknown, +11,240 entries" in text
    assert "registered as sessions; its owner allows 50,000; no named object was found" in text
    assert "confidence unknown" in text
    assert "not being approached" in text
    assert "nan" not in text


def test_holders_of_one_module_stand_below_it_in_a_tree() -> None:
    full = leak_report()
    paths = ("shop.app.SESSIONS", "shop.jobs.DONE", "other.X")
    holders = tuple(replace(full.holders[0], path=path) for path in paths)
    page = render_html(replace(full, holders=holders, suspects=()))
    assert Page.of(page).tags.count("ul") == 4  # the tree, its branch "shop", reasons, not seen
    assert '<p class="stem"><code>shop<wbr></code></p>' in page
    for path in paths:
        assert path in Page.of(page).text


def test_a_file_that_claims_a_thousand_entries_shows_some_and_says_so() -> None:
    full = leak_report()
    report = replace(full, suspects=full.suspects * 500, holders=full.holders * 1000)
    page = render_html(report)
    assert f"the first {MOST_ENTRIES} of 1,000" in Page.of(page).text
    assert len(page) < 400_000


def test_the_curve_is_drawn_with_its_trend_and_a_limit_that_is_near() -> None:
    full = leak_report()
    curve = tuple(CurvePoint(seconds=30.0 * n, bytes=(96 + n) * MiB) for n in range(60))
    near = replace(full.trend, curve=curve, limit_bytes=200 * MiB)
    page = render_html(replace(full, trend=near))
    assert [page.count(f'<path class="{kind}"') for kind in ("curve", "trend", "limit")] == [
        1,
        1,
        1,
    ]
    far = render_html(replace(full, trend=replace(near, limit_bytes=2000 * MiB)))
    assert '<path class="trend"' in far
    assert '<path class="limit"' not in far


@pytest.mark.parametrize("points", [0, 1])
def test_a_report_without_a_curve_has_no_drawing(points: int) -> None:
    full = leak_report()
    curve = (CurvePoint(seconds=1.0, bytes=MiB),) * points
    page = render_html(replace(full, trend=replace(full.trend, curve=curve)))
    assert "figure" not in Page.of(page).tags


def test_file_names_are_relative_to_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full = leak_report()
    suspect = replace(full.suspects[1], file=f"{tmp_path}/pkg/mod.py", line=5)
    text = Page.of(render_html(replace(full, suspects=(suspect,)))).text
    assert "pkg/mod.py:5 compile" in text
    assert str(tmp_path) not in text


def test_several_reports_make_one_page() -> None:
    page = Page.of(render_reports_html([leak_report(id="first"), leak_report(id="second")]))
    assert page.strangers() == []
    assert page.tags.count("article") == 2
    assert page.tags.count("html") == page.tags.count("style") == 1
    assert "2 reports" in page.text
