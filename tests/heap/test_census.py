"""Two looks at a heap say which containers and types grew between them."""

from __future__ import annotations

import array
import collections
import gc
import io
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from memguard.bounded.sizing import libraries
from memguard.heap import naming, walk
from memguard.leaks.evidence import census
from tests import strangers
from tests.detecting import options


class DictChild(dict[Any, Any]):
    """A dict of a program's own."""


class ListChild(list[Any]):
    """A list of a program's own."""


class Grown:
    """An instance of a type that grows."""


MAKERS: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "list": list,
    "set": set,
    "deque": collections.deque,
    "OrderedDict": collections.OrderedDict,
    "defaultdict": lambda: collections.defaultdict(list),
    "Counter": collections.Counter,
    "dict subclass": DictChild,
    "list subclass": ListChild,
}


def add(container: Any, first: int, count: int, value: Callable[[int], Any]) -> None:
    for n in range(first, first + count):
        if isinstance(container, dict):
            container[f"key {n}"] = value(n)
        elif isinstance(container, set):
            container.add(n)
        else:
            container.append(value(n))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("value", [lambda n: [n], lambda n: f"text {n}"], ids=["lists", "strings"])
def test_a_growing_container_is_found_with_what_it_gained(
    kind: str, value: Callable[[int], Any]
) -> None:
    """Also a dict of strings, which the collector of CPython 3.13 and older does not track."""
    holder = {"container": MAKERS[kind]()}
    container = holder["container"]
    add(container, 0, 100, value)
    first = census.take_look(1.0)
    add(container, 100, 3000, value)
    second = census.take_look(2.0)
    gained = census.grown_containers(first, second, limit=10)
    assert gained[id(container)] == 3000
    assert census.find_containers([id(container)])[id(container)] is container


UNTRACKED: dict[str, tuple[Callable[[], Any], Callable[[Any, int], object]]] = {
    "dict of texts": (dict, lambda into, n: into.update({f"key {n} {i}": "" for i in range(99)})),
    "bytearray": (lambda: bytearray(100_000), lambda into, n: into.extend(bytes(100_000 + n))),
}


@pytest.fixture(params=UNTRACKED)
def grow(request: pytest.FixtureRequest) -> tuple[Callable[[], Any], Any]:
    """Return how to make what the collector need not track, and how to add to it."""
    return UNTRACKED[request.param]


def gained_by(container: int, add: Callable[[], object]) -> tuple[int, bool]:
    """Return what the container of that id gains, which nothing here holds, and if it is found."""
    gc.collect()  # which is when a tuple is no longer tracked
    first = census.take_look(1.0)
    for _ in range(3):
        add()
    second = census.take_look(2.0)
    gained = census.grown_containers(first, second, limit=10) | census.grown_buffers(
        first, second, limit=10
    )
    return gained.get(container, 0), container in census.find_containers([container])


def test_what_only_a_local_of_a_running_function_holds_is_found(grow: Any) -> None:
    make, add = grow
    started, go, ids = threading.Event(), threading.Semaphore(0), []
    done = threading.Semaphore(0)

    def work() -> None:
        kept = make()
        for number in range(100):
            add(kept, number)
            ids.append(id(kept))
            done.release()
            started.set()
            go.acquire()
            if not ids:
                return

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)

    def add_once() -> None:
        go.release()
        done.acquire()

    add_once()
    gained, found = gained_by(ids[0], add_once)
    ids.clear()
    go.release()
    thread.join(20)
    assert gained >= 3 * 99
    assert found


def test_what_only_a_default_of_a_function_holds_is_found(grow: Any) -> None:
    make, add = grow
    scope: dict[str, Any] = {"make": make, "add": add}
    exec("def step(n, kept=make()):\n    add(kept, n)\n    return id(kept)", scope)  # noqa: S102 - reason: no frame of this test holds its default
    step = scope["step"]
    key = step(0)
    numbers = iter(range(1, 10))
    gained, found = gained_by(key, lambda: step(next(numbers)))
    assert gained >= 3 * 99
    assert found


def test_what_only_an_attribute_of_a_function_holds_is_found(grow: Any) -> None:
    make, add = grow

    def step() -> None:
        add(step.kept, next(numbers))  # type: ignore[attr-defined] # reason: that is what is tried

    vars(step)["kept"] = make()
    numbers = iter(range(10))
    step()
    gained, found = gained_by(id(vars(step)["kept"]), step)
    assert gained >= 3 * 99
    assert found


