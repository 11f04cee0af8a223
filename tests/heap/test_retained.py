"""What entries keep alive, against what tracemalloc says that they took."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memguard.bounded.sizing.retained import Weighing
from memguard.leaks.evidence.bursts import Bursts, Candidate
from memguard.leaks.evidence.newest import belongs_to_the_program, sample_container
from memguard.lifecycle import locks
from tests.detecting import options
from tests.specimens_of_weight import KINDS, Plain

ENTRIES = 400
NEAR = 0.15
"""By which share a weight may miss the truth."""

pytestmark = pytest.mark.skipif(
    locks.FREE_THREADED, reason="the truth is tracemalloc's, which needs the GIL"
)

CONTAINERS: dict[str, tuple[Callable[[], Any], Callable[[Any, int, Any], object]]] = {
    "list": (list, lambda into, _, entry: into.append(entry)),
    "dict of numbers": (dict, lambda into, number, entry: into.__setitem__(number, entry)),
    "dict of texts": (dict, lambda into, number, entry: into.__setitem__(f"key {number}", entry)),
    "OrderedDict": (
        OrderedDict,
        lambda into, number, entry: into.__setitem__(f"key {number}", entry),
    ),
    "deque": (deque, lambda into, _, entry: into.append(entry)),
    "set": (set, lambda into, _, entry: into.add(entry)),
}


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def filled(
    make: Callable[[int], Any], holder: str = "list", entries: int = ENTRIES
) -> tuple[Any, float]:
    """Return a container of *entries*, and the bytes that each of them took."""
    create, put = CONTAINERS[holder]
    put(create(), 0, make(0))  # what the first one of its kind brings along is not its own
    gc.collect()  # which empties the free lists, of which tracemalloc does not know
    before = tracemalloc.get_traced_memory()[0]
    container = create()
    for number in range(1000, 1000 + entries):
        put(container, number, make(number))
    gc.collect(1)
    return container, (tracemalloc.get_traced_memory()[0] - before) / entries


def weight_of(container: Any) -> float:
    return sample_container(container, ENTRIES, origin=None).bytes_per_entry or 0


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_weighs_what_tracemalloc_says(kind: str) -> None:
    container, truth = filled(KINDS[kind])
    assert weight_of(container) == pytest.approx(truth, rel=NEAR)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("holder", CONTAINERS)
@pytest.mark.parametrize("kind", ["str", "tuple", "instance", "generator"])
def test_a_container_of_any_kind_counts_what_it_needs_itself(kind: str, holder: str) -> None:
    container, truth = filled(KINDS[kind], holder)
    assert weight_of(container) == pytest.approx(truth, rel=NEAR)


@pytest.mark.parametrize("kind", ["array", "arrays as views", "array of objects"])
def test_a_numpy_array_weighs_what_its_owner_does(kind: str, traced: None) -> None:  # noqa: ARG001 - reason: a fixture
    numpy = pytest.importorskip("numpy")
    make = {
        "array": lambda n: numpy.full(1000, n),
        "arrays as views": lambda n: numpy.full(1000, n).reshape(10, 100).T[2:],
        "array of objects": lambda n: numpy.array([f"{n} {k}" for k in range(50)], dtype=object),
    }[kind]
    container, truth = filled(make)
    assert weight_of(container) == pytest.approx(truth, rel=NEAR)


@pytest.mark.parametrize("kind", ["str", "dict", "instance", "generator", "str subclass"])
def test_entries_at_the_edge_of_a_burst_weigh_what_others_do(kind: str) -> None:
    """They were made before tracing began and came in afterwards."""
    make = KINDS[kind]
    rows = [make(number) for number in range(100)]
    tracemalloc.start()
    truth = filled(make)[1]
    tracemalloc.stop()
    candidate = Candidate(rows, 1000, len(rows), weight=1000 * truth)
    burst = Bursts(options(), [candidate], gap=1.0, sample_more=lambda _: None)
    early = [make(number) for number in range(3)]
    burst.start()
    rows.extend(early)
    early.clear()
    number = 10**6
    while not burst.poll():
        rows.append(make(number))
        number += 1
    assert candidate.sample.bytes_per_entry == pytest.approx(truth, rel=NEAR)
    assert candidate.sample.lines


scalars = st.sampled_from(["text", "long text", "number", "fraction", "bytes"])
recipes = st.recursive(
    scalars,
    lambda inner: st.tuples(
        st.sampled_from(["list", "tuple", "set", "dict", "deque", "instance", "ordered"]),
        st.lists(inner, min_size=1, max_size=4),
    ),
    max_leaves=8,
)


def build(recipe: Any, number: int) -> Any:
    """Return a new value after *recipe*, which shares nothing with any other."""
    if isinstance(recipe, str):
        makers: dict[str, Callable[[], Any]] = {
            "text": lambda: f"text {number}",
            "long text": lambda: f"{number}" * 90,
            "number": lambda: number + 10**15,
            "fraction": lambda: number / 7,
            "bytes": lambda: bytes(200 + number % 2),
        }
        return makers[recipe]()
    kind, inner = recipe
    below = [build(each, number + place) for place, each in enumerate(inner)]
    if kind == "instance":
        made = Plain(number)
        made.data = below  # type: ignore[assignment] # reason: anything may be there
        return made
    if kind == "set":
        return {id(each) for each in below} | {f"member {number}"}
    keyed = {f"key {number} {place}": each for place, each in enumerate(below)}
    if kind == "ordered":
        return OrderedDict(keyed)
    return {"list": below, "tuple": tuple(below), "deque": deque(below), "dict": keyed}[kind]


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(recipes)
def test_any_nest_of_values_weighs_what_tracemalloc_says(recipe: Any) -> None:
    tracemalloc.start()
    try:
        container, truth = filled(lambda number: build(recipe, number * 10), entries=64)
    finally:
        tracemalloc.stop()
    assert sample_container(container, 64, origin=None).bytes_per_entry == pytest.approx(
        truth, rel=NEAR, abs=16
    )


def weigh(*groups: list[tuple[Any, ...]]) -> list[float]:
    weighing = Weighing(belongs_to_the_program)
    for group in groups:
        weighing.add(group)
    return [weight.bytes for weight in weighing.finish()]


def test_what_the_program_refers_to_as_well_weighs_nothing() -> None:
    settings_of_all = [bytes(100_000)]
    rows: list[Any] = [{"settings": settings_of_all, "data": bytes(1000)} for _ in range(5)]
    (weight,) = weigh([(row,) for row in rows])
    assert 5_000 < weight < 10_000
    assert settings_of_all


def test_what_two_entries_share_is_weighed_once() -> None:
    rows: list[Any] = []

    def add() -> None:
        batch = [bytes(100_000)]
        rows.extend({"batch": batch} for _ in range(10))

    add()
    (weight,) = weigh([(row,) for row in rows])
    assert 100_000 < weight < 110_000


def test_cycles_below_an_entry_belong_to_it() -> None:
    rows: list[Any] = []

    def add() -> None:
        parent = Plain(1)
        child = Plain(2)
        parent.name, child.name = child, parent  # type: ignore[assignment] # reason: a cycle
        parent.data = bytes(50_000)
        rows.append({"tree": child})

    add()
    (weight,) = weigh([(row,) for row in rows])
    assert 50_000 < weight < 52_000


def parse(body: bytes, number: int) -> None:
    raise ValueError(len(body) + number)


def handle(number: int) -> None:
    body = bytes(100_000)
    parse(body, number)


def test_the_locals_of_a_traceback_that_is_kept_belong_to_its_exception() -> None:
    """Each of its frames is called by the one before: that reference comes from the entry, too."""
    kept: list[Any] = []

    def fail(number: int) -> None:
        try:
            handle(number)
        except ValueError as error:
            kept.append(error)

    for number in range(5):
        fail(number)
    (weight,) = weigh([(error,) for error in kept])
    assert 500_000 < weight < 520_000


def test_the_locals_of_what_called_a_kept_frame_are_the_programs() -> None:
    kept: list[Any] = []

    def fail() -> None:
        try:
            handle(1)
        except ValueError as error:
            kept.append(error)

    def serve() -> list[float]:
        page = bytes(300_000)  # of the function that still runs
        fail()
        weights = weigh([(error,) for error in kept])
        assert page
        return weights

    (weight,) = serve()
    assert 100_000 < weight < 110_000


def test_what_is_held_from_two_groups_only_counts_for_the_first() -> None:
    rows: list[Any] = [(bytes(10_000), n + 0.5) for n in range(10)]
    index = {n: [row[0]] for n, row in enumerate(rows)}
    first, second = weigh([(row,) for row in rows], [(below,) for below in index.values()])
    assert first > 100_000
    assert second < 2_000


def test_the_weight_of_a_librarys_object_is_unknown_and_said() -> None:
    rows = [[zlib.compressobj()] for _ in range(4)] + [[1.5]]
    sample = sample_container(rows, 5, origin=None)
    assert sample.unknown == {"zlib.Compress": 4}
    objects = [zlib.compressobj() for _ in range(4)]
    assert sample_container(objects, 4, origin=None).bytes_per_entry is None


def test_a_sample_says_how_far_off_it_may_be() -> None:
    alike = sample_container([bytes(1000) for _ in range(64)], 64, origin=None)
    mixed = sample_container([bytes(1 + n % 2 * 10_000) for n in range(64)], 64, origin=None)
    assert alike.error_per_entry == 0
    assert mixed.error_per_entry is not None
    assert 1000 < mixed.error_per_entry < 1500
    assert sample_container([1.5], 1, origin=None).error_per_entry is None


def test_an_application_that_every_entry_knows_does_not_take_the_place_of_entries() -> None:
    application = Plain(1)
    application.data = [f"text {n}" for n in range(20_000)]  # type: ignore[assignment] # reason: large
    rows = [{"application": application, "data": bytes(1000)} for _ in range(200)]
    sample = sample_container(rows, 200, origin=None)
    assert sample.entries == 64
    assert 1000 < (sample.bytes_per_entry or 0) < 1500


def test_a_node_that_all_others_of_its_entry_refer_to_belongs_to_it() -> None:
    def document(number: int) -> Any:
        root = Plain(number)
        below = [Plain(each) for each in range(300)]
        for each in below:
            each.name = root  # type: ignore[assignment] # reason: anything may be there
        root.data = below  # type: ignore[assignment] # reason: likewise
        return {"document": root}

    rows = [document(number) for number in range(8)]
    sample = sample_container(rows, 8, origin=None)
    assert (sample.bytes_per_entry or 0) > 300 * 400
