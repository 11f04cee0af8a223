"""Real allocators under a real process: what each holds is measured, and returned when asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MIB = 1024**2
PRELOADED = {
    "jemalloc": ("libjemalloc.so.2",),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc.so.3"),
}
FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloads libraries")

PROGRAM = """
import ctypes, json
from memguard.observe.allocator import read_allocator, trim
from memguard.observe.readings import read_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)

def fill(count):
    blocks = []
    for _ in range(count):
        blocks.append(libc.malloc(16 << 10))
        ctypes.memset(blocks[-1], 1, 16 << 10)
    return blocks

before = read_allocator()
blocks = fill(6400)
held = read_allocator()
keeper = libc.malloc(16 << 10)
for block in blocks:
    libc.free(block)
freed, resident = read_allocator(), read_memory().private
answer = trim()
print(json.dumps({
    "name": held.name, "can_trim": held.can_trim, "answer": answer,
    "in_use": [before.in_use, held.in_use, freed.in_use], "free": [held.free, freed.free],
    "after": read_allocator().free, "private": [resident, read_memory().private],
}))
"""


def library(name: str) -> str:
    for folder in FOLDERS:
        for file in PRELOADED[name]:
            if (path := Path(folder, file)).exists():
                return str(path)
    pytest.skip(f"{name} is not installed here ({' or '.join(PRELOADED[name])})")


def run(program: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["jemalloc", "tcmalloc"])
def test_what_it_holds_is_measured_and_what_is_free_is_returned(name: str) -> None:
    # The decay of jemalloc would return pages by itself, within seconds.
    found = run(PROGRAM, LD_PRELOAD=library(name), MALLOC_CONF="dirty_decay_ms:-1")
    assert (found["name"], found["can_trim"], found["answer"]) == (name, True, True)
    before, held, freed = found["in_use"]
    assert held - before >= 95 * MIB
    assert freed - before <= 10 * MIB
    assert found["free"][1] - found["free"][0] >= 90 * MIB
    assert found["private"][0] - found["private"][1] >= 90 * MIB
    if name == "jemalloc":  # tcmalloc counts what it returned as free, no longer mapped
        assert found["after"] <= 10 * MIB


def test_mimalloc_is_known_and_returns_what_is_free() -> None:
    found = run(PROGRAM, LD_PRELOAD=library("mimalloc"), MIMALLOC_PURGE_DELAY="-1")
    assert (found["name"], found["can_trim"], found["answer"]) == ("mimalloc", True, True)
    assert found["free"] == [None, None]
    assert found["private"][1] <= found["private"][0]


def test_relief_returns_what_jemalloc_keeps() -> None:
    program = PROGRAM.replace(
        "answer = trim()", "import memguard; report = memguard.relieve('90MiB')"
    )
    program = program.replace(
        '"answer": answer', '"steps": {s.name: s.rss_freed for s in report.steps if not s.skipped}'
    )
    found = run(program, LD_PRELOAD=library("jemalloc"), MALLOC_CONF="dirty_decay_ms:-1")
    assert found["steps"]["trim"] >= 90 * MIB, found
