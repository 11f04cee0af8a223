"""Programs that do not leak: growth that ends, what the allocator keeps, and healthy ones."""

from __future__ import annotations

from tests.truth.program import program

FRAGMENTED = [
    program(
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
ENDING = [
    program(f"ends-{name}", source, rate=100, alarm=None, ends=True, readings=200, share=None)
    for name, source in _ENDS.items()
]

_STEADY = {
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
HEALTHY = [
    program(f"healthy-{name}", source, rate=100, alarm=False, share=None)
    for name, source in _STEADY.items()
]
