"""The path to a holder, as a line that a person can find in the program."""

from __future__ import annotations

import asyncio
import atexit
import gc
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memguard.heap import walk
from memguard.leaks.holders import paths as retention
from memguard.leaks.holders.paths import Retention, find_paths
from memguard.lifecycle import locks
from tests import strangers

pytestmark = pytest.mark.timeout(180)  # each search is of the whole heap of the tests
PATIENCE = 100.0
"""Seconds for a search that is to find what is there: machines are busy."""

SHOP = '''
import collections, functools, threading

class Wanted:
    """What is looked for."""

class WantedDict(dict): pass
class WantedList(list): pass

class Service:
    SHARED = None
    def __init__(self): self.jobs = None
    @functools.lru_cache(maxsize=None)
    def price(self, key): return WANTED_MAKER()
    @property
    def lazy(self): raise RuntimeError("never ask")

class Slotted:
    __slots__ = ("jobs",)

class Child(Slotted):
    pass

class Signal:
    def __init__(self): self.receivers = {}
    def connect(self, listener): self.receivers[id(listener)] = listener

WANTED_MAKER = Wanted
SERVICE = Service()
SIGNAL = Signal()

def listen(payload):
    def on_sent(sender): return payload
    SIGNAL.connect(on_sent)

def generate(held):
    yield 1
    yield held

async def serve(held, gate):
    await gate
    return held

def work(held, started, gate):
    local_name = held
    del held
    started.set()
    gate.wait(120)
    return local_name

def work_hidden(held, started, gate):
    namespace = locals()
    namespace["extra"] = "mine"
    for key in list(namespace):
        if key not in ("held", "extra"): del namespace[key]
    started.set()
    gate.wait(120)
    return namespace
'''


