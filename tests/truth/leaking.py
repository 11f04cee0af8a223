"""Programs that leak what no container shows: cycles, memory of C, references, threads, files."""

from __future__ import annotations

import textwrap
from typing import Any

from tests.truth.program import MARK, ROWS, Program, program


def _cycles(name: str, setting: str, source: str) -> Program:
    """Return a program that makes garbage which *setting* keeps the collector from taking."""
    source = f"import gc\n\n{setting}\n\n{textwrap.dedent(source).strip()}\n"
    # The collector will take it in the end where it is on: no alarm is as right as one.
    alarm = None if "00_000" in setting else True
    return program(f"cycles-{name}", source, rate=70, alarm=alarm, kinds=("cycles",), share=None)


_NODE = f"""
class Node:
    def __init__(self, i):
        self.rows = {ROWS}  {MARK}
        self.me = self

def step(i):
    Node(i)
"""
_FAILURE = f"""
def work(i):
    rows = {ROWS}  {MARK}
    try:
        raise ValueError(len(rows))
    except ValueError as error:
        kept = error

def step(i):
    work(i)
"""
_RECURSIVE = f"""
def step(i):
    rows = {ROWS}  {MARK}

    def again(n):
        return again(n - 1) if n else rows

    again(1)
"""
_PARENT = f"""
class Child:
    def __init__(self, parent, i):
        self.parent = parent
        self.rows = {ROWS}  {MARK}

def step(i):
    family = {{}}
    family["child"] = Child(family, i)
"""
_SUSPENDED = f"""
def work(i):
    rows = {ROWS}  {MARK}
    me = yield
    yield me, rows

def step(i):
    job = work(i)
    next(job)
    job.send(job)
"""

CYCLES = [
    _cycles("off", "gc.disable()", _NODE),
    _cycles("threshold_zero", "gc.set_threshold(0)", _NODE),
    _cycles("thresholds_high", "gc.set_threshold(1_000_000, 50, 50)", _NODE),
    _cycles("failure-off", "gc.disable()", _FAILURE),
    _cycles("failure-thresholds_high", "gc.set_threshold(2_000_000, 10, 10)", _FAILURE),
    _cycles("recursive-off", "gc.disable()", _RECURSIVE),
    _cycles("recursive-threshold_zero", "gc.set_threshold(0)", _RECURSIVE),
    _cycles("parent-off", "gc.disable()", _PARENT),
    _cycles("parent-thresholds_high", "gc.set_threshold(500_000, 50, 1000)", _PARENT),
    _cycles("suspended-off", "gc.disable()", _SUSPENDED),
]

_LIBC = """
import ctypes

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.malloc.argtypes = [ctypes.c_size_t]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
LIBC.strdup.restype = ctypes.c_void_p
"""


def _native(name: str, source: str, rate: int, **truth: Any) -> Program:
    source = f"{_LIBC if 'LIBC' in source else ''}\n{textwrap.dedent(source).strip()}\n"
    return program(
        f"native-{name}", source, rate=rate, **{"kinds": ("native",), "share": None, **truth}
    )


NATIVE = [
    _native("large", "def step(i):\n    LIBC.memset(LIBC.malloc(50_000), 1, 50_000)", 5),
    _native("small", "def step(i):\n    LIBC.memset(LIBC.malloc(400), 1, 400)", 600),
    _native("strdup", "def step(i):\n    LIBC.strdup(b'x' * 3000)", 80),
    _native(
        "busy",
        """
        SEEN = []

        def step(i):
            LIBC.memset(LIBC.malloc(20_000), 1, 20_000)
            work = [str(n) for n in range(200)]
            SEEN.append(len(work)); del SEEN[:-20]
        """,
        13,
    ),
    _native(
        "pointers",
        """
        POINTERS = []

        def step(i):
            POINTERS.append(LIBC.malloc(20_000))
            LIBC.memset(POINTERS[-1], 1, 20_000)
        """,
        13,
    ),
    _native(
        "sqlite",
        """
        import sqlite3

        DB = sqlite3.connect(":memory:")
        DB.execute("create table visits (number, page)")

        def step(i):
            DB.execute("insert into visits values (?, ?)", (i, "x" * 3000))
        """,
        80,
    ),
    _native(
        "mapped",
        """
        import mmap

        MAPS = []

        def step(i):
            page = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.write(b"x" * (1 << 16))
            MAPS.append(page)
        """,
        4,
        holders=("shop.MAPS",),
    ),
]


def _leaked(name: str, make: str, rate: int) -> Program:
    source = f"""
import ctypes

class Visit:
    def __init__(self, i):
        self.rows = [i] * 400  {MARK}

def step(i):
    value = {make}  {MARK}
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
"""
    return program(f"extension-{name}", source, rate=rate, kinds=EXTENSION)


EXTENSION = ("live_objects", "extension")
LEAKED = [
    _leaked("bytes", "bytes(20_000 + i % 3)", 13),
    _leaked("text", '"x" * (2_000 + i % 3)', 120),
    _leaked("dict", '{"number": i, "rows": [i] * 300}', 95),
    _leaked("list", "[str(i)] * 500", 60),
    _leaked("instance", "Visit(i)", 75),
]

TWO = program(
    "two-speeds",
    f"""
    FAST = []
    SLOW = {{}}

    def step(i):
        FAST.append(bytes(8_000 + i % 7))  {MARK}
        SLOW[i] = "x" * (1_800 + i % 7)
    """,
    rate=26,
    holders=("shop.FAST",),
    share=0.8,
)

PILES = [
    program(
        "pile-threads",
        f"""
        import threading

        STOP = threading.Event()

        def wait(i):
            STOP.wait()  {MARK}

        def step(i):
            threading.Thread(target=wait, args=(i,), daemon=True).start()  {MARK}
        """,
        rate=4,
        kinds=("threads",),
        lists=("threading._active",),
        share=None,
    ),
    program(
        "pile-tasks",
        f"""
        import asyncio

        LOOP = asyncio.new_event_loop()
        NEVER = asyncio.Event()

        async def job(i):
            rows = {ROWS}  {MARK}
            await NEVER.wait()  {MARK}
            return rows

        async def spawn(i):
            asyncio.create_task(job(i))
            await asyncio.sleep(0)

        def step(i):
            LOOP.run_until_complete(spawn(i))
        """,
        rate=50,
        kinds=("tasks",),
        holders=("shop.NEVER",),
        share=None,
    ),
    program(
        "pile-tasks_kept",
        f"""
        import asyncio

        LOOP = asyncio.new_event_loop()
        NEVER = asyncio.Event()
        PENDING = []

        async def job(i):
            rows = {ROWS}  {MARK}
            await NEVER.wait()  {MARK}
            return rows

        async def spawn(i):
            PENDING.append(asyncio.create_task(job(i)))
            await asyncio.sleep(0)

        def step(i):
            LOOP.run_until_complete(spawn(i))
        """,
        rate=50,
        kinds=("tasks", "live_objects"),
        holders=("shop.PENDING",),
        share=None,
    ),
    program(
        "pile-files",
        """
        import os

        def step(i):
            os.dup(2)
        """,
        rate=10,
        kinds=("files",),
        share=None,
    ),
    program(
        "pile-sockets",
        f"""
        import socket

        OPEN = []

        def step(i):
            OPEN.append(socket.socketpair())  {MARK}
        """,
        rate=6,
        kinds=("sockets",),
        holders=("shop.OPEN",),
        may_hide_its_line=True,
        share=None,
    ),
]
