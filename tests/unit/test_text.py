from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.leaks.report import Frame, Holder, LeakReport, Verdict
from memguard.report.render import render_html
from memguard.report.render.content import explained
from memguard.report.render.text import MAX_LINES, WIDTH, render_text
from memguard.report.render.words import printable
from tests.specimens import leak_report
from tests.strategies import leak_reports

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\r\n\u202eevil\u2028\x9b\udcff"


def test_a_report_reads_from_the_most_important_down() -> None:
    assert render_text(leak_report(), directory="/srv/shop") == (
        "LEAK: leaky_shop.app.SESSIONS grows 1.9 MiB/min\n"
        "  live Python objects; +61.0 MiB over a baseline of 96.0 MiB, 2.0 MiB/min\n"
        "  in 60 readings over 30 min; a steady rise, confidence 0.99\n"
        "  limit 512.0 MiB (cgroup v2 memory.max), reached in about 2 h 55 min at this rate\n"
        "  explained by the holders named: 1.6 MiB/min (79 %); not explained: 437.2 KiB/min "
        "(21 %)\n"
        "  memguard, process 4242, 2026-11-20T05:07:14Z, updated 2026-11-20T05:09:14Z, "
        "1 min 36 s after the start of watching\n"
        "\n"
        "What to do\n"
        "  Bound leaky_shop.app.SESSIONS: give it a maxsize and a ttl (BoundedCache).\n"
        "  - leaky_shop.app.SESSIONS: if it is a cache, replace it with "
        "memguard.BoundedCache(maxsize,\n"
        "    ttl=...)\n"
        "  - 11,240 entries added to one dict and none removed\n"
        "\n"
        "Held by (in 25 min from the first look to the last; sizes estimated from samples)\n"
        "  +48.2 MiB     (+11,240 entries)  held by  leaky_shop.app.SESSIONS : dict\n"
        "                13,002 entries now, about 55.8 MiB, 4.4 KiB each; 1.9 MiB/min in the last "
        "5 min; new ones are str, Session\n"
        "                allocated at  leaky_shop/app.py:57  remember_session  ←  app.py:31  "
        "checkout\n"
        "\n"
        "Also allocated at (alive after tracing)\n"
        "  +3.0 MiB      (120 blocks alive)  jinja2/environment.py:1010  compile\n"
        "\n"
        "Growing types (in 5 min between the last two looks)\n"
        "  +11,240       Session  (13,002 now, 375/min)\n"
        "\n"
        "Not seen\n"
        "  - 48.2 of 61.0 MiB explained; 12.8 MiB outside Python's allocators\n"
        "\n"
        "Cost: traced for 2.0 s, census 310 ms, holders 120 ms, processor time 440 ms\n"
        "      tracer at most 3.0 MiB; CPython 3.11.7\n"
    )


def test_a_first_report_says_of_which_window_its_numbers_are() -> None:
    text = render_text(leak_report(revision=1, gap_seconds=1500.0))
    assert "Held by (in 25 min between two looks; sizes estimated from samples)" in text
    assert "+48.2 MiB     (+11,240 entries, 1.9 MiB/min)  held by" in text
    assert "Also allocated at (alive after 2.0 s of tracing)" in text


def test_a_line_of_next_to_nothing_is_not_worth_a_line() -> None:
    full = leak_report()
    small = replace(full.suspects[1], bytes=500, line=11)
    text = render_text(replace(full, suspects=(*full.suspects, small)))
    assert "jinja2/environment.py:1010" in text
    assert "jinja2/environment.py:11 " not in text
    assert "  and 1 more\n" in text


def test_instances_are_no_entries_of_a_container() -> None:
    """4,598 queues are not a queue of 4,598 entries."""
    (holder,) = leak_report().holders
    queues = replace(
        holder, path="shop.app.main", type="asyncio.Queue", entries=4_598, unit="instances"
    )
    for text in (
        render_text(leak_report(holders=(queues,))),
        render_html(leak_report(holders=(queues,))),
    ):
        assert "instances of asyncio.Queue" in text
        assert "4,598 instances now" in text
        assert "4,598 entries" not in text
    assert "asyncio.Queue, one is  shop.app.main" in render_text(leak_report(holders=(queues,)))


