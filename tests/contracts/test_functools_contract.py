"""CPython's own tests of functools.lru_cache, run against @cached as they are."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

PROGRAM = """
import functools, sys, types, unittest
import test.test_functools as tests
from memguard.bounded.cache.loading.decorator import cached

SINGLE_FLIGHT = sys.argv[1] == "True"
EXPECTED_TO_FAIL = set(sys.argv[2:])


def lru_cache(maxsize=128, typed=False):
    if callable(maxsize):
        return cached(single_flight=SINGLE_FLIGHT)(maxsize)
    return cached(maxsize, typed, single_flight=SINGLE_FLIGHT)


module = types.SimpleNamespace(**{
    name: getattr(functools, name) for name in dir(functools) if not name.startswith("__")
})
module.lru_cache = lru_cache


@lru_cache()
def cached_func(x, y):
    return 3 * x + y


class TestCached(tests.TestLRU, unittest.TestCase):
    module = module
    cached_func = (cached_func,)

    @lru_cache()
    def cached_meth(self, x, y):
        return 3 * x + y

    @staticmethod
    @lru_cache()
    def cached_staticmeth(x, y):
        return 3 * x + y


suite = unittest.TestSuite(
    test
    for test in unittest.defaultTestLoader.loadTestsFromTestCase(TestCached)
    if test.id().rpartition(".")[2] not in EXPECTED_TO_FAIL
)
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
print("RAN", result.testsRun)
sys.exit(not result.wasSuccessful())
"""

CONTRADICTS_SINGLE_FLIGHT = "test_lru_cache_threaded2"
"""It wants several threads to be inside the function for the same argument at the same time."""


@pytest.mark.parametrize("single_flight", [True, False])
def test_cached_passes_the_tests_of_lru_cache(*, single_flight: bool) -> None:
    if importlib.util.find_spec("test.test_functools") is None:
        pytest.skip("this Python comes without its own tests")
    left_out = [CONTRADICTS_SINGLE_FLIGHT] if single_flight else []
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(single_flight), *left_out],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ran = int(done.stdout.rpartition("RAN ")[2])
    assert ran >= 26 - len(left_out)