def test_a_container_that_the_first_look_does_not_have_is_new_and_not_grown() -> None:
    holder: list[list[int]] = [[]]
    first = census.take_look(1.0)
    holder[0].extend(range(500))
    second = census.take_look(2.0)
    assert id(holder[0]) not in census.grown_containers(first, second, limit=10_000)
    assert census.new_containers(first, second, limit=10_000)[id(holder[0])] == 500


def test_containers_that_stay_or_shrink_are_not_growing() -> None:
    still, shrinking = list(range(100)), list(range(100))
    first = census.take_look(1.0)
    del shrinking[50:]
    gained = census.grown_containers(first, census.take_look(2.0), limit=10_000)
    assert not {id(still), id(shrinking)} & gained.keys()


def test_growing_types_are_counted() -> None:
    kept = [Grown() for _ in range(10)]
    first = census.take_look(1.0)
    kept.extend(Grown() for _ in range(2000))
    second = census.take_look(2.0)
    rows = {
        name: (count, gained) for name, count, gained in census.grown_types(first, second, limit=10)
    }
    count, gained = rows[f"{__name__}.Grown"]
    assert count == pytest.approx(2010, rel=0.05)  # what a collection moves is seen twice
    assert gained == pytest.approx(2000, rel=0.05)
    newest = census.newest_instances([f"{__name__}.Grown"], per_type=3, scan=10**7)
    found = newest[f"{__name__}.Grown"]
    assert len(found) == 3
    assert all(type(obj) is Grown for obj in found)


def test_a_look_keeps_nothing_alive() -> None:
    class Passing(list[int]):
        pass

    passing = Passing(range(100))
    kind, obj = weakref.ref(Passing), weakref.ref(passing)
    look = census.take_look(1.0)
    assert id(passing) in look.lengths
    del passing, Passing
    gc.collect()
    assert obj() is None
    assert kind() is None


def test_containers_beyond_the_bound_are_counted_as_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(census, "MAX_CONTAINERS", 5)
    look = census.take_look(1.0)
    assert len(look.lengths) == 5
    assert look.dropped > 100


def test_containers_to_be_ignored_are_left_out() -> None:
    mine = list(range(100))
    assert id(mine) not in census.take_look(1.0, ignore=[id(mine)]).lengths


def test_no_stranger_is_touched_by_a_census() -> None:
    held: list[int] = list(range(100))
    made = strangers.make(held)
    dict.update(made[3], dict.fromkeys(range(100), held))
    list.extend(made[4], [held] * 100)
    look = census.take_look(1.0)
    census.find_containers(map(id, made))
    census.newest_instances(["tests.strangers.Proxy"], per_type=5, scan=10**7)
    assert strangers.touched == []
    assert look.lengths[id(made[3])] == 101
    assert look.lengths[id(made[4])] == 101
    assert look.types["tests.strangers.OfHostileMeta"] >= 1


def test_no_tuple_of_the_collectors_list_is_ever_handed_out() -> None:
    """One that is being filled by tuple(generator) breaks when somebody else holds it."""
    kept: list[tuple[int, list[int]]] = [(n, []) for n in range(1000)]
    with walk.live_slices(pause=0) as slices:
        assert all(type(obj) is not tuple for chunk in slices for obj in chunk)
    assert len(kept) == 1000


def test_a_walk_that_is_broken_off_keeps_nothing_alive() -> None:
    """It is among the objects that are left: without its end only the collector would find it."""

    class Thing:
        pass

    gc.collect()
    gc.disable()
    try:
        thing = Thing()
        died = weakref.ref(thing)
        with walk.live_slices(pause=0) as slices:
            next(slices)
        del slices, thing
        assert died() is None
    finally:
        gc.enable()


def test_the_list_that_a_walk_goes_through_is_not_in_it() -> None:
    """It holds everything: it would be the holder of whatever is looked for."""
    for objects in map(walk._tracked, walk._generations()):
        assert not any(obj is objects for obj in objects)


def test_every_tracked_object_is_seen() -> None:
    kept = [[n] for n in range(20_000)]
    wanted = set(map(id, kept))
    gc.collect(0)
    with walk.live_slices(pause=0) as slices:
        for chunk in slices:
            wanted -= set(map(id, chunk))
    assert not wanted


def test_the_huge_are_opened_piece_by_piece() -> None:
    assert [len(piece) for piece in walk.pieces(list(range(25)), 10)] == [10, 10, 5]
    keys_and_values = [x for piece in walk.pieces({n: -n for n in range(1, 8)}, 3) for x in piece]
    assert sorted(keys_and_values) == sorted([*range(1, 8), *range(-7, 0)])
    assert list(walk.pieces(object())) == []
    deque = collections.deque(range(10))
    pieces = walk.pieces(deque, 3)
    assert next(pieces) == [0, 1, 2]
    deque.append(11)
    assert list(pieces) == []