class Module(types.ModuleType):
    """A module of which nobody knows the attributes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)


@pytest.fixture
def shop() -> Iterator[Module]:
    """Return a module of user code, known to the program as ``shop.app``."""
    module = Module("shop.app")
    module.__dict__["__file__"] = "/srv/shop/app.py"
    sys.modules["shop.app"] = module
    exec(compile(SHOP, "/srv/shop/app.py", "exec"), module.__dict__)  # noqa: S102 - reason: a module without a file
    yield module
    del sys.modules["shop.app"]
    module.__dict__.clear()


def path_of(take: Callable[[], Any], **options: Any) -> Retention:
    """Return how the object that *take* returns is reached, while nothing here holds it."""
    wanted = {id(take()): take()}
    found = find_paths(wanted, seconds=PATIENCE, **options)
    assert found.keys() == wanted.keys()
    return found.popitem()[1]


def name_of(take: Callable[[], Any]) -> str:
    found = path_of(take)
    assert found.anchored, found
    return found.path


def made(shop: Module, kind: str = "Wanted") -> weakref.ref[Any]:
    """Return a weak reference to a new object that ``shop.app.KEPT`` holds for a moment."""
    shop.KEPT = getattr(shop, kind)()
    return weakref.ref(shop.KEPT)


def move(shop: Module, put: Callable[[Any], object]) -> None:
    """Give what ``KEPT`` holds to another holder."""
    put(shop.KEPT)
    del shop.KEPT


def test_a_module_attribute(shop: Module) -> None:
    assert name_of(made(shop)) == "shop.app.KEPT"


def test_a_module_that_is_not_registered(shop: Module) -> None:
    """Plugins are loaded so, and scripts by runpy."""
    ref = made(shop)
    plugin = Module("a_plugin")
    exec("HELD = []\ndef keep(obj): HELD.append(obj)", plugin.__dict__)  # noqa: S102 - reason: a module without a file
    move(shop, plugin.keep)
    shop.PLUGINS = [plugin]
    assert name_of(ref) == "a_plugin.HELD[…]"


def test_a_dict_in_a_module(shop: Module) -> None:
    ref = made(shop)
    shop.SESSIONS = {}
    move(shop, lambda obj: shop.SESSIONS.update({"ada@example.org": obj}))
    assert name_of(ref) == "shop.app.SESSIONS[str]"


def test_nested_containers(shop: Module) -> None:
    ref = made(shop)
    move(shop, lambda obj: setattr(shop, "DEEP", {"a": {7: [({"x": (obj,)},)]}}))
    assert name_of(ref) == "shop.app.DEEP[str][int][…][…][str][…]"


def test_a_class_attribute(shop: Module) -> None:
    ref = made(shop)
    move(shop, lambda obj: setattr(shop.Service, "SHARED", obj))
    assert name_of(ref) == "shop.app.Service.SHARED"


def test_a_container_in_a_class_attribute(shop: Module) -> None:
    ref = made(shop)
    move(shop, lambda obj: setattr(shop.Service, "SHARED", [obj]))
    assert name_of(ref) == "shop.app.Service.SHARED[…]"


def test_an_instance_attribute(shop: Module) -> None:
    """Whether the values lie in a dict or, since CPython 3.11, in the instance itself."""
    ref = made(shop)
    move(shop, lambda obj: setattr(shop.SERVICE, "jobs", obj))
    assert name_of(ref) == "shop.app.SERVICE.jobs"
    assert shop.SERVICE.__dict__["jobs"] is ref()
    assert name_of(ref) == "shop.app.SERVICE.jobs"


@pytest.mark.parametrize("kind", ["Slotted", "Child"])
def test_a_slot(shop: Module, kind: str) -> None:
    ref = made(shop)
    shop.HOLDER = getattr(shop, kind)()
    move(shop, lambda obj: setattr(shop.HOLDER, "jobs", [obj]))
    assert name_of(ref) == "shop.app.HOLDER.jobs[…]"


def test_a_closure_of_a_listener(shop: Module) -> None:
    ref = made(shop)
    move(shop, shop.listen)
    assert name_of(ref) == "shop.app.SIGNAL.receivers[int].<closure payload>"


def test_the_cache_of_a_method(shop: Module) -> None:
    ref = weakref.ref(shop.SERVICE.price("gold"))
    assert name_of(ref) == "shop.app.Service.price<cache value>"


@pytest.mark.parametrize("kind", ["deque", "OrderedDict", "defaultdict", "ChainMap", "UserDict"])
def test_containers_of_the_library(shop: Module, kind: str) -> None:
    ref = made(shop)
    shop.HELD = getattr(shop.collections, kind)()
    move(shop, shop.HELD.append if kind == "deque" else lambda obj: shop.HELD.update({1: obj}))
    path = name_of(ref)
    assert path.startswith("shop.app.HELD")
    assert path.endswith("[…]" if kind == "deque" else "[int]")


@pytest.mark.parametrize("kind", ["WantedDict", "WantedList"])
def test_subclasses_of_builtin_containers(shop: Module, kind: str) -> None:
    ref = made(shop)
    shop.HELD = getattr(shop, kind)()
    move(shop, shop.HELD.append if kind == "WantedList" else lambda obj: shop.HELD.update({1: obj}))
    assert name_of(ref) == ("shop.app.HELD[…]" if kind == "WantedList" else "shop.app.HELD[int]")


def test_a_suspended_generator(shop: Module) -> None:
    ref = made(shop)
    shop.GENERATOR = shop.generate(shop.KEPT)
    next(shop.GENERATOR)
    del shop.KEPT
    assert name_of(ref) == "shop.app.GENERATOR.<local held of generate>"


async def _awaiting(shop: Module, ref: weakref.ref[Any]) -> str:
    gate = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(shop.serve(shop.KEPT, gate))
    del shop.KEPT
    await asyncio.sleep(0)
    path = name_of(ref)
    gate.set_result(None)
    await task
    return path


def test_a_suspended_coroutine(shop: Module) -> None:
    path = asyncio.run(_awaiting(shop, made(shop)))
    assert path.startswith(
        "local 'task' of running coroutine tests.heap.test_paths._awaiting (line "
    )
    assert path.endswith(").<local held of serve>")


def _in_thread(shop: Module, function: str, look: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what *look* saw while a thread was in *function*, and what the function returned."""
    started, gate = threading.Event(), threading.Event()
    result: list[Any] = []
    argument = [shop.KEPT]

    def run() -> None:
        result.append(getattr(shop, function)(argument.pop(), started, gate))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(20)
        del shop.KEPT
        seen = look()
    finally:
        gate.set()
        thread.join(20)
    return seen, result.pop()


