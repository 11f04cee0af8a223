"""What the process's memory is for: containers, and what the application names."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest

from memguard.errors import CapacityError, ConfigError
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
    assert found.unexplained == 100 * MIB - found.measured - found.estimated
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
        found = breakdown(read=read)
    text = str(found)
    assert re.search(r"websockets +application +1,200 +1.1 MiB +estimated", text)
    assert text.splitlines()[-1].startswith("unexplained")
    assert json.loads(json.dumps(found.to_dict()))["estimated"] == 1_200_000


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
        ({"name": "x", "count": 3}, TypeError),
        ({"name": "x", "measure": 3}, TypeError),
        ({"name": "x", "measure": int, "unit_bytes": 3}, ConfigError),
        ({"name": "x", "count": int, "unit_bytes": "lots"}, ConfigError),
    ],
)
def test_wrong_registrations_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        register(**options)
