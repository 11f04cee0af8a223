"""A guard told to OpenTelemetry's own SDK, which keeps what it is told in memory."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from memguard import BoundedCache, MemoryGuard
from memguard.bounded.inventory import InventoryRow
from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.leaks.report import FindingState, LeakReport
from memguard.observe.readings import read_memory
from memguard.relief.records import Alert
from memguard.report.metrics import container_catalog
from memguard.report.metrics.catalog import INSTRUMENTS
from memguard.report.metrics.containers import ContainerMetrics
from memguard.report.metrics.opentelemetry.events import of_alert, of_report
from memguard.report.metrics.opentelemetry.instruments import MOST_GUARDS, OTHERS, Instruments
from memguard.report.metrics.opentelemetry.telemetry import MOST_WAITING, Telemetry
from tests.clock import FakeClock
from tests.specimens import leak_report
from tests.strategies import leak_reports
from tests.telemetry import Logs, Metrics, name_of
from tests.waiting import wait_for


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def guard() -> Iterator[MemoryGuard]:
    with MemoryGuard(limit="100GiB", name="shop") as guard:
        wait_for(lambda: guard.monitor.statistics().cpu_seconds)  # a whole look was taken
        yield guard


def telemetry(guard: Any, metrics: Metrics, **options: Any) -> Telemetry:
    chosen = {"meter_provider": metrics.provider, "events": False, **options}
    return Telemetry(guard, **chosen)


def alert(**changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "kind": "level",
        "level": "elevated",
        "previous": "ok",
        "reasons": ("80 % of 1.0 GiB in use",),
        "used": 800,
        "limit": 1000,
        "source": "memory.max",
        "time": 1_800_000_000.5,
    }
    return Alert(**{**fields, **changes})


# -- metrics --------------------------------------------------------------------------------------


def test_every_instrument_is_told_with_its_unit(guard: MemoryGuard, metrics: Metrics) -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(maxsize=9, name="sessions", getsizeof=len)
    cache[1] = b"12345"
    gc.collect()
    with telemetry(guard, metrics):
        found = metrics.collect()
    units = {name: metric.unit for name, metric in found.items()}
    assert units == {each.otel: each.unit for each in INSTRUMENTS}
    assert all(metric.description for metric in found.values())
    assert metrics.values("memguard.container.items", found)["sessions", "BoundedCache"] == 1
    size = metrics.values("memguard.container.size", found)["sessions", "BoundedCache"]
    assert size == cache.footprint().bytes


def test_names_units_and_kinds_are_those_of_the_semantic_conventions(
    guard: MemoryGuard, metrics: Metrics
) -> None:
    with telemetry(guard, metrics):
        found = metrics.collect()
    for name, unit, is_monotonic in (
        ("process.memory.usage", "By", False),
        ("process.memory.virtual", "By", False),
        ("cpython.gc.collections", "{collection}", True),
        ("cpython.gc.collected_objects", "{object}", True),
        ("cpython.gc.uncollectable_objects", "{object}", True),
    ):
        assert (found[name].unit, found[name].data.is_monotonic) == (unit, is_monotonic)
    points = found["cpython.gc.collections"].data.data_points
    assert [dict(point.attributes) for point in points] == [
        {"cpython.gc.generation": 0},
        {"cpython.gc.generation": 1},
        {"cpython.gc.generation": 2},
    ]


def test_the_numbers_are_those_of_the_guard(guard: MemoryGuard, metrics: Metrics) -> None:
    with telemetry(guard, metrics):
        found = metrics.collect()
        status = guard.status()
    limit = metrics.values("memguard.memory.limit", found)
    assert limit == {("shop",): status.pressure.limit}
    usage = metrics.values("process.memory.usage", found)[()]
    assert 0.5 < usage / (read_memory().rss or 0) < 2
    level = metrics.values("memguard.pressure.level", found)
    assert sum(level.values()) == 1
    assert {key[1] for key in level} == {"insufficient_data", "ok", "elevated", "critical"}
    assert metrics.values("memguard.cpu.time", found)["shop", "monitor"] > 0


def test_parts_that_a_guard_does_not_have_are_not_told(metrics: Metrics) -> None:
    guard = MemoryGuard(relief=False, leaks=False, gc_watch=False, history=False)
    with telemetry(guard, metrics):
        found = metrics.collect()
    told = {name for name in found if name.startswith("memguard.")}
    assert not {name for name in told if ".relief." in name or ".leak" in name or ".gc." in name}
    assert "memguard.pressure.level" in told
    assert "memguard.memory.limit" not in told  # not known before it was started


class CountingGuard(MemoryGuard):
    """Counts how often it is looked at."""

    looks = 0
    failure: Exception | None = None

    def status(self) -> Any:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return super().status()


def test_a_collection_looks_once(metrics: Metrics) -> None:
    guard = CountingGuard(leaks=False)
    with telemetry(guard, metrics) as told:
        for _ in range(3):
            metrics.collect()
        assert guard.looks == 3
        assert told.statistics().collections == 3


def test_two_readers_look_once_each() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    guard = CountingGuard(leaks=False)
    with Telemetry(guard, meter_provider=provider, events=False):
        for reader in readers:
            reader.collect()
        assert guard.looks == 2


def test_an_instrument_that_is_asked_alone_is_told_what_is_new(fake_clock: FakeClock) -> None:
    """A view may drop all but one of the instruments."""
    instruments = Instruments(timer=fake_clock)
    guard = CountingGuard(leaks=False)
    instruments.add(Telemetry(guard), "one")
    first, second = INSTRUMENTS[0], INSTRUMENTS[1]
    instruments.observe(first)
    instruments.observe(second)
    assert guard.looks == 1
    instruments.observe(first)
    assert guard.looks == 2
    fake_clock.advance(60)
    instruments.observe(second)
    assert guard.looks == 3


def test_threads_that_collect_at_once_do_not_share_a_look() -> None:
    instruments = Instruments()
    guard = CountingGuard(leaks=False)
    instruments.add(Telemetry(guard), "one")
    instruments.observe(INSTRUMENTS[0])
    thread = threading.Thread(target=instruments.observe, args=(INSTRUMENTS[1],))
    thread.start()
    thread.join()
    assert guard.looks == 2


def test_a_failing_guard_is_counted_and_logged_once_and_hides_no_other(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = CountingGuard(leaks=False, name="broken"), MemoryGuard(leaks=False, name="ok")
    broken.failure = ZeroDivisionError()
    with telemetry(broken, metrics) as told, telemetry(sound, metrics):
        for _ in range(3):
            assert set(metrics.values("memguard.admission.running")) == {("ok",)}
        assert told.statistics().errors_by_kind == (("state: ZeroDivisionError", 3),)
    lines = [record.getMessage() for record in caplog.records if "telemetry" in record.getMessage()]
    (line,) = lines
    assert line.startswith("event='telemetry.failed' what='state' error='ZeroDivisionError' place=")
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_an_instrument_that_fails_is_counted_and_the_others_go_on(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "get_stats", lambda: ["no dictionary"])
    guard = MemoryGuard(leaks=False)
    with telemetry(guard, metrics) as told:
        found = metrics.collect()
        failed = dict(told.statistics().errors_by_kind)
        assert failed["cpython.gc.collections: AttributeError"] == 1
    assert "memguard.pressure.level" in found


def test_every_instrument_is_documented_with_its_unit() -> None:
    text = (Path(__file__).parents[2] / "docs" / "opentelemetry.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    told = {name: row[2] for row in rows for name in re.findall(r"`([a-z_.]+)`", row[1])}
    missing = [each.otel for each in INSTRUMENTS if each.unit not in told.get(each.otel, "")]
    assert not missing
    events = {name for name, unit in told.items() if unit.strip() in ("WARN", "WARN, INFO")}
    assert told.keys() - events == {each.otel for each in INSTRUMENTS}


# -- who tells process.* and cpython.* ------------------------------------------------------------


def test_what_another_instrumentation_tells_is_not_told_twice(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = MemoryGuard(leaks=False)
    with telemetry(guard, metrics) as told:
        assert told.statistics().process_metrics == "on"
        assert "process.memory.usage" in metrics.collect()
        monkeypatch.setitem(sys.modules, OTHERS, types.ModuleType(OTHERS))
        found = metrics.collect()  # also where it was loaded later
        assert told.statistics().process_metrics == "off"
        assert OTHERS in told.statistics().process_metrics_reason
    assert not [name for name in found if not name.startswith("memguard.")]
    assert "memguard.memory.private" in found


@pytest.mark.parametrize("chosen", ["on", "off"])
def test_what_was_chosen_is_done_whoever_else_tells(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setitem(sys.modules, OTHERS, types.ModuleType(OTHERS))
    guard = MemoryGuard(leaks=False)
    with telemetry(guard, metrics, process_metrics=chosen) as told:
        assert ("process.memory.usage" in metrics.collect()) is (chosen == "on")
        assert told.statistics().process_metrics == chosen


# -- several guards, and guards that come and go --------------------------------------------------


def test_guards_of_one_name_are_told_apart(metrics: Metrics) -> None:
    one, two = MemoryGuard(leaks=False), MemoryGuard(leaks=False)
    with telemetry(one, metrics), telemetry(two, metrics) as second:
        assert second.statistics().guard == "memguard-2"
        found = metrics.collect()
    assert set(metrics.values("memguard.admission.running", found)) == {
        ("memguard",),
        ("memguard-2",),
    }
    assert len(metrics.values("process.memory.usage", found)) == 1


def test_after_close_nothing_is_told_and_nothing_kept(metrics: Metrics) -> None:
    guard = MemoryGuard(leaks=False)
    told = telemetry(guard, metrics).start()
    assert metrics.collect()
    told.close()
    told.close()
    assert metrics.collect() == {}
    assert not told.statistics().running
    gone = weakref.ref(guard), weakref.ref(told)
    del guard, told
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_a_guard_that_follows_is_told_by_the_same_instruments_and_counters_go_on(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    counts = []
    for admitted in (5, 3, 4):
        guard = MemoryGuard(leaks=False)
        with telemetry(guard, metrics):
            for _ in range(admitted):
                guard.admit().close()
            found = metrics.values("memguard.admission.requests")
            counts.append(found["memguard", "admitted"])
    assert counts == [5, 8, 9]  # the third had more than the second: one is not seen, none is lost
    assert not caplog.records


def test_a_guard_that_is_gone_is_not_kept_and_not_told(metrics: Metrics) -> None:
    guard = MemoryGuard(leaks=False)
    told = telemetry(guard, metrics).start()
    gone = weakref.ref(guard)
    del guard
    gc.collect()
    assert gone() is None
    assert metrics.collect() == {}
    told.tick()
    assert not told.statistics().running
    with pytest.raises(LifecycleError, match="gone"):
        told.start()


def test_a_provider_that_is_gone_leaves_no_board_behind() -> None:
    provider = MeterProvider([], shutdown_on_exit=False)
    guard = MemoryGuard(leaks=False)
    with Telemetry(guard, meter_provider=provider, events=False):
        pass
    gone = weakref.ref(provider)
    del provider
    gc.collect()
    assert gone() is None


def test_a_provider_that_fails_at_first_is_asked_again(metrics: Metrics) -> None:
    class Late:
        is_ready = False

        def get_meter(self, *arguments: Any) -> Any:
            if not self.is_ready:
                raise ZeroDivisionError
            return metrics.provider.get_meter(*arguments)

    late, guard = Late(), MemoryGuard(leaks=False)
    told = Telemetry(guard, meter_provider=late, events=False)
    with pytest.raises(ZeroDivisionError):
        told.start()
    assert not told.statistics().running
    late.is_ready = True
    with told:
        assert metrics.collect()


def test_names_of_guards_are_bounded(metrics: Metrics) -> None:
    for number in range(MOST_GUARDS):
        guard = MemoryGuard(leaks=False, name=f"g{number}")
        telemetry(guard, metrics).start().close()
    guard = MemoryGuard(leaks=False, name="one too many")
    with pytest.raises(CapacityError, match="the same name"):
        telemetry(guard, metrics).start()
    assert not [t for t in threading.enumerate() if t.name.startswith("memguard-telemetry")]
    again = MemoryGuard(leaks=False, name="g3")
    with telemetry(again, metrics):
        assert ("g3",) in metrics.values("memguard.admission.running")


def test_names_of_containers_are_bounded_for_life() -> None:
    named = ContainerMetrics(3)
    for start in range(0, 100, 10):
        rows = [InventoryRow(f"c{n}", "Cache", 2, n, None) for n in range(start, start + 10)]
        found = named.read(rows)
        assert sum(found[container_catalog.ALIVE].values()) == 10
        assert sum(found[container_catalog.ITEMS].values()) == 20
    assert set(found[container_catalog.ALIVE]) == {("other", "other")}
    assert len(named) == 3
    alone = named.read([InventoryRow("c1", "Cache", 1, None, None)])
    assert set(alone[container_catalog.ALIVE]) == {("c1", "Cache")}
    assert not alone[container_catalog.BYTES]


def test_hostile_names_become_harmless_labels() -> None:
    class Text(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise AssertionError

        def __eq__(self, other: object) -> bool:
            raise AssertionError

    rows = [
        InventoryRow("x" * 10_000, "K", 1, 1, None),
        InventoryRow("a\n\x1b[2J", "K", 1, 1, None),
        InventoryRow(Text("t"), "K", 1, 1, None),
        InventoryRow(7, "K", 1, 1, None),  # type: ignore[arg-type] # reason: wrong on purpose
        InventoryRow("other", "K", 1, 1, None),
    ]
    found = ContainerMetrics(50).read(rows)[container_catalog.ALIVE]
    assert all(name.isprintable() and len(name) <= 120 for name, _ in found)
    assert ("other", "other") in found


def test_containers_that_share_a_name_are_one(metrics: Metrics) -> None:
    caches = [BoundedCache[int, int](maxsize=9, name="twin") for _ in range(2)]
    for cache in caches:
        cache[1] = 1
    guard = MemoryGuard(leaks=False)
    with telemetry(guard, metrics):
        found = metrics.collect()
    assert metrics.values("memguard.containers", found)["twin", "BoundedCache"] == 2
    assert metrics.values("memguard.container.items", found)["twin", "BoundedCache"] == 2


def test_deltas_are_right_too() -> None:
    delta: dict[type, Any] = dict.fromkeys((ObservableCounter,), AggregationTemporality.DELTA)
    reader = InMemoryMetricReader(preferred_temporality=delta)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    found = []
    for admitted in (5, 2):
        guard = MemoryGuard(leaks=False)
        with Telemetry(guard, meter_provider=provider, events=False):
            for _ in range(admitted):
                guard.admit().close()
            data: Any = reader.get_metrics_data()
            (scope,) = data.resource_metrics[0].scope_metrics
            (metric,) = [each for each in scope.metrics if each.name.endswith("requests")]
            points = {p.attributes["memguard.outcome"]: p.value for p in metric.data.data_points}
            found.append(points["admitted"])
    assert found == [5, 2]


def test_a_provider_that_is_set_later_is_told_what_was_made_before() -> None:
    program = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from memguard import MemoryGuard
from memguard.report.metrics.opentelemetry.telemetry import Telemetry
early, late = MemoryGuard(leaks=False, name="early"), MemoryGuard(leaks=False, name="late")
one = Telemetry(early).start()
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
with Telemetry(late):
    data = reader.get_metrics_data()
    (metric,) = [each for each in data.resource_metrics[0].scope_metrics[0].metrics
                 if each.name == "memguard.admission.running"]
    print(sorted(point.attributes["memguard.guard"] for point in metric.data.data_points))
one.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("['early', 'late']\n", "")


# -- events ---------------------------------------------------------------------------------------


def test_an_alert_is_emitted_as_an_event() -> None:
    logs = Logs()
    guard = MemoryGuard(leaks=False, name="shop")
    with Telemetry(guard, logger_provider=logs.provider, metrics=False) as told:
        guard._alerted(alert())
        wait_for(lambda: told.statistics().events)  # counted when it was emitted
        assert told.statistics().events == 1
    (record,) = logs.records()
    assert name_of(record) == "memguard.pressure.changed"
    assert record.timestamp == 1_800_000_000_500_000_000
    assert record.severity_text == "WARN"
    assert record.body == "memory is elevated, it was ok: 80 % of 1.0 GiB in use"
    assert record.attributes["memguard.guard"] == "shop"
    assert record.attributes["memguard.memory.used"] == 800
    assert not record.trace_id


def test_a_new_leak_is_emitted_as_an_event() -> None:
    logs = Logs()
    guard = MemoryGuard(leaks=False)
    with Telemetry(guard, logger_provider=logs.provider, metrics=False):
        guard._leaked(leak_report())
        wait_for(logs.records)
    (record,) = logs.records()
    assert name_of(record) == "memguard.leak.suspected"
    assert record.attributes["code.line.number"] == leak_report().suspects[0].line
    assert record.attributes["memguard.leak.holder.path"] == leak_report().holders[0].path


@pytest.mark.parametrize("state", ["ended", "retracted"])
def test_the_end_of_a_leak_is_emitted_as_an_event_with_its_fingerprint(
    state: FindingState,
) -> None:
    logs = Logs()
    guard = MemoryGuard(leaks=False)
    with Telemetry(guard, logger_provider=logs.provider, metrics=False):
        guard._ended(leak_report(state=state, fingerprint="00ff00ff00ff00ff"))
        wait_for(logs.records)
    (record,) = logs.records()
    assert name_of(record) == f"memguard.leak.{state}"
    assert record.severity_text == "WARN"
    assert record.attributes["memguard.leak.fingerprint"] == "00ff00ff00ff00ff"
    assert record.attributes["memguard.leak.state"] == state


@settings(max_examples=50)
@given(leak_reports)
def test_every_report_makes_an_event_of_plain_and_bounded_values(report: LeakReport) -> None:
    event = of_report(report, "g")
    assert len(event.body) <= 1010 * 10
    for value in event.attributes.values():
        assert type(value) in (str, int, float)
        assert len(str(value)) <= 1010 * 10
    assert event.time_ns != 0


@pytest.mark.parametrize(
    ("changes", "name", "is_warning"),
    [
        ({"level": "critical"}, "memguard.pressure.changed", True),
        ({"level": "ok", "previous": "critical"}, "memguard.pressure.changed", False),
        ({"kind": "ineffective"}, "memguard.relief.ineffective", True),
        ({"kind": "recycle", "level": "critical"}, "memguard.relief.recycle_requested", True),
        ({"used": None, "limit": None, "reasons": ()}, "memguard.pressure.changed", True),
    ],
)
def test_every_alert_has_its_event(changes: dict[str, Any], name: str, is_warning: bool) -> None:  # noqa: FBT001 - reason: a column of the table
    event = of_alert(alert(**changes), "g")
    assert (event.name, event.is_warning) == (name, is_warning)
    assert None not in event.attributes.values()


class Held:
    """A logger provider whose exporter hangs until it is let go."""

    def __init__(self) -> None:
        self.busy = threading.Event()
        self.go_on = threading.Event()
        self.logs = Logs()

    def get_logger(self, *arguments: Any) -> Any:
        self.busy.set()
        assert self.go_on.wait(30)
        return self.logs.provider.get_logger(*arguments)


def test_an_exporter_that_hangs_holds_up_nobody_and_what_is_dropped_is_counted() -> None:
    held = Held()
    guard = MemoryGuard(leaks=False)
    told = Telemetry(guard, logger_provider=held, metrics=False).start()
    try:
        guard._alerted(alert())
        assert held.busy.wait(30)
        for _ in range(MOST_WAITING + 20):
            guard._alerted(alert())
        assert told.statistics().events_waiting == MOST_WAITING
        assert told.statistics().events_dropped == 20
        assert told.stop(timeout=0.1) is False
    finally:
        held.go_on.set()
    wait_for(lambda: not [t for t in threading.enumerate() if "telemetry" in t.name])
    assert told.statistics().events_waiting == 0
    assert told.statistics().events_dropped == 20 + MOST_WAITING
    assert len(held.logs.records()) == 1


def test_close_emits_what_waits() -> None:
    logs = Logs()
    guard = MemoryGuard(leaks=False)
    with Telemetry(guard, logger_provider=logs.provider, metrics=False):
        for _ in range(50):
            guard._alerted(alert())
    assert len(logs.records()) == 50


def test_a_provider_that_raises_is_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def get_logger(self, *_: object) -> Any:
            raise ZeroDivisionError

    guard = MemoryGuard(leaks=False)
    with Telemetry(guard, logger_provider=Broken(), metrics=False) as told:
        for _ in range(3):
            guard._alerted(alert())
        wait_for(lambda: told.statistics().errors == 3)
    assert told.statistics().events_dropped == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_after_close_no_event_is_taken() -> None:
    logs = Logs()
    guard = MemoryGuard(leaks=False)
    told = Telemetry(guard, logger_provider=logs.provider, metrics=False).start()
    told.close()
    guard._alerted(alert())
    told._enqueue(alert())
    assert logs.records() == []
    assert told.statistics().events_waiting == 0
    told.start()
    guard._alerted(alert())
    wait_for(logs.records)
    told.close()


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"process_metrics": "yes"}, ConfigError, "'auto', 'on' or 'off'"),
        ({"metrics": False, "events": False}, ConfigError, "nothing to export"),
        ({"metrics": 1}, TypeError, "True or False"),
        ({"meter_provider": 3}, TypeError, "get_meter"),
        ({"logger_provider": "x"}, TypeError, "get_logger"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Telemetry(MemoryGuard(leaks=False), **options)


def test_what_is_no_guard_is_refused() -> None:
    with pytest.raises(TypeError, match="MemoryGuard"):
        Telemetry("guard")  # type: ignore[arg-type] # reason: wrong on purpose


def test_starting_twice_is_refused(metrics: Metrics) -> None:
    guard = MemoryGuard(leaks=False)
    with telemetry(guard, metrics) as told, pytest.raises(LifecycleError, match="already"):
        told.start()


def test_without_opentelemetry_one_sentence_says_what_to_install() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
try:
    import memguard.report.metrics.opentelemetry.telemetry
except ImportError as error:
    print(type(error).__name__, error.name, str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.startswith("MissingExtraError opentelemetry-api opentelemetry-api is not")
    assert "'memguard-py[otel]'" in done.stdout