@pytest.mark.skipif(
    sys.version_info < (3, 13) and (sys.gettrace() or threading.gettrace()) is not None,
    reason="while a tracer is at work, locals are not looked at",
)
def test_a_local_of_a_running_function(shop: Module) -> None:
    ref = made(shop)
    path, _ = _in_thread(shop, "work", lambda: name_of(ref))
    assert path.startswith("local 'local_name' of running function shop.app.work (line ")


def test_looking_at_a_running_function_keeps_nothing_that_it_lets_go_of(shop: Module) -> None:
    ref = made(shop)
    _, result = _in_thread(shop, "work", lambda: find_paths({id(ref()): ref()}, seconds=PATIENCE))
    del result
    assert ref() is None


def test_a_function_that_called_locals_keeps_its_dict_as_it_is(shop: Module) -> None:
    """Up to CPython 3.12 another look at the locals would write all of them into that dict."""
    ref = made(shop)
    _, namespace = _in_thread(
        shop, "work_hidden", lambda: find_paths({id(ref()): ref()}, seconds=PATIENCE)
    )
    assert namespace.keys() == {"held", "extra"}
    assert namespace["extra"] == "mine"


def test_an_attribute_of_a_thread(shop: Module) -> None:
    started, gate = threading.Event(), threading.Event()

    def run() -> None:
        started.set()
        gate.wait(120)

    ref = made(shop)
    thread = threading.Thread(target=run)
    move(shop, lambda obj: setattr(thread, "request", obj))
    thread.start()
    try:
        assert started.wait(20)
        path = name_of(ref)
    finally:
        gate.set()
        thread.join(20)
    assert path == "threading._active[int].request"


def test_an_object_in_a_cycle_of_its_own_is_held_by_nothing_nameable(shop: Module) -> None:
    ref = made(shop)
    gc.disable()
    try:
        move(shop, lambda obj: setattr(obj, "me", [obj]))
        found = path_of(ref)
    finally:
        gc.enable()
    assert not found.anchored
    assert found.inventory_name is None
    assert found.path.endswith("[…], garbage in a reference cycle")
    assert found.is_garbage


def test_an_object_that_only_the_search_holds_is_said_to_be_held_by_nothing(shop: Module) -> None:
    found = find_paths({id(obj): obj for obj in [shop.Wanted()]}, seconds=PATIENCE)
    (only,) = found.values()
    assert only.path == "shop.app.Wanted, held by nothing that Python can see"
    assert not only.anchored


def test_a_container_of_the_inventory_is_named_by_its_name(shop: Module) -> None:
    ref = made(shop)
    shop.CACHE = {}
    move(shop, lambda obj: shop.CACHE.update({"k": obj}))
    found = path_of(ref, containers={id(shop.CACHE): ("sessions", "BoundedCache")})
    assert found.path == "BoundedCache 'sessions'[str]"
    assert found.inventory_name == "sessions"


def test_the_users_own_code_comes_before_a_library(shop: Module) -> None:
    ref = made(shop)
    library = Module("a_library")
    library.__dict__["__file__"] = pytest.__file__
    library.__dict__["HELD"] = shop.KEPT
    sys.modules["a_library"] = library
    try:
        assert name_of(ref) == "shop.app.KEPT"
        del shop.KEPT
        assert name_of(ref) == "a_library.HELD"
    finally:
        del sys.modules["a_library"]


