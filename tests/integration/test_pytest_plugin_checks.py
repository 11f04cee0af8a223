"""Limits, the fixture, and how the plugin gets on with others, in a real pytest."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.plugged import PLUGIN, run_pytest

pytestmark = pytest.mark.timeout(180)  # a whole pytest, on a machine that may be busy

LIMITS = """
    import pytest, sys, tracemalloc, unittest

    def load(size):
        table = bytearray(size)
        return len(bytes(table))

    @pytest.mark.memguard(limit="10MiB")
    def test_over_its_limit():
        load(8_000_000)

    @pytest.mark.memguard(limit="20MiB")
    def test_within_its_limit():
        load(8_000_000)

    @pytest.fixture
    def large():
        return bytearray(30_000_000)

    @pytest.mark.memguard(limit="1MiB")
    def test_what_a_fixture_needs_does_not_count(large):
        pass

    @pytest.mark.memguard(limit="1MiB")
    class TestCases(unittest.TestCase):
        def test_case_over_its_limit(self):
            load(2_000_000)

    @pytest.mark.memguard(limit="1KiB", leaks="1KiB", warmup=1, repeat=2)
    def test_over_its_limit_and_leaking():
        KEPT.append(bytearray(5000))

    KEPT = []

    def test_a_block_that_keeps(memguard_check):
        with memguard_check(leaks="1KiB"):
            KEPT.append(bytearray(5000))

    def test_a_block_that_needs(memguard_check):
        with memguard_check(limit="1MiB"):
            load(2_000_000)

    def test_a_block_that_leaves_a_pool(memguard_check):
        from memguard import ObjectPool
        with memguard_check(fail_on="pools"):
            KEPT.append(ObjectPool(object, reset=None, maxsize=1, name="left"))

    def test_a_block_that_does_well(memguard_check):
        with memguard_check(leaks="1KiB", limit="3MiB", fail_on="all") as block:
            load(1_000_000)
        assert block.growth_bytes <= 1024
        assert 1_000_000 < block.peak_bytes < 3_000_000
        assert sys.getprofile() is None

    def test_tracing_ends_with_the_test():
        assert not tracemalloc.is_tracing()

    TABLE = {}

    def test_what_a_block_replaces_is_deducted(memguard_check):
        TABLE[1] = bytearray(5000)
        with memguard_check(leaks="1KiB"):
            TABLE[1] = bytearray(5000)

    def test_an_error_in_a_block_is_the_one_told(memguard_check):
        with pytest.raises(ZeroDivisionError):
            with memguard_check(leaks=0, limit=0, fail_on="all"):
                KEPT.append(bytearray(5000))
                1 / 0

    def keep():
        KEPT.append(bytearray(3000))

    def test_calls_that_keep(memguard_check):
        memguard_check.repeat(keep, leaks="1KiB")

    def test_calls_that_do_well(memguard_check):
        calls = memguard_check.repeat(lambda: load(5000), leaks=200, warmup=3, repeat=4)
        assert calls.bytes_per_run <= 200
        assert calls.runs >= 7

    def test_wrong_options(memguard_check):
        for wrong in ({"leaks": -1}, {"limit": "much"}, {"fail_on": "all that"}):
            with pytest.raises(ValueError, match="must be"):
                memguard_check(**wrong)
        with pytest.raises(TypeError, match="function must be callable"):
            memguard_check.repeat(None)
        with memguard_check() as block:
            pass
        with pytest.raises(RuntimeError, match="runs once"):
            block.__enter__()
