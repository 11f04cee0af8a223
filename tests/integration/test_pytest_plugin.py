"""The pytest plugin in a real pytest, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugged import run_pytest

pytestmark = pytest.mark.timeout(180)  # a whole pytest, on a machine that may be busy

LEAKS = """
    import logging, pytest, tracemalloc, unittest

    SEEN = []
    CACHE = {}

    def remember(size):
        SEEN.append(bytearray(size))

    @pytest.mark.memguard(leaks="1KiB")
    def test_a_leak():
        remember(5000)

    @pytest.mark.memguard(leaks="8KiB")
    def test_a_leak_that_is_allowed():
        remember(5000)

    @pytest.mark.memguard(leaks=200)
    def test_nothing_survives(tmp_path, caplog, capsys, monkeypatch, record_property):
        monkeypatch.setenv("SOME", "thing")
        record_property("some", "thing")
        logging.getLogger("some").warning("thing" * 1000)
        print("thing" * 1000)
        (tmp_path / "once").mkdir()
        assert bytearray(5000)

    @pytest.mark.memguard(leaks=200)
    def test_what_is_filled_once_is_no_leak():
        CACHE.setdefault("filled", bytearray(100_000))

    @pytest.mark.memguard(leaks=200)
    def test_what_is_replaced_is_no_leak():
        CACHE["replaced"] = bytearray(100_000)

    LATE = []

    @pytest.mark.memguard(leaks=200)
    def test_a_cache_filled_late_is_no_leak():
        LATE.append(None)
        if len(LATE) == 4:
            CACHE["late"] = bytearray(100_000)

    LOG = bytearray()

    @pytest.mark.memguard(leaks=200)
    def test_what_grows_by_leaps_is_a_leak():
        LOG.extend(b"x" * 600)

    @pytest.fixture
    def built():
        kept = [bytearray(5000)]
        yield kept
        kept.append(bytearray(5000))

    @pytest.mark.memguard(leaks=200)
    def test_what_a_fixture_builds_for_the_test_is_no_leak(built):
        built.append(bytearray(5000))

    @pytest.fixture(scope="module")
    def shared():
        return []

    @pytest.mark.memguard(leaks=200)
    def test_what_piles_up_in_a_wider_fixture_is_a_leak(shared):
        shared.append(bytearray(5000))

    class TestMethods:
        @pytest.mark.memguard(leaks=200)
        def test_an_instance_is_new_for_each_run(self):
            assert not hasattr(self, "kept")
            self.kept = bytearray(5000)

    class TestCases(unittest.TestCase):
        def setUp(self):
            self.kept = bytearray(5000)

        @pytest.mark.memguard(leaks=200)
        def test_of_a_test_case(self):
            for part in range(3):
                with self.subTest(part=part):
                    self.assertTrue(self.kept)

        @pytest.mark.memguard(leaks=200)
        def test_case_that_leaks(self):
            CACHE[len(CACHE)] = "x" * 3000 + str(len(CACHE))

    @pytest.mark.memguard(leaks="1KiB")
    @pytest.mark.parametrize("size", [10, 5000])
    def test_each(size):
        remember(size)

    @pytest.mark.xfail(reason="it leaks, we know", strict=True)
    @pytest.mark.memguard(leaks="1KiB")
    def test_a_known_leak():
        remember(5000)

    @pytest.mark.memguard(leaks="1KiB")
    def test_skipped():
        pytest.skip("no reason")

    @pytest.mark.memguard(leaks="1KiB")
    def test_a_failure_is_its_own():
        assert 1 == 2

    ONCE = []

    @pytest.mark.memguard(leaks="1KiB")
    def test_only_once():
        assert not ONCE, "done before"
        ONCE.append(1)

    @pytest.mark.memguard(leaks="1KiB", limit="1MiB")
    def test_that_stops_tracemalloc():
        tracemalloc.stop()

    @pytest.mark.memguard(leek="1KiB")
    def test_a_misspelt_marker():
        pass
"""


@pytest.mark.stress
def test_what_survives_each_run_is_a_leak_and_nothing_else(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, LEAKS, "--strict-markers", "-W", "error")
    wrong = {
        "test_a_leak": "failed",
        "test_what_grows_by_leaps_is_a_leak": "failed",
        "test_what_piles_up_in_a_wider_fixture_is_a_leak": "failed",
        "test_case_that_leaks": "failed",
        "test_each[5000]": "failed",
        "test_a_known_leak": "skipped",  # which is what an expected failure is to JUnit
        "test_skipped": "skipped",
        "test_a_failure_is_its_own": "failed",
        "test_only_once": "failed",
        "test_that_stops_tracemalloc": "failed",
        "test_a_misspelt_marker": "error",
    }
    expected = {name: wrong.get(name, "passed") for name in result.cases}
    assert result.outcomes() == expected, result.output
    assert len(expected) == 20

    leak = result.cases["test_a_leak"]
    line = LEAKS.splitlines().index("        SEEN.append(bytearray(size))") + 1
    assert "survive each run of this test (allowed: 1.0 KiB)" in leak.text
    assert f"allocated at  test_it.py:{line}  remember" in leak.text
    assert f"←  test_it.py:{line + 4}  test_a_leak" in leak.text
    assert "held by  test_it.SEEN[…]" in leak.text
    assert 4900 < int(leak.properties["memguard.bytes_per_run"]) < 5300
    clean = result.cases["test_nothing_survives"]
    assert int(clean.properties["memguard.runs"]) >= 7
    assert clean.properties["some"] == "thing"
    shared = result.cases["test_what_piles_up_in_a_wider_fixture_is_a_leak"].text
    assert "allocated at  test_it.py:" in shared
    once = result.cases["test_only_once"].text
    assert "passes once, and fails when it is run again: in its call: AssertionError" in once
    stopped = result.cases["test_that_stops_tracemalloc"].text
    assert "cannot be measured for leaks: it stops tracemalloc" in stopped
    assert "takes limit, leaks, warmup, repeat, fail_on (got 'leek')" in result.output


AGAIN = """
    from _pytest.runner import runtestprotocol

    def pytest_runtest_protocol(item, nextitem):
        where = {"nodeid": item.nodeid, "location": item.location}
        item.ihook.pytest_runtest_logstart(**where)
        for attempt in (1, 2):
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if attempt == 2 or all(report.passed for report in reports):
                break
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(**where)
        return True
"""
RETRIED = """
    import pytest

    SEEN = []
    RUNS = []

    @pytest.fixture
    def fails():
        yield
        raise OSError("torn")

    @pytest.mark.memguard(leaks="1KiB", warmup=1, repeat=2)
    def test_that_leaks_at_first():
        RUNS.append(1)
        if len(RUNS) <= 6:
            SEEN.append(bytearray(5000))

    @pytest.mark.memguard(leaks="1KiB", warmup=1, repeat=2)
    def test_whose_teardown_fails(fails):
        pass

    def teardown_module():
        print("torn down")
"""


def test_a_plugin_that_runs_failed_tests_anew_gets_a_new_verdict(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, RETRIED, conftest=AGAIN)
    assert result.outcomes() == {
        "test_that_leaks_at_first": "passed",
        "test_whose_teardown_fails": "error",
    }, result.output
    assert "OSError: torn" in result.cases["test_whose_teardown_fails"].text
    assert "memguard" not in result.cases["test_whose_teardown_fails"].text
