from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings

from memguard.errors import ReportFormatError
from memguard.leaks.report import (
    SCHEMA_VERSION,
    Frame,
    LeakReport,
    ResourceGroup,
    ResourceGrowth,
    Verdict,
)
from tests.specimens import MiB, leak_report
from tests.strategies import leak_reports


@settings(max_examples=40)
@given(leak_reports)
def test_a_report_survives_its_dict(report: LeakReport) -> None:
    assert LeakReport.from_dict(report.to_dict()) == report


@settings(max_examples=40)
@given(leak_reports)
def test_the_dict_is_what_json_can_carry(report: LeakReport) -> None:
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()


def test_a_report_cannot_be_changed_after_it_was_made() -> None:
    with pytest.raises(FrozenInstanceError):
        leak_report().revision = 2  # type: ignore[misc] # reason: wrong on purpose


def test_a_printed_report_says_in_three_lines_what_grew_who_holds_it_and_where() -> None:
    assert str(leak_report()) == (
        "leak 20261120T050714-4242-1: leaky_shop.app.SESSIONS grows 1.9 MiB/min; "
        "+61.0 MiB in 30 min\n"
        "  held by       leaky_shop.app.SESSIONS : dict\n"
        "  allocated at  /srv/shop/leaky_shop/app.py:57  remember_session"
    )


def test_a_line_is_printed_only_where_it_is_the_holders_own() -> None:
    """Who reads the two lines together takes the second for the first one's."""
    holder, other = leak_report().holders[0], leak_report().suspects[1]
    assert other.held_by is None
    unplaced = leak_report(holders=(replace(holder, site=None),), suspects=(other,))
    assert len(str(unplaced).splitlines()) == 2
    site = Frame(file="/srv/shop/late.py", line=3)
    placed = leak_report(holders=(replace(holder, site=site),), suspects=(other,))
    assert str(placed).endswith("\n  allocated at  /srv/shop/late.py:3")


def test_without_a_holder_the_first_suspect_is_printed_and_without_both_one_line() -> None:
    suspect = leak_report().suspects[1]
    assert f"{suspect.file}:{suspect.line}" in str(leak_report(holders=(), suspects=(suspect,)))
    nothing = leak_report(
        kind="snapshot", holders=(), suspects=(), verdict=Verdict(kind="none", advice="")
    )
    assert str(nothing).startswith("snapshot 20261120T050714-4242-1: no growth that lasts; ")
    assert "\n" not in str(nothing)


@settings(max_examples=40)
@given(leak_reports)
def test_no_printed_report_has_more_than_three_lines_or_a_character_that_acts(
    report: LeakReport,
) -> None:
    lines = str(report).split("\n")
    assert len(lines) <= 3
    assert all(line.isprintable() for line in lines)


def test_a_number_that_is_not_finite_becomes_none_and_reads_back_as_not_a_number() -> None:
    report = leak_report(uptime_seconds=math.inf, explained_ratio=math.nan)
    data = report.to_dict()
    assert data["uptime_seconds"] is None
    assert data["explained_ratio"] is None
    back = LeakReport.from_dict(data)
    assert math.isnan(back.uptime_seconds)
    assert back.explained_ratio is None


def test_a_whole_number_is_welcome_where_a_number_is_asked() -> None:
    data = {**leak_report().to_dict(), "uptime_seconds": 3}
    assert LeakReport.from_dict(data).uptime_seconds == 3.0


