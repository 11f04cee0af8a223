"""A detector that watches counts: what piles up is reported, whatever memory does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from memguard.leaks import resource_search, search
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.evidence.resources import ResourceChange
from memguard.leaks.report import LeakReport, ResourceGroup, ResourceKind
from memguard.observe.readings import Reading
from tests.clock import FakeClock
from tests.detecting import Bench, MiB, ScriptedInvestigation, evidence, holder


def change(kind: ResourceKind, added: int, **more: Any) -> ResourceChange:
    """Return what two looks saw of a resource."""
    group = ResourceGroup(name=f"some {kind}", count=added + 10, added=added)
    fields = {"filling": 0, "clients": 0, "groups": (group,)}
    return ResourceChange(kind=kind, count=added + 10, added=added, **{**fields, **more})


def seen(*changes: ResourceChange, **more: Any) -> Evidence:
    return replace(evidence(), resources=changes, **more)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedInvestigation]:
    """Let investigations bring what a test lays out."""

    class Scripted(ScriptedInvestigation):
        bring = seen(change("sockets", 900))
        made: ClassVar[list[ScriptedInvestigation]] = []
        failure: ClassVar[dict[str, Exception]] = {}

    monkeypatch.setattr(search, "Investigation", Scripted)
    monkeypatch.setattr(resource_search, "Investigation", Scripted)
    return Scripted


class Counting(Bench):
    """A bench whose process has counts that a test decides."""

    def __init__(self, clock: FakeClock, **options: Any) -> None:
        self.threads, self.tasks, self.descriptors, self.limit = 5, 0, 20, 4096
        self.said: list[LeakReport] = []
        super().__init__(clock, read=self.read, on_leak=self.said.append, **options)

    def read(self) -> Reading:
        return replace(
            self.process.read(),
            threads=self.threads,
            tasks=self.tasks,
            open_files=self.descriptors,
            open_files_limit=self.limit,
        )

    def count(self, name: str, numbers: Iterable[int]) -> None:
        """Tick through *numbers* of a count, at a level of memory that stays."""
        for number in numbers:
            setattr(self, name, number)
            self.tick()


@pytest.fixture
def bench(fake_clock: FakeClock, looks: type[ScriptedInvestigation]) -> Counting:  # noqa: ARG001 - reason: it must be in place first
    return Counting(fake_clock)


def test_sockets_that_pile_up_are_a_leak_though_memory_does_not_grow(bench: Counting) -> None:
    bench.count("descriptors", range(20, 2600, 40))
    (report,) = bench.said
    assert report.kind == "leak"
    assert report.verdict.kind == "sockets"
    assert "close" in report.verdict.advice
    (growth,) = report.resources
    assert growth.kind == "sockets"
    assert growth.limit == 4096
    assert growth.per_minute == pytest.approx(40 * 60)
    assert growth.seconds_to_limit is not None
    assert growth.groups[0].name == "some sockets"
    assert report.explained_ratio is None, "there is no growth of memory to explain"
    assert [each.id for each in bench.detector.reports] == [report.id]
    assert bench.detector.statistics().findings == 1


def test_it_is_one_finding_however_long_it_goes_on(bench: Counting) -> None:
    bench.count("descriptors", range(20, 4000, 20))
    assert len(bench.said) == 1
    (report,) = bench.detector.reports
    assert report.revision > 1
    looked = report.revision
    (growth,) = report.resources
    assert growth.added == growth.groups[0].added == 900 * looked, "from the first look to the last"


def test_descriptors_that_are_no_sockets_are_called_files(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    looks.bring = seen(change("sockets", 2), change("files", 800))
    bench.count("descriptors", range(20, 2600, 40))
    assert bench.said[0].verdict.kind == "files"


@pytest.mark.parametrize(
    ("counted", "kind", "step"), [("threads", "threads", 10), ("tasks", "tasks", 100)]
)
def test_threads_and_tasks_are_found_by_their_own_thresholds(
    bench: Counting,
    looks: type[ScriptedInvestigation],
    counted: str,
    kind: ResourceKind,
    step: int,
) -> None:
    looks.bring = seen(change("files", 1), change(kind, 60 * step))
    bench.count(counted, range(0, 120 * step, step))
    assert [report.verdict.kind for report in bench.said] == [kind]


@pytest.mark.parametrize(
    "seen_now",
    [
        change("threads", 300, filling=300),
        change("threads", 300, clients=290),
        change("threads", 0),
    ],
    ids=["a pool that fills", "a thread for each client", "none since the first look"],
)
def test_what_has_a_bound_or_has_stopped_is_no_news(
    bench: Counting, looks: type[ScriptedInvestigation], seen_now: ResourceChange
) -> None:
    looks.bring = seen(seen_now)
    bench.count("threads", range(5, 500, 10))
    assert looks.made, "it was looked at"
    assert bench.said == []
    assert bench.detector.reports == ()


def test_growth_that_may_be_a_warm_up_is_suspected_and_ends_without_an_alarm(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    looks.bring = seen(change("threads", 200))
    bench.count("threads", range(5, 300, 10))
    assert bench.said == []
    (report,) = bench.detector.reports
    assert report.state == "suspected"
    bench.count("threads", [305] * 60)
    (report,) = bench.detector.reports
    assert report.state == "ended"
    assert bench.said == []


def test_a_leak_of_sockets_that_are_closed_after_all_is_taken_back(bench: Counting) -> None:
    bench.count("descriptors", range(20, 2600, 40))
    bench.count("descriptors", [20] * 10)
    (report,) = bench.detector.reports
    assert report.state == "retracted"


def test_memory_that_grows_with_threads_is_reported_once_as_threads(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    light = holder("threading._active", entries_per_minute=600.0)
    looks.bring = seen(
        change("threads", 100), gap_seconds=10.0, holders=[light], traced_growth_per_minute=0.0
    )
    for number in range(0, 1200, 10):
        bench.threads = number
        bench.tick((bench.process.level or 0) + MiB)
    assert {report.verdict.kind for report in bench.said} == {"threads"}
    assert len(bench.said) == 1
    assert len(bench.detector.reports) == 1


def test_sockets_are_reported_also_where_memory_is_watched_anew_at_that_moment(
    bench: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence was lost, with an error, where there were no two readings of memory yet."""
    conclude = resource_search.ResourceSearch.conclude

    def after_a_new_beginning(self: Any, now: float, **more: Any) -> Any:
        self._windows.clear()
        return conclude(self, now, **more)

    monkeypatch.setattr(resource_search.ResourceSearch, "conclude", after_a_new_beginning)
    bench.count("descriptors", range(20, 2600, 40))
    assert [report.verdict.kind for report in bench.said] == ["sockets"]
    assert bench.detector.statistics().errors == 0


