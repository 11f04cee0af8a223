"""The collector: what a registry gets of it, and what happens when a part of it fails."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from memguard import BoundedCache, ConfigError, MemoryGuard
from memguard.report.metrics import catalog
from memguard.report.metrics.catalog import FAMILIES, PARTS
from memguard.report.metrics.metric import Metric
from memguard.report.metrics.prometheus import gatherer
from memguard.report.metrics.prometheus.collector import MemguardCollector
from tests.specimens import leak_report


@pytest.fixture
def guard() -> Iterator[MemoryGuard]:
    with MemoryGuard(limit="100GiB") as running:
        deadline = time.monotonic() + 20
        while running.monitor.pressure().at is None:  # its thread looks at once
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield running


def test_a_registry_of_its_own_has_every_metric_with_help_and_type(guard: MemoryGuard) -> None:
    collector = MemguardCollector(guard)
    text = generate_latest(collector.registry).decode()
    found = {family.name: family for family in parse(text)}
    assert set(found) == {family.prometheus.removesuffix("_total") for family in FAMILIES}
    for family in FAMILIES:
        told = found[family.prometheus.removesuffix("_total")]
        assert (told.type, told.documentation) == (family.kind, family.help)


def test_the_openmetrics_form_is_read_by_its_strict_parser(guard: MemoryGuard) -> None:
    cache: BoundedCache[int, int] = BoundedCache(maxsize=10, name='a "quoted"\n name\\')
    collector = MemguardCollector(guard)
    text = generate_openmetrics(collector.registry).decode()  # type: ignore[no-untyped-call]  # reason: theirs is untyped
    found = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]  # reason: theirs is untyped
    assert found == {family.prometheus.removesuffix("_total") for family in FAMILIES}
    del cache


def test_the_count_of_leaks_has_the_fingerprint_of_the_latest_as_its_exemplar(
    guard: MemoryGuard,
) -> None:
    assert guard.detector is not None
    collector = MemguardCollector(guard)
    for hour, mark in enumerate(("00ff00ff00ff00ff", "11ee11ee11ee11ee")):
        report = leak_report(fingerprint=mark, updated_at=f"2026-11-20T0{hour}:00:00+00:00")
        guard.detector._findings._append(report)
        text = generate_openmetrics(collector.registry).decode()  # type: ignore[no-untyped-call]  # reason: theirs is untyped
        families = {f.name: f for f in parse_openmetrics(text)}  # type: ignore[no-untyped-call]  # reason: theirs is untyped
        (sample,) = families["memguard_leaks_found"].samples
        assert sample.exemplar.labels == {"fingerprint": mark}


def test_no_two_samples_have_the_same_name_and_labels(guard: MemoryGuard) -> None:
    collector = MemguardCollector(guard, MemoryGuard(name="second", leaks=False))
    keys = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in collector.collect()
        for sample in family.samples
    ]
    assert len(keys) == len(set(keys))
    assert {dict(labels).get("guard") for _, labels in keys} == {None, "memguard", "second"}


def test_it_goes_beside_the_clients_own_collectors(guard: MemoryGuard) -> None:
    names = {family.name for family in prometheus_client.REGISTRY.collect()}
    with MemguardCollector(guard, registry=prometheus_client.REGISTRY) as collector:
        assert not names & {family.name for family in collector.collect()}
        assert b"memguard_private_bytes" in generate_latest(prometheus_client.REGISTRY)
    assert b"memguard" not in generate_latest(prometheus_client.REGISTRY)


def test_registering_gathers_nothing() -> None:
    """The default registry asks a collector what it will tell, and would have it tell it."""

    class Unasked:
        name = "unasked"

        def status(self) -> None:
            raise AssertionError

    with MemguardCollector(Unasked(), registry=prometheus_client.REGISTRY) as collector:  # type: ignore[arg-type]  # reason: only what is asked for
        assert collector._gatherer._runs == 0


def test_a_scrape_may_ask_for_some_names_only(guard: MemoryGuard) -> None:
    registry = MemguardCollector(guard).registry
    wanted = ["memguard_private_bytes", "memguard_looks_total", "memguard_gc_pause_seconds_sum"]
    text = generate_latest(registry.restricted_registry(wanted)).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert {line.split("{")[0].split(" ")[0] for line in lines} == set(wanted)


def test_the_histogram_of_pauses_is_cumulative_and_ends_with_all(guard: MemoryGuard) -> None:
    gc.collect()
    collector = MemguardCollector(guard)
    labels = {"guard": "memguard", "generation": "2"}
    value = collector.registry.get_sample_value
    pauses = value("memguard_gc_pause_seconds_count", labels)
    assert pauses is not None
    assert pauses >= 1
    samples = [
        sample
        for family in collector.collect()
        if family.name == "memguard_gc_pause_seconds"
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["generation"] == "2"
    ]
    counts = [sample.value for sample in samples]
    assert counts == sorted(counts)
    assert samples[-1].labels["le"] == "+Inf"
    assert [float(sample.labels["le"]) for sample in samples][:3] == [0.0001, 0.00025, 0.0005]
    total = value("memguard_gc_pause_seconds_sum", labels)
    longest = value("memguard_gc_longest_pause_seconds", labels)
    assert total is not None
    assert longest is not None
    assert total >= longest > 0


def test_every_collection_has_the_metrics_that_were_described(guard: MemoryGuard) -> None:
    with MemguardCollector(guard) as collector:
        for made, described in zip(collector.collect(), collector.describe(), strict=True):
            made.samples = []
            assert made == described


def test_samples_that_have_not_changed_are_told_again_whatever_was_done_to_the_list(
    guard: MemoryGuard,
) -> None:
    """The list is the scraper's, who may filter it."""
    cache = BoundedCache[int, int](10, name="quiet")

    def items() -> list[Sample]:
        (metric,) = (m for m in collector.collect() if m.name == "memguard_container_items")
        return metric.samples

    with MemguardCollector(guard) as collector:
        first = items()
        told = [sample for sample in first if sample.labels["container"] == "quiet"]
        first.clear()
        assert [s for s in items() if s.labels["container"] == "quiet"] == told
        cache[1] = 1
        (now,) = (s for s in items() if s.labels["container"] == "quiet")
        assert (told[0].value, now.value) == (0, 1)