"""


@pytest.mark.stress
def test_limits_and_blocks_fail_with_the_line_and_the_holder(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, LIMITS, "-W", "error")
    told = {
        "test_over_its_limit": ["peak (limit: 10.0 MiB)", "held near the peak", "load"],
        "test_case_over_its_limit": ["peak (limit: 1.0 MiB)"],
        "test_over_its_limit_and_leaking": ["survive each run", "at its peak (limit: 1.0 KiB)"],
        "test_a_block_that_keeps": ["survive this block (allowed: 1.0 KiB)", "test_it.KEPT[…]"],
        "test_a_block_that_needs": ["memguard: this block needs", "held near the peak", "load"],
        "test_a_block_that_leaves_a_pool": ["pool 'left', which was not closed"],
        "test_calls_that_keep": ["survive each run of this test", "keep", "held by  test_it.KEPT"],
    }
    expected = {name: "failed" if name in told else "passed" for name in result.cases}
    assert result.outcomes() == expected, result.output
    assert len(expected) == 15
    for name, texts in told.items():
        for text in texts:
            assert text in result.cases[name].text
    peak = result.cases["test_over_its_limit"]
    assert 16_000_000 <= int(peak.properties["memguard.peak_bytes"]) < 17_000_000
    line = 1 + LIMITS.splitlines().index("        table = bytearray(size)")
    assert f"test_it.py:{line}  load" in peak.text
    assert "==== memguard ====" in result.output
    assert "test_it.py::test_over_its_limit\n" in result.output


ALL = """
    import asyncio, random, threading
    import pytest
    from hypothesis import given, settings, strategies

    SEEN = []
    ONCE = []

    def test_a_leak():
        SEEN.append(bytearray(5000))

    def test_clean():
        assert bytearray(5000)

    def test_only_once():
        assert not ONCE
        ONCE.append(1)

    def test_with_subtests(subtests):
        with subtests.test("one"):
            pass

    @pytest.mark.memguard(leaks=None)
    def test_left_out():
        SEEN.append(bytearray(5000))

    @pytest.mark.asyncio
    async def test_a_coroutine_that_leaks():
        await asyncio.sleep(0)
        SEEN.append(bytearray(5000))

    @pytest.mark.asyncio
    async def test_a_coroutine():
        await asyncio.sleep(0)

    @settings(max_examples=20, deadline=None)
    @given(strategies.lists(strategies.integers(), max_size=5))
    def test_a_property(numbers):
        assert sorted(sorted(numbers)) == sorted(numbers)

    @settings(max_examples=5, deadline=None)
    @given(strategies.integers())
    def test_a_property_that_leaks(number):
        SEEN.append([number] * 500)
"""


@pytest.mark.stress
def test_all_tests_can_be_asked_for_leaks_with_other_plugins_on(tmp_path: Path) -> None:
    """Two worker processes, random order, time limits, coroutines and properties."""
    result = run_pytest(
        tmp_path,
        ALL,
        *("--memguard-leaks=2:3", "--memguard-leaks-limit=2KiB"),
        *("-n", "2", "--timeout=90"),
        plugins=[PLUGIN, "xdist", "asyncio", "randomly", "timeout", "hypothesispytest"],
        ini="asyncio_default_fixture_loop_scope = function",
    )
    leaks = {"test_a_leak", "test_a_coroutine_that_leaks", "test_a_property_that_leaks"}
    expected = {name: "failed" if name in leaks else "passed" for name in result.cases}
    assert result.outcomes() == expected, result.output
    assert len(expected) == 9
    once = result.cases["test_only_once"].properties["memguard.not_measured"]
    assert once.startswith("it passes once, and fails when it is run again")
    assert "memguard.bytes_per_run" not in result.cases["test_left_out"].properties
    assert "not measured:" in result.output, "the summary has what the workers reported"
    assert "test_it.py::test_with_subtests: it reports subtests" in result.output


BRANCHES = "".join(f"    if number == {n}:\n        number += 1\n" for n in range(15))
COVERED = """
    {}
    def test_a_block_that_runs_for_the_first_time(memguard_check):
        with memguard_check(leaks="1KiB") as block:
            work(7)
        print("grown by", block.growth_bytes)