def test_no_stranger_is_touched_on_the_way_up(shop: Module) -> None:
    """Hostile objects hold the target, and so does the program."""
    ref = made(shop)
    shop.STRANGERS = strangers.make(shop.KEPT)
    del shop.KEPT
    path = name_of(ref)
    assert path.startswith("shop.app.STRANGERS[…]")
    assert strangers.touched == []


def test_a_hostile_holder_is_named_past_its_class(shop: Module) -> None:
    for position, link in enumerate((".held", ".held", ".held", "[str]", "[…]")):
        ref = made(shop)
        shop.STRANGER = strangers.make(shop.KEPT)[position]
        del shop.KEPT
        assert name_of(ref) == f"shop.app.STRANGER{link}"
        assert strangers.touched == []
        del shop.STRANGER
        gc.collect()


def test_no_value_and_no_key_is_in_a_path(shop: Module) -> None:
    ref = made(shop)
    secret = "correct horse battery staple"  # noqa: S105 - reason: it looks like one, on purpose
    move(shop, lambda obj: setattr(shop, "STORE", {secret: [{(secret, 1): obj}]}))
    assert secret not in name_of(ref)


def test_a_search_keeps_nothing_alive(shop: Module) -> None:
    ref = made(shop)
    found = path_of(ref)
    before = sys.getrefcount(ref())
    for _ in range(3):
        path_of(ref)
    after = sys.getrefcount(ref())
    assert after == before
    del shop.KEPT
    assert ref() is None
    assert found.path == "shop.app.KEPT"


@pytest.mark.stress
def test_many_searches_leave_nothing_behind(shop: Module) -> None:
    ref = made(shop)
    shop.HOLDER = [shop.KEPT]
    path_of(ref)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(5):
        path_of(ref)
    gc.collect()
    assert len(gc.get_objects()) - before < 20


def test_time_that_is_up_ends_the_search_and_says_so(shop: Module) -> None:
    ref = made(shop)
    move(shop, lambda obj: setattr(shop, "DEEP", [[[obj]]]))
    found = find_paths({id(ref()): ref()}, seconds=0)
    (only,) = found.values()
    assert not only.anchored


def test_a_search_for_several_finds_each(shop: Module) -> None:
    shop.MANY = [shop.Wanted() for _ in range(12)]
    shop.FEW = {n: shop.Wanted() for n in range(3)}
    wanted = {id(obj): obj for obj in (*shop.MANY, *shop.FEW.values())}
    paths = {found.path for found in find_paths(wanted, seconds=PATIENCE).values()}
    assert paths == {"shop.app.MANY[…]", "shop.app.FEW[int]"}