def wrong(path: str, value: Any) -> dict[str, Any]:
    """Return a good report's dict with one field changed; ``.`` and digits walk into it."""
    data: Any = leak_report().to_dict()
    place = data
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = value
    result: dict[str, Any] = data
    return result


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("id", 7, r"report\.id must be a string \(got 7\)"),
        ("pid", "7", r"report\.pid must be a whole number \(got '7'\)"),
        ("pid", True, r"report\.pid must be a whole number \(got True\)"),
        ("uptime_seconds", "soon", r"report\.uptime_seconds must be a number \(got 'soon'\)"),
        ("uptime_seconds", 10**400, "must be a finite number .got an int of 1329 bits"),
        ("kind", "bug", r"report\.kind must be one of 'leak', 'growth', 'snapshot' \(got 'bug'\)"),
        ("kind", ["leak"], r"report\.kind must be one of .* \(got list\)"),
        ("suspects", {}, r"report\.suspects must be a list \(got dict\)"),
        ("suspects.0", 1, r"report\.suspects\[0\] must be an object \(got 1\)"),
        ("suspects.1.line", 1.5, r"report\.suspects\[1\]\.line must be a whole number"),
        ("suspects.0.frames.2.in_user_code", 1, r"frames\[2\]\.in_user_code must be true or false"),
        ("holders.0.path", None, r"report\.holders\[0\]\.path must be a string \(got None\)"),
        ("verdict", None, r"report\.verdict must be an object \(got None\)"),
        ("surprise", 1, r"report has missing \[\] and unknown \['surprise'\] fields"),
        ("cost.surprise", 1, r"report\.cost has missing \[\] and unknown \['surprise'\] fields"),
        ("schema_version", 99, r"schema_version must be 1 \(got 99\); read the report with"),
        ("limits", ["x", None], r"report\.limits\[1\] must be a string \(got None\)"),
        ("detector", b"x", r"report\.detector must be a string \(got bytes\)"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(ReportFormatError, match=message):
        LeakReport.from_dict(wrong(path, value))


def test_a_missing_field_is_named() -> None:
    data = leak_report().to_dict()
    del data["holders"][0]["entries"]
    with pytest.raises(ReportFormatError, match=r"holders\[0\] has missing \['entries'\]"):
        LeakReport.from_dict(data)


@pytest.mark.parametrize("data", [None, [], "report", {}, {"schema_version": None}])
def test_what_is_no_report_is_refused(data: Any) -> None:
    with pytest.raises(ReportFormatError, match=f"schema_version must be {SCHEMA_VERSION}"):
        LeakReport.from_dict(data)


def test_a_hostile_value_does_not_make_a_long_message() -> None:
    with pytest.raises(ReportFormatError) as refused:
        LeakReport.from_dict(wrong("kind", "x" * 10**6))
    assert len(str(refused.value)) < 300


def test_the_user_frame_is_the_nearest_one_in_the_users_own_code() -> None:
    suspect = leak_report().suspects[0]
    library = Frame(file="lib.py", line=1)
    assert suspect.user_frame == suspect.frames[0]
    assert replace(suspect, frames=(library, *suspect.frames)).user_frame == suspect.frames[0]
    assert replace(suspect, frames=(library,)).user_frame is None


def test_growth_is_the_level_over_the_baseline() -> None:
    assert leak_report().trend.growth_bytes == 61 * 1024**2


def test_the_headline_names_what_grows_and_its_own_rate() -> None:
    assert leak_report().headline == "leaky_shop.app.SESSIONS grows 1.9 MiB/min"
    assert leak_report(kind="growth").headline == "leaky_shop.app.SESSIONS grew 48.2 MiB"


def test_the_headline_does_not_blame_a_holder_of_a_fraction() -> None:
    small = replace(leak_report().holders[0], bytes_per_minute=0.1 * MiB)
    assert leak_report(holders=(small,)).headline == (
        "memory grows 2.0 MiB/min: live Python objects, some held by leaky_shop.app.SESSIONS"
    )


def test_the_headline_of_memory_outside_python_names_no_holder_and_no_line() -> None:
    native = leak_report(verdict=Verdict(kind="native", advice=""))
    assert native.headline == "memory grows 2.0 MiB/min: memory outside Python's allocators"
    assert native.place is None


def test_the_headline_of_instances_is_no_path_to_one_of_them() -> None:
    queues = replace(leak_report().holders[0], type="asyncio.queues.Queue", unit="instances")
    assert leak_report(holders=(queues,)).headline == (
        "instances of asyncio.queues.Queue pile up: memory grows 1.9 MiB/min"
    )


def test_the_place_of_a_report_is_the_users_line_though_a_library_allocates() -> None:
    library = Frame(file="/venv/lib/python3.11/site-packages/pandas/core/frame.py", line=778)
    mine = Frame(file="/srv/shop/app.py", line=12, in_user_code=True)
    (holder,) = leak_report().holders
    suspect = replace(
        leak_report().suspects[0],
        file=library.file,
        line=778,
        frames=(library, mine),
        held_by=holder.path,
    )
    assert leak_report(suspects=(suspect,)).place == mine


def test_the_place_of_a_pile_is_that_of_its_own_kind() -> None:
    files, tasks = (
        ResourceGroup(name=name, count=9, added=9, begins_at=Frame(file=name, line=line))
        for name, line in (("files.py", 3), ("tasks.py", 7))
    )
    piles = (
        ResourceGrowth(kind="files", count=9, added=9, per_minute=9.0, groups=(files,)),
        ResourceGrowth(kind="tasks", count=9, added=9, per_minute=9.0, groups=(tasks,)),
    )
    verdict = Verdict(kind="tasks", advice="")
    assert leak_report(verdict=verdict, resources=piles).place == tasks.begins_at
    assert leak_report(verdict=verdict, resources=piles[:1]).place is None


def test_a_headline_is_no_way_to_something_without_a_name() -> None:
    (holder,) = leak_report().holders
    lost = replace(holder, path="<dict>[…], held by nothing that Python can see", anchored=False)
    assert leak_report(holders=(lost,)).headline == "memory grows 2.0 MiB/min: live Python objects"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\u202e"])
def test_a_headline_is_one_printable_line(name: str) -> None:
    holder = replace(leak_report().holders[0], path=name)
    assert leak_report(holders=(holder,)).headline.isprintable()