def test_threads_tasks_and_sockets_that_pile_up_at_once_are_a_finding_each(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    sample = Sample(entries=4, keeps=Counter({"_socket.socket": 4}))
    opened = holder("shop.OPEN", sample=sample, in_user_code=True)
    looks.bring = seen(
        change("threads", 100),
        change("tasks", 1000),
        change("sockets", 2000),
        gap_seconds=10.0,
        holders=[opened],
    )
    for number in range(400):
        bench.threads, bench.tasks, bench.descriptors = 5 + number, 10 * number, 20 + 20 * number
        bench.limit = 40_000
        bench.tick()
    assert sorted(report.verdict.kind for report in bench.said) == ["sockets", "tasks", "threads"]
    assert {report.verdict.kind for report in bench.detector.reports} == {
        "sockets",
        "tasks",
        "threads",
    }
    assert bench.detector.statistics().findings == 3


def test_sockets_that_hang_with_their_threads_are_told_with_those(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    looks.bring = seen(change("threads", 500), change("sockets", 1000), gap_seconds=10.0)
    for number in range(400):
        bench.threads, bench.descriptors = 5 + 5 * number, 20 + 10 * number
        bench.tick()
    (report,) = bench.said
    assert report.verdict.kind == "threads"
    assert {growth.kind for growth in report.resources} == {"threads", "sockets"}


def test_a_dict_that_grows_beside_some_threads_is_what_is_reported(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    heavy = holder("shop.SESSIONS", entries_per_minute=60_000.0)
    looks.bring = seen(change("threads", 20), gap_seconds=10.0, holders=[heavy])
    for number in range(60):
        bench.threads = 5 + number // 2
        bench.tick((bench.process.level or 0) + MiB)
    assert bench.said[0].verdict.kind == "live_objects"
    assert [growth.kind for growth in bench.said[0].resources] == ["threads"], "but mentioned"


def test_an_investigation_that_fails_is_counted_and_the_next_one_succeeds(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    looks.failure = {"finish": ValueError("no")}
    bench.count("descriptors", range(20, 2600, 40))
    assert bench.said == []
    assert bench.detector.statistics().errors > 0
    looks.failure = {}
    bench.count("descriptors", range(2600, 4000, 20))
    assert len(bench.said) == 1


def test_a_look_on_demand_lists_what_was_gained_and_calls_it_no_leak(
    bench: Counting, looks: type[ScriptedInvestigation]
) -> None:
    looks.bring = seen(change("sockets", 30))
    report = bench.detector.check(seconds=0)
    assert report.kind == "snapshot"
    assert report.verdict.kind not in {"sockets", "files"}
    assert [growth.kind for growth in report.resources] == ["sockets"]