"""


def test_what_coverage_notes_is_no_leak(tmp_path: Path) -> None:
    pytest.importorskip("pytest_cov", reason="pytest-cov of the group 'tests' is not installed")
    source = textwrap.dedent(COVERED).format(f"def work(number):\n{BRANCHES}")
    options = ["--cov=test_it", "--cov-branch", "--cov-report=term", "-s"]
    result = run_pytest(tmp_path, source, *options, plugins=[PLUGIN, "pytest_cov"])
    assert [case.outcome for case in result.cases.values()] == ["passed"], result.output
    assert "test_it.py" in result.output, "coverage was measured"


UNUSED = """
    import gc, sys, threading, tracemalloc

    def test_nothing_is_loaded_or_started():
        ours = [name for name in sys.modules if name.startswith("memguard.integrations.testing.")]
        assert ours == ["memguard.integrations.testing.plugin"]
        assert not tracemalloc.is_tracing()
        assert [t.name for t in threading.enumerate()] == ["MainThread"]
        loaded = {"objgraph", "asyncio", "sqlite3", "rich"} & set(sys.modules)
        # From CPython 3.14 on pdb, which pytest loads, loads asyncio.
        assert loaded <= ({"asyncio"} if sys.version_info >= (3, 14) else set())
"""


def test_who_does_not_use_it_gets_nothing_of_it(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, UNUSED, "--strict-markers", "-W", "error")
    assert result.outcomes() == {"test_nothing_is_loaded_or_started": "passed"}, result.output
    assert "memguard" not in result.output


FOREIGN = """
    import pytest, tracemalloc

    SEEN = []
    tracemalloc.start(3)

    def teardown_module():
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 3

    @pytest.mark.memguard(leaks="1KiB", limit="1MiB", warmup=1, repeat=2)
    def test_a_leak():
        SEEN.append(bytearray(5000))

    @pytest.mark.memguard(leaks="1KiB", limit="1MiB", warmup=1, repeat=2)
    def test_clean():
        bytearray(500_000)

    def test_a_block(memguard_check):
        with memguard_check(leaks="1KiB", limit="1MiB"):
            bytearray(5000)
"""


@pytest.mark.stress
def test_a_tracing_session_of_somebody_else_is_used_and_left_running(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, FOREIGN)
    assert result.outcomes() == {
        "test_a_leak": "failed",
        "test_clean": "passed",
        "test_a_block": "passed",
    }, result.output
    assert "held by  test_it.SEEN[…]" in result.output


def installed(folder: Path) -> str:
    """Return a folder from which pytest loads the plugin by its entry point."""
    known = folder / "site" / "memguard_elsewhere-1.0.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: memguard-elsewhere\nVersion: 1.0")
    (known / "entry_points.txt").write_text(f"[pytest11]\nmemguard = {PLUGIN}\n")
    return str(known.parent)


MARKED = """
    import pytest

    @pytest.mark.memguard(leaks="1KiB", repeat=2)
    def test_it():
        pass
"""


def test_it_is_loaded_by_its_entry_point_and_can_be_left_out(tmp_path: Path) -> None:
    path = [installed(tmp_path)]
    loaded = run_pytest(tmp_path, MARKED, "--strict-markers", autoload=True, path=path)
    assert loaded.outcomes() == {"test_it": "passed"}, loaded.output
    assert "memguard.runs" in loaded.cases["test_it"].properties
    without = run_pytest(tmp_path, MARKED, "-p", "no:memguard", autoload=True, path=path)
    assert without.outcomes() == {"test_it": "passed"}, without.output
    assert not without.cases["test_it"].properties
    assert "Unknown pytest.mark.memguard" in without.output


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--memguard-leaks=2", "--memguard-leaks must be WARMUP:RUNS like '2:5'"),
        ("--memguard-fail-on=treads", "--memguard-fail-on must be of threads, tasks"),
    ],
)
def test_a_wrong_option_ends_the_session_with_one_sentence(
    tmp_path: Path, option: str, says: str
) -> None:
    result = run_pytest(tmp_path, MARKED, option)
    assert result.code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: memguard: {says}" in result.output
    assert "Traceback" not in result.output
