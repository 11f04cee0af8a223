"""From evidence to a report: pure, and never more than the evidence says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.leaks.evidence.calls import CallSite
from memguard.leaks.evidence.garbage import Collector, Garbage
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.evidence.tracing import Site, Trace
from memguard.leaks.finding.compose import Origin, compose
from memguard.leaks.report import LeakReport, TrendSummary
from memguard.observe import readings
from memguard.report.render import render_text
from memguard.report.render.content import explained, garbage
from tests import strategies
from tests.detecting import LINE, MiB, evidence, holder

ORIGIN = Origin(
    id="a1",
    detector="memguard",
    pid=1,
    started_at="2026-11-20T05:00:00+00:00",
    updated_at="2026-11-20T05:00:00+00:00",
    revision=1,
    uptime_seconds=5.0,
    python="CPython",
)
TREND = TrendSummary(
    kind="leak",
    bytes_per_hour=120.0 * 60 * MiB / 2,
    confidence=0.99,
    baseline_bytes=100 * MiB,
    current_bytes=160 * MiB,
    samples=60,
    span_seconds=60.0,
)
locations = st.tuples(st.text(max_size=20), st.integers(0, 10**6))
sizes = st.integers(0, 2**40)
rates = st.floats(0, 2**40)


def counters(keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Counter[Any]]:
    return st.dictionaries(keys, st.integers(1, 2**30), max_size=4).map(Counter)


samples = st.builds(
    Sample,
    entries=st.integers(0, 32),
    bytes=sizes,
    types=counters(strategies.names),
    lines=counters(locations),
    stacks=st.dictionaries(locations, st.lists(locations, max_size=3).map(tuple), max_size=3),
)
some_holders = st.lists(
    st.builds(
        HolderEvidence,
        type=strategies.names,
        path=st.sampled_from(["shop.app.A", "shop.app.B", "shop.app.C[…]"]),
        anchored=st.booleans(),
        inventory_name=st.none() | strategies.names,
        bound=st.none() | sizes,
        entries=sizes,
        entries_added=sizes,
        entries_per_minute=rates,
        sample=samples,
        steady=st.booleans(),
    ),
    max_size=6,
)
sites = st.builds(
    Site,
    locations,
    sizes,
    sizes,
    st.lists(locations, max_size=3).map(tuple),
)
traces = st.none() | st.builds(
    lambda seconds, found: Trace(seconds=seconds, sites={site.location: site for site in found}),
    st.floats(0, 60),
    st.lists(sites, max_size=15),
)
evidences = st.builds(
    Evidence,
    gap_seconds=st.just(0.0) | st.floats(0.001, 10**6),
    holders=some_holders,
    types=st.lists(st.tuples(strategies.names, sizes, sizes), max_size=5),
    trace=traces,
    functions=st.dictionaries(locations, strategies.names, max_size=3),
    notes=st.lists(strategies.names, max_size=3),
    heap_in_use_growth=st.none() | st.integers(-(2**40), 2**40),
    heap_free_growth=st.none() | st.integers(-(2**40), 2**40),
    blocks_growth=st.none() | st.integers(-(2**40), 2**40),
    collector=st.builds(Collector, st.booleans(), st.integers(0, 10**6)),
    garbage=st.none() | st.builds(Garbage, sizes, sizes),
    garbage_growth=rates,
    objects_growth=st.integers(-(2**40), 2**40),
)
trends = st.builds(
    TrendSummary,
    kind=st.just("leak"),
    bytes_per_hour=st.floats(-(2**50), 2**50),
    confidence=st.floats(0, 1),
    baseline_bytes=sizes,
    current_bytes=sizes,
    samples=sizes,
    span_seconds=rates,
    limit_bytes=st.none() | sizes,
    limit_source=st.none() | strategies.names,
    seconds_to_limit=st.none() | rates,
)


def composed(found: Evidence, **options: Any) -> LeakReport:
    return compose(ORIGIN, TREND, found, **options)


@settings(max_examples=40)
@given(trends, evidences, evidences)
def test_any_evidence_makes_a_report_that_survives_being_stored(
    trend: TrendSummary, first: Evidence, second: Evidence
) -> None:
    report = compose(ORIGIN, trend, first)
    assert LeakReport.from_dict(report.to_dict()) == report
    update = compose(ORIGIN, trend, second, previous=report)
    assert LeakReport.from_dict(update.to_dict()) == update
    assert len(report.suspects) <= 10
    assert len(report.holders) <= 10
    assert report.explained_ratio is None or 0.0 <= report.explained_ratio <= 1.0


@settings(max_examples=40)
@given(evidences)
def test_holders_come_by_name_and_weight_and_none_of_them_shrank(found: Evidence) -> None:
    """What a person can find comes before what has no name, however heavy that is."""
    report = composed(found)
    order = [(held.anchored, held.bytes_per_minute or 0.0) for held in report.holders]
    assert order == sorted(order, reverse=True)
    steady = {held.path for held in found.holders if held.steady}
    assert {held.path for held in report.holders} <= steady


def test_a_line_that_leads_to_a_holder_comes_before_a_heavier_one_that_does_not() -> None:
    found = evidence()
    assert found.trace is not None
    busy = ("/srv/shop/other.py", 9)
    found.trace.sites[busy] = Site(busy, bytes=900 * MiB, count=1, stack=(busy,))
    first, second = composed(found).suspects
    assert (first.file, first.line, first.held_by) == (*LINE, "shop.app.SESSIONS")
    assert [frame.file for frame in first.frames] == [LINE[0], "/srv/shop/main.py"]
    assert (second.file, second.held_by) == (busy[0], None)


CALL = CallSite("lxml.etree.fromstring", (("/lib/site-packages/lxml/html.py", 9), LINE))


def test_under_native_growth_the_lines_that_called_c_code_come_first() -> None:
    found = replace(
        evidence(), holders=[], blocks_growth=0, objects_growth=0, calls=[CALL], sources={}
    )
    report = composed(found)
    assert report.verdict.kind == "native"
    first, *others = report.suspects
    assert (first.file, first.line, first.callee) == (*CALL.stack[0], CALL.callee)
    assert first.user_frame is not None
    assert all(suspect.callee is None for suspect in others)
    text = render_text(report)
    assert "C functions called meanwhile from (busy meanwhile, the busiest first)" in text
    assert f"{CALL.callee}  from  {LINE[0]}:{LINE[1]}" in text
    update = composed(replace(found, calls=[], trace=None), previous=report)
    assert update.suspects[0] == first, "an update in which no calls were watched keeps them"
    assert [each.callee for each in update.suspects].count(CALL.callee) == 1


def test_an_update_without_tracing_still_knows_what_nothing_in_python_holds() -> None:
    instances = replace(holder(anchored=False), type="shop.Handler", unit="instances", unseen=True)
    found = replace(evidence(instances), all_types=[("shop.Handler", 5_000, 4_000)])
    first = composed(found)
    assert first.verdict.kind == "extension"
    update = composed(replace(found, holders=[], trace=None), previous=first)
    assert update.verdict.kind == "extension"


def test_lines_that_called_c_code_are_not_blamed_for_memory_of_python() -> None:
    report = composed(replace(evidence(holder()), calls=[CALL]))
    assert report.verdict.kind == "live_objects"
    assert all(suspect.callee is None for suspect in report.suspects)


def test_a_line_of_memguard_is_no_suspect() -> None:
    ours = (readings.__file__, 140)
    ring = holder("shop.guard.history._ring", sample=Sample(10, 2000, lines=Counter({ours: 2000})))
    found = evidence(holder(), ring)
    assert [(each.file, each.line) for each in composed(found).suspects] == [LINE]


def test_a_holder_tells_rate_weight_site_and_types_of_entries() -> None:
    (held,) = composed(evidence()).holders
    assert (held.entries, held.entries_added) == (5000, 4000)
    assert held.bytes_per_entry == 1024
    assert held.bytes_added == 4000 * 1024
    assert held.bytes_per_minute == 60.0 * 1024 * 1024
    assert held.entry_types == ("shop.app.Session",)
    assert held.site is not None
    assert (held.site.file, held.site.line, held.site.function) == (*LINE, "remember")


def test_what_is_not_explained_is_said() -> None:
    report = composed(evidence(holder(entries_per_minute=30.0 * 1024)))
    assert report.explained_ratio == pytest.approx(0.5)
    assert explained(report) == ("30.0 MiB/min (50 %)", "30.0 MiB/min (50 %)")
    assert garbage(report) is None


def test_holders_garbage_and_what_is_not_explained_add_up() -> None:
    found = evidence(
        holder(entries_per_minute=12.0 * 1024),
        garbage=Garbage(objects=10, bytes=10 * MiB),
        garbage_growth=7.0 * MiB,
    )
    report = composed(found)
    assert report.verdict.kind == "cycles"
    assert garbage(report) == "42.0 MiB/min (70 %)"
    assert explained(report) == ("12.0 MiB/min (20 %)", "6.0 MiB/min (10 %)")
    assert "garbage in reference cycles: 42.0 MiB/min (70 %)" in render_text(report)


def test_a_holder_of_a_hundredth_of_the_growth_is_left_out() -> None:
    report = composed(evidence(holder(), holder("shop.app.TINY", entries_per_minute=1.0)))
    assert [held.path for held in report.holders] == ["shop.app.SESSIONS"]


def test_a_holder_that_grew_and_shrank_is_left_out_and_said() -> None:
    report = composed(evidence(holder(), holder("shop.app.POOL", steady=False)))
    assert [held.path for held in report.holders] == ["shop.app.SESSIONS"]
    assert "1 container that grew and was emptied left out" in report.limits


def test_growth_that_is_emptied_while_it_is_looked_at_is_no_leak() -> None:
    batch = holder("shop.app.BATCH", steady=False, bytes_added=20.0 * MiB)
    assert composed(evidence(batch)).kind == "growth"
    aside = holder("shop.app.BUFFER", steady=False, bytes_added=1.0 * MiB)
    assert composed(evidence(holder(), aside)).kind == "leak", "most of the growth is elsewhere"
    assert composed(evidence(holder(), batch)).kind == "leak", "so it is here, busy as the batch is"


def test_growth_of_our_own_containers_is_growth_and_no_leak() -> None:
    ours = holder("BoundedCache 'x'", inventory_name="x")
    assert composed(evidence(ours)).kind == "growth"
    assert composed(evidence(ours, holder(entries_per_minute=200.0 * 1024))).kind == "leak"
    assert composed(evidence(ours), on_demand=True).kind == "snapshot"


def test_an_update_keeps_the_lines_that_were_traced_before() -> None:
    first = composed(evidence())
    untraced = evidence(holder(entries=9000, entries_added=100, sample=Sample(10, 99)))
    untraced.trace = None
    update = composed(untraced, previous=first)
    assert (update.suspects[0].file, update.suspects[0].line) == LINE
    (held,) = update.holders
    assert held.entries_added == 4000 + 9000 - 5000
    assert held.bytes_per_entry == 1024
    assert held.site == first.holders[0].site
    assert any("nothing was traced for this update" in note for note in update.limits)


def test_an_update_adds_up_what_the_finding_cost() -> None:
    first = composed(evidence(census_seconds=1.0, traced_seconds=0.5), cpu_seconds=2.0)
    update = composed(evidence(census_seconds=1.0, traced_seconds=0.25), previous=first)
    assert update.cost.traced_seconds == 0.75
    assert update.cost.census_seconds == 2.0


def test_holders_of_the_same_path_are_not_taken_for_one_another() -> None:
    """Two lists in one list: the one of 10 entries did not gain what the other one has."""
    small, large = holder("shop.app.SHARDS[…]"), holder("shop.app.SHARDS[…]")
    small.entries, small.entries_added = 10, 10
    large.entries, large.entries_added = 100_000, 100
    first = composed(evidence(small, large))
    update = composed(evidence(small, large), previous=first)
    assert sorted(held.entries_added for held in update.holders) == [10, 100]


def test_instances_of_two_types_at_one_path_stand_where_nothing_was_traced() -> None:
    """A chain is named by its head: its links and what they carry have the same path."""
    both = [holder("shop.app.CHAIN.head"), holder("shop.app.CHAIN.head", type="shop.app.Visit")]
    first = composed(evidence(*both))
    untraced = evidence(all_types=[(each.type, 9000, 100) for each in both])
    untraced.holders.clear()
    untraced.trace = None
    update = composed(untraced, previous=first)
    assert [held.type for held in update.holders] == [held.type for held in first.holders]
    assert len(update.holders) == 2


def test_a_librarys_weak_references_are_named_after_what_holds_anything() -> None:
    weak = Sample(entries=10, bytes=20 * 1024, types=Counter({"weakref.ReferenceType": 10}))
    registry = holder("_asyncio._all_tasks.data", sample=weak)
    first = composed(evidence(registry, holder(in_user_code=True)))
    assert [held.path for held in first.holders] == ["shop.app.SESSIONS", registry.path]
    mine = replace(registry, path="shop.app.SEEN", in_user_code=True)
    second = composed(evidence(mine, holder(in_user_code=True)))
    assert [held.path for held in second.holders] == ["shop.app.SEEN", "shop.app.SESSIONS"]


def test_without_any_evidence_a_report_says_that_it_knows_nothing() -> None:
    report = composed(Evidence(notes=["no census: too large"]))
    assert not report.suspects
    assert not report.holders
    assert report.verdict.kind == "unknown"
    assert "no census: too large" in report.limits


def test_a_look_at_a_process_that_does_not_grow_has_no_verdict() -> None:
    still = TrendSummary(
        kind="healthy",
        bytes_per_hour=0.0,
        confidence=0.0,
        baseline_bytes=100 * MiB,
        current_bytes=100 * MiB,
        samples=2,
        span_seconds=1.0,
    )
    found = Evidence(gap_seconds=1.0, trace=Trace(seconds=0.5), blocks_growth=10)
    report = compose(ORIGIN, still, found, on_demand=True)
    assert report.verdict.kind == "none"
    assert report.explained_ratio is None


def test_on_demand_growth_between_slow_looks_is_that_of_the_whole_time() -> None:
    """7 MiB in 0.6 s of readings, and as many in entries between looks that took a second more."""
    quick = TrendSummary(
        kind="healthy",
        bytes_per_hour=7.0 * MiB / 0.6 * 3600,
        confidence=0.99,
        baseline_bytes=60 * MiB,
        current_bytes=67 * MiB,
        samples=9,
        span_seconds=0.6,
    )
    entries_per_minute = 7.0 * 1024 / 1.6 * 60
    held = holder(entries_added=7 * 1024, entries_per_minute=entries_per_minute)
    found = evidence(held, gap_seconds=1.6, blocks_growth=7 * 1024)
    report = compose(ORIGIN, quick, found, on_demand=True)
    assert report.verdict.kind == "live_objects"
    assert report.explained_ratio == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("modules", "growth_mib", "kind"),
    [(40, 60, "growth"), (3, 4, "growth"), (2, 1, "leak"), (5, 600, "leak")],
    ids=["many modules", "a few", "too few to matter", "far more than modules bring"],
)
def test_code_that_is_loaded_is_growth_as_far_as_it_can_explain_it(
    modules: int, growth_mib: int, kind: str
) -> None:
    trend = replace(TREND, current_bytes=TREND.baseline_bytes + growth_mib * MiB)
    assert compose(ORIGIN, trend, Evidence(modules_imported=modules)).kind == kind


def test_growth_that_was_over_when_it_was_looked_at_is_no_leak() -> None:
    trace = Trace(seconds=0.5)
    over = Evidence(
        gap_seconds=1.0,
        trace=trace,
        traced_growth_per_minute=0.0,
        blocks_growth=2 * MiB // 60 * 2 // 64 * 60,
    )
    assert composed(over).kind == "growth"
    assert composed(over, had_stopped=True).kind == "leak", "bursts are over each time"
    going_on = replace(over, traced_growth_per_minute=TREND.bytes_per_hour / 60)
    assert composed(going_on).kind == "leak"
    too_short = replace(over, trace=Trace(seconds=0.01))
    assert composed(too_short).kind == "leak", "it could not have been seen"
    native = replace(over, blocks_growth=0)
    assert composed(native).kind == "leak", "tracing sees nothing of it"


def test_where_nothing_explains_the_growth_the_light_holders_that_grow_are_told() -> None:
    """An entry may be a few bytes of Python that keep a document alive in a C library."""
    much: dict[str, Any] = {"entries_per_minute": 1.0, "entries_added": 100}
    documents = Sample(10, 1000, extends=True)
    light = holder("shop.app.DOCUMENTS", sample=documents, **much)
    few = holder("shop.app.FEW", sample=documents, entries_per_minute=1.0, entries_added=3)
    filling = holder("shop.app.CACHE", sample=documents, bound=9000, **much)
    plain = holder("shop.app.VISITORS", sample=Sample(10, 1000), **much)
    report = composed(evidence(light, few, filling, plain))
    assert [held.path for held in report.holders] == ["shop.app.DOCUMENTS"]
    assert report.kind == "leak"
    assert report.explained_ratio == pytest.approx(0.0, abs=0.01)
    assert any("outside Python's heap" in note for note in report.limits)


def test_memory_that_was_reserved_before_is_growth_and_no_leak() -> None:
    """An array made of zeros becomes resident as it is written to, and no further."""
    filled = Evidence(
        gap_seconds=10.0,
        trace=Trace(seconds=0.5),
        traced_growth_per_minute=0.0,
        blocks_growth=0,
        private_growth=10 * MiB,
        data_growth=MiB // 2,
        heap_in_use_growth=0,
        heap_free_growth=1000,
    )
    report = composed(filled)
    assert report.kind == "growth"
    assert any("reserved before" in note for note in report.limits)
    for asked_for in (
        {"data_growth": 10 * MiB},
        {"heap_in_use_growth": 10 * MiB},
        {"traced_growth_per_minute": 50.0 * MiB},
        {"blocks_growth": 10 * MiB // 64},
        {"data_growth": None},
        {"heap_in_use_growth": None},
        {"private_growth": None},
        {"private_growth": 1000, "data_growth": 0},
    ):
        other = replace(filled, **asked_for)
        assert composed(other, had_stopped=True).kind == "leak", asked_for
    assert composed(replace(filled, holders=[holder()])).kind == "leak"
