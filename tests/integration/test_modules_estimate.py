"""What modules take of the memory: an estimate, held against what loading them takes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import importlib, json, sys
sys.dont_write_bytecode = False
from memguard.observe.readings import read_memory
from memguard.observe.modules import module_bytes
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(json.dumps([module_bytes(), read_memory().private, module_bytes()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="private memory of others counts otherwise")
@pytest.mark.parametrize(
    "modules",
    [
        "json,decimal,email.message,http.client",
        "asyncio,unittest,xml.dom.minidom",
        "starlette.applications",
    ],
)
def test_it_is_right_within_a_third(modules: str) -> None:
    for module in modules.split(","):
        pytest.importorskip(module)
    for _ in range(2):  # the first may compile them
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, modules],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    estimate, private, again = json.loads(done.stdout)
    assert estimate == again
    assert estimate == pytest.approx(private, rel=0.34)
