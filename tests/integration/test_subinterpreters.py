"""In a subinterpreter, which tracing would block, detection is refused with a sentence."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

MODULE = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
CREATE = "create('legacy')" if sys.version_info >= (3, 13) else "create(isolated=False)"
ISOLATED = "create()"
MAIN = f"""
import faulthandler, sys
faulthandler.dump_traceback_later(60, exit=True)
import {MODULE} as interpreters
made = interpreters.%s
interpreters.run_string(made, sys.argv[1])
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(MODULE) is None,
    reason="this interpreter comes without subinterpreters",
)


def said_in_a_subinterpreter(call: str, create: str = CREATE) -> str:
    code = (
        f"import memguard\ntry:\n    {call}\n"
        "except memguard.LifecycleError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", MAIN % create, code],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "call",
    [
        "memguard.diagnose(seconds=0)",
        "memguard.LeakDetector().check(seconds=0)",
        "memguard.LeakDetector().start()",
        "memguard.install()",
    ],
)
def test_detection_in_a_subinterpreter_is_refused_with_what_to_do(call: str) -> None:
    said = said_in_a_subinterpreter(call)
    assert "works in the main interpreter only" in said
    assert "WSGIApplicationGroup" in said


@pytest.mark.parametrize("name", ["diagnose(seconds=0)", "LeakDetector()", "install()"])
def test_an_isolated_one_which_loads_no_psutil_is_refused_alike(name: str) -> None:
    said = said_in_a_subinterpreter(f"memguard.{name}.start", ISOLATED)
    assert not said or "works in the main interpreter only" in said
    assert said or name == "LeakDetector()"  # where it can be loaded, it may be made


def test_a_block_is_not_profiled_in_a_subinterpreter() -> None:
    assert "may block the process" in said_in_a_subinterpreter(
        "memguard.profile_memory().__enter__()"
    )


def test_a_tick_by_hand_reads_in_a_subinterpreter_and_traces_nothing() -> None:
    call = "print(memguard.LeakDetector().tick())"
    assert said_in_a_subinterpreter(call).strip() == "30.0"


def test_the_main_interpreter_is_not_refused() -> None:
    code = "from memguard.lifecycle import interpreter; print(interpreter.is_main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
