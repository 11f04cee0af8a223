"""Metrics of containers: labels from a closed set, and counters that never fall."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard import BoundedCache, BufferPool, ListenerRegistry, ObjectPool, WeakValueCache
from memguard.bounded.inventory import InventoryRow, inventory
from memguard.report.metrics import container_catalog
from memguard.report.metrics.containers import OTHER, ContainerMetrics, Found


def row(name: Any, items: Any = 1, size: Any = 10, kind: str = "K", **found: Any) -> InventoryRow:
    return InventoryRow(name, kind, items, size, statistics_of(found) if found else None)


def statistics_of(found: dict[str, Any]) -> Any:
    kind = type("Statistics", (), {**found, "__module__": "memguard.bounded.cache.stats"})
    return kind()


def told(found: Found) -> dict[tuple[str, str], Any]:
    """Return numbers by metric and name, as Prometheus is told."""
    alive = found[container_catalog.ALIVE]
    numbers: dict[tuple[str, str], Any] = {
        (metric.prometheus.removeprefix("memguard_"), name): value
        for metric in container_catalog.OF_CONTAINERS
        for (name, _), value in found[metric].items()
    }
    folded = alive.get((OTHER, OTHER), 0)
    return {**numbers, ("containers", ""): sum(alive.values()), ("containers_folded", ""): folded}


def test_a_container_is_told_by_name_and_kind() -> None:
    found = ContainerMetrics(10).read([row("a", items=3, size=50)])
    assert set(found[container_catalog.ITEMS]) == {("a", "K")}
    assert told(found) == {
        ("container_items", "a"): 3,
        ("container_bytes", "a"): 50,
        ("containers", ""): 1,
        ("containers_folded", ""): 0,
    }


def test_what_has_no_labels_left_is_summed_as_other() -> None:
    containers = ContainerMetrics(2)
    found = told(containers.read([row(name) for name in "abcd"]))
    assert found["container_items", "a"] == found["container_items", "b"] == 1
    assert found["container_items", "other"] == 2
    assert found["container_bytes", "other"] == 20
    assert found["containers_folded", ""] == 2


def test_labels_stay_with_who_had_them_first_though_it_is_gone() -> None:
    """Else a program with ever new names would make ever new series."""
    containers = ContainerMetrics(1)
    containers.read([row("a")])
    assert ("container_items", "b") not in told(containers.read([row("b")]))
    assert told(containers.read([row("b"), row("a")]))["container_items", "a"] == 1


def test_reserved_names_have_labels_whoever_came_before() -> None:
    containers = ContainerMetrics(2, reserved=["sessions"])
    found = told(containers.read([row("a"), row("b"), row("sessions")]))
    assert ("container_items", "sessions") in found
    assert ("container_items", "b") not in found


def test_without_labels_everything_is_other() -> None:
    assert told(ContainerMetrics(0).read([row("a")]))["container_items", "other"] == 1


def test_a_container_that_is_called_other_counts_with_the_others() -> None:
    found = told(ContainerMetrics(1).read([row("other"), row("a"), row("b")]))
    assert found["container_items", "other"] == 2


def test_containers_of_one_name_are_summed_and_the_fullest_tells_the_bound() -> None:
    found = told(
        ContainerMetrics(5).read(
            [row("a", items=9, maxsize=10, currsize=9), row("a", items=1, maxsize=10, currsize=1)]
        )
    )
    assert found["container_items", "a"] == 10
    assert found["container_fill_ratio", "a"] == 0.9


def test_of_two_bounds_the_nearer_one_is_told() -> None:
    both = row("a", maxsize=10, currsize=1, maxbytes=100, bytes=70)
    found = told(ContainerMetrics(5).read([both]))
    assert found["container_fill_ratio", "a"] == 0.7


def test_names_that_look_alike_as_labels_share_one_series() -> None:
    """Two series with the same labels would make Prometheus refuse the whole scrape."""
    names = ["a\nb", "a\\nb", "x" * 500, "x" * 501]
    found = ContainerMetrics(10).read([row(name) for name in names])
    assert len(found[container_catalog.ITEMS]) == 2
    assert told(found)["container_items", "a\\nb"] == 2


def test_a_counter_does_not_fall_when_one_of_several_dies() -> None:
    """Prometheus would take the fall for a restart and count the rest anew."""
    containers = ContainerMetrics(5)
    key = ("cache_hits_total", "a")
    assert told(containers.read([row("a", hits=1000), row("a", hits=10)]))[key] == 1010
    assert told(containers.read([row("a", hits=1005)]))[key] == 1010
    assert told(containers.read([row("a", hits=1007)]))[key] == 1012


def test_a_successor_of_the_same_name_goes_on_from_there() -> None:
    containers = ContainerMetrics(5)
    key = ("cache_hits_total", "a")
    containers.read([row("a", hits=100)])
    containers.read([])
    assert told(containers.read([row("a", hits=3)]))[key] == 103


def test_who_looks_at_the_same_time_as_another_tells_where_counters_stand() -> None:
    containers = ContainerMetrics(5)
    key = ("cache_hits_total", "a")
    containers.read([row("a", hits=100)])
    assert told(containers.read([row("a", hits=90)], count=False))[key] == 100
    assert told(containers.read([row("a", hits=110)]))[key] == 110


@settings(deadline=None)  # a busy machine takes its time
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 50)), max_size=8), max_size=12
    )
)
def test_whatever_lives_and_dies_no_counter_falls_and_no_label_is_new(scrapes: Any) -> None:
    containers = ContainerMetrics(3)
    before: dict[str, float] = {}
    seen: set[str] = set()
    for scrape in scrapes:
        rows = containers.read([row(name, hits=hits) for name, hits in scrape])
        now = {
            container: value
            for (name, container), value in told(rows).items()
            if name == "cache_hits_total"
        }
        assert all(value >= before.get(container, 0) for container, value in now.items())
        assert sum(count for _, count in scrape) <= sum({**before, **now}.values())
        before |= now
        seen |= set(now)
        assert told(rows)["containers", ""] == len(scrape)
    assert len(seen) <= 3 + 1


@pytest.mark.parametrize("nonsense", ["many", None, float("nan"), 10**400, True])
def test_a_figure_that_is_no_number_is_left_out(nonsense: Any) -> None:
    found = told(
        ContainerMetrics(5).read([row("a", items=nonsense, size=5, maxsize=3, currsize=nonsense)])
    )
    assert ("container_items", "a") not in found
    assert ("container_fill_ratio", "a") not in found
    assert found["container_bytes", "a"] == 5


@dataclass
class Strange:
    """Statistics of somebody else's."""

    items: int = 1

    @property
    def hits(self) -> int:
        raise AssertionError("somebody else's property was called")


