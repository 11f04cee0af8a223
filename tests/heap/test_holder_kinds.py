"""For each way in which a program keeps an object: the path that a person would write."""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.leaks.holders import paths
from memguard.leaks.holders.paths import Retention, find_paths
from memguard.lifecycle import locks

pytestmark = pytest.mark.timeout(180)  # a search is of the whole heap of the tests
TRACED = sys.version_info < (3, 13) and (sys.gettrace() or threading.gettrace()) is not None

PROGRAM = '''
import asyncio, collections, contextvars, dataclasses, functools, logging, queue, threading, types
import weakref
from collections import deque

class Kept(list):
    """What is looked for."""

class Service:
    SHARED = []
    table = {}
    def __init__(self): self.jobs = []
    def handle(self): return self.jobs
    @functools.lru_cache(maxsize=None)
    def price(self, key): return None
    @functools.lru_cache(maxsize=100)
    def tax(self, key): return None
    @staticmethod
    @functools.lru_cache(maxsize=None)
    def rate(key): return None
    class Inner:
        SEEN = []

class Slotted:
    __slots__ = ("rows",)

@dataclasses.dataclass
class Order:
    lines: object = None

@dataclasses.dataclass(slots=True)
class SlottedOrder:
    lines: object = None

class Key:
    pass

class Local(threading.local):
    pass

def module_global(kept):
    global GLOBAL
    GLOBAL = kept

def dict_of_dicts(kept):
    global NESTED
    NESTED = {"a": {1: {("b",): kept}}}

def class_attribute(kept): Service.SHARED.append(kept)
def class_dict(kept): Service.table["k"] = kept
def inner_class(kept): Service.Inner.SEEN.append(kept)

SERVICE = Service()
def instance_attribute(kept): SERVICE.jobs = kept
def list_of_instance(kept): SERVICE.more = [kept]

SLOTTED = Slotted()
def slot(kept): SLOTTED.rows = kept

ORDERS = {}
def dataclass(kept): ORDERS[1] = Order(kept)
def slotted_dataclass(kept): ORDERS["s"] = SlottedOrder([kept])

def closure(kept):
    global LISTENER
    def LISTENER(): return kept

def closure_cell_list(kept):
    def on_event(): return kept
    CALLBACKS.append(on_event)
CALLBACKS = []

def default_argument(kept):
    global remember
    def remember(row, rows=[kept]): rows.append(row)

def keyword_default(kept):
    global recall
    def recall(row, *, seen=kept): seen.append(row)

def function_attribute(kept): function_attribute.rows = kept

def bound_method(kept):
    service = Service()
    service.jobs = kept
    METHODS.append(service.handle)
METHODS = []

PARTIALS = []
def partial_argument(kept): PARTIALS.append(functools.partial(print, kept))
KEYWORDS = {}
def partial_keyword(kept): KEYWORDS["x"] = functools.partial(print, rows=kept)

@functools.lru_cache(maxsize=None)
def unbounded(key): return RESULTS.pop()
RESULTS = []
def lru_result(kept):
    RESULTS.append(kept)
    unbounded(1)

@functools.lru_cache(maxsize=50)
def bounded(key): return BOUNDED.pop()
BOUNDED = []
def bounded_lru_result(kept):
    BOUNDED.append([kept])
    bounded(1)

def lru_key_of_a_method(kept):
    service = Service()
    service.jobs = kept
    service.price("gold")

def bounded_lru_key_of_a_method(kept):
    service = Service()
    service.jobs = kept
    service.tax("gold")

def lru_key_of_a_static_method(kept):
    key = Key()
    key.rows = kept
    Service.rate(key)

@functools.cache
def cached_class(kind): return None
def class_in_an_lru_key(kept):
    kind = type("Row", (), {"rows": kept, "__module__": "shop.app"})
    cached_class(kind)

def local_class_in_an_lru_key(kept):
    class Row:
        rows = kept
    cached_class(Row)

CURRENT = contextvars.ContextVar("current")
def context_variable(kept): CURRENT.set(kept)
def context_variable_without_a_name(kept): contextvars.ContextVar("nameless").set({"rows": kept})
COPIES = []
def copied_context(kept):
    context = contextvars.copy_context()
    context.run(CURRENT.set, [kept])
    COPIES.append(context)

THREAD_LOCAL = threading.local()
def thread_local(kept): THREAD_LOCAL.rows = kept
DERIVED = Local()
def derived_thread_local(kept): DERIVED.rows = {"k": kept}

BY_KEY = weakref.WeakKeyDictionary()
KEYS = [Key()]
def weak_key(kept): BY_KEY[KEYS[0]] = kept

WATCHED = Key()
REFS = []
def weakref_callback(kept):
    def on_death(_): kept.append(1)
    REFS.append(weakref.ref(WATCHED, on_death))

LOG = logging.getLogger("shop.orders")
def logging_handler(kept):
    handler = logging.NullHandler()
    handler.records = kept
    LOG.addHandler(handler)

def root_handler(kept):
    handler = logging.NullHandler()
    handler.rows = kept
    logging.root.addHandler(handler)
    UNDO.append(lambda: logging.root.removeHandler(handler))
UNDO = [lambda: LOG.handlers.clear()]

QUEUE = queue.Queue()
def queue_backlog(kept): QUEUE.put(kept)
SIMPLE = queue.SimpleQueue()
def simple_queue(kept): SIMPLE.put(kept)
DEQUE = deque()
def in_a_deque(kept): DEQUE.append(kept)
COUNTS = collections.defaultdict(list)
def in_a_defaultdict(kept): COUNTS["a"].append(kept)
ORDERED = collections.OrderedDict()
def in_an_ordered_dict(kept): ORDERED[1] = kept
SPACE = types.SimpleNamespace()
def namespace(kept): SPACE.rows = kept
CHAIN = collections.ChainMap()
def chain_map(kept): CHAIN["k"] = kept
class Users(collections.UserDict): pass
USERS = Users()
def user_dict(kept): USERS["k"] = kept
SETS = [set()]
def in_a_set_of_a_list(kept):
    key = Key()
    key.rows = kept
    SETS[0].add(key)

ERRORS = []
def handle(payload): raise ValueError
def stored_exception(kept):
    kept = [kept]
    try:
        handle(kept.pop())
    except ValueError as error:
        ERRORS.append(error)
FAILURES = {}
def context_of_an_exception(kept):
    try:
        try:
            raise KeyError(1)
        except KeyError as first:
            first.rows = kept
            raise ValueError from None
    except ValueError as error:
        FAILURES[1] = error.with_traceback(None)
        error.__context__.__traceback__ = None

STEPS = []
def suspended_generator(kept):
    def walk(rows):
        yield 1
        yield rows
    steps = walk(kept)
    next(steps)
    STEPS.append(steps)

COROUTINES, SENT = [], []
class Wait:
    def __await__(self): yield
def suspended_coroutine(kept):
    async def inner(rows):
        await Wait()
        return rows
    async def outer(): return await inner(SENT.pop())
    SENT.append([kept])
    coroutine = outer()
    coroutine.send(None)
    COROUTINES.append(coroutine)

def property_of_a_class(kept):
    Service.view = property(lambda self, rows=kept: rows)

ALIASED = types.SimpleNamespace()
def alias_in_a_framework(kept):
    ALIASED.rows = kept
    FRAMEWORK.application_state_of_the_shop = ALIASED

def reexported(kept):
    MODELS.SESSIONS = kept
    PACKAGE.SESSIONS = kept
'''