def test_a_buffer_grows_by_bytes() -> None:
    (holder,) = leak_report().holders
    buffer = replace(holder, type="bytearray", entries=5 * 2**20, bytes_per_entry=1, unit="bytes")
    text = render_text(leak_report(holders=(buffer,)))
    assert "5.0 MiB now" in text
    assert "entries" not in text.partition("Held by")[2].partition("Also")[0]


@pytest.mark.parametrize("kind", ["native", "fragmentation"])
def test_lines_of_python_are_not_blamed_for_memory_outside_it(kind: Any) -> None:
    report = leak_report(verdict=Verdict(kind=kind, advice="Look there."))
    for text in (render_text(report), render_html(report)):
        assert "Python lines busy meanwhile" in text
        assert "Python objects that grew meanwhile" in text
        assert "Held by" not in text
        assert "Allocated at" not in text


def test_a_look_on_demand_does_not_call_a_growth_healthy() -> None:
    trend = replace(leak_report().trend, kind="healthy", confidence=1.0)
    report = leak_report(kind="snapshot", trend=trend)
    for text in (render_text(report), render_html(report)):
        assert "healthy" not in text
        assert "confidence" not in text


def test_noise_approaches_no_limit() -> None:
    report = leak_report(kind="snapshot", verdict=Verdict(kind="none", advice=""))
    for text in (render_text(report), render_html(report)):
        assert "not being approached" in text
        assert "reached in about" not in text


@given(st.floats(0, 4), st.floats(0, 2.0**40))
def test_what_is_explained_and_what_is_not_add_up(ratio: float, pace: float) -> None:
    trend = replace(leak_report().trend, bytes_per_hour=pace)
    parts = explained(leak_report(explained_ratio=ratio, trend=trend))
    assert parts is not None
    shares = [int(part.rpartition("(")[2].removesuffix(" %)")) for part in parts]
    assert sum(shares) == 100
    assert min(shares) >= 0


def test_the_users_line_comes_first_and_the_librarys_as_its_callee() -> None:
    full = leak_report()
    library = Frame(file="/venv/lib/python3.11/site-packages/pandas/frame.py", line=778)
    own = Frame(file="/srv/shop/books.py", line=7, function="make", in_user_code=True)
    suspect = replace(
        full.suspects[0], file=library.file, line=778, function="init", frames=(library, own)
    )
    report = replace(full, suspects=(suspect,))
    text = render_text(report, directory="/srv/shop")
    assert "allocated at  books.py:7  make  →  pandas/frame.py:778  init" in text
    page = render_html(report, directory="/srv/shop")
    assert page.index("books.py:7") < page.index("pandas/frame.py:778")


def test_a_stack_without_a_line_of_the_users_says_how_deep_it_was_read() -> None:
    full = leak_report()
    library = Frame(file="/venv/lib/python3.11/site-packages/lib.py", line=9, function="g")
    suspect = replace(full.suspects[1], frames=(library,) * 16)
    report = replace(full, suspects=(suspect,))
    for text in (render_text(report), render_html(report)):
        assert "none of the 16 frames traced is in your code" in text


def test_what_to_do_is_said_in_full_however_much_was_found() -> None:
    full = leak_report()
    words = "put a bound on it, or take entries out when their owner is done with them " * 2
    holders = tuple(
        replace(full.holders[0], path=f"shop.app.THING_{n}", advice=f"{words}({n})")
        for n in range(10)
    )
    report = replace(
        full,
        holders=holders,
        suspects=full.suspects[1:] * 20,
        types=full.types * 20,
        limits=("could not see this, for a reason that takes a while to tell: " * 3,) * 12,
    )
    text = " ".join(render_text(report).split())
    for n in range(3):
        assert f"shop.app.THING_{n}: {' '.join(f'{words}({n})'.split())}" in text


