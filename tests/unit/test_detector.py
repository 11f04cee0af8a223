"""A detector driven by hand through every state it knows."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memguard.errors import ConfigError, LifecycleError
from memguard.leaks import search
from memguard.leaks.detector import LeakDetector
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.report import LeakReport
from memguard.report.render import parse_json, render_html, render_text
from tests.clock import FakeClock
from tests.detecting import LINE, Bench, MiB, ScriptedInvestigation, evidence, holder


@pytest.fixture
def investigations(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ScriptedInvestigation]]:
    """Put scripted investigations in the place of real ones."""

    class Scripted(ScriptedInvestigation):
        bring = evidence()
        made: ClassVar[list[ScriptedInvestigation]] = []
        failure: ClassVar[dict[str, Exception]] = {}

    monkeypatch.setattr(search, "Investigation", Scripted)
    yield Scripted
    Scripted.made.clear()


@pytest.fixture
def bench(fake_clock: FakeClock, investigations: type[ScriptedInvestigation]) -> Bench:  # noqa: ARG001 - reason: it must be in place first
    return Bench(fake_clock)


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [text for text in caplog.messages if f"event='{name}'" in text]


class TestStates:
    def test_a_new_detector_is_idle_and_its_first_tick_watches(self, bench: Bench) -> None:
        assert bench.state == "idle"
        bench.tick()
        assert bench.state == "watching"

    def test_flat_memory_is_watched_for_ever_without_a_look(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.play([100 * MiB + n % 7 * MiB for n in range(300)])
        assert bench.state == "watching"
        assert investigations.made == []
        assert bench.detector.statistics().ticks == 300

    def test_the_first_look_is_taken_at_half_of_the_growth_that_counts(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.play([100 * MiB] * 8 + [107 * MiB] * 3)
        assert investigations.made == []
        bench.play([108 * MiB] * 3)
        assert [made.done for made in investigations.made] == [["look"]]
        assert bench.state == "watching"

    def test_growth_that_goes_away_again_drops_the_first_look(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.play([100 * MiB] * 8 + [110 * MiB] * 5 + [100 * MiB] * 5 + [110 * MiB] * 5)
        assert [made.done for made in investigations.made] == [["look"], ["look"]]

    def test_a_leak_is_traced_reported_and_then_left_alone_for_a_while(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.leak_until("tracing")
        (made,) = investigations.made
        assert made.done == ["look", "begin"]
        assert bench.tick() < 0.1
        assert bench.state == "tracing"
        assert bench.tick() == 1.0
        assert bench.state == "cooling"
        assert made.done == ["look", "begin", "poll", "poll", "finish"]
        (report,) = bench.detector.reports
        assert report.kind == "leak"
        bench.play([200 * MiB] * 4)
        assert bench.state == "cooling"
        bench.play([200 * MiB] * 2)
        assert bench.state == "watching"

    def test_the_second_look_comes_two_intervals_after_the_first_or_later(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.play([100 * MiB] * 12)
        bench.leak_until("tracing", step=8 * MiB)
        (made,) = investigations.made
        assert isinstance(made.before, float)
        assert bench.clock() - made.before >= 2.0

    def test_nothing_is_judged_before_the_warmup_is_over(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench = Bench(fake_clock, warmup=100)
        bench.play([n * 10 * MiB for n in range(1, 101)])
        assert bench.state == "watching"
        assert investigations.made == []
        bench.play([1000 * MiB] * 50)
        assert investigations.made == []

    def test_a_process_that_cannot_be_read_is_not_judged(self, bench: Bench) -> None:
        bench.process.level = None
        bench.play([])
        for _ in range(50):
            bench.tick()
        assert bench.state == "watching"
        assert bench.detector.statistics().errors == 0


class TestFindings:
    def test_a_report_tells_what_was_found(self, bench: Bench) -> None:
        bench.leak_until("cooling")
        (report,) = bench.detector.reports
        assert (report.kind, report.revision, report.detector) == ("leak", 1, "memguard")
        assert report.holders[0].path == "shop.app.SESSIONS"
        assert (report.suspects[0].file, report.suspects[0].line) == LINE
        assert report.suspects[0].function == "remember"
        assert report.suspects[0].held_by == "shop.app.SESSIONS"
        assert report.uptime_seconds > 0
        assert report.trend.limit_bytes == 200 * MiB
        assert (report.trend.seconds_to_limit or 0) > 0
        assert LeakReport.from_dict(report.to_dict()) == report

    def test_a_leak_that_goes_on_updates_its_report(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        told: list[LeakReport] = []
        bench = Bench(fake_clock, on_leak=told.append)
        bench.leak_until("cooling")
        bench.leak_until("watching")
        investigations.bring = evidence(holder(entries=9000))
        bench.leak_until("tracing")
        bench.leak_until("cooling")
        (report,) = bench.detector.reports
        assert report.revision == 2
        assert report.id == told[0].id
        assert report.started_at == told[0].started_at
        assert report.updated_at >= told[0].updated_at
        assert len(told) == 1
        assert bench.detector.statistics().findings == 1
        assert bench.detector.statistics().investigations == 2
        assert not investigations.made[-1].trace

    def test_an_update_traces_again_where_a_weighty_holder_has_no_line(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.leak_until("cooling")
        investigations.bring = evidence(holder("shop.app.OTHER", sample=Sample(10, 10_000)))
        for _ in range(2):
            bench.leak_until("watching")
            bench.leak_until("tracing")
            bench.leak_until("cooling")
        assert [made.trace for made in investigations.made] == [True, False, True]

    def test_after_the_end_of_a_leak_another_one_is_a_new_finding(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.leak_until("cooling")
        first = bench.detector.reports[0]
        investigations.bring = evidence(holder("shop.app.OTHER"))
        level = bench.process.level or 0
        bench.play([level] * 150)
        bench.leak_until("tracing")
        bench.leak_until("cooling")
        assert len(bench.detector.reports) == 2
        assert bench.detector.reports[1].revision == 1
        assert bench.detector.reports[1].id != first.id
        assert bench.detector.statistics().findings == 2

    def test_a_leak_in_stairs_is_one_finding_and_not_one_a_stair(self, bench: Bench) -> None:
        """Between two of them it looks for a while as if nothing grew."""
        level = 100 * MiB
        bench.play([level + n // 20 * 10 * MiB for n in range(600)])
        assert bench.detector.statistics().findings == 1
        (report,) = bench.detector.reports
        assert report.revision > 5, "and it is kept up to date"

    def test_growth_that_was_given_back_is_over_and_the_next_is_a_new_finding(
        self, bench: Bench
    ) -> None:
        bench.leak_until("cooling")
        bench.play([100 * MiB] * 150)
        bench.leak_until("tracing")
        bench.leak_until("cooling")
        assert bench.detector.statistics().findings == 2

    def test_growth_of_a_container_of_ours_is_no_alarm(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        told: list[LeakReport] = []
        investigations.bring = evidence(holder(inventory_name="sessions"))
        bench = Bench(fake_clock, on_leak=told.append)
        bench.leak_until("cooling")
        (report,) = bench.detector.reports
        assert report.kind == "growth"
        assert told == []
        assert bench.detector.statistics().findings == 0

    def test_reports_beyond_the_bound_are_dropped_and_counted(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        investigations.bring = evidence(holder(inventory_name="sessions"))
        bench = Bench(fake_clock, max_reports=2)
        for _ in range(4):
            bench.leak_until("tracing")
            bench.leak_until("cooling")
            bench.leak_until("watching")
        assert len(bench.detector.reports) == 2
        assert bench.detector.statistics().reports_dropped == 2

    def test_what_tracing_itself_takes_is_no_growth(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        for n in range(100):
            bench.process.tracer = n * 10 * MiB
            bench.tick(100 * MiB + n * 10 * MiB)
        assert investigations.made == []

    @pytest.mark.usefixtures("investigations")
    def test_uptime_is_told_from_a_clock_at_zero_too(self) -> None:
        bench = Bench(FakeClock(0.0))
        bench.detector.tick()
        bench.leak_until("cooling")
        assert bench.detector.reports[0].uptime_seconds == pytest.approx(bench.clock(), abs=2)


@pytest.mark.usefixtures("investigations")
class TestLifeOfAFinding:
    """With a limit that is far: what grows may be a warm-up."""

    def far(self, fake_clock: FakeClock, **options: Any) -> tuple[Bench, list[str]]:
        told: list[str] = []
        chosen: dict[str, Any] = {
            "limit": 10**6 * MiB,
            "on_leak": lambda report: told.append(f"{report.kind} {report.state}"),
            "on_end": lambda report: told.append(f"end of {report.kind} {report.state}"),
        }
        return Bench(fake_clock, **{**chosen, **options}), told

    @staticmethod
    def grow(bench: Bench, readings: int, *, step: float = 2 * MiB) -> None:
        for _ in range(readings):
            bench.tick(round((bench.process.level or 0) + step))

    @staticmethod
    def readings_until_over(bench: Bench, most: int = 200) -> int:
        for number in range(most):
            if bench.detector.reports[-1].ended_at is not None:
                return number
            bench.tick()
        raise AssertionError(f"never over: {bench.detector.reports[-1]}")

    def test_a_warm_up_in_a_straight_line_is_suspected_and_ends_without_an_alarm(
        self,
        fake_clock: FakeClock,
        investigations: type[ScriptedInvestigation],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        bench, told = self.far(fake_clock)
        with caplog.at_level(logging.INFO, "memguard"):
            self.grow(bench, 30)
            (report,) = bench.detector.reports
            assert (report.kind, report.state) == ("growth", "suspected")
            assert "shop.app.SESSIONS" in (bench.detector.statistics().suspicion or "")
            investigations.bring = evidence(holder(entries_per_minute=0.0))
            assert self.readings_until_over(bench) <= 30
        (report,) = bench.detector.reports
        assert (report.kind, report.state) == ("growth", "ended")
        assert bench.detector.statistics().suspicion is None
        assert bench.detector.statistics().findings == 0
        assert told == []
        assert {record.levelno for record in caplog.records} == {logging.INFO}

    def test_a_holder_that_grows_as_before_is_an_alarm_though_the_level_stands_still(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        """What a look has freed is filled again; the holder shows that it goes on."""
        bench, told = self.far(fake_clock)
        self.grow(bench, 25)
        (report,) = bench.detector.reports
        assert (report.kind, report.state, told) == ("growth", "suspected", [])
        investigations.bring = evidence(holder(entries=9_000))
        bench.play([bench.process.level or 0] * 19)
        (after,) = bench.detector.reports
        assert (after.kind, after.state, told) == ("leak", "leaking", ["leak leaking"])
        assert after.id == report.id
        assert after.holders[0].entries_added > report.holders[0].entries_added
        assert after.window_seconds > report.window_seconds

    def test_what_is_open_when_watching_ends_says_so_and_stays_what_it_was(
        self, fake_clock: FakeClock, tmp_path: Path
    ) -> None:
        folder = tmp_path / "reports"
        bench, told = self.far(fake_clock, report_dir=folder)
        self.grow(bench, 60)
        (before,) = bench.detector.reports
        assert (before.state, before.watched_until) == ("leaking", None)
        bench.detector.stop()
        (after,) = bench.detector.reports
        assert after.watched_until is not None
        assert replace(after, watched_until=None) == before, "nothing else was seen"
        assert after.is_leaking
        (stored,) = folder.glob("leak-*.json")
        assert parse_json(stored.read_text(encoding="utf-8")) == after
        for text in (render_text(after), render_html(after)):
            assert f"atching ended at {after.watched_until}: this is how it was then" in text
        assert told == ["leak leaking"]

    def test_what_is_met_again_after_a_restart_is_watched_again(
        self, fake_clock: FakeClock
    ) -> None:
        bench, _ = self.far(fake_clock)
        self.grow(bench, 60)
        bench.detector.stop()
        self.grow(bench, 60)
        (report,) = bench.detector.reports
        assert (report.state, report.watched_until) == ("leaking", None)

    def test_instances_that_grow_as_before_are_an_alarm_though_the_level_stands_still(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        """Without tracing they are counted by their type."""
        instances = replace(
            holder(anchored=False, entries=5_000, entries_per_minute=90_000.0),
            type="shop.Handler",
            unit="instances",
            unseen=True,
        )
        investigations.bring = replace(
            evidence(instances), all_types=[("shop.Handler", 5_000, 4_000)], gap_seconds=4.0
        )
        bench, told = self.far(fake_clock)
        self.grow(bench, 25)
        (report,) = bench.detector.reports
        assert (report.verdict.kind, report.state) == ("extension", "suspected")
        investigations.bring = replace(
            evidence(), holders=[], all_types=[("shop.Handler", 9_000, 4_000)], gap_seconds=4.0
        )
        bench.play([bench.process.level or 0] * 19)
        (after,) = bench.detector.reports
        assert (after.state, after.holders[0].entries, told) == ("leaking", 9_000, ["leak leaking"])

    def test_a_holder_that_slows_down_is_none(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench, told = self.far(fake_clock)
        self.grow(bench, 25)
        pace = bench.detector.reports[0].holders[0].entries_per_minute
        investigations.bring = evidence(holder(entries_per_minute=pace / 3))
        bench.play([bench.process.level or 0] * 60)
        assert told == []

    def test_a_spike_with_a_slow_rise_is_retracted_without_an_alarm(
        self, fake_clock: FakeClock
    ) -> None:
        bench, told = self.far(fake_clock)
        self.grow(bench, 30)
        bench.process.level = 100 * MiB
        assert self.readings_until_over(bench) <= 10
        assert bench.detector.reports[-1].state == "retracted"
        bench.play([100 * MiB] * 100)
        assert told == []

    def test_growth_that_outlasts_a_warm_up_is_an_alarm_and_one_finding(
        self, fake_clock: FakeClock
    ) -> None:
        bench, told = self.far(fake_clock)
        self.grow(bench, 60)
        (report,) = bench.detector.reports
        assert (report.kind, report.state) == ("leak", "leaking")
        assert told == ["leak leaking"]
        self.grow(bench, 300)
        assert len(bench.detector.reports) == 1
        assert told == ["leak leaking"]

    def test_a_leak_that_stands_still_is_taken_back_in_files_log_and_callback(
        self,
        fake_clock: FakeClock,
        investigations: type[ScriptedInvestigation],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        folder = tmp_path / "reports"
        bench, told = self.far(fake_clock, report_dir=folder)
        self.grow(bench, 60)
        investigations.bring = evidence(holder(entries_per_minute=0.0))
        with caplog.at_level(logging.INFO, "memguard"):
            assert self.readings_until_over(bench) <= 60
        (report,) = bench.detector.reports
        assert report.state == "ended"
        assert report.trend.current_bytes == bench.process.level
        assert report.trend.seconds_to_limit is None
        (path,) = folder.glob("*.json")
        assert LeakReport.from_dict(json.loads(path.read_text())) == report
        assert len(events(caplog, "leak.ended")) == 1
        assert told == ["leak leaking", "end of leak ended"]

    def test_a_level_that_stands_still_is_no_end_while_the_holder_grows(
        self, fake_clock: FakeClock
    ) -> None:
        """Its entries fill what was freed before."""
        bench, told = self.far(fake_clock)
        self.grow(bench, 60)
        bench.play([bench.process.level or 0] * 200)
        assert bench.detector.reports[-1].state == "leaking"
        assert told == ["leak leaking"]

    def test_a_leak_that_was_given_back_is_retracted(self, fake_clock: FakeClock) -> None:
        bench, told = self.far(fake_clock)
        self.grow(bench, 60)
        bench.process.level = 100 * MiB
        assert self.readings_until_over(bench) <= 10
        assert told == ["leak leaking", "end of leak retracted"]

    def test_a_slow_leak_is_told_once_in_days(self, fake_clock: FakeClock) -> None:
        """Three MiB an hour, at a reading a minute, are less in a window than what counts."""
        bench, told = self.far(fake_clock, interval=60.0, cooldown=1200.0, min_growth_bytes="16MiB")
        bench.process.level = 50 * MiB
        self.grow(bench, 36 * 60, step=3 * MiB / 60)
        assert told == ["leak leaking"]
        assert len(bench.detector.reports) == 1
        assert bench.detector.reports[0].state == "leaking"

    def test_a_failing_on_end_is_counted(self, fake_clock: FakeClock) -> None:
        def fail(_: LeakReport) -> None:
            raise KeyError("mine")

        bench, _ = self.far(fake_clock, on_end=fail)
        self.grow(bench, 60)
        bench.process.level = 100 * MiB
        self.readings_until_over(bench)
        assert dict(bench.detector.statistics().errors_by_kind) == {"on_end: KeyError": 1}

    def test_a_failing_last_look_is_counted_and_the_end_still_comes(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench, _ = self.far(fake_clock)
        self.grow(bench, 60)
        investigations.failure["begin"] = MemoryError()
        self.readings_until_over(bench)
        assert bench.detector.statistics().errors >= 1
        assert bench.detector.reports[-1].state == "ended"


class TestFailures:
    def test_a_failing_reading_is_counted_and_logged_once_a_kind(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "memguard"):
            for failure in (OSError("disk"), OSError("again"), ValueError("odd")):
                bench.process.failure = failure
                bench.tick()
        statistics = bench.detector.statistics()
        assert statistics.errors == 3
        assert dict(statistics.errors_by_kind) == {"tick: OSError": 2, "tick: ValueError": 1}
        assert len(events(caplog, "detector.failed")) == 2

    def test_a_detector_lives_on_after_a_failure(self, bench: Bench) -> None:
        bench.process.failure = OSError("disk")
        bench.tick()
        bench.process.failure = None
        bench.leak_until("watching")
        bench.leak_until("tracing")
        bench.leak_until("cooling")
        assert len(bench.detector.reports) == 1

    @pytest.mark.parametrize("what", ["look", "begin", "poll", "finish"])
    def test_a_failing_investigation_is_abandoned_and_counted(
        self, bench: Bench, investigations: type[ScriptedInvestigation], what: str
    ) -> None:
        investigations.failure[what] = MemoryError()
        bench.play([100 * MiB] * 5)
        bench.leak_until("cooling")
        assert bench.detector.statistics().errors == 1
        assert what == "finish" or investigations.made[0].done[-1] == "abandon"
        assert bench.detector.reports == ()
        investigations.failure.clear()
        bench.leak_until("watching")
        bench.leak_until("tracing")
        bench.leak_until("cooling")
        assert len(bench.detector.reports) == 1

    def test_a_failure_is_logged_when_the_lock_is_free(self, fake_clock: FakeClock) -> None:
        """A log handler is the host's code: it may ask the detector anything."""
        bench = Bench(fake_clock)
        seen: list[str] = []
        turn = bench.detector._turn

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - reason: what is asked is the point
                bench.process.failure = None
                free = turn.run(lambda: True, busy=False, timeout=1)
                seen.append(f"free: {free}")

        handler = Handler()
        logging.getLogger("memguard").addHandler(handler)
        try:
            bench.process.failure = OSError()
            bench.tick()
        finally:
            logging.getLogger("memguard").removeHandler(handler)
        assert seen == ["free: True"]

    @pytest.mark.usefixtures("investigations")
    def test_a_failing_on_leak_is_logged_and_counted(
        self, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: LeakReport) -> None:
            raise KeyError("mine")

        bench = Bench(fake_clock, on_leak=fail)
        with caplog.at_level(logging.WARNING, "memguard"):
            bench.leak_until("cooling")
        assert dict(bench.detector.statistics().errors_by_kind) == {"on_leak: KeyError": 1}
        assert len(events(caplog, "detector.failed")) == 1
        assert len(bench.detector.reports) == 1

    @pytest.mark.usefixtures("investigations")
    def test_a_failing_on_leak_is_raised_where_that_was_ordered(
        self, fake_clock: FakeClock
    ) -> None:
        def fail(_: LeakReport) -> None:
            raise KeyError("mine")

        bench = Bench(fake_clock, on_leak=fail, on_error="raise")
        bench.leak_until("tracing")
        with pytest.raises(KeyError):
            bench.leak_until("cooling", step=0)
        assert bench.state == "cooling"
        assert len(bench.detector.reports) == 1
        bench.tick()

    @pytest.mark.usefixtures("investigations")
    def test_a_report_that_cannot_be_written_is_still_told(
        self, fake_clock: FakeClock, tmp_path: Path
    ) -> None:
        told: list[LeakReport] = []
        folder = tmp_path / "reports"
        bench = Bench(fake_clock, report_dir=folder, on_leak=told.append)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("now it is a file")
        bench.leak_until("cooling")
        assert len(told) == len(bench.detector.reports) == 1
        (kind,) = bench.detector.statistics().errors_by_kind
        assert kind[0].startswith("write report: ")

    @pytest.mark.usefixtures("investigations")
    def test_a_finding_is_written_and_logged_with_its_path(
        self, fake_clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench(fake_clock, report_dir=tmp_path / "reports")
        with caplog.at_level(logging.INFO, "memguard"):
            bench.leak_until("cooling")
        written = sorted(path.suffix for path in (tmp_path / "reports").iterdir())
        assert {".json", ".txt"} <= set(written)
        (event,) = events(caplog, "leak.suspected")
        assert "shop.app.SESSIONS" in event
        assert "app.py:57 remember" in event
        assert str(tmp_path) in event


class TestReentry:
    def test_a_tick_during_a_tick_does_nothing(self, bench: Bench) -> None:
        def tick_again() -> None:
            assert bench.detector.tick() == 1.0

        bench.process.before_reading = tick_again
        bench.tick()
        assert bench.detector.statistics().ticks == 1

    def test_a_check_within_a_tick_is_refused_and_does_not_wait_for_itself(
        self, bench: Bench
    ) -> None:
        """A finalizer that runs while the heap is walked may ask for anything."""
        said: list[str] = []

        def ask() -> None:
            try:
                bench.detector.check(seconds=0)
            except LifecycleError as error:
                said.append(str(error))

        bench.process.before_reading = ask
        worker = threading.Thread(target=bench.tick, daemon=True)
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
        assert len(said) == 1
        assert bench.detector.statistics().errors == 0

    def test_stop_within_a_tick_does_not_wait_for_itself(self, bench: Bench) -> None:
        bench.process.before_reading = lambda: bench.detector.stop(timeout=30)
        worker = threading.Thread(target=bench.tick, daemon=True)
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
        assert bench.state == "idle"

    @pytest.mark.usefixtures("investigations")
    def test_on_leak_may_stop_the_detector(self, fake_clock: FakeClock) -> None:
        said: list[tuple[str, bool, str]] = []
        own: list[LeakDetector] = []

        def on_leak(report: LeakReport) -> None:
            said.append((report.kind, own[0].stop(), own[0].statistics().state))

        bench = Bench(fake_clock, on_leak=on_leak)
        own.append(bench.detector)
        bench.leak_until("tracing")
        for _ in range(3):
            if not said:
                bench.tick()
        assert said == [("leak", True, "idle")]


class TestLifeCycle:
    def test_stopping_while_tracing_ends_it(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.leak_until("tracing")
        assert bench.detector.stop()
        assert bench.state == "idle"
        assert investigations.made[-1].done[-1] == "abandon"
        assert bench.detector.statistics().uptime_seconds == 0.0

    def test_a_stop_that_could_not_wait_takes_effect_after_the_tick(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        """Stopping leaves nothing, not even when the tick under way had just begun to trace."""
        reached, go_on = threading.Event(), threading.Event()
        begin = investigations.begin

        def slow_begin(self: ScriptedInvestigation, at: float, **own: Any) -> None:
            begin(self, at, **own)
            reached.set()
            assert go_on.wait(10)

        investigations.begin = slow_begin  # type: ignore[method-assign] # reason: a class made by a fixture
        bench.play([100 * MiB] * 12)

        def leak() -> None:
            while not reached.is_set():
                bench.tick((bench.process.level or 0) + 2 * MiB)

        worker = threading.Thread(target=leak)
        worker.start()
        assert reached.wait(10)
        bench.detector.stop(timeout=0.01)
        go_on.set()
        worker.join(10)
        assert investigations.made[-1].done == ["look", "begin", "abandon"]
        assert bench.state == "idle"

    def test_ticks_by_hand_and_then_a_start_abandon_what_was_under_way(
        self, fake_clock: FakeClock, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench = Bench(fake_clock, interval=3600.0)
        bench.leak_until("tracing")
        bench.detector.start()
        try:
            assert investigations.made[-1].done[-1] == "abandon"
        finally:
            bench.detector.stop()

    def test_starting_twice_is_refused_and_stopping_twice_is_not(self, bench: Bench) -> None:
        bench.detector.start()
        with pytest.raises(LifecycleError, match=r"already started; call stop\(\) first"):
            bench.detector.start()
        assert bench.detector.stop()
        assert bench.detector.stop()
        with bench.detector as again:
            assert again is bench.detector
        assert bench.state == "idle"

    def test_a_start_for_which_there_is_no_thread_leaves_it_stopped(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Out of threads, or the interpreter is ending."""

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                bench.detector.start()
        assert bench.state == "idle"
        bench.detector.start()
        assert bench.detector.stop()

    def test_a_restart_begins_anew_and_keeps_the_reports(
        self, bench: Bench, investigations: type[ScriptedInvestigation]
    ) -> None:
        bench.leak_until("cooling")
        bench.detector.stop()
        assert len(bench.detector.reports) == 1
        before = len(investigations.made)
        level = bench.process.level or 0
        bench.play([level + 30 * MiB] * 20)
        assert len(investigations.made) == before
        assert bench.state == "watching"
        bench.leak_until("cooling")
        assert [report.revision for report in bench.detector.reports] == [2], "the same leak"

    def test_statistics_may_be_asked_while_an_investigation_comes_and_goes(
        self, bench: Bench
    ) -> None:
        ended = threading.Event()
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                while not ended.is_set():
                    bench.detector.statistics()
            except BaseException as error:  # noqa: BLE001 - reason: it is asserted on
                failures.append(error)

        asker = threading.Thread(target=ask)
        asker.start()
        for _ in range(10):
            bench.leak_until("tracing")
            bench.leak_until("watching")
        ended.set()
        asker.join(10)
        assert failures == []

    def test_statistics_count_time_that_was_traced(self, bench: Bench) -> None:
        bench.leak_until("tracing")
        bench.tick()
        assert bench.detector.statistics().traced_seconds == 0.5
        bench.leak_until("cooling")
        statistics = bench.detector.statistics()
        assert statistics.traced_seconds == 1.0
        assert statistics.cpu_seconds > 0
        assert statistics.uptime_seconds > 10
        assert statistics.name == "memguard"


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"on_leak": 7}, TypeError, r"on_leak must be callable \(got int\)"),
            ({"timer": None}, TypeError, "timer must be callable"),
            ({"read": "x"}, TypeError, "read must be callable"),
            ({"on_error": "ignore"}, ConfigError, "on_error must be 'log' or 'raise'"),
            ({"limit": "lots"}, ConfigError, "limit"),
            ({"limit": 1.5}, TypeError, "limit"),
            ({"report_dir": 7}, TypeError, "report_dir must be a string or a Path"),
            ({"name": 7}, TypeError, "name"),
        ],
    )
    def test_a_bad_option_is_refused_at_construction(
        self, options: dict[str, Any], kind: type[Exception], message: str
    ) -> None:
        with pytest.raises(kind, match=message):
            LeakDetector(**options)

    @pytest.mark.parametrize("seconds", [-1, 3601, float("nan")])
    def test_a_check_of_no_sensible_length_is_refused(self, bench: Bench, seconds: float) -> None:
        with pytest.raises(ConfigError, match="seconds must be from 0 to 3600"):
            bench.detector.check(seconds=seconds)

    def test_making_a_detector_starts_nothing(self) -> None:
        before = threading.enumerate()
        LeakDetector()
        assert threading.enumerate() == before