EXPECTED = {
    "module_global": "shop.app.GLOBAL",
    "dict_of_dicts": "shop.app.NESTED[str][int][tuple]",
    "class_attribute": "shop.app.Service.SHARED[…]",
    "class_dict": "shop.app.Service.table[str]",
    "inner_class": "shop.app.Service.Inner.SEEN[…]",
    "instance_attribute": "shop.app.SERVICE.jobs",
    "list_of_instance": "shop.app.SERVICE.more[…]",
    "slot": "shop.app.SLOTTED.rows",
    "dataclass": "shop.app.ORDERS[int].lines",
    "slotted_dataclass": "shop.app.ORDERS[str].lines[…]",
    "closure": "shop.app.LISTENER.<closure kept>",
    "closure_cell_list": "shop.app.CALLBACKS[…].<closure kept>",
    "default_argument": "shop.app.remember.<default rows>[…]",
    "keyword_default": "shop.app.recall.<default seen>",
    "function_attribute": "shop.app.function_attribute.rows",
    "bound_method": "shop.app.METHODS[…].__self__.jobs",
    "partial_argument": "shop.app.PARTIALS[…].args[…]",
    "partial_keyword": "shop.app.KEYWORDS[str].keywords[str]",
    "lru_result": "shop.app.unbounded<cache value>",
    "bounded_lru_result": "shop.app.bounded<cache value>[…]",
    "lru_key_of_a_method": "shop.app.Service.price<cache key>.jobs",
    "bounded_lru_key_of_a_method": "shop.app.Service.tax<cache key>.jobs",
    "lru_key_of_a_static_method": "shop.app.Service.rate<cache key>.rows",
    "class_in_an_lru_key": "shop.app.cached_class<cache key>.rows",
    "local_class_in_an_lru_key": "shop.app.cached_class<cache key>.rows",
    "context_variable": "shop.app.CURRENT.get()",
    "context_variable_without_a_name": "ContextVar 'nameless'[str]",
    "copied_context": "shop.app.CURRENT.get()[…]",
    "thread_local": "shop.app.THREAD_LOCAL.rows",
    "derived_thread_local": "shop.app.DERIVED.rows[str]",
    "weak_key": "shop.app.BY_KEY[weak key]",
    "weakref_callback": "shop.app.REFS[…].__callback__.<closure kept>",
    "logging_handler": "logging.getLogger('shop.orders').handlers[…].records",
    "root_handler": "logging.root.handlers[…].rows",
    "queue_backlog": "shop.app.QUEUE.queue[…]",
    "simple_queue": "shop.app.SIMPLE[…]",
    "in_a_deque": "shop.app.DEQUE[…]",
    "in_a_defaultdict": "shop.app.COUNTS[str][…]",
    "in_an_ordered_dict": "shop.app.ORDERED[int]",
    "namespace": "shop.app.SPACE.rows",
    "chain_map": "shop.app.CHAIN.maps[…][str]",
    "user_dict": "shop.app.USERS.data[str]",
    "in_a_set_of_a_list": "shop.app.SETS[…][…].rows",
    "stored_exception": ("shop.app.ERRORS[…].__traceback__.<local payload of handle>"),
    "context_of_an_exception": "shop.app.FAILURES[int].__context__.rows",
    "suspended_generator": "shop.app.STEPS[…].<local rows of suspended_generator.<locals>.walk>",
    "suspended_coroutine": (
        "shop.app.COROUTINES[…].<local rows of suspended_coroutine.<locals>.inner>[…]"
    ),
    "property_of_a_class": "shop.app.Service.view.fget.<default rows>",
    "alias_in_a_framework": "shop.app.ALIASED.rows",
    "reexported": "shop.models.SESSIONS",
}


