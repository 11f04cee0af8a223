"""The data of health: units in names, strict JSON, nothing that is not known."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from typing import Any

from memguard import BoundedCache, MemoryGuard
from memguard.bounded.inventory import InventoryRow
from memguard.report.health.health_report import MOST_CONTAINERS, HealthReport, by_size, health
from memguard.report.state import guard_state
from tests.specimens import leak_report
from tests.waiting import wait_for

UNITS = ("bytes", "seconds", "ratio", "percent", "per_minute", "per_hour", "objects", "blocks")
COUNTS = {
    "findings",
    *(
        "process_id",
        "threads",
        "open_descriptors",
        "allowed_descriptors",
        "asyncio_tasks",
        "pauses",
        "runs",
        "refused_runs",
        "lowered_caches",
        "errors",
    ),
    *("running", "admitted", "refused", "waited", "count", "items", "watching"),
}


def numbers(value: Any, name: str = "") -> list[tuple[str, float]]:
    """Return every number in *value*, with the name it stands under."""
    if isinstance(value, dict):
        return [found for key, each in value.items() for found in numbers(each, key)]
    if isinstance(value, list):
        return [found for each in value for found in numbers(each, name)]
    return [(name, value)] if isinstance(value, int | float) else []


def test_a_guarded_process_tells_how_it_is() -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(maxbytes="1MiB", name="health data")
    cache[1] = bytes(1000)
    with MemoryGuard(limit="100GiB", interval=0.01) as guard:
        wait_for(lambda: guard.level == "ok")
        found = health(guard)
    assert (found.level, found.watching, found.is_critical) == ("ok", True, False)
    assert found.process_id == os.getpid()
    assert found.memory.private_bytes
    assert found.limit.limit_bytes
    assert found.limit.used_ratio is not None
    mine = [row for row in found.containers.largest if row.name == "health data"]
    assert [(row.kind, row.items) for row in mine] == [("BoundedCache", 1)]
    assert mine[0].bytes
    assert found.containers.count >= 1


def test_every_number_has_its_unit_in_its_name() -> None:
    with MemoryGuard(limit="100GiB") as guard:
        known = replace(guard_state(guard), reports=(leak_report(),))
    named = {name for name, _ in numbers(HealthReport.of(known).to_dict())}
    assert "private_bytes" in named
    assert not {name for name in named if not name.endswith(UNITS)} - COUNTS


def test_it_is_strict_json_whatever_the_numbers() -> None:
    with MemoryGuard(limit="100GiB") as guard:
        known = guard_state(guard)
    odd = replace(
        known,
        pressure=replace(known.pressure, bytes_per_minute=math.inf, stall_some=math.nan),
        reports=(leak_report(),),
    )
    found = json.loads(json.dumps(HealthReport.of(odd).to_dict(), allow_nan=False))
    assert found["limit"]["growth_bytes_per_minute"] is None
    assert found["limit"]["stalled_percent"] is None
    assert found["leaks"][0]["holder"] == "leaky_shop.app.SESSIONS"


def test_what_a_stopped_guard_once_saw_is_no_level_of_now() -> None:
    with MemoryGuard(limit="1MiB", interval=0.01, relief=False, leaks=False) as guard:
        wait_for(lambda: guard.level == "critical")
        assert health(guard).is_critical
    after = health(guard)
    assert (after.level, after.watching) == ("insufficient_data", False)
    assert "not running" in after.reasons[0]


def test_parts_that_are_left_out_are_none() -> None:
    found = health(MemoryGuard(relief=False, leaks=False, gc_watch=False, history=False))
    assert (found.relief, found.leaks_state, found.gc, found.leaks) == (None, None, None, ())


def test_the_largest_containers_are_listed_and_all_are_counted() -> None:
    known = guard_state(MemoryGuard(leaks=False))
    rows = tuple(InventoryRow(f"c{n}", "Cache", n, n * 10, None) for n in range(200))
    weightless = InventoryRow("no bytes", "Cache", 10**6, None, None)
    found = HealthReport.of(replace(known, containers=(*rows, weightless))).containers
    assert (found.count, found.bytes) == (201, sum(n * 10 for n in range(200)))
    assert len(found.largest) == MOST_CONTAINERS
    assert found.largest[0].name == "c199"
    assert by_size([*rows, weightless])[-2:] == [weightless, rows[0]]


def test_a_name_that_would_break_a_line_or_never_end_is_made_harmless() -> None:
    known = guard_state(MemoryGuard(leaks=False))
    row = InventoryRow("x" * 10_000 + "\n\x1b[31m\u202e", "Cache", 1, 1, None)
    name = HealthReport.of(replace(known, containers=(row,))).containers.largest[0].name
    assert len(name) < 300
    assert re.fullmatch(r"[ -~]+", name)
