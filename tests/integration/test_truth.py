"""Programs of which the truth is known: the report has the kind, line, holder and share right."""

from __future__ import annotations

import pytest

from tests.truth import programs
from tests.truth.judging import judged

PROGRAMS = {program.name: program for program in programs.composed(200)} | programs.SPECIAL
"""As `benchmarks.truth` runs them, all of them."""


@pytest.mark.parametrize(
    "name",
    [
        "attributes-page-attribute_of_type",
        "cached-buffer-class",
        "counter-global",
        "deque-view-instance",
        "dict-exception-global",
        "list-closure-local",
        "list-record-attribute_of_type",
        "ordered-rows-closure",
        "queue-markup-deep",
        "queue-ndarray-function",
        "set-slots-worker",
        "set-text-deep",
        "two-speeds",
    ],
)
def test_a_report_of_a_leak_says_what_grows_where_and_who_holds_it(name: str) -> None:
    assert judged(PROGRAMS[name]).faults == ()


@pytest.mark.parametrize(
    "name",
    [
        "cycles-off",
        "cycles-threshold_zero",
        "extension-text",
        "native-small",
        "native-sqlite",
        "pile-files",
        "pile-threads",
    ],
)
def test_what_is_not_held_by_a_container_is_called_what_it_is(name: str) -> None:
    assert judged(PROGRAMS[name]).faults == ()


@pytest.mark.parametrize(
    "name",
    [
        "ends-straight",
        "healthy-full_dict",
        "healthy-import_late",
        "healthy-lru_cache_fills",
    ],
)
def test_a_program_that_does_not_leak_raises_no_alarm_or_takes_it_back(name: str) -> None:
    assert judged(PROGRAMS[name]).faults == ()