class Program(types.ModuleType):
    """A module of which nobody knows the attributes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)


def _module(name: str, file: str) -> Program:
    module = Program(name)
    module.__dict__["__file__"] = file
    sys.modules[name] = module
    return module


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """Return a program of the user's, known as ``shop.app``, beside a framework."""
    made = [
        framework := _module("framework_with_a_long_name.applications", pytest.__file__),
        package := _module("shop", "/srv/shop/__init__.py"),
        models := _module("shop.models", "/srv/shop/models.py"),
        app := _module("shop.app", "/srv/shop/app.py"),
    ]
    app.FRAMEWORK, app.PACKAGE, app.MODELS = framework, package, models
    exec(compile(PROGRAM, "/srv/shop/app.py", "exec"), app.__dict__)  # noqa: S102 - reason: a module without a file
    yield app
    for undo in app.UNDO:
        undo()
    for coroutine in app.COROUTINES:
        coroutine.close()
    for module in made:
        del sys.modules[module.__name__]
        module.__dict__.clear()


@pytest.fixture(scope="module")
def found(program: Program) -> dict[str, Retention]:
    """Return how each of the objects is reached: one search for all of them."""
    wanted: dict[int, Any] = {}
    kinds: dict[int, str] = {}
    for kind in EXPECTED:
        kept = program.Kept()
        wanted[id(kept)], kinds[id(kept)] = kept, kind
        getattr(program, kind)(kept)
        del kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "MAX_FRONTIER", 10_000)
        reached = find_paths(wanted, seconds=100.0)
    wanted.clear()
    return {kinds[key]: each for key, each in reached.items()}


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_holds_an_object_is_named_as_a_person_would(
    found: dict[str, Retention], kind: str
) -> None:
    assert found[kind].path == EXPECTED[kind]
    assert found[kind].anchored
    assert not found[kind].is_garbage
    assert not found[kind].is_own