@settings(max_examples=40)
@given(leak_reports)
def test_no_report_has_more_than_sixty_lines_or_a_character_that_acts(report: LeakReport) -> None:
    text = render_text(report)
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) <= MAX_LINES
    assert all(line.isprintable() for line in lines)


def test_the_fullest_report_still_fits_and_says_how_much_was_left_out() -> None:
    full = leak_report()
    long_name = "name" * 40
    suspects = tuple(
        replace(full.suspects[0], file=f"/{long_name}/{n}.py", held_by=f"holder{n // 2}")
        for n in range(40)
    )
    report = replace(
        full,
        holders=tuple(replace(full.holders[0], path=f"holder{n}") for n in range(20)),
        suspects=suspects,
        types=full.types * 20,
        limits=("could not see this, for a reason that takes a while to tell: " * 9,) * 12,
        verdict=replace(full.verdict, advice="do this and that; " * 99, reasons=("why",) * 9),
    )
    text = render_text(report)
    assert text.count("\n") <= MAX_LINES
    assert "and 16 more" in text
    for heading in ("Held by", "Also allocated at", "Growing types", "What to do", "Not seen"):
        assert heading in text
    assert text.rstrip().endswith("CPython 3.11.7")


def test_a_modest_report_is_shown_whole() -> None:
    full = leak_report()
    report = replace(full, holders=full.holders * 7, types=full.types * 7)
    assert "more" not in render_text(report)


def test_a_hostile_name_does_nothing_to_a_terminal() -> None:
    full = leak_report()
    report = replace(
        full,
        detector=HOSTILE,
        python=HOSTILE,
        limits=(HOSTILE,),
        holders=(
            replace(full.holders[0], path=HOSTILE, type=HOSTILE, entry_types=(HOSTILE,)),
            replace(full.holders[0], path="p", inventory_name=HOSTILE),
        ),
        suspects=(replace(full.suspects[1], file=HOSTILE, function=HOSTILE),),
        types=(replace(full.types[0], name=HOSTILE),),
        trend=replace(full.trend, kind=HOSTILE, limit_source=HOSTILE),
        verdict=Verdict(kind="unknown", advice=HOSTILE, reasons=(HOSTILE,)),
    )
    text = render_text(report)
    assert all(line.isprintable() for line in text.removesuffix("\n").split("\n"))
    assert text.count(r"\x1b]0;owned\x07\x1b[2J") >= 9
    assert r"\u202eevil\u2028\x9b\udcff" in text


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("plain", "plain"),
        ("caf\u00e9 \u6771\u4eac \U0001f40d", "caf\u00e9 \u6771\u4eac \U0001f40d"),
        ("a\tb\nc\x00", r"a\tb\nc\x00"),
        ("'quoted' \"twice\" \\", "'quoted' \"twice\" \\"),
        ("\u200bzero\ufeff", r"\u200bzero\ufeff"),
        ("\xa0", r"\xa0"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_only_what_a_terminal_would_not_print_is_escaped(given_text: str, expected: str) -> None:
    assert printable(given_text) == expected


def test_an_absurdly_long_name_keeps_its_two_ends() -> None:
    shown = printable("a" * 10_000 + "z" * 10_000)
    assert shown == "a" * 100 + "..." + "z" * 100


def file_shown(file: str, directory: str) -> str:
    full = leak_report()
    suspect = replace(full.suspects[1], file=file, line=5, function="f")
    text = render_text(replace(full, suspects=(suspect,)), directory=directory)
    return next(line for line in text.splitlines() if ":5  f" in line).split()[-2]


@pytest.mark.parametrize(
    ("file", "directory", "expected"),
    [
        ("/srv/shop/app.py", "/srv/shop", "app.py:5"),
        ("/srv/shop/app.py", "/srv/shop/", "app.py:5"),
        ("/srv/shopping/app.py", "/srv/shop", "/srv/shopping/app.py:5"),
        ("/srv/shop/app.py", "", "/srv/shop/app.py:5"),
        ("/srv/shop/app.py", "/", "/srv/shop/app.py:5"),
        ("/srv/.venv/lib/python3.11/site-packages/a/b.py", "/srv", "a/b.py:5"),
        ("/usr/lib/python3/dist-packages/a.py", "/srv", "a.py:5"),
        ("/usr/lib/python3.13t/json/decoder.py", "/srv", "python3.13t/json/decoder.py:5"),
        ("C:\\shop\\app.py", "C:\\shop", "app.py:5"),
        ("C:\\venv\\Lib\\site-packages\\a\\b.py", "D:\\", "a\\b.py:5"),
        ("<string>", "/srv", "<string>:5"),
    ],
)
def test_file_names_are_as_short_as_they_stay_clear(
    file: str, directory: str, expected: str
) -> None:
    assert file_shown(file, directory) == expected


def test_the_current_directory_is_what_file_names_are_relative_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full = leak_report()
    suspect = replace(full.suspects[1], file=f"{tmp_path}/pkg/mod.py", line=5)
    assert "  pkg/mod.py:5  compile" in render_text(replace(full, suspects=(suspect,)))


def test_a_deleted_current_directory_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError):
        Path.cwd()
    assert render_text(leak_report()).startswith("LEAK: ")


