"""Counts and growth by route: bounded, and true."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.integrations.web.routes import SAMPLE_SIZE, RouteTable


def add(known: RouteTable, method: str, route: str, *, growth: int | None) -> bool:
    row = known.add(method, route, failed=False)
    if row is not None and growth is not None:
        known.measure(row, growth)
    return row is not None


def table(max_routes: int = 10, warmup: int = 0) -> RouteTable:
    return RouteTable(max_routes, warmup=warmup, chance=random.Random(1))  # noqa: S311 - reason: a seed makes the test repeatable


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=SAMPLE_SIZE))
def test_the_figures_of_a_route_are_those_of_its_growths(growths: list[int]) -> None:
    known = table()
    for growth in growths:
        assert add(known, "GET", "/a", growth=growth)
    (row,) = known.statistics()
    assert (row.count, row.sampled, row.growth_bytes) == (len(growths), len(growths), sum(growths))
    assert row.mean_bytes == pytest.approx(statistics.mean(growths))
    at_most = [growth for growth in growths if growth <= (row.p95_bytes or 0)]
    assert len(at_most) >= 0.95 * len(growths)
    assert row.p95_bytes in growths
    if len(growths) > 1:
        stderr = statistics.stdev(growths) / len(growths) ** 0.5
        assert row.stderr_bytes == pytest.approx(stderr, rel=1e-3, abs=max(map(abs, growths)) / 1e5)
    else:
        assert row.stderr_bytes is None


def test_the_percentile_is_of_all_requests_and_not_of_the_first_or_last() -> None:
    known = table()
    for number in range(20_000):
        add(known, "GET", "/a", growth=number)
    (row,) = known.statistics()
    assert row.p95_bytes is not None
    assert 16_000 < row.p95_bytes < 20_000


def test_routes_beyond_the_bound_are_counted_together() -> None:
    known = table(max_routes=3)
    for number in range(100):
        add(known, "GET", f"/{number}", growth=1)
    rows = known.statistics()
    assert len(rows) == 4
    assert sum(row.count for row in rows) == 100
    assert [(row.method, row.count) for row in rows if row.route == "other"] == [("*", 97)]


def test_methods_that_clients_invent_are_one() -> None:
    known = table()
    for number in range(50):
        add(known, f"M{number}", "/a", growth=None)
    assert [(row.method, row.count) for row in known.statistics()] == [("_OTHER", 50)]


def test_the_first_requests_of_a_route_are_counted_and_not_measured() -> None:
    known = table(warmup=2)
    measured = [add(known, "GET", "/a", growth=10**9) for _ in range(2)]
    measured.append(known.add("GET", "/a", failed=True) is not None)
    measured.append(add(known, "GET", "/a", growth=5))
    (row,) = known.statistics()
    assert measured == [False, False, True, True]
    assert (row.count, row.failed, row.sampled, row.growth_bytes) == (4, 1, 1, 5)


def test_a_route_that_was_never_measured_claims_nothing() -> None:
    known = table()
    add(known, "GET", "/a", growth=None)
    (row,) = known.statistics()
    assert (row.mean_bytes, row.stderr_bytes, row.p95_bytes) == (None, None, None)


def test_the_route_that_grew_most_comes_first() -> None:
    known = table()
    for route, growth in (("/a", 5), ("/b", 50), ("/c", -5)):
        add(known, "GET", route, growth=growth)
    assert [row.route for row in known.statistics()] == ["/b", "/a", "/c"]


def test_a_template_of_any_length_is_kept_short() -> None:
    known = table()
    add(known, "GET", "/" + "x" * 10_000, growth=None)
    assert len(known.statistics()[0].route) == 200
