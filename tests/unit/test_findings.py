"""Findings are numbered, bounded, updated, and logged as one event each."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.finding.findings import Change, Finding, Findings, summarize
from memguard.leaks.growth.trend import Trend, TrendKind
from memguard.leaks.report import FindingState, TrendSummary
from memguard.observe.headroom import Allowance
from tests.detecting import MiB, evidence, holder

TREND = Trend(
    kind=TrendKind.LEAK,
    bytes_per_hour=3600.0 * MiB,
    confidence=0.999,
    baseline_bytes=100 * MiB,
    current_bytes=160 * MiB,
    samples=60,
    span_seconds=60.0,
)


def conclude(findings: Findings, found: Evidence, state: FindingState = "leaking") -> Finding:
    finding = findings.conclude(
        summarize(TREND, Allowance()),
        found,
        uptime_seconds=60.0,
        cpu_seconds=0.25,
        state=state,
    )
    assert finding is not None
    return finding


def end(findings: Findings, state: Literal["ended", "retracted"] = "ended") -> Finding:
    now = replace(TREND, current_bytes=150 * MiB)
    finding = findings.end(summarize(now, Allowance(512 * MiB, "cgroup", 100 * MiB)), state)
    assert finding is not None
    return finding


def test_the_summary_tells_the_time_to_the_bound() -> None:
    summary = summarize(TREND, Allowance(512 * MiB, "cgroup v2 memory.max", 100 * MiB))
    assert (summary.limit_bytes, summary.limit_source) == (512 * MiB, "cgroup v2 memory.max")
    assert summary.seconds_to_limit == pytest.approx(100.0)
    assert summarize(TREND, Allowance()).seconds_to_limit is None


def test_a_shrinking_process_meets_no_bound() -> None:
    assert Allowance(1, "x", 1).seconds_left(-5.0) is None
    assert Allowance(1, "x", 0).seconds_left(5.0) == 0.0


def test_the_first_finding_is_an_alarm_and_the_second_its_update() -> None:
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    second = conclude(findings, evidence())
    assert (first.is_alarm, second.is_alarm) == (True, False)
    assert second.report.id == first.report.id
    assert (first.report.revision, second.report.revision) == (1, 2)
    assert findings.reports == (second.report,)
    assert findings.count == 1
    assert findings.going_on == second.report


def test_a_leak_that_goes_on_after_a_restart_of_its_detector_is_no_second_alarm() -> None:
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    findings.close()
    second = conclude(findings, evidence())
    assert (second.change, second.is_alarm) == ("resumed", False)
    assert (second.report.id, second.report.revision) == (first.report.id, 2)
    assert (findings.count, findings.reports) == (1, (second.report,))
    findings.close()
    assert conclude(findings, evidence(holder("shop.app.OTHER"))).is_alarm


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_leak_of_the_parent_is_another_one_in_its_child(
    *, has_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes may write to one directory, each under its own id."""
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    if has_ended:
        end(findings)
    findings.close()
    monkeypatch.setattr("os.getpid", lambda: first.report.pid + 1)
    second = conclude(findings, evidence())
    assert second.is_alarm
    assert second.report.id != first.report.id


def test_a_leak_whose_holder_turns_out_to_have_a_bound_is_retracted() -> None:
    findings = Findings("memguard", 5)
    conclude(findings, evidence())
    update = conclude(findings, evidence(holder(inventory_name="x")))
    assert (update.change, update.report.kind, update.report.state) == (
        "retracted",
        "leak",
        "retracted",
    )
    assert update.is_over
    assert findings.going_on is None


def test_one_look_that_sees_nothing_takes_no_confirmed_leak_back() -> None:
    """A leak may come in bursts; whether it has ended is seen by its level."""
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    nothing = evidence(modules_imported=80)
    nothing.holders.clear()
    summary = summarize(TREND, Allowance())
    assert findings.conclude(summary, nothing, uptime_seconds=61.0, cpu_seconds=0.3) is None
    assert findings.going_on == first.report


def test_a_suspicion_is_no_alarm_and_becomes_one_when_it_is_confirmed() -> None:
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence(), "suspected")
    assert not first.is_alarm
    assert (first.report.kind, first.report.state) == ("growth", "suspected")
    assert not first.report.is_leaking
    assert findings.count == 0
    assert findings.suspicion == (
        "shop.app.SESSIONS grows 60.0 MiB/min, which may end; +60.0 MiB so far"
    )
    second = conclude(findings, evidence())
    assert second.is_alarm
    assert (second.report.id, second.report.revision) == (first.report.id, 2)
    assert (second.report.kind, second.report.state) == ("leak", "leaking")
    assert findings.reports == (second.report,)
    assert findings.count == 1
    assert findings.suspicion is None


def test_a_confirmed_leak_does_not_fall_back_to_a_suspicion() -> None:
    findings = Findings("memguard", 5)
    conclude(findings, evidence())
    assert conclude(findings, evidence(), "suspected").report.state == "leaking"


