"""
Programs made of parts, so that what is true of each is known: what grows, where, and who holds it.

A program is the source of a module ``shop`` that has ``step(i)``, or ``main(tick)``, which calls
``tick()`` for each number itself. Lines that end in ``# <- allocates`` make what leaks.
"""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MARK = "# <- allocates"
BYTES_A_READING = 160 * 1024
"""What a leak adds from one reading to the next, about."""
LIVE = ("live_objects",)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and the truth about it."""

    name: str
    source: str
    rate: int
    """Steps from one reading to the next."""
    alarm: bool | None = True
    """Whether it leaks; None where it does in part, and an alarm is as right as none."""
    kinds: tuple[str, ...] = LIVE
    """Verdicts that are true."""
    holders: tuple[str, ...] = ()
    """The path of the first holder begins with one of these; empty where none has a name."""
    share: float | None = 1.0
    """Of what it leaks, held by the first holder; None where that is not measured."""
    readings: int = 150
    """After which a program without an alarm ends."""
    ends: bool = False
    """Whether its growth ends, and no finding may be open when the program does."""
    at_the_end: tuple[str, ...] = ()
    """Verdicts of a look on demand at the end that are true; empty where none is taken."""
    needs: tuple[str, ...] = ()
    """Packages that it imports."""

    may_hide_its_line: bool = False
    """Whether it may allocate nothing while it is traced: a buffer has room to grow into."""

    @property
    def lines(self) -> set[int]:
        """The numbers of the lines that allocate what leaks."""
        lines = self.source.splitlines()
        return {number for number, text in enumerate(lines, 1) if text.endswith(MARK)}


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What one step leaks: ``make(i)``, and about how many bytes that is."""

    source: str
    size: int
    hashable: bool = True
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Container:
    """Where it is put: an expression for an empty one, and a statement with STORE, i and value."""

    new: str
    put: str
    overhead: int = 50
    hashable_only: bool = False
    has_payload: bool = True
    is_buffer: bool = False
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds the container: a source with NEW and PUT, and the path that leads there."""

    source: str
    paths: tuple[str, ...]


ROWS = '["%d-%d" % (i, k) for k in range(40)]'

PAYLOADS: dict[str, Payload] = {
    "text": Payload(source=f'def make(i):\n    return "visitor %d" % i  {MARK}', size=60),
    "pair": Payload(
        source=f'def make(i):\n    return (i, "pair %d" % i, i * 1.5)  {MARK}', size=190
    ),
    "record": Payload(
        source=f'def make(i):\n    return {{"id": i, "name": "n%d" % i, "tags": [i]}}  {MARK}',
        size=380,
        hashable=False,
    ),
    "instance": Payload(
        source=f"""
        class Visit:
            def __init__(self, i):
                self.basket = bytearray(600)  {MARK}
                self.number = i

        def make(i):
            return Visit(i)
        """,
        size=800,
    ),
    "slots": Payload(
        source=f"""
        class Visit:
            __slots__ = ("basket", "number")

        def make(i):
            visit = Visit()
            visit.number = i
            visit.basket = "b" * (400 + i % 3)  {MARK}
            return visit
        """,
        size=520,
    ),
    "rows": Payload(source=f"def make(i):\n    return {ROWS}  {MARK}", size=2900, hashable=False),
    "buffer": Payload(
        source=f"def make(i):\n    return bytearray(20_000 + i % 7)  {MARK}",
        size=20_000,
        hashable=False,
    ),
    "page": Payload(source=f'def make(i):\n    return "%020d" % i * 1_000  {MARK}', size=20_000),
    "blob": Payload(source=f'def make(i):\n    return b"%020d" % i * 1_500  {MARK}', size=30_000),
    "markup": Payload(
        source=f"""
        class Markup(str):
            __slots__ = ()

        def make(i):
            return Markup("%020d" % i * 450)  {MARK}
        """,
        size=9_000,
    ),
    "packet": Payload(
        source=f"""
        class Packet(bytes):
            pass

        def make(i):
            return Packet(b"%020d" % i * 450)  {MARK}
        """,
        size=9_000,
    ),
    "samples": Payload(
        source=f"""
        import array

        ZERO = array.array("d", [0.0])

        def make(i):
            return ZERO * (2_500 + i % 7)  {MARK}
        """,
        size=20_000,
        hashable=False,
    ),
    "ndarray": Payload(
        source=f"""
        import numpy

        def make(i):
            return numpy.ones(4_000 + i % 7)  {MARK}
        """,
        size=32_000,
        hashable=False,
        needs=("numpy",),
    ),
    "view": Payload(
        source=f"""
        import numpy

        def make(i):
            return numpy.ones(4_000 + i % 7)[:10]  {MARK}
        """,
        size=32_000,
        hashable=False,
        needs=("numpy",),
    ),
    "generator": Payload(
        source=f"""
        def work(i):
            rows = {ROWS}  {MARK}
            yield len(rows)
            yield rows

        def make(i):
            job = work(i)
            next(job)
            return job
        """,
        size=3200,
    ),
    "coroutine": Payload(
        source=f"""
        class Pause:
            def __await__(self):
                yield

        async def work(i):
            rows = {ROWS}  {MARK}
            await Pause()
            return rows

        def make(i):
            job = work(i)
            job.send(None)
            return job
        """,
        size=3400,
    ),
    "closure": Payload(
        source=f"""
        def make(i):
            rows = {ROWS}  {MARK}

            def later():
                return rows

            return later
        """,
        size=3100,
    ),
    "exception": Payload(
        source=f"""
        def work(i):
            rows = {ROWS}  {MARK}
            raise ValueError(len(rows))

        def make(i):
            try:
                work(i)
            except ValueError as error:
                return error
        """,
        size=3600,
    ),
    "method": Payload(
        source=f"""
        class Visit:
            def __init__(self, i):
                self.rows = {ROWS}  {MARK}

            def end(self):
                self.rows.clear()

        def make(i):
            return Visit(i).end
        """,
        size=3100,
    ),
}

CONTAINERS: dict[str, Container] = {
    "list": Container(new="[]", put="STORE.append(value)", overhead=9),
    "dict": Container(new="{}", put="STORE[i] = value", overhead=75),
    "names": Container(new="{}", put='STORE["visitor %d" % i] = value', overhead=100),
    "set": Container(new="set()", put="STORE.add(value)", hashable_only=True),
    "deque": Container(
        new="collections.deque()",
        put="STORE.append(value)",
        overhead=9,
        source="import collections",
    ),
    "ordered": Container(
        new="collections.OrderedDict()",
        put="STORE[i] = value",
        overhead=160,
        source="import collections",
    ),
    "grouped": Container(
        new="collections.defaultdict(list)",
        put="STORE[i].append(value)",
        overhead=180,
        source="import collections",
    ),
    "counter": Container(
        new="collections.Counter()",
        put=f'STORE["word number %d" % i] += 1  {MARK}',
        overhead=120,
        has_payload=False,
        source="import collections",
    ),
    "attributes": Container(
        new="Bag()",
        put='setattr(STORE, "visitor_%d" % i, value)',
        overhead=130,
        source="class Bag:\n    pass",
    ),
    "queue": Container(
        new="queue.Queue()", put="STORE.put(value)", overhead=9, source="import queue"
    ),
    "chain": Container(
        new="Chain()",
        put="STORE.head = Link(value, STORE.head)",
        overhead=48,
        source="""
        class Link:
            __slots__ = ("before", "value")

            def __init__(self, value, before):
                self.value = value
                self.before = before

        class Chain:
            head = None
        """,
    ),
    "growing": Container(
        new="bytearray()",
        put=f"STORE.extend(bytes(5_000 + i % 3))  {MARK}",
        overhead=5_000,
        has_payload=False,
        is_buffer=True,
    ),
    "series": Container(
        new='array.array("d")',
        put=f"STORE.extend([1.5] * 500)  {MARK}",
        overhead=4_000,
        has_payload=False,
        is_buffer=True,
        source="import array",
    ),
    "cached": Container(
        new="functools.lru_cache(maxsize=None)(make)",
        put="STORE(i)",
        overhead=110,
        source="import functools",
    ),
    "bounded": Container(
        new='memguard.BoundedCache(maxsize=10**9, name="visits")',
        put="STORE[i] = value",
        overhead=150,
        source="import memguard",
    ),
}

HOLDERS: dict[str, Holder] = {
    "global": Holder(source="STORE = NEW\n\ndef step(i):\n    PUT", paths=("shop.STORE",)),
    "class": Holder(
        source="""
        class Shop:
            store = NEW

        def step(i):
            STORE = Shop.store
            PUT
        """,
        paths=("shop.Shop.store",),
    ),
    "instance": Holder(
        source="""
        class Shop:
            def __init__(self):
                self.store = NEW

        SHOP = Shop()

        def step(i):
            STORE = SHOP.store
            PUT
        """,
        paths=("shop.SHOP.store",),
    ),
    "deep": Holder(
        source="""
        class Room:
            def __init__(self):
                self.store = NEW

        class House:
            def __init__(self):
                self.rooms = {"kitchen": Room()}

        HOUSE = House()

        def step(i):
            STORE = HOUSE.rooms["kitchen"].store
            PUT
        """,
        paths=("shop.HOUSE.rooms[str].store",),
    ),
    "closure": Holder(
        source="""
        def open_shop():
            STORE = NEW

            def step(i):
                PUT

            return step

        step = open_shop()
        """,
        paths=("shop.step",),
    ),
    "local": Holder(
        source="""
        def main(tick):
            STORE = NEW
            while True:
                i = tick()
                PUT
        """,
        paths=("local 'STORE' of running function shop.main",),
    ),
    "thread_local": Holder(
        source="""
        import threading

        LOCAL = threading.local()
        LOCAL.store = NEW

        def step(i):
            STORE = LOCAL.store
            PUT
        """,
        paths=("shop.LOCAL.store",),
    ),
    "default": Holder(source="def step(i, STORE=NEW):\n    PUT", paths=("shop.step",)),
    "contextvar": Holder(
        source="""
        import contextvars

        CURRENT = contextvars.ContextVar("CURRENT")
        CURRENT.set(NEW)

        def step(i):
            STORE = CURRENT.get()
            PUT
        """,
        paths=("context variable 'CURRENT'", "context variable shop.CURRENT", "shop.CURRENT"),
    ),
    "function": Holder(
        source="def step(i):\n    STORE = step.store\n    PUT\n\nstep.store = NEW",
        paths=("shop.step.store",),
    ),
    "suspended": Holder(
        source="""
        def serve():
            STORE = NEW
            i = yield
            while True:
                PUT
                i = yield

        SERVER = serve()
        next(SERVER)

        def step(i):
            SERVER.send(i)
        """,
        paths=("shop.SERVER",),
    ),
    "worker": Holder(
        source="""
        import threading

        INBOX, DONE = [], []
        ARRIVED, LEFT = threading.Semaphore(0), threading.Semaphore(0)

        def attend():
            STORE = NEW
            while True:
                ARRIVED.acquire()
                i = INBOX.pop()
                PUT
                LEFT.release()

        threading.Thread(target=attend, daemon=True).start()

        def step(i):
            INBOX.append(i)
            ARRIVED.release()
            LEFT.acquire()
        """,
        paths=("local 'STORE' of running function shop.attend",),
    ),
    "attribute_of_type": Holder(
        source="""
        class Registry(type):
            def __init__(cls, name, bases, attributes):
                super().__init__(name, bases, attributes)
                cls.known = NEW

        class Plugin(metaclass=Registry):
            pass

        def step(i):
            STORE = Plugin.known
            PUT
        """,
        paths=("shop.Plugin.known",),
    ),
}


def compose(container: str, payload: str, holder: str) -> Program:
    """Return the program that leaks *payload* into *container*, held by *holder*."""
    box, thing, owner = CONTAINERS[container], PAYLOADS[payload], HOLDERS[holder]
    put = box.put
    if box.has_payload and container != "cached":
        # The line of a tiny thing is no truer than that of the entry around it.
        mark = f"  {MARK}" if thing.size < 3 * box.overhead else ""
        put = f"value = make(i); {put}{mark}"
    parts = [box.source, thing.source if box.has_payload else "", owner.source]
    source = "\n\n".join(textwrap.dedent(part).strip() for part in parts if part)
    source = source.replace("NEW", box.new).replace("PUT", put)
    size = box.overhead + (thing.size if box.has_payload else 0)
    paths = owner.paths if container != "bounded" else ("BoundedCache 'visits'",)
    what = f"{container}-{payload}-{holder}" if box.has_payload else f"{container}-{holder}"
    return Program(
        name=what,
        source=f"{source}\n",
        rate=max(1, BYTES_A_READING // size),
        holders=paths,
        needs=thing.needs if box.has_payload else (),
        may_hide_its_line=box.is_buffer,
    )


def composed(count: int, seed: int = 11) -> list[Program]:
    """
    Return *count* programs of live objects, each container, payload and holder used evenly.

    The same for the same *seed*, and the beginning of a longer list.
    """
    dice = random.Random(seed)  # noqa: S311 - reason: a choice of tests, and the same one each time
    decks = [_dealt(list(part), dice) for part in (CONTAINERS, PAYLOADS, HOLDERS)]
    found: dict[str, Program] = {}
    while len(found) < count:
        container, payload, holder = (next(deck) for deck in decks)
        box = CONTAINERS[container]
        if box.hashable_only and not PAYLOADS[payload].hashable:
            container = "list"
        program = compose(container, payload, holder)
        found.setdefault(program.name, program)
    return list(found.values())


def _dealt(deck: list[str], dice: random.Random) -> Iterator[str]:
    """Yield the names of *deck* over and over, shuffled each time."""
    while True:
        dice.shuffle(deck)
        yield from deck


def _program(name: str, source: str, **truth: Any) -> Program:
    return Program(name=name, source=textwrap.dedent(source).lstrip(), **truth)


def _cycles(name: str, setting: str, source: str) -> Program:
    """Return a program that makes garbage which *setting* keeps the collector from taking."""
    source = f"import gc\n\n{setting}\n\n{textwrap.dedent(source).strip()}\n"
    # The collector will take it in the end where it is on: no alarm is as right as one.
    alarm = None if "00_000" in setting else True
    return _program(f"cycles-{name}", source, rate=70, alarm=alarm, kinds=("cycles",), share=None)


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

_CYCLES = [
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
    return _program(
        f"native-{name}", source, rate=rate, **{"kinds": ("native",), "share": None, **truth}
    )


_NATIVE = [
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
    return _program(f"extension-{name}", source, rate=rate, kinds=EXTENSION)


EXTENSION = ("live_objects", "extension")
_LEAKED = [
    _leaked("bytes", "bytes(20_000 + i % 3)", 13),
    _leaked("text", '"x" * (2_000 + i % 3)', 120),
    _leaked("dict", '{"number": i, "rows": [i] * 300}', 95),
    _leaked("list", "[str(i)] * 500", 60),
    _leaked("instance", "Visit(i)", 75),
]

_TWO = _program(
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

_PILES = [
    _program(
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
        share=None,
    ),
    _program(
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
    _program(
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
    _program(
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
    _program(
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

_FRAGMENTED = [
    _program(
        "fragmentation-few_survivors",
        """
        ROWS = []

        def step(i):
            if i < 20_000:
                ROWS.append(bytes(2_000))
            elif i == 20_000:
                ROWS[:] = ROWS[::40]
        """,
        rate=500,
        readings=50,
        alarm=None,
        at_the_end=("fragmentation",),
        share=None,
    ),
]

_ENDS = {
    "straight": """
        STORE = {}

        def step(i):
            if i < 4_500:
                STORE[i] = bytes(2_500 + i % 7)
        """,
    "by_stairs": """
        STORE = []

        def step(i):
            if i < 6_000 and i % 500 == 0:
                STORE.append([str(n) for n in range(12_000)])
        """,
    "given_back": """
        STORE = []

        def step(i):
            if i < 5_500:
                STORE.append(bytes(2_500 + i % 7))
            else:
                STORE.clear()
        """,
    "pool_to_maximum": """
        POOL = []

        def step(i):
            if i % 200 == 0 and len(POOL) < 24:
                POOL.append([bytes(2_500) for _ in range(200)])
        """,
}
_ENDING = [
    _program(f"ends-{name}", source, rate=100, alarm=None, ends=True, readings=200, share=None)
    for name, source in _ENDS.items()
]

_HEALTHY = {
    "full_dict": """
        STORE = {n: bytes(3_000) for n in range(2_000)}

        def step(i):
            del STORE[next(iter(STORE))]
            STORE[i + 10_000] = bytes(3_000 + i % 7)
        """,
    "lru_cache_fills": """
        import functools

        @functools.lru_cache(maxsize=4_000)
        def load(i):
            return bytes(2_500 + i % 7)

        def step(i):
            load(i)
        """,
    "bounded_cache_fills": """
        import memguard

        CACHE = memguard.BoundedCache(maxsize=4_000)

        def step(i):
            CACHE[i] = bytes(2_500 + i % 7)
        """,
    "deque_fills": """
        import collections

        LAST = collections.deque(maxlen=4_000)

        def step(i):
            LAST.append(bytes(2_500 + i % 7))
        """,
    "own_bound_fills": """
        import collections

        class Cache:
            def __init__(self, maxsize):
                self.maxsize = maxsize
                self.entries = collections.OrderedDict()

        CACHE = Cache(4_000)

        def step(i):
            CACHE.entries[i] = bytes(2_500 + i % 7)
            if len(CACHE.entries) > CACHE.maxsize:
                CACHE.entries.popitem(last=False)
        """,
    "batches": """
        BATCH = []

        def step(i):
            BATCH.append([str(n) for n in range(50)])
            if len(BATCH) >= 700:
                BATCH.clear()
        """,
    "spike": """
        ROWS = []

        def step(i):
            if 2_000 < i < 3_500:
                ROWS.append(bytes(10_000 + i % 7))
            else:
                ROWS.clear()
        """,
    "churn": """
        def step(i):
            work = [{"number": n, "name": str(n)} for n in range(30)]
        """,
    "cycles_collected": """
        class Node:
            pass

        def step(i):
            for _ in range(20):
                node = Node()
                node.me = node
                node.rows = [i] * 20
        """,
    "rhythm": """
        import math

        STORE = {}

        def step(i):
            wanted = int(1_500 + 1_000 * math.sin(i / 600))
            while len(STORE) > wanted:
                STORE.popitem()
            while len(STORE) < wanted:
                STORE[len(STORE)] = bytes(3_000)
        """,
    "expiring": """
        import collections

        SESSIONS = collections.OrderedDict()

        def step(i):
            SESSIONS[i] = {"number": i, "page": "x" * 2_000}
            while next(iter(SESSIONS)) < i - 1_500:
                SESSIONS.popitem(last=False)
        """,
    "import_late": """
        import importlib

        LATE = ("xml.dom.minidom", "email.mime.text", "unittest.mock", "http.server", "sqlite3",
                "asyncio", "xmlrpc.client", "curses", "pydoc", "distutils", "tomllib", "plistlib")

        def step(i):
            if i % 150 == 0 and i // 150 < len(LATE):
                try:
                    importlib.import_module(LATE[i // 150])
                except ImportError:
                    pass
        """,
    "stairs": """
        TABLES = []

        def step(i):
            if i % 900 == 0 and len(TABLES) < 4:
                TABLES.append([str(n) for n in range(30_000)])
        """,
}
_NO_LEAKS = [
    _program(f"healthy-{name}", source, rate=100, alarm=False, share=None)
    for name, source in _HEALTHY.items()
]

SPECIAL: dict[str, Program] = {
    program.name: program
    for program in (*_CYCLES, *_NATIVE, *_LEAKED, _TWO, *_PILES, *_FRAGMENTED, *_ENDING, *_NO_LEAKS)
}
"""Programs that are not made of parts: garbage, memory of C, and what is no leak."""
