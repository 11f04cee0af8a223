from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.leaks.report import Frame, Holder, LeakReport, Suspect
from memguard.report.compare import render_html, render_text
from memguard.report.compare.comparison import Change, Comparison, compare
from tests.html_page import Page
from tests.specimens import MiB, leak_report
from tests.strategies import leak_reports

OPPOSITE = {"better": "worse", "worse": "better", "same": "same", "unknown": "unknown"}


def with_rate(bytes_per_hour: float, **changes: object) -> LeakReport:
    full = leak_report(**changes)
    return replace(full, trend=replace(full.trend, bytes_per_hour=bytes_per_hour))


def with_holders(*holders: Holder) -> LeakReport:
    return leak_report(holders=holders, suspects=(), types=())


def holder(path: str, bytes_per_minute: float | None = 1.0 * MiB, **changes: object) -> Holder:
    fields = {"path": path, "bytes_per_minute": bytes_per_minute, **changes}
    return replace(leak_report().holders[0], **fields)  # type: ignore[arg-type] # reason: tests change any


def kinds(changes: tuple[Change, ...]) -> dict[str, str]:
    return {change.name: change.kind for change in changes}


@settings(max_examples=40)
@given(leak_reports)
def test_a_report_compared_with_itself_has_not_changed(report: LeakReport) -> None:
    comparison = compare(report, report)
    assert comparison.outcome == "same"
    for change in (*comparison.holders, *comparison.suspects, *comparison.types):
        assert change.kind == "same"
        assert change.before_per_minute == change.after_per_minute


@settings(max_examples=40)
@given(leak_reports, leak_reports)
def test_the_other_way_round_it_is_the_opposite(old: LeakReport, new: LeakReport) -> None:
    """Unless a holder of weight is new: one leak for another is worse both ways."""
    there, back = compare(old, new), compare(new, old)
    if there.intruder is None and back.intruder is None:
        assert back.outcome == OPPOSITE[there.outcome]
    for found in (there, back):
        assert found.intruder is None or found.outcome == "worse"


@settings(max_examples=40)
@given(leak_reports, leak_reports)
def test_everything_in_either_report_is_in_the_comparison_once(
    old: LeakReport, new: LeakReport
) -> None:
    comparison = compare(old, new)

    def allocating(report: LeakReport) -> list[Suspect]:
        """What merely called C code meanwhile is as busy as the moment had it."""
        return [suspect for suspect in report.suspects if suspect.callee is None]

    for changes, before, after in (
        (comparison.holders, old.holders, new.holders),
        (comparison.suspects, allocating(old), allocating(new)),
        (comparison.types, old.types, new.types),
    ):
        alone = [change for change in changes if change.kind in ("new", "gone", "unknown")]
        paired = len(changes) - len(alone)
        assert 2 * paired + len(alone) == len(before) + len(after)


@settings(max_examples=40)
@given(leak_reports, leak_reports)
def test_every_rendering_takes_whatever_two_reports_say(old: LeakReport, new: LeakReport) -> None:
    comparison = compare(old, new)
    json.dumps(comparison.to_dict(), allow_nan=False)
    assert Page.of(render_html(comparison)).strangers() == []
    shown = render_text(comparison)
    assert all(line.isprintable() for line in shown.removesuffix("\n").split("\n"))


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (100.0, 50.0, "better"),
        (50.0, 100.0, "worse"),
        (100.0, 81.0, "same"),
        (100.0, 79.0, "better"),
        (100.0, -50.0, "better"),
        (-100.0, 50.0, "worse"),
        (0.4, 0.9, "same"),  # below what readings can tell
        (0.0, 100.0, "worse"),
        (math.nan, 100.0, "unknown"),
        (100.0, math.inf, "unknown"),
        (1e308, -1e308, "better"),
    ],
)
def test_the_whole_is_judged_by_its_rate(before: float, after: float, outcome: str) -> None:
    scale = MiB if abs(before) < 1e300 else 1
    assert compare(with_rate(before * scale), with_rate(after * scale)).outcome == outcome


def test_a_leak_that_is_no_leak_any_more_is_better_whatever_the_rates() -> None:
    old, new = with_rate(100.0 * MiB), with_rate(200.0 * MiB, kind="growth")
    assert compare(old, new).outcome == "better"
    assert compare(new, old).outcome == "worse"
    assert "a leak before, growth that is not classified as one now" in render_text(
        compare(old, new)
    )


