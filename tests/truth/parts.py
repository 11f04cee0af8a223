"""What live objects that leak are made of: what leaks, into which container, held by whom."""

from __future__ import annotations

from dataclasses import dataclass

from tests.truth.program import MARK, ROWS


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
