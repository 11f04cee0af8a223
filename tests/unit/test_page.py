"""The live page: what it shows, that it is whole without a script, and that nothing gets in."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memguard import MemoryGuard
from memguard.bounded.inventory import InventoryRow
from memguard.leaks.report import LeakReport
from memguard.lifecycle.degraded import Degraded
from memguard.observe.gcwatch import GcStatistics, GenerationStatistics
from memguard.relief.records import Alert, PressureState, ReliefReport, StepResult
from memguard.report.health.page.assets import page_policy
from memguard.report.health.page.curve import MemoryHistory, Point, memory_history
from memguard.report.health.page.document import LastRun, notice_page, render_document, render_parts
from memguard.report.health.page.sections import MOST_ROWS, pauses_by_length
from memguard.report.state import GuardState, guard_state
from tests.html_page import Page
from tests.specimens import leak_report
from tests.strategies import names

MiB = 1024**2
NOW = 1_795_000_000.0
# What the page is made of beyond a report.
ELEMENTS = {"a", "button", "form", "input", "label", "nav", "script", "tfoot", "time"}
ATTRIBUTES = {
    *("action", "method", "type", "name", "value", "required", "autocomplete", "placeholder"),
    *("href", "aria-current", "colspan", "title", "data-part", "data-source", "data-every"),
    *("data-instance",),
}
STORY = MemoryHistory(
    span="latest",
    kept=True,
    points=tuple(Point(-float(n), 90.0 * MiB, 90.0 * MiB, 90.0 * MiB) for n in range(60)),
)


@cache
def plain_figures() -> GuardState:
    return guard_state(MemoryGuard(leaks=False))


def known_figures(**changes: object) -> GuardState:
    """Return figures of a guard under pressure, with *changes*."""
    state = PressureState(
        level="elevated",
        reasons=("80 % of 120.0 MiB in use (cgroup v2 memory.max)",),
        used=96 * MiB,
        limit=120 * MiB,
        source="cgroup v2 memory.max",
        private=90 * MiB,
        bytes_per_minute=2.0 * MiB,
        at=1.0,
    )
    fields: dict[str, object] = {
        "time": NOW,
        "name": "shop",
        "running": True,
        "pressure": state,
        "containers": (InventoryRow("shop.pages", "BoundedCache", 1200, 30 * MiB, None),),
        "reports": (),
    }
    return replace(plain_figures(), **{**fields, **changes})  # type: ignore[arg-type] # reason: tests change any


def page(known: GuardState, *, with_form: bool = False, last: LastRun | None = None) -> str:
    return render_document(
        render_parts(known, STORY, last), "latest", every=2.0, with_form=with_form
    )


def strangers(source: str) -> list[str]:
    found = Page.of(source).strangers()
    own = {f"{tag} {name}" for tag in Page.of(source).tags for name in ATTRIBUTES}
    return [each for each in found if each not in ELEMENTS and each not in own]


def text_of(source: str) -> str:
    return Page.of(source).text.replace("\u200b", "")


def test_the_page_says_how_it_is_without_any_script() -> None:
    shown = text_of(page(known_figures()))
    assert "80 % of the limit in use" in shown
    assert "96.0 MiB of 120.0 MiB (cgroup v2 memory.max); 24.0 MiB are left." in shown
    assert "elevated" in shown
    assert "shop.pages" in shown
    assert "1,200" in shown
    assert "+2.0 MiB/min" in shown
    assert strangers(page(known_figures(), with_form=True)) == []


def test_its_own_growth_is_a_fact_and_that_of_its_limit_is_named_as_such() -> None:
    rising = tuple(
        Point(float(n - 60), size, size, size) for n in range(61) for size in [n * 50.0 * 1024]
    )
    parts = render_parts(known_figures(), replace(STORY, points=rising), None)
    shown = text_of(render_document(parts, "latest", every=2.0, with_form=False))
    assert "+2.9 MiB/min" in shown
    assert "of private memory, over 1 min" in shown
    assert "Growth of all that this limit counts: +2.0 MiB/min." in shown
    assert shown.index("+2.9 MiB/min") < shown.index("Resident")


def test_what_is_off_is_said_with_its_reason() -> None:
    off = Degraded(part="history", reason="disk is full: \x1b <b>x</b>; kept in memory only")
    shown = text_of(page(known_figures(degraded=(off,))))
    assert "degraded" in shown
    assert "disk is full: \\x1b <b>x</b>; kept in memory only" in shown
    assert "parts that are off" not in text_of(page(known_figures()))


def test_memory_of_others_lowers_what_this_process_can_reach() -> None:
    """In a control group, this process meets the limit before its own curve is at it."""
    shown = text_of(page(known_figures()))
    assert "limit 114 MiB" in shown
    assert "limit of 120.0 MiB, less 6.0 MiB in use outside of this curve" in shown


def test_a_guard_that_does_not_run_is_not_called_ok() -> None:
    shown = text_of(page(known_figures(running=False)))
    assert "Not watching" in shown
    assert "80 %" not in shown
    assert "limit at" not in shown


def test_what_is_left_out_is_said() -> None:
    known = guard_state(MemoryGuard(relief=False, leaks=False, gc_watch=False, history=False))
    parts = render_parts(
        replace(known, containers=()),
        memory_history(None, "latest", known.reading, known.time),
        None,
    )
    shown = text_of(render_document(parts, "latest", every=2, with_form=False))
    for option in ("history=False", "gc_watch=False", "leaks=False", "relief=False"):
        assert option in shown
    assert "No container of memguard is alive" in shown


def test_many_containers_are_added_up_and_none_is_lost() -> None:
    rows = tuple(InventoryRow(f"cache {n}", "BoundedCache", 10, MiB, None) for n in range(1000))
    shown = text_of(page(known_figures(containers=rows)))
    assert f"{1000 - MOST_ROWS:,} more" in shown
    assert "10,000" in shown
    assert "1000.0 MiB" in shown


def test_pauses_are_counted_by_their_length() -> None:
    def generation(number: int, *histogram: tuple[float, int]) -> GenerationStatistics:
        return GenerationStatistics(
            generation=number,
            collections=sum(count for _, count in histogram),
            pause_total=1.0,
            pause_max=0.5,
            collected=0,
            uncollectable=0,
            histogram=histogram,
        )

    gc = GcStatistics(
        running=True,
        watched_seconds=10.0,
        wall_share=0.2,
        generations=(
            generation(0, (0.0001, 5), (0.001, 2), (0.0025, 1)),
            generation(1, (0.1, 3), (0.25, 1)),
            generation(2, (1.0, 1), (float("inf"), 4)),
        ),
        dropped=0,
    )
    assert [count for _, count in pauses_by_length(gc)] == [7, 1, 3, 2, 4]
    assert "20.00 %" in text_of(page(known_figures(gc=gc)))


def test_alerts_and_reports_stand_with_the_newest_first() -> None:
    def alert(kind: str, at: float) -> Alert:
        return Alert(
            kind=kind,  # type: ignore[arg-type] # reason: a column of the test
            level="critical",
            previous="elevated",
            reasons=(f"because of {kind}",),
            used=90 * MiB,
            limit=100 * MiB,
            source="x",
            time=at,
        )

    alerts = (alert("level", NOW - 7200), alert("ineffective", NOW - 600), alert("recycle", NOW))
    detector = guard_state(MemoryGuard()).detector
    reports = tuple(leak_report(id=f"report-{n}") for n in range(20))
    shown = text_of(page(known_figures(alerts=alerts, reports=reports, detector=detector)))
    assert (
        shown.index("because of recycle")
        < shown.index("because of ineffective")
        < shown.index("because of level")
    )
    assert "2 h ago" in shown
    assert "report-19" in shown
    assert "report-11" not in shown
    assert "leaky_shop.app.SESSIONS" in shown
    assert "2026-11-20 05:09:14 UTC" in shown


def test_the_page_tells_the_state_of_a_finding() -> None:
    detector = guard_state(MemoryGuard()).detector
    reports = (
        leak_report(id="a", kind="growth", state="suspected"),
        leak_report(id="b", state="ended", ended_at=leak_report().updated_at, fingerprint="00ff"),
    )
    shown = text_of(page(known_figures(reports=reports, detector=detector)))
    assert "growing, may end" in shown
    assert "leak, ended" in shown
    assert "00ff" in shown


def test_the_last_run_shows_each_step() -> None:
    run = ReliefReport(
        reason="asked for",
        goal=MiB,
        before=10 * MiB,
        after=4 * MiB,
        seconds=0.004,
        steps=(
            StepResult(name="caches", items=12, freed=7 * MiB, rss_freed=6 * MiB),
            StepResult(name="callbacks", skipped="there are none"),
        ),
    )
    shown = text_of(page(known_figures(), last=LastRun(at=NOW - 5, process_id=1, report=run)))
    assert "memory fell by 6.0 MiB in 4 ms" in shown
    assert "there are none" in shown


def test_the_button_is_only_there_where_it_works() -> None:
    assert "<form" not in page(known_figures())
    assert "Free memory now" in page(known_figures(), with_form=True)


def test_the_policy_names_exactly_this_style_and_this_script() -> None:
    source = page(known_figures(), with_form=True)
    for tag in ("style", "script"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page_policy()
    assert "default-src 'none'" in page_policy()
    assert "frame-ancestors 'none'" in page_policy()
    assert "unsafe" not in page_policy()


def test_it_names_no_address_but_its_own() -> None:
    source = page(known_figures(), with_form=True)
    addresses = [
        value
        for _, name, value in Page.of(source).attributes
        if name in ("href", "src", "action", "data-source")
    ]
    assert sorted(set(map(str, addresses))) == [
        *("?span=day", "?span=latest", "?span=weeks"),
        *("health/memory", "memguard/data", "memguard/relieve"),
    ]
    assert "//" not in re.sub(r"<script>.*</script>", "", source, flags=re.DOTALL)


def hostile(name: str) -> GuardState:
    full = leak_report()
    report: LeakReport = replace(
        full,
        id=name,
        kind=name,  # type: ignore[arg-type] # reason: a stored report may claim anything
        updated_at=name,
        holders=(replace(full.holders[0], path=name),),
        suspects=(replace(full.suspects[0], file=name, function=name),),
        verdict=replace(full.verdict, kind=name, advice=name),  # type: ignore[arg-type] # reason: as above
    )
    alert = Alert(
        kind="level",
        level=name,  # type: ignore[arg-type] # reason: as above
        previous=name,  # type: ignore[arg-type] # reason: as above
        reasons=(name,),
        used=1,
        limit=2,
        source=name,
        time=NOW,
    )
    return known_figures(
        name=name,
        containers=(InventoryRow(name, name, 1, 1, None),),
        alerts=(alert,),
        reports=(report,),
        detector=guard_state(MemoryGuard()).detector,
        pressure=replace(known_figures().pressure, reasons=(name,), source=name),
    )


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "</title><script>alert(1)</script>",
        "</script><img src=x onerror=alert(1)>",
        '"><svg onload=alert(1)>',
        "' onmouseover='alert(1)",
        "</style><style>*{display:none}",
        "<!-- --> ]]> &lt;script&gt;",
    ],
)
def test_a_hostile_name_stays_text(name: str) -> None:
    source = page(hostile(name), with_form=True)
    assert strangers(source) == []
    assert text_of(source).count(name) >= 6


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names)
def test_no_name_gets_in_or_breaks_the_page(name: str) -> None:
    source = page(hostile(name))
    assert strangers(source) == []
    source.encode("utf-8")


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        PressureState,
        level=st.sampled_from(["ok", "elevated", "critical", "insufficient_data"]),
        used=st.none() | st.integers(-(2**70), 2**70),
        limit=st.none() | st.integers(-(2**70), 2**70),
        private=st.none() | st.integers(-(2**70), 2**70),
        bytes_per_minute=st.floats(),
        stall_some=st.none() | st.floats(),
    ),
    st.floats(),
)
def test_no_numbers_break_the_page(pressure: PressureState, at: float) -> None:
    alert = Alert(
        kind="recycle",
        level="ok",
        previous="ok",
        reasons=(),
        used=pressure.used,
        limit=pressure.limit,
        source="",
        time=at,
    )
    assert strangers(page(known_figures(pressure=pressure, alerts=(alert,)))) == []


def test_a_notice_leads_back_and_lets_nothing_in() -> None:
    source = notice_page("<b>", "<script>alert(1)</script>")
    assert strangers(source) == []
    assert 'href="../memguard"' in source


def history_of(guard: MemoryGuard, spans: Sequence[str]) -> dict[str, int]:
    known = guard_state(guard)
    return {
        span: len(memory_history(guard.history, span, known.reading, known.time).points)  # type: ignore[arg-type] # reason: names of spans
        for span in spans
    }


def test_the_history_is_told_by_readings_minutes_and_hours() -> None:
    deadline = time.monotonic() + 20
    with MemoryGuard(interval=0.01, leaks=False) as guard:
        while guard.history is None or len(guard.history.last()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        found = history_of(guard, ("latest", "day", "weeks"))
    assert found["latest"] >= 4
    assert 2 <= found["day"] <= 3
    assert 2 <= found["weeks"] <= 3


def test_a_clock_that_was_set_back_draws_nothing_in_the_future() -> None:
    with MemoryGuard(interval=0.01, leaks=False) as guard:
        deadline = time.monotonic() + 20
        while guard.history is None or not guard.history.last():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told = memory_history(guard.history, "day", guard_state(guard).reading, time.time() - 86400)
    assert [point.seconds for point in told.points] == [0.0]