@pytest.mark.parametrize("left", [0.5, 2.0, 9.0])
def test_a_new_holder_of_weight_is_worse_whatever_has_left(left: float) -> None:
    old = replace(with_rate(60.0 * left * MiB), holders=(holder("a.FIXED", left * MiB),))
    new = replace(with_rate(60.0 * MiB), holders=(holder("a.OTHER", 0.9 * MiB),))
    found = compare(old, new)
    assert found.outcome == "worse"
    assert render_text(found).startswith("WORSE: another holder than before: a.OTHER\n")


def test_a_new_holder_of_a_fraction_does_not_decide() -> None:
    old = replace(with_rate(600.0 * MiB), holders=(holder("a.FIXED", 10.0 * MiB),))
    small = replace(with_rate(60.0 * MiB), holders=(holder("a.SMALL", 0.1 * MiB),))
    masked = replace(with_rate(24.0 * MiB), holders=(holder("a.MASKED", 0.4 * MiB),))
    bounded = replace(
        with_rate(60.0 * MiB, kind="growth"), holders=(holder("a.CACHE", 0.9 * MiB, bound=99_999),)
    )
    for new in (small, masked, bounded):
        assert compare(old, new).outcome == "better"


def test_what_is_in_libraries_stands_last() -> None:
    full = leak_report()
    library = replace(full.suspects[1], bytes_per_minute=99.0 * MiB)
    old = leak_report(holders=(), suspects=())
    new = leak_report(
        holders=(holder("lib.POOL", 9.0 * MiB, in_user_code=False), holder("app.SEEN")),
        suspects=(library, full.suspects[0]),
    )
    found = compare(replace(old, kind="growth"), new)
    assert [change.name for change in found.holders] == ["app.SEEN", "lib.POOL"]
    assert [change.in_user_code for change in found.suspects] == [True, False]


def test_a_line_is_named_by_the_users_own_and_by_the_librarys_that_it_calls() -> None:
    full = leak_report()
    lib = Frame(file="/venv/lib/python3.11/site-packages/pandas/frame.py", line=778)
    own = Frame(file="/srv/shop/books.py", line=7, function="make", in_user_code=True)
    suspect = replace(full.suspects[0], file=lib.file, line=778, frames=(lib, own))
    report = leak_report(suspects=(suspect,))
    (change,) = compare(report, report, directory="/srv/shop").suspects
    assert change.name == "books.py:7"
    assert change.detail == "make \u2192 pandas/frame.py:778  remember_session"


def test_a_look_on_demand_is_judged_by_its_rate_alone() -> None:
    """It says nothing on whether it is a leak, so nothing follows from its kind."""
    snapshot = with_rate(100.0 * MiB, kind="snapshot")
    assert compare(with_rate(100.0 * MiB), snapshot).outcome == "same"
    assert any("on demand" in note for note in compare(with_rate(1.0), snapshot).notes)


def test_holders_are_new_gone_worse_better_or_the_same() -> None:
    old = with_holders(holder("a.GONE"), holder("a.FASTER"), holder("a.SLOWER"), holder("a.SAME"))
    new = with_holders(
        holder("a.SAME", 1.1 * MiB),
        holder("a.NEW"),
        holder("a.FASTER", 3.0 * MiB),
        holder("a.SLOWER", 0.2 * MiB),
    )
    changes = compare(old, new).holders
    assert [(change.name, change.kind) for change in changes] == [
        ("a.FASTER", "worse"),
        ("a.NEW", "new"),
        ("a.SAME", "same"),
        ("a.SLOWER", "better"),
        ("a.GONE", "gone"),
    ]
    assert (changes[0].before_per_minute, changes[0].after_per_minute) == (MiB, 3.0 * MiB)


def test_of_one_kind_the_fastest_stands_first() -> None:
    old = with_holders(holder("x"))
    new = with_holders(*(holder(f"h{n}", n * MiB) for n in (1.0, 3.0, 2.0)))
    names = [change.name for change in compare(old, new).holders]
    assert names == ["h3.0", "h2.0", "h1.0", "x"]


def test_a_leak_without_holders_did_not_look_and_nothing_follows() -> None:
    blind = with_holders()
    seeing = with_holders(holder("a.X"))
    assert kinds(compare(seeing, blind).holders) == {"a.X": "unknown"}
    assert kinds(compare(blind, seeing).holders) == {"a.X": "unknown"}
    healthy = replace(blind, kind="growth")
    assert kinds(compare(seeing, healthy).holders) == {"a.X": "gone"}


def test_another_type_under_the_same_name_is_another_holder() -> None:
    changes = compare(with_holders(holder("a.X")), with_holders(holder("a.X", type="list"))).holders
    assert sorted(change.kind for change in changes) == ["gone", "new"]


