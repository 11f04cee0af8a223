"""Findings are numbered, bounded, updated, and logged as one event each."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.finding.findings import Finding, Findings, summarize
from memguard.leaks.growth.trend import Trend, TrendKind
from memguard.leaks.report import TrendSummary
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


def conclude(findings: Findings, found: Evidence) -> Finding:
    return findings.conclude(
        summarize(TREND, Allowance()),
        found,
        uptime_seconds=60.0,
        cpu_seconds=0.25,
    )


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
    assert findings.open_since == first.report.started_at


def test_after_its_end_the_next_one_is_new() -> None:
    findings = Findings("memguard", 5)
    first = conclude(findings, evidence())
    findings.close()
    second = conclude(findings, evidence())
    assert second.is_alarm
    assert second.report.id != first.report.id
    assert findings.count == 2


def test_a_leak_that_turns_out_to_be_growth_is_over() -> None:
    findings = Findings("memguard", 5)
    conclude(findings, evidence())
    update = conclude(findings, evidence(holder(inventory_name="x")))
    assert update.report.kind == "growth"
    assert findings.open_since is None


def test_an_update_of_a_report_that_was_dropped_is_not_lost_on_the_caller() -> None:
    findings = Findings("memguard", 1)
    leak = conclude(findings, evidence())
    findings.close()
    conclude(findings, evidence())
    assert leak.report not in findings.reports
    assert findings.dropped == 1
    assert conclude(findings, evidence()).report.revision == 2


def test_tracing_is_wanted_until_each_weighty_holder_has_a_line() -> None:
    findings = Findings("memguard", 5)
    assert findings.wants_tracing
    conclude(findings, evidence())
    assert not findings.wants_tracing


@pytest.mark.parametrize(
    ("event", "level"),
    [
        ("leak.suspected", logging.WARNING),
        ("leak.updated", logging.INFO),
        ("growth.observed", logging.INFO),
    ],
)
def test_a_finding_is_one_event(caplog: pytest.LogCaptureFixture, event: str, level: int) -> None:
    found = evidence(holder(inventory_name="x" if event == "growth.observed" else None))
    finding = conclude(Findings("memguard", 5), found)
    with caplog.at_level(logging.INFO, "memguard"):
        Finding(finding.report, is_alarm=event == "leak.suspected").log(
            [Path("/var/reports/a.json")]
        )
    (record,) = caplog.records
    assert record.levelno == level
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