WAITING = """
import asyncio

PENDING = set()
EVENT = asyncio.Event()

async def job(rows):
    await EVENT.wait()
    return rows

async def sleeping(rows):
    await asyncio.sleep(1000)
    return rows

async def done(rows):
    return rows

def work(started, gate, made):
    local_name = made.pop()
    started.set()
    gate.wait(120)
    return local_name

def produce(started, gate, made):
    rows = made.pop()
    started.set()
    gate.wait(120)
    yield rows

def run_generator(*arguments):
    for rows in produce(*arguments):
        return rows

def feed(made):
    rows = made.pop()
    while True:
        yield rows.append(1)

def iterate(started, gate, made):
    for _ in feed(made):
        started.set()
        gate.wait(120)
        return
"""


@pytest.fixture
def waiting() -> Iterator[Program]:
    """Return a program that waits, known as ``shop.jobs``."""
    module = _module("shop.jobs", "/srv/shop/jobs.py")
    exec(compile(WAITING, "/srv/shop/jobs.py", "exec"), module.__dict__)  # noqa: S102 - reason: a module without a file
    yield module
    del sys.modules["shop.jobs"]
    module.__dict__.clear()


class Kept(list[Any]):
    """What is looked for."""


def _reached(ids: list[int]) -> Retention:
    """Return how the one object of the id in *ids* is reached, which nothing here holds."""
    wanted = {id(obj): obj for obj in gc.get_objects() if type(obj) is Kept and id(obj) == ids[0]}
    return find_paths(wanted, seconds=100.0)[ids[0]]


def _in_thread(module: Program, function: str) -> Retention:
    started, gate = threading.Event(), threading.Event()
    made = [Kept()]
    ids = [id(made[0])]
    thread = threading.Thread(target=getattr(module, function), args=(started, gate, made))
    thread.start()
    try:
        assert started.wait(20)
        return _reached(ids)
    finally:
        gate.set()
        thread.join(20)


@pytest.mark.skipif(TRACED, reason="while a tracer is at work, locals are not looked at")
@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("work", "local 'local_name' of running function shop.jobs.work (line 21)"),
        ("run_generator", "local 'rows' of running generator shop.jobs.produce (line 27)"),
        ("iterate", "local 'rows' of generator shop.jobs.feed (line 37)"),
    ],
)
def test_a_local_of_what_a_thread_runs_is_named_with_its_line(
    waiting: Program, function: str, path: str
) -> None:
    """A generator that a running function iterates over hangs on its stack alone."""
    found = _in_thread(waiting, function)
    assert (found.path, found.anchored, found.is_garbage) == (path, True, False)