def test_where_sizes_are_not_known_entries_are_compared() -> None:
    old = with_holders(holder("a.X", None, entries_per_minute=100.0))
    new = with_holders(holder("a.X", 5.0 * MiB, entries_per_minute=200.0))
    (change,) = compare(old, new).holders
    assert (change.kind, change.unit) == ("worse", "entries")
    assert (change.before_per_minute, change.after_per_minute) == (100.0, 200.0)
    assert "100 entries/min -> 200 entries/min" in render_text(compare(old, new))


def test_a_local_is_known_again_when_its_function_is_at_another_line() -> None:
    path = "local 'q' of running function app.main (line {}).items"
    (change,) = compare(
        with_holders(holder(path.format(12))), with_holders(holder(path.format(99)))
    ).holders
    assert (change.kind, change.name) == ("same", path.format(99))


def moved(line: int, source: str | None, file: str = "/srv/shop/app.py") -> LeakReport:
    suspect = replace(leak_report().suspects[0], file=file, line=line, source=source, frames=())
    return leak_report(suspects=(suspect,))


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (moved(57, "S[k] = v"), ["same"]),
        (moved(60, "S[k] = v"), ["same"]),  # lines were added above it
        (moved(57, "S[k] = v", "/elsewhere/site-packages/shop/app.py"), ["gone", "new"]),
        (moved(60, "T[k] = v"), ["gone", "new"]),
        (moved(60, None), ["gone", "new"]),
    ],
)
def test_an_allocating_line_is_known_again_where_code_moved(
    new: LeakReport, expected: list[str]
) -> None:
    changes = compare(moved(57, "S[k] = v"), new).suspects
    assert sorted(change.kind for change in changes) == expected


def test_a_package_in_another_environment_is_the_same_code() -> None:
    old = moved(9, None, "/venv/lib/python3.11/site-packages/lib/core.py")
    new = moved(9, None, "/opt/python/lib/python3.12/site-packages/lib/core.py")
    (change,) = compare(old, new).suspects
    assert (change.kind, change.name) == ("same", "lib/core.py:9")


def test_two_lines_without_text_in_one_function_are_not_taken_for_each_other() -> None:
    changes = compare(moved(57, None), moved(60, None)).suspects
    assert sorted(change.kind for change in changes) == ["gone", "new"]


def test_what_may_make_two_reports_incomparable_is_said() -> None:
    old, new = leak_report(), leak_report(python="CPython 3.12.1", detector="other", limits=())
    notes = " ".join(compare(old, new).notes)
    assert "same one" in notes
    assert "CPython 3.11.7, then CPython 3.12.1" in notes
    assert "memguard, then other" in notes
    assert "old report did not see everything" in notes
    assert "new report did not see everything" not in notes


def comparison() -> Comparison:
    old = with_holders(holder("a.OLD"), holder("a.BOTH"))
    new = with_holders(holder("a.BOTH", 9.0 * MiB))
    return compare(old, replace(new, trend=replace(new.trend, bytes_per_hour=500.0 * MiB)))


def test_the_text_says_the_worst_first() -> None:
    lines = render_text(comparison()).splitlines()
    assert lines[0] == "WORSE: it grows faster"
    assert lines[1].startswith("  old  2.0 MiB/min, +61.0 MiB over 96.0 MiB; leak: a.OLD grows")
    assert lines[2].startswith("  new  8.3 MiB/min")
    assert lines[5].split() == ["worse", "1.0", "MiB/min", "->", "9.0", "MiB/min", "a.BOTH", "dict"]
    assert lines[6].split()[:4] == ["gone", "1.0", "MiB/min", "before"]


def test_the_text_shows_so_many_changes_and_counts_the_rest() -> None:
    many = with_holders(*(holder(f"h{n}") for n in range(30)))
    assert "  and 15 more" in render_text(compare(many, many)).splitlines()


def test_the_page_shows_both_sides_and_every_change() -> None:
    page = Page.of(render_html(comparison()))
    for said in ("Worse", "It grows faster", "2.0 MiB/min", "8.3 MiB/min", "a.BOTH", "a.OLD"):
        assert said in page.text
    assert "1.0 MiB/min \u2192 9.0 MiB/min" in page.text


@given(st.sampled_from(["<img src=x onerror=alert(1)>", "</style><script>", "\u202e\x1b"]))
def test_hostile_names_stay_text_in_a_comparison(name: str) -> None:
    full = leak_report(id=name, updated_at=name, detector=name)
    hostile = replace(
        full,
        holders=(holder(name, type=name),),
        suspects=(replace(full.suspects[0], file=name, function=name),),
        types=(replace(full.types[0], name=name),),
    )
    page = render_html(compare(hostile, leak_report()))
    assert Page.of(page).strangers() == []
    assert "\u202e" not in page
