"""What a guard publishes: short, plain, and read back strictly."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard import BoundedCache, MemoryGuard
from memguard.errors import ReportFormatError
from memguard.observe.readings import Reading
from memguard.relief.records import Alert
from memguard.report.publish import process_status
from memguard.report.publish.process_status import (
    MOST_BYTES,
    MOST_CONTAINERS,
    MOST_POINTS,
    ProcessStatus,
)
from memguard.report.state import GuardState, guard_state
from memguard.schema import plain
from tests.process_statuses import a_status
from tests.specimens import MiB, leak_report


def some_state(**changes: Any) -> GuardState:
    guard = MemoryGuard(limit="1TiB", name="shop")
    guard.monitor.tick()
    return replace(guard_state(guard), **{"containers": (), **changes})


def composed(found: GuardState | None = None, readings: tuple[Reading, ...] = ()) -> ProcessStatus:
    return process_status.status_of(
        found or some_state(), readings, pid=42, program="app.py", within=3.0
    )


def test_it_comes_back_as_it_was() -> None:
    alert = Alert(
        kind="level",
        level="elevated",
        previous="ok",
        reasons=("78 % of the limit",),
        used=1,
        limit=2,
        source="memory.max",
        time=1e9,
    )
    found = some_state(alerts=(alert,), reports=(leak_report(),))
    readings = tuple(Reading(at=found.reading.at - n, anon=n * MiB) for n in (3, 2, 1))
    made = composed(found, readings)
    content = process_status.encode(made)
    assert process_status.decode(content) == made
    assert content.isascii()
    assert content.count(b"\n") == 1
    assert made.curve_bytes == (3 * MiB, 2 * MiB, 1 * MiB)
    assert made.curve_seconds == (3.0, 2.0, 1.0)
    (row,) = made.reports
    assert (row.holder, row.holder_type) == ("leaky_shop.app.SESSIONS", "dict")
    assert row.place == "/srv/shop/leaky_shop/app.py:57  remember_session"
    assert (row.growth_bytes, row.verdict) == (61 * MiB, "live Python objects")
    assert made.alerts[0].reasons == ("78 % of the limit",)
    assert (made.guard, made.pid, made.level) == ("shop", 42, "insufficient_data")


def test_its_dict_is_that_of_any_dataclass() -> None:
    full = a_status(bytes_per_minute=float("inf"))
    assert full.to_dict() == plain(asdict(full))
    assert json.loads(process_status.encode(full))["bytes_per_minute"] is None
    assert process_status.decode(process_status.encode(a_status())) == a_status()


def test_what_a_guard_leaves_out_is_none() -> None:
    guard = MemoryGuard(relief=False, leaks=False, gc_watch=False, history=False)
    made = composed(guard_state(guard))
    assert (made.relief_runs, made.detector, made.findings) == (None, None, None)
    assert (made.gc_share, made.gc_longest, made.gc_collections) == (None, None, None)
    assert not made.running


def test_a_long_history_becomes_few_points_with_the_newest_among_them() -> None:
    readings = tuple(Reading(at=float(n), anon=n) for n in range(1000))
    found = some_state(reading=Reading(at=1000.0))
    made = composed(found, readings)
    assert 50 < len(made.curve_bytes) <= MOST_POINTS
    assert made.curve_bytes[-1] == 999
    assert made.curve_seconds[-1] == 1.0


def test_the_largest_containers_come_first_and_the_others_are_counted() -> None:
    caches = [BoundedCache[int, bytes](10, name=f"cache {n}") for n in range(MOST_CONTAINERS + 5)]
    caches[7][1] = bytes(100_000)
    wanted = guard_state(MemoryGuard(leaks=False)).containers
    made = composed(some_state(containers=wanted))
    assert made.containers[0].name == "cache 7"
    assert len(made.containers) == MOST_CONTAINERS
    assert made.containers_count == len(wanted) >= len(caches)
    assert made.containers_bytes >= 100_000


def test_names_without_end_make_no_file_without_end() -> None:
    caches = [BoundedCache[int, int](10, name="\U0001f4a3" * 10**5) for n in range(100)]
    made = composed(guard_state(MemoryGuard(name="x" * 10**6, leaks=False)))
    assert len(caches) == 100
    assert len(process_status.encode(made)) < MOST_BYTES / 2


def changed(**changes: object) -> bytes:
    return json.dumps({**composed().to_dict(), **changes}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON"),
        (b"[]", "version must be 1"),
        (b"\xff", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b" " * (MOST_BYTES + 1), "more than 262144 bytes"),
        (changed(version=2), "version must be 1 .got 2."),
        (changed(version="x" * 1000), "version must be 1"),
        (changed(rss="much"), "status.rss must be"),
        (changed(rss=True), "status.rss must be"),
        (changed(rss=10**30), "out of all bounds"),
        (changed(written=1e300), "out of all bounds"),
        (changed(more=1), "unknown"),
        (changed(curve_bytes=[1, 2]), "equally long"),
        (changed(containers=[{"name": "x"}]), "missing"),
        (b'{"version": 1, "rss": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_no_status_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ReportFormatError, match=message) as caught:
        process_status.decode(content)
    assert len(str(caught.value)) < 500


@given(
    field=st.sampled_from(sorted(composed().to_dict())),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)
def test_a_hostile_field_is_refused_or_harmless(field: str, value: object) -> None:
    try:
        found = process_status.decode(changed(**{field: value}))
    except ReportFormatError:
        return
    process_status.encode(found)
