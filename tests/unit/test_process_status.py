"""What a guard publishes: short, plain, and read back strictly."""

from __future__ import annotations

import json
import os
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
    return process_status.status_of(found or some_state(), readings, program="app.py", within=3.0)


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
    (row,) = made.health.leaks
    assert (row.holder, row.holder_type) == ("leaky_shop.app.SESSIONS", "dict")
    assert row.allocated_at == "/srv/shop/leaky_shop/app.py:57  remember_session"
    assert (row.growth_bytes, row.verdict) == (61 * MiB, "live_objects")
    assert made.health.alerts[0].reasons == ("78 % of the limit",)
    assert (made.health.guard, made.health.process_id) == ("shop", os.getpid())
    assert made.health.level == "insufficient_data"


def test_its_dict_is_that_of_any_dataclass() -> None:
    full = a_status(growth_bytes_per_minute=float("inf"))
    assert full.to_dict() == plain(asdict(full))
    found = json.loads(process_status.encode(full))
    assert found["health"]["limit"]["growth_bytes_per_minute"] is None
    assert process_status.decode(process_status.encode(a_status())) == a_status()


def test_what_a_guard_leaves_out_is_none() -> None:
    guard = MemoryGuard(relief=False, leaks=False, gc_watch=False, history=False)
    made = composed(guard_state(guard)).health
    assert (made.relief, made.leaks_state, made.findings) == (None, None, None)
    assert made.gc is None
    assert not made.watching


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
    made = composed(some_state(containers=wanted)).health.containers
    assert made.largest[0].name == "cache 7"
    assert len(made.largest) == MOST_CONTAINERS
    assert made.count == len(wanted) >= len(caches)
    assert made.bytes >= 100_000


def test_names_without_end_make_no_file_without_end() -> None:
    caches = [BoundedCache[int, int](10, name="\U0001f4a3" * 10**5) for n in range(100)]
    made = composed(guard_state(MemoryGuard(name="x" * 10**6, leaks=False)))
    assert len(caches) == 100
    assert len(process_status.encode(made)) < MOST_BYTES / 2


def changed(**changes: object) -> bytes:
    """Return a status in which fields of its own, of its health or of a part of that differ."""
    return json.dumps(changed_in(composed().to_dict(), changes)).encode()


def changed_in(data: dict[str, Any], changes: dict[str, object]) -> dict[str, Any]:
    parts = (data, data["health"], *(data["health"][name] for name in ("memory", "containers")))
    for name, value in changes.items():
        next((part for part in parts if name in part), data)[name] = value
    return data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON"),
        (b"[]", "version must be 2"),
        (b"\xff", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b" " * (MOST_BYTES + 1), "more than 262144 bytes"),
        (changed(version=1), "version must be 2 .got 1."),
        (changed(version="x" * 1000), "version must be 2"),
        (changed(resident_bytes="much"), "status.health.memory.resident_bytes must be"),
        (changed(resident_bytes=True), "status.health.memory.resident_bytes must be"),
        (changed(resident_bytes=10**30), "out of all bounds"),
        (changed(time_seconds=1e300), "out of all bounds"),
        (changed(more=1), "unknown"),
        (changed(curve_bytes=[1, 2]), "equally long"),
        (changed(largest=[{"name": "x"}]), "missing"),
        (b'{"version": 2, "within": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_no_status_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ReportFormatError, match=message) as caught:
        process_status.decode(content)
    assert len(str(caught.value)) < 500


@given(
    field=st.sampled_from(
        sorted({*composed().to_dict(), *composed().to_dict()["health"], "private_bytes"})
    ),
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
