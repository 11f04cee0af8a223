"""What a report advises: a row of the table for each cause, and something for each kind."""

from __future__ import annotations

import typing
from collections import Counter

import pytest

from memguard.leaks.evidence.gathered import HolderEvidence
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.finding import advice
from memguard.leaks.report import Holder, VerdictKind

_LRU = "functools._lru_cache_wrapper"
_LOCAL = "local 'jobs' of {} shop.app.main (line 3){}"


def held(
    path: str = "shop.app.THINGS",
    type: str = "list",  # noqa: A002 - reason: the field's name
    *,
    kinds: tuple[str, ...] = (),
    keeps: tuple[str, ...] = (),
    **fields: object,
) -> HolderEvidence:
    """Return a holder whose sampled entries are of *kinds* and keep *keeps* alive."""
    sample = Sample(
        entries=4,
        types=Counter(dict.fromkeys(kinds[:1], 4)),
        kinds=Counter(dict.fromkeys(kinds, 4)),
        keeps=Counter(dict.fromkeys(keeps, 4)),
    )
    given: dict[str, object] = {
        "type": type,
        "path": path,
        "anchored": True,
        "inventory_name": None,
        "bound": None,
        "entries": 100,
        "entries_added": 40,
        "entries_per_minute": 40.0,
        "sample": sample,
        "steady": True,
        "in_user_code": True,
        **fields,
    }
    return HolderEvidence(**given)  # type: ignore[arg-type] # reason: fields by name


def in_a_class(method: str, *kept: str) -> HolderEvidence:
    through = ("class", "dict", _LRU)
    return held(f"shop.app.{method}<{_LRU}>", "dict", keeps=kept, through=through)


