"""The catalog of metrics: names, units, and what is left out."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.utils import floatToGoString

from memguard import MemoryGuard
from memguard.leaks.report import FindingState, LeakReport, TrendSummary, Verdict
from memguard.observe.gcwatch import PAUSE_BOUNDS_NS, GcStatistics, GenerationStatistics
from memguard.observe.readings import Reading
from memguard.relief.records import PressureState
from memguard.report.metrics import container_catalog
from memguard.report.metrics.catalog import FAMILIES, INSTRUMENTS, PARTS, source_of
from memguard.report.metrics.containers import LONGEST_LABEL, label
from memguard.report.metrics.metric import Pauses, bound_label, is_number
from memguard.report.metrics.prometheus.gatherer import column_of
from memguard.report.state import GuardState, guard_state

MIB = 1024 * 1024


@pytest.fixture
def known() -> GuardState:
    """Return the state of a guard that was never started."""
    return guard_state(MemoryGuard())


def values(part: str, state: GuardState) -> dict[tuple[str, ...], Any]:
    """Return what Prometheus is told of a part, by name and labels."""
    return {
        (metric.prometheus, *labels.values()): value
        for metric in PARTS[part]
        if metric.prometheus
        for labels, value in zip(*column_of(metric, state, "g"), strict=True)
    }


def running(known: GuardState, **pressure: Any) -> GuardState:
    state = PressureState(at=1.0, **pressure)
    return replace(known, running=True, pressure=state)


def test_names_say_their_unit_and_counters_end_with_total() -> None:
    """The rules of prometheus.io/docs/practices/naming; promtool checks them once more."""
    names = [family.prometheus for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"memguard_[a-z_]+", family.prometheus)
        assert family.prometheus.endswith("_total") == (family.kind == "counter")
        wrong = r"(milli|micro|kilo|mega|minute|hour|percent|_ms|_kb)"
        assert not re.search(wrong, family.prometheus)
        assert family.help.endswith(".")


def test_nothing_is_said_that_the_clients_own_collectors_say() -> None:
    theirs = {"resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds"}
    theirs |= {"start_time_seconds", "gc_collections_total", "gc_objects_collected_total"}
    assert not theirs & {family.prometheus.removeprefix("memguard_") for family in FAMILIES}


def test_memory_is_told_in_bytes(known: GuardState) -> None:
    reading = Reading(at=0, rss=9 * MIB, anon=5 * MIB, file=3 * MIB, shmem=MIB, swap=2 * MIB)
    found = values("process", replace(known, reading=reading))
    assert found["memguard_private_bytes",] == 7 * MIB
    assert found["memguard_resident_bytes", "anonymous"] == 5 * MIB
    assert found["memguard_resident_bytes", "shared"] == MIB
    assert found["memguard_swapped_bytes",] == 2 * MIB


def test_what_the_system_does_not_tell_is_left_out_and_is_not_zero(known: GuardState) -> None:
    found = values("process", replace(known, reading=Reading(at=0)))
    assert set(found) == {
        ("memguard_build_info", next(iter(found))[1]),
        ("memguard_traced_bytes",),
        ("memguard_tracer_bytes",),
    }


def test_shares_are_ratios_and_rates_are_per_second(known: GuardState) -> None:
    state = running(known, level="elevated", used=80, limit=100, stall_some=25.0)
    state = replace(state, pressure=replace(state.pressure, bytes_per_minute=600.0))
    found = values("pressure", state)
    assert found["memguard_used_ratio", "g"] == 0.8
    assert found["memguard_stall_ratio", "g"] == 0.25
    assert found["memguard_growth_bytes_per_second", "g"] == 10.0


def test_one_level_is_one_and_the_others_are_zero(known: GuardState) -> None:
    found = values("pressure", running(known, level="critical"))
    levels = {key[2]: value for key, value in found.items() if key[0] == "memguard_level"}
    assert levels == {"ok": 0, "elevated": 0, "critical": 1, "insufficient_data": 0}


def test_a_guard_that_is_stopped_tells_no_pressure_of_yesterday(known: GuardState) -> None:
    stopped = replace(running(known, level="critical", used=99, limit=100), running=False)
    found = values("pressure", stopped)
    assert found["memguard_running", "g"] == 0
    assert not {"memguard_used_ratio", "memguard_level"} & {key[0] for key in found}
    assert found["memguard_looks_total", "g"] == 0


def test_a_guard_that_has_not_looked_yet_tells_no_pressure(known: GuardState) -> None:
    found = values("pressure", replace(known, running=True))
    assert "memguard_level" not in {key[0] for key in found}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/sys/fs/cgroup/x/memory.max", "cgroup"),
        ("/sys/fs/cgroup/memory/memory.stat hierarchical_memory_limit", "cgroup"),
        ("RLIMIT_AS", "rlimit"),
        ("MemTotal", "host"),
        ("psutil", "host"),
        ("option limit", "own"),
        ("unknown", "unknown"),
        ("anything else", "unknown"),
    ],
)
def test_where_a_limit_is_written_is_one_of_five_words(source: str, told: str) -> None:
    """Paths of control groups change with every container, and would make a series each."""
    assert source_of(source) == told


def test_a_limit_of_the_guards_own_is_told_as_own() -> None:
    guard = MemoryGuard(limit="1MiB", leaks=False, relief=False, history=False)
    guard.monitor.tick()
    assert source_of(guard.monitor.pressure().source) == "own"
    guard.close()


def test_what_is_left_out_of_a_guard_has_no_rows() -> None:
    bare = guard_state(MemoryGuard(relief=False, leaks=False, gc_watch=False))
    assert not [*values("relief", bare), *values("leaks", bare), *values("gc", bare)]


def leak(updated_at: str, kind: Any = "leak", bytes_per_hour: float = 3600.0) -> LeakReport:
    trend = TrendSummary(
        kind="leak",
        bytes_per_hour=bytes_per_hour,
        confidence=1.0,
        baseline_bytes=0,
        current_bytes=0,
        samples=10,
        span_seconds=1.0,
    )
    return LeakReport(
        id="x",
        kind=kind,
        detector="d",
        pid=1,
        started_at=updated_at,
        updated_at=updated_at,
        revision=1,
        uptime_seconds=0.0,
        trend=trend,
        verdict=Verdict(kind="live_objects", advice=""),
    )


def test_the_latest_leak_is_told_with_its_time_and_rate(known: GuardState) -> None:
    reports = (
        leak("2026-11-20T10:00:00.500+00:00", bytes_per_hour=7200.0),
        leak("2026-11-20T09:00:00.000+00:00"),
        leak("2026-11-20T11:00:00.000+00:00", kind="growth"),
    )
    found = values("leaks", replace(known, reports=reports))
    assert found["memguard_leak_last_report_timestamp_seconds", "g"] == 1795168800.5
    assert found["memguard_leak_growth_bytes_per_second", "g"] == 2.0


def test_a_leak_that_has_ended_grows_no_more(known: GuardState) -> None:
    reports = (replace(leak("2026-11-20T10:00:00+00:00"), state="ended"),)
    found = values("leaks", replace(known, reports=reports))
    assert found["memguard_leak_growth_bytes_per_second", "g"] == 0.0


def test_findings_are_counted_by_state(known: GuardState) -> None:
    states: tuple[FindingState | None, ...] = ("ended", "leaking", "ended", None)
    reports = tuple(replace(leak("2026-11-20T10:00:00+00:00"), state=each) for each in states)
    found = replace(known, reports=reports)
    (metric,) = (each for each in PARTS["leaks"] if each.prometheus == "memguard_leak_findings")
    assert dict(metric.values(found)) == {
        "suspected": 0,
        "leaking": 1,
        "ended": 2,
        "retracted": 0,
    }


def test_a_rate_that_is_no_number_is_left_out(known: GuardState) -> None:
    reports = (leak("2026-11-20T10:00:00+00:00", bytes_per_hour=math.nan),)
    found = values("leaks", replace(known, reports=reports))
    assert ("memguard_leak_growth_bytes_per_second", "g") not in found


def test_pauses_are_told_by_generation(known: GuardState) -> None:
    row = GenerationStatistics(
        generation=2,
        collections=3,
        pause_total=0.25,
        pause_max=0.2,
        collected=0,
        uncollectable=0,
        histogram=((0.1, 2), (math.inf, 1)),
    )
    gc = GcStatistics(
        running=True, watched_seconds=1.0, wall_share=0.25, generations=(row,), dropped=0
    )
    found = values("gc", replace(known, gc=gc))
    assert found["memguard_gc_pause_seconds", "g", "2"] == Pauses(row.histogram, 0.25)
    assert found["memguard_gc_longest_pause_seconds", "g", "2"] == 0.2


def test_every_row_has_the_labels_of_its_family(known: GuardState) -> None:
    found = running(known, level="ok", used=1, limit=2, source="/x", stall_some=0.0)
    reading = replace(found.reading, blocks=1, swap=0)
    found = replace(found, reports=(leak("2026-11-20T10:00:00+00:00"),), reading=reading)
    told = set()
    for part in PARTS.values():
        for metric in part:
            labelled, _ = column_of(metric, found, "g")
            told |= {metric} if labelled else set()
            assert all(tuple(labels) == metric.labels for labels in labelled), metric.prometheus
    elsewhere = ("container", "cache", "pool", "collector")
    silent = {family.prometheus for family in FAMILIES if family not in told}
    assert {name for name in silent if name.split("_")[1].rstrip("s") not in elsewhere} == set()


def test_every_metric_is_exported_under_one_name_or_two() -> None:
    assert {metric for part in PARTS.values() for metric in part} <= {*FAMILIES, *INSTRUMENTS}
    assert len({metric.otel for metric in INSTRUMENTS}) == len(INSTRUMENTS)
    assert not [metric.otel for metric in INSTRUMENTS if not metric.unit]
    assert container_catalog.ITEMS in FAMILIES
    assert container_catalog.ITEMS in INSTRUMENTS


@given(st.text())
def test_a_label_is_one_printable_line_of_bounded_length(text: str) -> None:
    shown = label(text)
    assert len(shown) <= LONGEST_LABEL
    assert shown.isprintable()


@pytest.mark.parametrize("text", ["\U0010ffff" * 500, "x" * 10_000, "\n" * 300, "é" * 121])
def test_a_long_or_hostile_name_is_cut_in_the_middle(text: str) -> None:
    assert len(label(text)) <= LONGEST_LABEL
    assert "..." in label(text)


def test_a_name_that_is_no_string_is_not_asked_for_its_text() -> None:
    class Hostile(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __format__ = __len__ = __hash__ = __str__  # type: ignore[assignment]  # reason: hostile on purpose

    assert label(Hostile("plain")) == "plain"
    assert label(7) == "<int>"


@pytest.mark.parametrize(
    "value", [None, True, math.nan, math.inf, 10**400, "1", -(10**400), 1 + 0j]
)
def test_what_cannot_be_told_is_no_number(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2**64])
def test_ints_and_floats_are_numbers(value: float) -> None:
    assert is_number(value)


def test_bounds_are_written_as_the_client_writes_them() -> None:
    for bound in (*(nanoseconds / 1e9 for nanoseconds in PAUSE_BOUNDS_NS), math.inf):
        assert bound_label(bound) == floatToGoString(bound)  # type: ignore[no-untyped-call]  # reason: theirs is untyped