def test_a_crowd_of_holders_does_not_crowd_out_another_target(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MAX_FRONTIER", 8)
    popular, other = shop.Wanted(), shop.Wanted()
    shop.CROWD = [[[popular]] for _ in range(500)]
    shop.OTHER = [[[other]]]
    wanted = {id(popular): popular, id(other): other}
    key = id(other)
    del popular, other
    assert find_paths(wanted, seconds=PATIENCE)[key].path == "shop.app.OTHER[…][…][…]"


def test_a_huge_container_is_searched_piece_by_piece(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "HUGE", 500)
    monkeypatch.setattr(walk, "OPENED", 100)
    for kind, link in (("dict", "[int]"), ("WantedDict", "[int]"), ("WantedList", "[…]")):
        ref = made(shop)
        shop.BIG = {"dict": dict}.get(kind) or getattr(shop, kind)
        shop.BIG = (
            shop.BIG((n, n) for n in range(1000))
            if "Dict" in kind or kind == "dict"
            else shop.BIG(range(1000))
        )
        move(
            shop, shop.BIG.append if kind == "WantedList" else lambda obj: shop.BIG.update({1: obj})
        )
        assert name_of(ref) == f"shop.app.BIG{link}"
        del shop.BIG


def test_what_gc_freeze_put_away_is_still_found(shop: Module) -> None:
    """Servers freeze the heap before they fork: the module's own dict is in no list then."""
    shop.SESSIONS = {}
    shop.SERVICE.jobs = []
    gc.freeze()
    try:
        ref = made(shop)
        move(shop, lambda obj: shop.SESSIONS.update({"k": obj}))
        assert name_of(ref) == "shop.app.SESSIONS[str]"
        ref = made(shop)
        move(shop, shop.SERVICE.jobs.append)
        assert name_of(ref) == "shop.app.SERVICE.jobs[…]"
    finally:
        gc.unfreeze()


def test_from_above_is_looked_where_the_way_up_was_cut(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that is replaced all the time is gone before the climb reaches its holder."""
    ref = made(shop)
    move(shop, lambda obj: setattr(shop, "DEEP", {"a": [(obj,)]}))
    monkeypatch.setattr(retention, "_one_level_up", lambda *_: [])
    monkeypatch.setattr(retention, "_second_opinion", lambda *_: None)
    assert name_of(ref) == "shop.app.DEEP[str][…][…]"


def test_no_stranger_is_touched_on_the_way_down(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = made(shop)
    shop.STRANGERS = strangers.make(shop.KEPT)
    shop.__dict__["__name__"] = strangers.Proxy([])
    shop.__dict__["__file__"] = None
    del shop.KEPT
    monkeypatch.setattr(retention, "_one_level_up", lambda *_: [])
    found = path_of(ref)
    assert strangers.touched == []
    assert "STRANGERS[…]" in found.path


def test_objgraph_is_asked_where_the_walk_found_nothing(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = made(shop)
    move(shop, lambda obj: setattr(shop, "DEEP", [[obj]]))
    monkeypatch.setattr(retention, "OBJGRAPH_OBJECTS", 10**9)
    monkeypatch.setattr(retention, "_one_level_up", lambda *_: [])
    monkeypatch.setattr(retention, "_from_above", lambda _: {})
    found = path_of(ref)
    assert found.path == "shop.app.DEEP[…][…]"
    assert found.anchored


def test_objgraph_stops_when_time_is_up(shop: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = made(shop)
    move(shop, lambda obj: setattr(shop, "DEEP", [[obj]]))
    clock = iter([0.0] * 6 + [2 * PATIENCE] * 1000)
    monkeypatch.setattr(retention, "OBJGRAPH_OBJECTS", 10**9)
    monkeypatch.setattr(retention, "_one_level_up", lambda *_: [])
    monkeypatch.setattr(retention, "_from_above", lambda _: {})
    monkeypatch.setattr("memguard.leaks.holders.paths.time.monotonic", lambda: next(clock))
    assert not path_of(ref).anchored


def test_a_class_that_its_name_does_not_lead_to_is_no_place(shop: Module) -> None:
    """A model made for each tenant holds much; who holds the model is the question."""
    ref = made(shop, "WantedDict")
    move(shop, lambda obj: setattr(shop, "MODELS", {"t": lost_class(fields=obj)}))
    assert name_of(ref) == "shop.app.MODELS[str].fields"


def test_a_class_that_nothing_holds_by_name_is_better_than_no_name(shop: Module) -> None:
    """What C code holds has no other name."""
    ref = made(shop, "WantedDict")
    rows: list[type] = []
    move(shop, lambda obj: rows.append(lost_class(fields=obj)))
    hook = rows.pop().mro
    atexit.register(hook)
    undo = id(hook)
    del hook
    try:
        assert name_of(ref) == "shop.app.Row.fields"
    finally:
        atexit.unregister(next(obj for obj in gc.get_objects() if id(obj) == undo))


def test_a_class_in_a_cycle_that_nothing_holds_is_garbage(shop: Module) -> None:
    ref = made(shop, "WantedDict")
    gc.disable()
    try:
        move(shop, lambda obj: lost_class(fields=obj))
        found = path_of(ref)
    finally:
        gc.enable()
    assert not found.anchored
    assert found.is_garbage or locks.FREE_THREADED


def lost_class(**attributes: Any) -> type:
    return type("Row", (), {"__module__": "shop.app", **attributes})


def test_a_buffer_in_an_attribute_of_a_function(shop: Module) -> None:
    """The collector tracks neither the buffer nor the dict that it is in."""
    vars(shop.listen)["seen"] = bytearray(100)
    gc.collect()
    key = id(vars(shop.listen)["seen"])
    found = find_paths({key: vars(shop.listen)["seen"]}, seconds=PATIENCE)
    assert found[key].path == "shop.app.listen.seen"


def test_from_above_what_running_functions_have_is_looked_at(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain that grows at its head is held by a local alone, and out of reach from below."""
    ref = made(shop)
    shop.KEPT = [[shop.KEPT]]
    monkeypatch.setattr(retention, "_one_level_up", lambda *_: [])
    monkeypatch.setattr(retention, "_second_opinion", lambda *_: None)
    path, _ = _in_thread(shop, "work", lambda: name_of(ref))
    assert path.startswith("local 'local_name' of running function shop.app.work (line ")
    assert path.endswith(")[…][…]")


@pytest.mark.parametrize("how", ["<default held>", "<default by_name>", "kept"])
def test_from_above_a_function_is_looked_into(
    shop: Module, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    ref = made(shop)
    shop.KEPT = [shop.KEPT]
    source = {
        "<default held>": "def step(i, held=KEPT): pass",
        "<default by_name>": "def step(i, *, by_name=KEPT): pass",
        "kept": "def step(i): pass\nstep.kept = KEPT",
    }
    exec(source[how], shop.__dict__)  # noqa: S102 - reason: a function of the module
    del shop.KEPT
    monkeypatch.setattr(retention, "_one_level_up", lambda *_: [])
    monkeypatch.setattr(retention, "_second_opinion", lambda *_: None)
    assert name_of(ref) == f"shop.app.step.{how}[…]"


def test_a_crowd_of_dead_frames_does_not_hide_what_holds_them(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored exception keeps the frames of its callers, and with them their locals."""
    monkeypatch.setattr(retention, "MAX_HOLDERS", 60)
    monkeypatch.setattr(retention, "MAX_ALIKE", 40)
    monkeypatch.setattr(retention, "MAX_FRONTIER", 20)
    exec(  # noqa: S102 - reason: a function of the module
        "def fail():\n    raise ValueError\n"
        "def step():\n"
        "    store = step.store\n"
        "    try: fail()\n"
        "    except ValueError as error: store.append(error)\n"
        "step.store = WantedList()\n",
        shop.__dict__,
    )
    for _ in range(300):
        shop.step()
    assert name_of(lambda: shop.step.store) == "shop.app.step.store"


def test_reading_the_names_of_a_crowd_has_a_deadline(
    shop: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("memguard.leaks.holders.paths.time.monotonic", lambda: clock[0])
    real = retention._retention
    read = []

    def slow(*arguments: Any) -> Retention:
        clock[0] += 1.0
        read.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(retention, "_retention", slow)
    ref = made(shop)
    for number in range(200):
        name = f"Kind{number:03}"
        setattr(shop, name, type(name, (), {"held": shop.KEPT, "__module__": "shop.app"}))
    del shop.KEPT
    found = find_paths({id(ref()): ref()}, seconds=20.0)
    (only,) = found.values()
    assert only.path.startswith("shop.app.Kind")
    assert 2 <= len(read) <= 20