def test_the_caller_named_is_the_nearest_in_the_users_own_code() -> None:
    full = leak_report()
    library = Frame(file="/venv/lib/python3.11/site-packages/lib.py", line=9, function="g")
    site, own = (
        Frame(file=f"/srv/shop/{name}.py", line=7, function=name, in_user_code=True)
        for name in ("jobs", "views")
    )
    suspect = replace(
        full.suspects[1],
        file=site.file,
        line=7,
        function="jobs",
        frames=(site, library, library, own),
    )
    text = render_text(replace(full, suspects=(suspect,)), directory="/srv/shop")
    assert "jobs.py:7  jobs  ←  views.py:7  view" in text


def test_a_chain_too_long_for_a_line_takes_two() -> None:
    full = leak_report()
    file = "/very/long/" + "path/" * 15 + "module.py"
    first, *others = full.suspects[0].frames
    suspect = replace(full.suspects[0], file=file, frames=(replace(first, file=file), *others))
    lines = render_text(replace(full, suspects=(suspect,))).splitlines()
    (caller,) = (n for n, line in enumerate(lines) if line.lstrip().startswith("←  "))
    assert lines[caller - 1].endswith("module.py:57  remember_session")


def test_what_is_unknown_is_called_unknown() -> None:
    full = leak_report()
    holder = Holder(
        path="frames of a thread",
        type="list",
        entries=5,
        entries_added=5,
        entries_per_minute=1.0,
        bytes_per_entry=None,
        bytes_added=None,
        bytes_per_minute=None,
        anchored=False,
        inventory_name="sessions",
    )
    report = replace(
        full,
        holders=(holder,),
        explained_ratio=math.nan,
        trend=replace(
            full.trend, confidence=math.nan, seconds_to_limit=None, bytes_per_hour=math.nan
        ),
    )
    text = render_text(report)
    assert "size unknown  (+5 entries)  held by  frames of a thread : list" in text
    assert "registered as sessions; no named object was found above it" in text
    assert "confidence unknown" in text
    assert "explained by the holders named: an unknown part" in text
    assert "not being approached" in text
    assert "nan" not in text


def test_an_empty_report_has_no_empty_sections() -> None:
    report = leak_report(
        kind="snapshot",
        revision=1,
        suspects=(),
        holders=(),
        types=(),
        limits=(),
        explained_ratio=None,
        verdict=Verdict(kind="none", advice=""),
    )
    text = render_text(report)
    assert text.startswith("One look on demand: no growth that lasts\n")
    for heading in ("Held by", "llocated at", "Growing types", "What to do", "Not seen", "updated"):
        assert heading not in text


def test_prose_is_wrapped_to_the_width_and_indented() -> None:
    report = leak_report(verdict=Verdict(kind="native", advice="look there, " * 20))
    lines = render_text(report).splitlines()
    start = lines.index("What to do") + 1
    assert all(line.startswith(("  look", "  there")) for line in lines[start : start + 2])
    assert max(map(len, lines[start : start + 3])) <= WIDTH