CASES: list[tuple[str, HolderEvidence, str]] = [
    ("one of ours", held(inventory_name="sessions", bound=2**63 - 1), "a container of memguard"),
    (
        "a cache of a method",
        in_a_class("BookService.cover", "tuple", "shop.app.BookService"),
        "keeps every BookService alive",
    ),
    ("a bounded container", held(bound=20_000), "bounded, at 20,000 entries"),
    (
        "a cache of a function",
        held(f"shop.app.price<{_LRU}>", "dict", through=("dict", _LRU)),
        "give the functools cache a maxsize",
    ),
    ("a cache of a function", in_a_class("BookService.cover", "str"), "a maxsize"),
    ("patterns", held("re._cache", "dict"), "build patterns once"),
    ("source lines", held("linecache.cache", "dict"), "linecache.clearcache()"),
    ("loggers", held("logging.root.manager.loggerDict", "dict"), "one name for each module"),
    (
        "loggers",
        held("logging.root.manager.loggerDict[str].loggerMap", "dict"),
        "one name for each module",
    ),
    (
        "handlers of logging",
        held("shop.app.log.handlers", kinds=("shop.Audit", "logging.Handler")),
        "removeHandler()",
    ),
    ("handlers of logging", held("x.log.handlers", owner=("logging.Logger",)), "removeHandler()"),
    ("exit callbacks", held("weakref.finalize._registry", "dict"), "detach or unregister"),
    ("warnings seen", held("shop.app.__warningregistry__", "dict"), "text of warnings"),
    ("imported modules", held("sys.modules", "dict"), "fixed names"),
    ("a cache of the standard library", held("typing._cleanups"), "standard library keeps it"),
    (
        "stored exceptions",
        held(kinds=("shop.BadOrder", "Exception", "BaseException"), keeps=("traceback",)),
        "traceback.format_exception",
    ),
    ("stored exceptions", held(type="dict", keeps=("traceback",)), "locals of every frame"),
    ("timers", held(kinds=("threading.Timer", "threading.Thread")), "TimerRegistry"),
    ("threads", held(kinds=("shop.Worker", "threading.Thread")), "join()"),
    ("threads", held("threading._active", "dict"), "join()"),
    ("tasks", held(kinds=("_asyncio.Task", "_asyncio.Future")), "TaskRegistry"),
    ("scheduled calls", held(kinds=("asyncio.events.TimerHandle",)), "scheduled calls"),
    (
        "work handed to an executor",
        held("shop.app.POOL._work_queue<_queue.SimpleQueue>"),
        "semaphore",
    ),
    (
        "a backlog",
        held(
            "shop.app.QUEUE._queue",
            "collections.deque",
            owner=("shop.Orders", "asyncio.queues.Queue"),
        ),
        "consumer is slower than the producer",
    ),
    (
        "a backlog",
        held("local 'st' of running function shop.app.main (line 3)[…]", owner=("queue.Queue",)),
        "maxsize",
    ),
    ("a backlog", held(type="asyncio.queues.Queue", unit="instances"), "maxsize"),
    ("futures", held(kinds=("concurrent.futures._base.Future",)), "as_completed"),
    ("suspended functions", held(kinds=("generator",)), "close() them"),
    ("queries of Django", held("django.db.connections.queries_log"), "DEBUG = False"),
    (
        "a session of an ORM",
        held(
            "shop.db.SESSION.identity_map._dict",
            "dict",
            through=("sqlalchemy.orm.session.Session",),
        ),
        "expunge_all()",
    ),
    ("rows of an ORM", held(kinds=("shop.Book",), keeps=(advice._MODELS[0],)), "plain values"),
    ("tables and arrays", held(kinds=("pandas.core.frame.DataFrame",)), "aggregates"),
    ("tables and arrays", held(type="dict", keeps=("numpy.ndarray",)), "aggregates"),
    ("open files and sockets", held(kinds=("socket.socket", "_socket.socket")), "close them"),
    ("open files and sockets", held(kinds=("_io.TextIOWrapper", "_io._IOBase")), "close them"),
    ("threads of entries", held(keeps=("threading.Thread",)), "join()"),
    ("tasks of entries", held(type="dict", keeps=("_asyncio.Task",)), "TaskRegistry"),
    (
        "watchers of what others hold",
        held("asyncio._all_tasks.data", "set", owner=("_weakrefset.WeakSet",)),
        "objects that others hold",
    ),
    ("weak references", held(kinds=("weakref.ReferenceType",)), "weakref.WeakSet"),
    ("callbacks", held(kinds=("method",)), "ListenerRegistry"),
    ("classes", held(kinds=("type",)), "when its module is imported"),
    (
        "held by nothing",
        held("<dict>[…], held by nothing that Python can see", anchored=False),
        "gc.collect()",
    ),
    ("not found in time", held("list, above it nothing was found in time", anchored=False), ""),
    (
        "a context",
        held("shop.app.CURRENT<ContextVar>", through=("_contextvars.Context",)),
        "reset(",
    ),
    ("thread-local", held("shop.app.LOCAL.rows", through=("_thread._local",)), "of a thread"),
    ("a local of a running function", held(_LOCAL.format("running function", "")), "in batches"),
    ("a local of a running function", held(_LOCAL.format("frame", "[…][str]")), "in batches"),
    ("a local of a suspended function", held(_LOCAL.format("coroutine", "")), "a timeout"),
    (
        "a default argument",
        held("shop.app.add<function>[…]", through=("dict", "function", "tuple")),
        "use None",
    ),
    ("a closure", held("shop.app.ADD.<closure kept>"), "a closure"),
    (
        "an attribute of a class",
        held("shop.app.Plugin.registry", through=("class", "dict")),
        "one for all its instances",
    ),
    (
        "a context",
        held("<_contextvars.Context><hamt>, held by nothing that Python can see", anchored=False),
        "reset(",
    ),
    ("of a library", held("aiohttp.POOL.waiters", in_user_code=False), "belongs to a library"),
    ("instances", held(type="shop.Node", unit="instances"), "makes and keeps"),
    (
        "a value that a larger one replaces",
        held("shop.app.LOG.text", "str", unit="bytes"),
        "write the parts out",
    ),
    ("a buffer", held(type="bytearray", unit="bytes"), "write it out"),
    ("a mapping", held(type="collections.OrderedDict"), "BoundedCache"),
    ("a mapping", held(_LOCAL.format("running function", ".rows"), "dict"), "BoundedCache"),
    ("a counter", held(type="collections.Counter"), "a route, not a URL"),
    ("a list", held(type="list"), "collections.deque(maxlen=...)"),
    ("a set", held(type="set"), "remove entries that are done"),
]


