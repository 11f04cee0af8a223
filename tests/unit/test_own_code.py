"""What is memguard's own is told from what is the program's, generated code included."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tracemalloc

import pytest

from memguard.leaks import report
from memguard.leaks.evidence import own_code, tracing
from memguard.leaks.evidence.own_code import is_own_code, is_own_module


@dataclasses.dataclass
class Order:
    """A dataclass of the program."""

    lines: list[int] = dataclasses.field(default_factory=list)


def test_generated_code_of_our_dataclasses_is_ours_and_that_of_others_is_not() -> None:
    own_code.claim_generated_code()
    assert is_own_code(report.Frame.__init__.__code__.co_filename)
    assert Order.__init__.__code__.co_filename == "<string>"


def test_what_generated_code_of_ours_allocates_is_no_site() -> None:
    """One frame a block is all that a first burst records."""
    if tracemalloc.is_tracing():
        pytest.skip("a session of somebody else's is running")
    if tracing.unsupported():
        pytest.skip("tracemalloc is not safe on this interpreter")
    tracer = tracing.Tracer()
    tracer.start(1)
    mine = [tracing.Site(("f", 1)) for _ in range(50)]
    kept = [tracing.Trace() for _ in range(50)]  # whose dicts are made by generated code
    theirs = [Order() for _ in range(50)]
    tracer.photograph()
    sites = tracer.finish().sites
    assert len(mine) == len(kept) == len(theirs)
    generated = [site for site in sites.values() if site.location[0].startswith("<")]
    assert sum(site.count for site in generated) <= 60, "the lists of the program's class alone"


def test_the_name_of_a_module_says_whose_it_is() -> None:
    assert is_own_module("memguard")
    assert is_own_module("memguard.leaks.report")
    assert not is_own_module("memguard_demo")
    assert not is_own_module(None)


def test_nothing_is_imported_or_asked_first_between_two_looks() -> None:
    """What our imports and the caches of ABCs leave behind would be told of as growth."""
    program = """
import gc
import sys
import types
import memguard
from memguard.leaks.evidence import census
seen = []
look = census.read_state
def remembered():
    kinds = [obj for obj in gc.get_objects() if type(obj) is types.BuiltinFunctionType]
    return len([each for each in kinds if each.__name__ == "_destroy"])  # of a cache of an ABC
def count(at):
    found = look(at)
    seen.append((len(sys.modules), remembered()))
    return found
census.read_state = count
for at in range(2):
    memguard.diagnose(seconds=0.1)
seen.append((len(sys.modules), remembered()))
print(*seen, sep="\\n")
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    modules, caches = zip(
        *(row.strip("()").split(", ") for row in run.stdout.splitlines()), strict=True
    )
    assert len(set(modules)) == 1
    assert int(caches[-1]) - int(caches[0]) <= 2, "each of its kind is one row of a report"
