"""What the process's memory is for: containers, and what the application names."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest

from memguard.errors import CapacityError, ConfigError
from memguard.observe.children import Family
from memguard.observe.readings import Reading
from memguard.relief import components
from memguard.relief.components import breakdown, register
from tests.relieving import MIB, bytes_in, filled


def read() -> Reading:
    return Reading(at=0.0, anon=100 * MIB)


def test_containers_are_measured_and_counts_are_estimates() -> None:
    cache = filled("component cache", entries=100)
    with (
        register("websockets", count=lambda: 10, unit_bytes="2MiB"),
        register("index", measure=lambda: 30 * MIB, count=lambda: 7),
    ):
        found = breakdown(read=read)
    rows = {row.name: row for row in found.components}
    assert rows["component cache"].how == "measured"
    assert rows["component cache"].bytes == bytes_in(cache)
    assert (rows["websockets"].bytes, rows["websockets"].how) == (20 * MIB, "estimated")
    assert (rows["index"].bytes, rows["index"].count, rows["index"].how) == (
        30 * MIB,
        7,
        "measured",
    )
    assert found.components[0].name == "index", "the largest first"
    assert found.modules is not None
    assert found.unexplained == max(
        0,
        100 * MIB - found.measured - found.estimated - found.modules - (found.allocator_free or 0),
    )
    assert "websockets" not in {row.name for row in breakdown(read=read).components}


def test_a_component_that_fails_is_a_row_that_says_so() -> None:
    def fail() -> int:
        raise ValueError

    with register("broken", count=fail, unit_bytes=1):
        (row,) = (row for row in breakdown(read=read).components if row.name == "broken")
    assert (row.bytes, row.how, row.error) == (None, "unknown", "ValueError")


def test_a_count_without_a_weight_is_shown_and_explains_nothing() -> None:
    with register("sessions of nobody else", count=lambda: 5):
        rows = breakdown(read=read).components
    (row,) = (row for row in rows if row.name == "sessions of nobody else")
    assert (row.count, row.bytes, row.how) == (5, None, "unknown")


def test_it_reads_as_a_table_and_is_plain_data() -> None:
    with register("websockets", count=lambda: 1200, unit_bytes=1000):
        found = breakdown(read=read, family=lambda: Family(children=0, bytes=0, shared=0))
    text = str(found)
    assert re.search(r"websockets +application +1,200 +1.1 MiB +estimated", text)
    assert text.splitlines()[-1].startswith("unexplained")
    assert json.loads(json.dumps(found.to_dict()))["estimated"] == 1_200_000


def test_a_device_is_kept_apart_and_explains_nothing_of_the_memory() -> None:
    with register("weights", measure=lambda: 60 << 30, resource="cuda:0"):
        found = breakdown(read=read)
    (row,) = found.others
    assert (row.name, row.bytes, row.resource) == ("weights", 60 << 30, "cuda:0")
    assert "weights" not in {each.name for each in found.components}
    assert found.overclaimed == 0
    assert found.unexplained is not None
    assert found.unexplained >= 0
    assert str(found).splitlines()[-1].endswith("cuda:0")


def test_claims_above_the_total_are_called_so_and_nothing_is_unexplained() -> None:
    with register("claims too much", measure=lambda: 130 * MIB):
        found = breakdown(read=read)
    assert found.unexplained == 0
    assert found.overclaimed == found.known - 100 * MIB >= 30 * MIB
    assert (found.modules, found.allocator_free) == (0, 0)


def test_what_is_beside_private_memory_has_rows_of_its_own() -> None:
    def full() -> Reading:
        return Reading(at=0.0, anon=100 * MIB, shmem=7 * MIB, file=20 * MIB)

    found = breakdown(read=full, family=lambda: Family(children=2, bytes=50 * MIB, shared=10 * MIB))
    assert (found.total, found.shared, found.files, found.children) == (
        100 * MIB,
        7 * MIB,
        20 * MIB,
        50 * MIB,
    )
    rows = [line.split() for line in str(found).splitlines()]
    assert ["children", "50.0", "MiB", "beside"] in rows


def test_nothing_is_claimed_where_the_total_is_unknown() -> None:
    found = breakdown(read=lambda: Reading(at=0.0))
    assert found.unexplained is None
    assert "unknown" in str(found)


def test_components_are_bounded() -> None:
    with contextlib.ExitStack() as stack:
        for number in range(components.MOST_COMPONENTS):
            stack.enter_context(register(str(number), count=int))
        with pytest.raises(CapacityError, match="close the registrations"):
            register("one more", count=int)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "x"}, ConfigError),
        ({"name": 1, "count": int}, TypeError),
        ({"name": "x", "count": int, "resource": 0}, TypeError),
        ({"name": "x", "count": 3}, TypeError),
        ({"name": "x", "measure": 3}, TypeError),
        ({"name": "x", "measure": int, "unit_bytes": 3}, ConfigError),
        ({"name": "x", "count": int, "unit_bytes": "lots"}, ConfigError),
    ],
)
def test_wrong_registrations_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        register(**options)
