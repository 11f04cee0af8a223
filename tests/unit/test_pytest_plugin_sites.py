"""Whose memory it is, which of it lasts, and how it is told."""

from __future__ import annotations

import sysconfig
from types import ModuleType

import _pytest.fixtures
import pluggy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.integrations.testing.report import MOST_ROWS, Summary, lines_of
from memguard.integrations.testing.sites import (
    Runner,
    by_line,
    grown_each_time,
    heaviest_first,
    without_runner,
)
from memguard.leaks.evidence import tracing
from memguard.leaks.evidence.tracing import Location, Site

RUNNER = Runner()
TEST = ("/home/me/tests/test_shop.py", 7)
SHOP = ("/home/me/shop.py", 12)
PYTEST = (_pytest.fixtures.__file__, 100)
PLUGGY = (pluggy.__file__, 5)
JSON = (sysconfig.get_paths()["stdlib"] + "/json/decoder.py", 3)
OURS = (tracing.__file__, 9)
GENERATED = ("<string>", 4)


def site(*stack: Location, size: int = 100, count: int = 1) -> Site:
    return Site(stack[0], size, count, stack, size)


@pytest.mark.parametrize(
    ("stack", "owned"),
    [
        ((TEST, PYTEST), False),
        ((SHOP, TEST, PYTEST), False),
        ((PYTEST, PLUGGY), True),
        ((PLUGGY,), True),
        ((JSON, TEST, PYTEST), False),
        ((JSON, PYTEST), True),
        ((GENERATED, PYTEST), True),
        ((GENERATED, SHOP), False),
        ((OURS, PYTEST), True),
        ((JSON,), False),
        ((), False),
    ],
)
def test_the_first_frame_that_says_anything_tells_whose_memory_it_is(
    stack: tuple[Location, ...],
    owned: bool,  # noqa: FBT001 - reason: a column of the table
) -> None:
    assert RUNNER.owns(stack) is owned


def test_a_plugin_owns_its_package_and_a_module_only_itself() -> None:
    package = ModuleType("pytest_thing.plugin")
    package.__file__ = "/lib/pytest_thing/plugin.py"
    single = ModuleType("thing.pytest_plugin")
    single.__file__ = "/lib/thing/pytest_plugin.py"
    runner = Runner([package, single, object(), None])
    assert runner.owns([("/lib/pytest_thing/inner/other.py", 1)])
    assert runner.owns([("/lib/thing/pytest_plugin.py", 1)])
    assert not runner.owns([("/lib/thing/core.py", 1)])
    assert not runner.owns([("/lib/pytest_thing_else.py", 1)])


def test_a_line_is_summed_over_its_stacks_and_keeps_the_heaviest() -> None:
    lines = by_line(
        [
            site(SHOP, TEST, PYTEST, size=500),
            site(SHOP, ("/home/me/other.py", 1), size=900),
            site(SHOP, size=-300, count=-1),
            site(PYTEST, size=9000),
        ],
        RUNNER,
    )
    assert set(lines) == {SHOP}
    assert (lines[SHOP].bytes, lines[SHOP].count) == (1100, 1)
    assert lines[SHOP].stack == (SHOP, ("/home/me/other.py", 1))


def test_a_stack_ends_where_the_test_runner_begins() -> None:
    assert without_runner((SHOP, TEST, PYTEST, PLUGGY), RUNNER) == (SHOP, TEST)
    assert without_runner((PYTEST, SHOP), RUNNER) == (PYTEST, SHOP)


def test_only_what_grows_in_every_part_lasts() -> None:
    first = by_line([site(SHOP, TEST, size=10), site(TEST, size=5000)], RUNNER)
    second = by_line([site(SHOP, TEST, size=30), site(JSON, size=70)], RUNNER)
    third = by_line([site(SHOP, TEST, size=20), site(TEST, size=-5000)], RUNNER)
    (lasting,) = grown_each_time([first, second, third])
    assert (lasting.location, lasting.bytes, lasting.count) == (SHOP, 60, 3)


sizes = st.dictionaries(st.sampled_from([SHOP, TEST, JSON]), st.integers(-1000, 1000), max_size=3)


@given(st.lists(sizes, min_size=1, max_size=3))
def test_what_lasts_is_never_more_than_what_was_gained(parts: list[dict[Location, int]]) -> None:
    lines = [by_line([site(place, size=part[place]) for place in part], RUNNER) for part in parts]
    lasting = grown_each_time(lines)
    gained = sum(max(0, size) for part in parts for size in part.values())
    assert sum(line.bytes for line in lasting) <= gained
    assert [line.bytes for line in lasting] == sorted((x.bytes for x in lasting), reverse=True)
    assert all(line.bytes > 0 for line in lasting)


def test_the_text_has_the_heaviest_lines_their_callers_and_their_holders() -> None:
    sites = [site(SHOP, JSON, TEST, size=50_000, count=5)]
    sites += [site((f"/home/me/{n}.py", n), size=1000) for n in range(1, 9)]
    sites += [site(("/home/me/trifle.py", 1), size=1)]
    rows = lines_of(sites, {SHOP: "shop.SEEN\x1b[31m"})
    assert rows[0] == "   +48.8 KiB  (+5 blocks)  allocated at  /home/me/shop.py:12"
    assert rows[1] == "              ←  /home/me/tests/test_shop.py:7"
    assert rows[2] == "              held by  shop.SEEN\\x1b[31m"
    assert rows[3] == "     +1000 B  (+1 block)  allocated at  /home/me/1.py:1"
    assert rows[-1].endswith("at 5 other lines")
    assert heaviest_first(sites) == sites


def test_the_summary_is_bounded_and_says_how_much_it_leaves_out() -> None:
    summary = Summary()
    assert summary.lines() == []
    for n in range(50):
        summary.add(f"test_{n}", {"memguard.bytes_per_run": n, "memguard.runs": 7})
        summary.add(f"test_{n}", {"memguard.not_measured": "no\nreason"})
    summary.add("test_peak", {"memguard.peak_bytes": 2048, "memguard.left_behind": "a thread"})
    lines = summary.lines()
    assert lines[0] == "50 tests measured; surviving each run, at most:"
    assert lines[1] == "        49 B  test_49"
    assert lines[MOST_ROWS] == "        40 B  test_40"
    assert lines[MOST_ROWS + 1 : MOST_ROWS + 3] == [
        "1 test measured; peak, highest first:",
        "     2.0 KiB  test_peak",
    ]
    assert "  test_peak: a thread" in lines
    assert "  test_0: no\\nreason" in lines
    assert lines[-1] == "  and 40 more"