def test_a_part_is_never_too_much_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "OPENED", 100)
    monkeypatch.setattr(walk, "HUGE", 150)
    small, middle, huge = [0] * 40, (0,) * 120, {n: n for n in range(151)}
    chunk: list[Any] = [small, small, huge, small, middle, 7, small]
    opener = walk.Opener()
    assert list(opener.parts(chunk)) == [[small, small], [small], [middle], [7, small]]
    assert opener.huge(chunk) == [huge]


def test_a_module_is_never_opened() -> None:
    """CPython 3.12.1 would go round in circles at the next collection (cpython#115874)."""
    module = types.ModuleType("a_module")
    opener = walk.Opener()
    assert list(opener.parts([module, sys, [1]])) == [[[1]]]
    assert opener.huge([module, sys]) == []


@pytest.mark.parametrize(
    ("make", "grow"),
    [
        (lambda: bytearray(100_000), lambda kept: kept.extend(bytes(900_000))),
        (lambda: array.array("d", bytes(80_000)), lambda kept: kept.frombytes(bytes(800_000))),
        (io.BytesIO, lambda kept: kept.write(bytes(900_000))),
    ],
    ids=["bytearray", "array", "BytesIO"],
)
def test_a_growing_buffer_is_found_with_the_bytes_it_gained(
    make: Callable[[], Any], grow: Callable[[Any], Any]
) -> None:
    holder = [make(), []]  # tracked by the collector, as an instance with such a buffer would be
    if type(holder[0]) is io.BytesIO:
        grow(holder[0])
    first = census.take_look(1.0)
    grow(holder[0])
    second = census.take_look(2.0)
    gained = census.grown_buffers(first, second, limit=10)[id(holder[0])]
    assert 700_000 < gained < 2_000_000
    assert census.find_containers([id(holder[0])])[id(holder[0])] is holder[0]


def test_what_weighing_knows_of_types_is_no_growth_of_the_program() -> None:
    """It learns about each type that it meets, whose number then grows."""
    first, second = census.Look(1.0), census.Look(2.0)
    second.types = {naming.type_name(libraries.Traits): 60, "shop.app.Session": 40}
    assert census.types_to_follow(first, second, limit=5) == ["shop.app.Session"]


def test_small_buffers_are_not_recorded() -> None:
    small = [bytearray(1000), []]
    assert id(small[0]) not in census.take_look(1.0).buffers


def test_a_state_is_numbers_of_this_process() -> None:
    found = census.read_state(12.5)
    assert found.look.at == 12.5
    assert found.blocks > 1000
    assert found.modules > 50


def test_a_heap_above_max_objects_is_not_walked() -> None:
    refused = census.refusal(replace(options(), max_objects=1), None)
    assert refused is not None
    assert refused.startswith("no census: ")
    assert refused.endswith("more than max_objects")


def test_where_little_memory_is_left_the_heap_is_not_walked() -> None:
    refused = census.refusal(options(), 1024)
    assert refused == "no census: too little memory is left below the limit for it"
    assert census.refusal(options(), 2**40) is None


def test_a_collection_says_about_how_much_it_gave_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "COLLECT_BLOCKS", 2**62)  # whatever other tests have left alive
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(10**9)  # enabled, but not on its own account
    try:
        for _ in range(20_000):
            cycle: list[Any] = [bytearray(200)]
            cycle.append(cycle)
        del cycle
        assert (census.collect() or 0) > 1_000_000
    finally:
        gc.set_threshold(*thresholds)


def test_a_collector_that_is_off_is_somebodys_decision() -> None:
    gc.disable()
    try:
        assert census.collect() is None
    finally:
        gc.enable()


def test_a_large_heap_is_not_collected_to_see_what_it_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(census, "COLLECT_BLOCKS", 10)
    assert census.collect() is None


def test_a_look_imports_nothing() -> None:
    """It would be growth of the program; and a fork must not meet an import half done."""
    script = """
import sys
from memguard.leaks.evidence import census, garbage
from memguard.leaks.search import prepare

prepare()
before = set(sys.modules)
census.read_state(0.0)
garbage.find_garbage(1000)
garbage.other_interpreters()
print(*sorted(sys.modules.keys() - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.strip() == ""