def test_nothing_is_asked_of_a_strangers_statistics() -> None:
    stranger = InventoryRow("a", "K", 1, None, Strange())
    assert ("cache_hits_total", "a") not in told(ContainerMetrics(5).read([stranger]))


def test_real_containers_tell_what_they_know() -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(maxsize=4, name="prom-cache")
    for number in range(6):
        cache[number] = b"x"
    assert cache.get(5)
    assert cache.get(0) is None
    pool: ObjectPool[list[int]] = ObjectPool(list, maxsize=4, reset=list.clear, name="prom-pool")
    buffers = BufferPool([1024], maxbytes="1MiB", name="prom-buffers")
    listeners = ListenerRegistry(name="prom-listeners", maxsize=10)
    listeners.on("x", print)
    weak: WeakValueCache[int, object] = WeakValueCache(maxsize=5, name="prom-weak")
    with pool.lease():
        mine = [each for each in inventory() if each.name.startswith("prom-")]
        found = told(ContainerMetrics(10).read(mine))
    assert found["container_items", "prom-cache"] == 4
    assert found["container_fill_ratio", "prom-cache"] == 1.0
    assert found["cache_hits_total", "prom-cache"] == 1
    assert found["cache_misses_total", "prom-cache"] == 1
    assert found["cache_evictions_total", "prom-cache"] == 2
    assert found["pool_leased", "prom-pool"] == 1
    assert found["container_fill_ratio", "prom-pool"] == 0.25
    assert found["container_fill_ratio", "prom-buffers"] == 0.0
    assert found["container_fill_ratio", "prom-listeners"] == 0.1
    assert found["cache_evictions_total", "prom-weak"] == 0
    pool.close()
    buffers.close()
    listeners.close()
    del weak


def test_many_names_cost_no_more_memory_than_there_are_labels() -> None:
    containers = ContainerMetrics(4)
    for number in range(2500):
        containers.read([row(f"name {number}")])
        assert len(containers._labels._seen) <= 2000
    assert len(containers) == 4
    assert told(containers.read([row("name 3"), row("name 4")]))["containers_folded", ""] == 1


_VALUES = st.one_of(
    st.integers(-5, 100),
    st.sampled_from([None, True, "7", 0.5, float("nan"), float("inf"), 10**400, -(10**400), 1e301]),
)


def _is_told(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300


@settings(deadline=None)  # a busy machine takes its time
@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from("abc"), "items": _VALUES, "size": _VALUES},
            optional=dict.fromkeys(("hits", "evicted", "maxsize", "currsize", "maxbytes"), _VALUES),
        ),
        max_size=12,
    )
)
def test_columns_tell_what_each_container_by_itself_would(rows: list[dict[str, Any]]) -> None:
    """Whatever a broken account says, it is left out of its own figure and harms no other."""
    rows = [{**each, "bytes": each["size"]} if "maxbytes" in each else dict(each) for each in rows]
    expected: dict[tuple[str, str], list[float]] = {}

    def tell(family: str, name: str, value: Any) -> None:
        if _is_told(value):
            expected.setdefault((family, name), []).append(value)

    for each in rows:
        name = each["name"]
        tell("container_items", name, each["items"])
        tell("container_bytes", name, each["size"])
        tell("cache_hits_total", name, each.get("hits"))
        tell("cache_evictions_total", name, each.get("evicted"))
        fills = []
        for held, most in (("currsize", "maxsize"), ("bytes", "maxbytes")):
            pair: Any = each.get(held), each.get(most)
            with contextlib.suppress(OverflowError):
                if all(type(number) in (int, float) for number in pair) and pair[1] > 0:
                    fills.append(pair[0] / pair[1])
        tell("container_fill_ratio", name, max(filter(_is_told, fills), default=None))
    found = told(ContainerMetrics(5).read([row(**each) for each in rows]))
    assert found.pop(("containers", "")) == len(rows)
    assert found.pop(("containers_folded", "")) == 0
    for (family, name), values in expected.items():
        wanted = max(values) if family == "container_fill_ratio" else sum(values)
        if family.endswith("_total"):
            wanted = max(0, wanted)
        assert found.pop((family, name)) == pytest.approx(wanted)
    assert not found