@pytest.mark.parametrize(
    ("name", "evidence", "words"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)]
)
def test_the_advice_fits_what_a_holder_is_and_holds(
    name: str, evidence: HolderEvidence, words: str
) -> None:
    clue = advice._Clue.of(evidence)
    row = next(row for row in advice.HOLDERS if row.fits(clue))
    assert row.name == name
    said = advice.of_holder(evidence)
    assert words in said if said else words == ""


def test_each_row_of_the_table_has_a_case() -> None:
    assert {row.name for row in advice.HOLDERS} == {name for name, _, _ in CASES}
    assert len({row.name for row in advice.HOLDERS}) == len(advice.HOLDERS)


def test_only_a_list_whose_newest_entries_may_count_is_told_to_become_a_deque() -> None:
    told = {name for name, evidence, _ in CASES if "maxlen" in (advice.of_holder(evidence) or "")}
    assert told == {"a list"}


def test_a_holder_that_nothing_is_known_of_gets_no_advice() -> None:
    assert advice.of_holder(held(type="shop.Ring")) is None


def test_what_a_few_entries_are_does_not_decide() -> None:
    few = held(type="dict")
    few.sample.kinds["method"] = 1
    assert "BoundedCache" in (advice.of_holder(few) or "")


@pytest.mark.parametrize("kind", typing.get_args(VerdictKind))
def test_each_kind_of_growth_has_advice(kind: VerdictKind) -> None:
    said = advice.of_verdict(kind, ())
    assert said.endswith(".")
    assert "named here" not in said  # there is no holder


def holder(**fields: object) -> Holder:
    given: dict[str, object] = {
        "path": "shop.app.SEEN",
        "type": "dict",
        "entries": 9,
        "entries_added": 9,
        "entries_per_minute": 9.0,
        "bytes_per_entry": 9,
        "bytes_added": 81,
        "bytes_per_minute": 81.0,
        **fields,
    }
    return Holder(**given)  # type: ignore[arg-type] # reason: fields by name


def test_live_objects_get_the_advice_for_their_holder() -> None:
    first = holder(path="shop.app.RING", advice=None)
    second = holder(advice="bound it")
    assert advice.of_verdict("live_objects", (first, second)) == "shop.app.SEEN: bound it."
    assert "named here" in advice.of_verdict("live_objects", (first,))
    unnamed = holder(anchored=False)
    assert advice.of_verdict("live_objects", (unnamed,)) == advice.LIVE_WITHOUT_HOLDER


def test_threads_that_pile_up_are_not_called_the_fault_of_an_extension() -> None:
    """A thread is a stack, which is no memory of Python's."""
    threads = advice.of_holder(held("threading._active", "dict"))
    said = advice.of_verdict("native", (holder(path="threading._active", advice=threads),))
    assert said.startswith("threading._active: threads pile up")
    assert "extension" not in said
    assert "extension" in advice.of_verdict("native", (holder(advice="bound it"),))


def test_a_value_of_a_running_context_is_not_called_the_fault_of_an_extension() -> None:
    path = "<_contextvars.Context><hamt>, held by nothing that Python can see"
    said = advice.of_verdict("extension", (holder(path=path, advice=advice.OF_A_CONTEXT),))
    assert "reset(token)" in said
    assert "reference leak" in advice.of_verdict("extension", (holder(anchored=False),))