def test_a_suspicion_that_the_evidence_speaks_against_is_retracted_without_noise() -> None:
    findings = Findings("memguard", 5)
    conclude(findings, evidence(), "suspected")
    update = conclude(findings, evidence(holder(inventory_name="x")))
    assert (update.change, update.report.kind, update.report.state) == (
        "retracted",
        "growth",
        "retracted",
    )
    assert not update.is_over
    assert findings.going_on is None


def test_the_last_revision_says_what_is_kept_and_that_no_limit_is_near() -> None:
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    last = end(findings)
    assert (last.change, last.is_over, last.is_alarm) == ("ended", True, False)
    report = last.report
    assert (report.id, report.revision, report.state) == (first.report.id, 2, "ended")
    assert report.trend.growth_bytes == 50 * MiB
    assert report.trend.seconds_to_limit is None
    assert report.ended_at == report.updated_at
    assert report.holders == first.report.holders
    assert report.fingerprint == first.report.fingerprint != ""
    assert not report.is_leaking
    assert findings.reports == (report,)
    assert findings.going_on is None
    assert findings.end(summarize(TREND, Allowance()), "ended") is None


def test_growth_that_resumes_after_its_end_is_the_same_finding() -> None:
    """A leak that pauses at night is one leak."""
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    end(findings)
    again = conclude(findings, evidence(), "suspected")
    assert (again.change, again.is_alarm) == ("resumed", False)
    assert (again.report.id, again.report.revision) == (first.report.id, 3)
    assert (again.report.kind, again.report.state) == ("leak", "leaking")
    assert again.report.ended_at is None
    assert again.report.started_at == first.report.started_at
    assert findings.reports == (again.report,)
    assert findings.count == 1


@pytest.mark.parametrize("state", ["ended", "retracted"])
def test_what_is_new_after_an_end_is_a_new_finding(state: Literal["ended", "retracted"]) -> None:
    findings = Findings("memguard", 5)
    conclude(findings, evidence())
    end(findings, state)
    other = holder("shop.app.OTHER") if state == "ended" else holder()
    assert conclude(findings, evidence(other)).is_alarm
    assert len(findings.reports) == findings.count == 2


def test_an_update_of_a_report_that_was_dropped_is_not_lost_on_the_caller() -> None:
    findings = Findings("memguard", 1)
    leak = conclude(findings, evidence())
    findings.close()
    conclude(findings, evidence(holder("shop.app.OTHER")))
    assert leak.report not in findings.reports
    assert findings.dropped == 1
    assert conclude(findings, evidence(holder("shop.app.OTHER"))).report.revision == 2


def test_tracing_is_wanted_until_each_weighty_holder_has_a_line() -> None:
    findings = Findings("memguard", 5)
    assert findings.wants_tracing
    conclude(findings, evidence())
    assert not findings.wants_tracing


@pytest.mark.parametrize(
    ("change", "state", "event", "level"),
    [
        ("new", "leaking", "leak.suspected", logging.WARNING),
        ("updated", "leaking", "leak.updated", logging.INFO),
        ("resumed", "leaking", "leak.resumed", logging.WARNING),
        ("ended", "leaking", "leak.ended", logging.WARNING),
        ("retracted", "leaking", "leak.retracted", logging.WARNING),
        ("new", "suspected", "growth.observed", logging.INFO),
        ("ended", "suspected", "growth.ended", logging.INFO),
        ("retracted", "suspected", "growth.retracted", logging.INFO),
    ],
)
def test_a_finding_is_one_event_and_its_end_as_loud_as_its_alarm(
    caplog: pytest.LogCaptureFixture,
    change: Change,
    state: FindingState,
    event: str,
    level: int,
) -> None:
    report = conclude(Findings("memguard", 5), evidence(), state).report
    with caplog.at_level(logging.INFO, "memguard"):
        Finding(report, change).log([Path("/var/reports/a.json")])
    (record,) = caplog.records
    assert record.levelno == level
    assert f"fingerprint='{report.fingerprint}'" in record.getMessage()
    for part in (f"event='{event}'", "holder='shop.app.SESSIONS'", "report='/var/reports/a.json'"):
        assert part in record.getMessage()


def test_a_finding_without_suspects_and_holders_is_logged_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "memguard"):
        conclude(Findings("memguard", 5), Evidence()).log([])
    assert "suspect=None" in caplog.messages[0]


def test_a_snapshot_is_not_kept() -> None:
    findings = Findings("memguard", 5)
    report = findings.snapshot(
        TrendSummary(
            kind="healthy",
            bytes_per_hour=0.0,
            confidence=0.0,
            baseline_bytes=1,
            current_bytes=1,
            samples=2,
            span_seconds=1.0,
        ),
        evidence(),
        uptime_seconds=1.0,
        cpu_seconds=0.1,
    )
    assert report.kind == "snapshot"
    assert findings.reports == ()


def test_a_light_holder_asks_for_no_tracing() -> None:
    """What holds next to nothing of the growth is told, and not worth another burst."""
    findings = Findings("memguard", 5)
    light = holder(entries_per_minute=1.0, entries_added=100, sample=Sample(10, 1000, extends=True))
    conclude(findings, evidence(light, traced_growth_per_minute=0.0, blocks_growth=0))
    assert len(findings.reports[-1].holders) == 1
    assert findings.reports[-1].verdict.kind == "native"
    assert not findings.wants_tracing