@pytest.mark.parametrize(
    ("function", "keep", "path"),
    [
        ("job", True, "shop.jobs.PENDING[…].<local rows of job>[…]"),
        ("job", False, "shop.jobs.EVENT._waiters[…].<local rows of job>[…]"),
        ("done", True, "shop.jobs.PENDING[…].result()[…]"),
        ("sleeping", False, "local 'rows' of coroutine shop.jobs.sleeping (line 12)[…]"),
    ],
)
def test_a_task_is_gone_past_to_what_keeps_it(
    waiting: Program,
    function: str,
    keep: bool,  # noqa: FBT001 - reason: a parameter of a test
    path: str,
) -> None:
    async def main() -> Retention:
        made = Kept()
        ids = [id(made)]
        task = asyncio.get_running_loop().create_task(getattr(waiting, function)([made]))
        del made
        if keep:
            waiting.PENDING.add(task)
        del task
        for _ in range(3):
            await asyncio.sleep(0)
        try:
            return _reached(ids)
        finally:
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()

    found = asyncio.run(main())
    assert (found.path, found.anchored) == (path, True)


def test_a_container_of_the_inventory_comes_before_what_holds_it(waiting: Program) -> None:
    waiting.CACHE = {"k": Kept()}
    ids = [id(waiting.CACHE["k"])]
    wanted = {ids[0]: waiting.CACHE["k"]}
    names = {id(waiting.CACHE): ("sessions", "BoundedCache")}
    found = find_paths(wanted, seconds=100.0, containers=names)[ids[0]]
    assert (found.path, found.inventory_name) == ("BoundedCache 'sessions'[str]", "sessions")


def _coroutine_in_a_cycle(waiting: Program) -> list[int]:
    rows = [Kept()]
    ids = [id(rows[0])]
    coroutine = waiting.job(rows)
    rows.append(coroutine)
    return ids


def _frame_of_a_traceback_in_a_cycle(_: Program) -> list[int]:
    def handle(payload: Kept) -> None:
        try:
            payload.pop()
        except IndexError as error:
            kept_by_its_frame = error  # noqa: F841 - reason: this is the cycle

    made = Kept()
    ids = [id(made)]
    handle(made)
    return ids


def _generator_in_a_cycle(_: Program) -> list[int]:
    def walk(rows: list[Any]) -> Iterator[int]:
        yield len(rows)
        yield 2

    rows: list[Any] = [Kept()]
    ids = [id(rows[0])]
    steps = walk(rows)
    next(steps)
    rows.append(steps)
    return ids


@pytest.mark.skipif(locks.FREE_THREADED, reason="reference counts are not one number there")
@pytest.mark.parametrize(
    "make", [_coroutine_in_a_cycle, _frame_of_a_traceback_in_a_cycle, _generator_in_a_cycle]
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_what_only_garbage_holds_is_no_holder(
    waiting: Program, make: Callable[[Program], list[int]]
) -> None:
    gc.collect()
    gc.disable()
    try:
        found = _reached(make(waiting))
    finally:
        gc.enable()
    gc.collect()
    assert not found.anchored, found.path
    assert found.is_garbage
    assert found.path.endswith(", garbage in a reference cycle")


def test_what_c_code_holds_is_not_called_garbage() -> None:
    """A callback of ``atexit`` hangs in a list of the interpreter's own."""
    made = Kept()
    ids = [id(made)]
    made.append(made)
    atexit.register(made.append, 1)
    undo = made.append
    del made
    try:
        found = _reached(ids)
    finally:
        atexit.unregister(undo)
    assert not found.is_garbage


def test_a_class_is_held_by_what_has_it_and_not_by_its_own_making(waiting: Program) -> None:
    """Its ``__weakref__``, its methods and its order of bases all lead back to it."""
    waiting.cached = functools.lru_cache(maxsize=None)(lambda _: None)

    def make() -> int:
        class Row:
            def method(self) -> str:
                return super().__repr__()  # its cell leads back to the class

        waiting.cached(Row)
        return id(Row)

    key = make()
    wanted = {key: next(obj for obj in gc.get_objects() if id(obj) == key)}
    found = find_paths(wanted, seconds=100.0)[key]
    assert found.path == "shop.jobs.cached<cache key>"