def test_a_second_collector_in_one_registry_is_refused_with_what_to_do(guard: MemoryGuard) -> None:
    first = MemguardCollector(guard)
    with pytest.raises(ConfigError, match=r"MemguardCollector\(first, second\)"):
        MemguardCollector(MemoryGuard(name="second", leaks=False), registry=first.registry)
    first.close()
    first.close()
    MemguardCollector(guard, registry=first.registry)


def test_a_name_that_somebody_else_has_taken_is_refused(guard: MemoryGuard) -> None:
    registry = CollectorRegistry()
    Gauge("memguard_private_bytes", "Mine.", registry=registry)
    with pytest.raises(ConfigError, match="memguard_"):
        MemguardCollector(guard, registry=registry)
    assert [family.documentation for family in registry.collect()] == ["Mine."]


def test_two_guards_of_one_name_are_refused(guard: MemoryGuard) -> None:
    with pytest.raises(ConfigError, match="different names"):
        MemguardCollector(guard, MemoryGuard(leaks=False))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_containers": True}, TypeError, "must be an int"),
        ({"max_containers": "9"}, TypeError, "must be an int"),
        ({"max_containers": -1}, ConfigError, "0 to 1000"),
        ({"max_containers": 1001}, ConfigError, "0 to 1000"),
        ({"containers": "sessions"}, TypeError, "list of names"),
        ({"containers": [1]}, TypeError, "strings"),
        ({"containers": ["a", "b"], "max_containers": 1}, ConfigError, "at most max_containers"),
        ({"registry": "default"}, TypeError, "CollectorRegistry"),
    ],
)
def test_a_wrong_option_is_refused(
    guard: MemoryGuard, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        MemguardCollector(guard, **options)


def test_what_is_no_guard_is_refused() -> None:
    with pytest.raises(TypeError, match="MemoryGuard"):
        MemguardCollector(prometheus_client)  # type: ignore[arg-type]  # reason: wrong on purpose


class BrokenError(RuntimeError):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise AssertionError


@pytest.mark.parametrize("part", gatherer.PARTS)
def test_a_part_that_fails_is_left_out_counted_and_logged_once(
    guard: MemoryGuard, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BrokenError

    collector = MemguardCollector(guard)
    if part == "guard":
        monkeypatch.setattr(gatherer, "guard_state", fail)
    elif part == "containers":
        monkeypatch.setattr(collector._gatherer._containers, "read", fail)
    else:
        # Its last metric fails, when the others have been read.
        broken = Metric(kind="gauge", help="", read=fail, prometheus="memguard_broken")
        monkeypatch.setattr(catalog, "PARTS", {**PARTS, part: (*PARTS[part], broken)})
    with caplog.at_level(logging.WARNING, logger="memguard"):
        for _ in range(3):
            text = generate_latest(collector.registry).decode()
    assert f'memguard_collector_errors_total{{part="{part}"}} 3.0' in text
    others = [f'errors_total{{part="{each}"}} 0.0' for each in gatherer.PARTS if each != part]
    assert all(line in text for line in others)
    assert len([m for m in caplog.messages if "prometheus.failed" in m]) == 1
    assert ("memguard_running{" in text) == (part not in ("guard", "pressure"))
    assert ("\nmemguard_private_bytes " in text) == (part not in ("guard", "process"))


def test_one_guard_that_fails_does_not_hide_the_other(guard: MemoryGuard) -> None:
    class Failing:
        name = "failing"

        def status(self) -> None:
            raise BrokenError

    collector = MemguardCollector(Failing(), guard)  # type: ignore[arg-type]  # reason: fails on purpose
    value = collector.registry.get_sample_value
    assert value("memguard_running", {"guard": "memguard"}) == 1
    assert value("memguard_private_bytes") is not None
    assert value("memguard_collector_errors_total", {"part": "guard"}) == 3


def test_what_gathering_costs_is_told(guard: MemoryGuard) -> None:
    collector = MemguardCollector(guard)
    for _ in range(4):
        collector.collect()
    value = collector.registry.get_sample_value
    assert value("memguard_collector_runs_total") == 5
    spent = value("memguard_collector_seconds_total")
    assert spent is not None
    assert spent > 0


def test_a_scrape_inside_a_scrape_does_not_wait_for_itself(guard: MemoryGuard) -> None:
    """A finalizer or a signal handler may scrape in the midst of a scrape."""
    collector = MemguardCollector(guard)
    inner: list[int] = []
    ask = guard.monitor.pressure

    def scraping() -> Any:
        if not inner:
            inner.append(0)
            inner[0] = len(collector.collect())
        return ask()

    guard.monitor.pressure = scraping  # type: ignore[method-assign]  # reason: called during a scrape
    assert len(collector.collect()) == inner[0] == len(FAMILIES)


def test_many_threads_may_scrape_at_once(guard: MemoryGuard) -> None:
    cache: BoundedCache[int, int] = BoundedCache(maxsize=10, name="scraped")
    collector = MemguardCollector(guard)
    done = threading.Event()
    seen: list[list[float]] = [[] for _ in range(4)]

    def use() -> None:
        while not done.is_set():
            cache.get(1)

    def scrape(found: list[float]) -> None:
        labels = {"container": "scraped", "kind": "BoundedCache"}
        for _ in range(30):
            value = collector.registry.get_sample_value("memguard_cache_misses_total", labels)
            found.append(value or 0.0)

    threads = [threading.Thread(target=scrape, args=(found,)) for found in seen]
    user = threading.Thread(target=use)
    for thread in (user, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    user.join()
    for found in seen:
        assert found == sorted(found), "a counter never falls"
    last = collector.registry.get_sample_value(
        "memguard_cache_misses_total", {"container": "scraped", "kind": "BoundedCache"}
    )
    assert last == cache.statistics().misses, "and what was counted was counted once"
    assert collector._gatherer._runs == 121


def test_a_closed_collector_lets_go_of_its_guard() -> None:
    guard = MemoryGuard(leaks=False, history=False)
    with MemguardCollector(guard, registry=prometheus_client.REGISTRY):
        pass
    gone = weakref.ref(guard)
    guard.close()
    del guard
    gc.collect()
    assert gone() is None


def test_without_the_package_one_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from memguard.errors import MissingExtraError\n"
        "try:\n    import memguard.report.metrics.prometheus.collector\n"
        "except MissingExtraError as error: print(error)\n"
        "import memguard; memguard.install(leaks=False); memguard.uninstall()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'memguard-py[prometheus]'" in done.stdout


def test_the_document_lists_every_metric_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "prometheus.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `memguard_")]
    listed = re.findall(r"`(memguard_[a-z_]+)`", " ".join(row.split("|")[1] for row in rows))
    assert len(listed) == len(set(listed))
    assert set(listed) == {family.prometheus for family in FAMILIES}
    for row in rows:
        names = re.findall(r"`(memguard_[a-z_]+)`", row.split("|")[1])
        labels = set(re.findall(r"`([a-z]+)`", row.split("|")[2]))
        told = {
            label for family in FAMILIES if family.prometheus in names for label in family.labels
        }
        assert labels - {"errors"} == told, row
