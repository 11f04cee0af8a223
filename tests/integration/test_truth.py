"""Programs of which the truth is known: the report has the kind, line, holder and share right."""

from __future__ import annotations

import pytest

from tests.truth import programs
from tests.truth.judging import judged

MADE = {program.name: program for program in programs.composed(200)}
"""As `benchmarks.truth` runs them, all of them."""


@pytest.mark.parametrize(
    "name",
    [
        "ordered-rows-closure",
        "queue-ndarray-function",
        "set-text-deep",
        "series-worker",
        "attributes-page-attribute_of_type",
        "set-slots-worker",
    ],
)
def test_a_report_of_a_leak_says_what_grows_where_and_who_holds_it(name: str) -> None:
    assert judged(MADE[name]).faults == ()


@pytest.mark.parametrize(
    "name",
    [
        "native-small",
        "native-sqlite",
        "extension-dict",
    ],
)
def test_what_is_not_held_by_a_container_is_called_what_it_is(name: str) -> None:
    assert judged(programs.SPECIAL[name]).faults == ()


@pytest.mark.parametrize(
    "name",
    [
        "healthy-full_dict",
        "healthy-lru_cache_fills",
        "healthy-import_late",
    ],
)
def test_a_program_that_does_not_leak_raises_no_alarm(name: str) -> None:
    assert judged(programs.SPECIAL[name]).faults == ()
