from __future__ import annotations

import dataclasses
import json
import math
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.errors import ReportFormatError
from memguard.leaks.report import LeakReport
from memguard.report.render.json import parse_json, render_json
from tests.specimens import leak_report
from tests.strategies import leak_reports

SCHEMA = Path(__file__).parents[2] / "docs" / "report-schema.md"


@settings(max_examples=40)
@given(leak_reports)
def test_a_report_survives_its_json(report: LeakReport) -> None:
    assert parse_json(render_json(report)) == report


@settings(max_examples=40)
@given(leak_reports)
def test_the_json_is_plain_ascii_that_any_parser_reads(report: LeakReport) -> None:
    text = render_json(report)
    assert text.isascii()
    assert json.loads(text) == report.to_dict()


def test_a_number_that_is_not_finite_is_null() -> None:
    text = render_json(leak_report(uptime_seconds=math.inf))
    assert json.loads(text)["uptime_seconds"] is None
    assert math.isnan(parse_json(text).uptime_seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"report"',
        '{"schema_version": NaN}',
        '{"schema_version": 1}',
        pytest.param("[" * 200_000, id="deep"),
        pytest.param('{"schema_version": ' + "9" * 10_000 + "}", id="a long int"),
        render_json(leak_report())[:-40],
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ReportFormatError):
        parse_json(text)


@given(st.text())
def test_any_text_is_either_a_report_or_refused(text: str) -> None:
    with pytest.raises(ReportFormatError):
        parse_json(text)


def fields_of(kind: Any, prefix: str = "") -> list[str]:
    """Return the path of every field of a report, as the schema's document writes it."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        if name not in {field.name for field in dataclasses.fields(kind)}:
            continue
        inner = [arm for arm in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(arm)]
        many = typing.get_origin(hint) is tuple
        path = f"{prefix}{name}{'[]' if many else ''}"
        found.append(path)
        for part in inner:
            found += fields_of(part, f"{path}.")
    return found


def documented() -> dict[str, list[str]]:
    rows = [line.strip("|").split("|") for line in SCHEMA.read_text("utf-8").splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    return {row[0].strip("`"): row[1:] for row in cells if row[0].startswith("`") and len(row) == 4}


def test_the_schema_document_names_each_field_and_no_other() -> None:
    assert list(documented()) == fields_of(LeakReport)


def test_the_schema_document_tells_type_unit_and_meaning_of_each_field() -> None:
    assert all(all(cells) for cells in documented().values())


def test_the_schema_document_gives_each_field_the_unit_of_its_name() -> None:
    for path, (_type, unit, _meaning) in documented().items():
        for word, expected in (
            ("bytes_per_hour", "bytes per hour"),
            ("bytes_per_minute", "bytes per minute"),
            ("_seconds", "seconds"),
            ("_bytes", "bytes"),
        ):
            if path.endswith(word):
                assert unit == expected, path
                break
