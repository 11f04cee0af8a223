"""size_of: exact where it can be, estimated where not, and never anybody's code."""

from __future__ import annotations

import array
import collections
import dataclasses
import io
import json
import re
import sys
import threading
import types
import weakref
import zlib
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.bounded.sizing.alone import is_known, shallow_size
from memguard.bounded.sizing.contents import Size, bytes_of, size_of
from memguard.errors import ConfigError
from tests import strangers

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=40,
)


def by_hand(value: Any, seen: set[int]) -> int:
    """Add up sys.getsizeof of everything below, each object once."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    total = sys.getsizeof(value)
    if isinstance(value, dict):
        total += sum(by_hand(key, seen) + by_hand(held, seen) for key, held in value.items())
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        total += sum(by_hand(held, seen) for held in value)
    return total


@given(json_values)
def test_plain_values_are_exact(value: Any) -> None:
    size = size_of(value)
    assert size == by_hand(value, set())
    assert not size.estimated
    assert bytes_of(value) == size == size.bytes


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 1000,
        bytearray(1000),
        array.array("d", [0.0] * 100),
        10**100,
        "ä" * 50,
        range(1000),
        None,
        1 + 2j,
    ],
)
def test_atoms_are_what_the_interpreter_says(value: Any) -> None:
    assert size_of(value) == sys.getsizeof(value)


def test_shared_objects_count_once() -> None:
    block = bytes(100_000)
    assert size_of([block] * 50) < 101_000
    circle: list[Any] = [block]
    circle.append(circle)
    assert size_of(circle) < 101_000


def test_containers_of_the_standard_library_are_walked() -> None:
    block = bytes(10_000)
    for holder in (
        collections.deque([block]),
        collections.OrderedDict(a=block),
        collections.defaultdict(list, a=block),  # type: ignore[arg-type]  # reason: a test reaches past the types
        collections.Counter({block: 1}),
        frozenset([block]),
    ):
        size = size_of(holder)
        assert sys.getsizeof(holder) + 10_000 <= size < sys.getsizeof(holder) + 10_200


class Plain:
    """Attributes in a dict."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class Slotted:
    """Attributes in slots."""

    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload


@dataclasses.dataclass
class Record:
    """A dataclass."""

    payload: Any


class Derived(list[Any]):
    """A list with attributes."""

    payload: Any


def test_attributes_of_instances_count() -> None:
    derived = Derived([bytes(5_000)])
    derived.payload = bytes(5_000)
    for value in (Plain(bytes(10_000)), Slotted(bytes(10_000)), Record(bytes(10_000)), derived):
        assert 10_000 < size_of(value) < 10_700
        assert not size_of(value).estimated


def test_an_instance_is_not_made_larger_by_being_looked_at() -> None:
    """Asking for ``__dict__`` would give each instance a dict of its own, for good."""
    one, two = Plain(1), Plain(1)
    before = size_of(one)
    for _ in range(3):
        size_of(one)
    assert size_of(one) == before == size_of(two)


def test_code_classes_and_modules_belong_to_nobody() -> None:
    value = [sys, Plain, test_sizing_is_tested, (lambda: 0).__code__, len, property()]
    assert size_of(value) == sys.getsizeof(value)


def test_sizing_is_tested() -> None:
    """Referred to above."""
    assert size_of(test_sizing_is_tested) == 0


class Trap:
    """Everything that a stranger may define, and that must not be called."""

    def __init__(self) -> None:
        self.payload = bytes(10_000)

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("a stranger's code was called")

    __sizeof__ = __len__ = __iter__ = __eq__ = __bool__ = __repr__ = __getattr__ = _refuse
    __getattribute__ = __reduce__ = __getstate__ = __dir__ = _refuse
    __hash__ = _refuse
    __class__ = property(_refuse)
    __dict__ = property(_refuse)


class TrapList(list[Any]):
    """A list that lies about itself."""

    __sizeof__ = __len__ = __iter__ = Trap._refuse


class TrapMeta(type):
    """A class whose class has opinions."""

    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError(f"asked the class for {name}")

    def __instancecheck__(cls, instance: Any) -> bool:
        raise AssertionError("asked the class for its instances")


class Trapped(metaclass=TrapMeta):
    """An instance of a class with opinions."""

    __slots__ = ()


def test_nothing_of_a_strangers_is_ever_called() -> None:
    trap = object.__new__(Trap)
    object.__setattr__(trap, "payload", bytes(10_000))
    assert 10_000 < size_of(trap) < 10_500
    assert size_of([trap, trap]) < 10_700
    trapped = TrapList()
    list.append(trapped, bytes(10_000))
    assert 10_000 < size_of(trapped) < 10_500
    assert size_of(object.__new__(Trapped)) < 100


def test_no_metaclass_is_asked_for_equality_or_a_hash() -> None:
    made = strangers.make([1])
    for stranger in made:
        size_of(stranger)
        bytes_of(stranger)
        shallow_size(stranger)
    size_of(made)
    assert strangers.touched == []


def generate() -> Any:
    local = yield
    yield local


async def wait() -> None:
    await wait()


async def stream() -> Any:
    yield 1


@pytest.mark.parametrize(
    "obj",
    [
        "text", 7, 10**50, 1.5, {1: 2}, [1], (1,), b"x", {1}, frozenset([1]), bytearray(9),
        collections.deque([1]), collections.OrderedDict(a=1), array.array("d", [1.0]),
        io.BytesIO(b"x" * 500), io.StringIO("x" * 500), generate(), stream(), generate, object(),
    ],
)  # fmt: skip
def test_one_object_alone_weighs_what_the_interpreter_says(obj: object) -> None:
    assert shallow_size(obj) == sys.getsizeof(obj)


def test_a_coroutine_weighs_its_frame_and_not_what_lies_behind_it() -> None:
    """``object.__sizeof__`` takes a pointer in it for its length, on 3.11."""
    coroutine = wait()
    try:
        assert shallow_size(coroutine) == sys.getsizeof(coroutine) < 1000
    finally:
        coroutine.close()


def test_a_subclass_weighs_what_its_base_knows() -> None:
    class Rows(array.array):  # type: ignore[type-arg] # reason: not generic at run time on 3.11
        __sizeof__ = Trap._refuse

    class Text(str):
        __sizeof__ = Trap._refuse
        __slots__ = ()

    assert 8_000 <= shallow_size(Rows("d", [0.0] * 1000)) < 8_300
    assert 5_000 <= shallow_size(Text("x" * 5000)) < 5_200
    assert shallow_size(Derived([1] * 1000)) >= 8_000


def test_attributes_in_a_table_of_the_object_are_its_own() -> None:
    few, many = Plain(1), Plain(1)
    vars(many).update({f"name{n}": n for n in range(20)})
    assert shallow_size(few) < 200
    assert size_of(many) > size_of(few) + 20 * 8


def test_weak_proxies_are_not_followed() -> None:
    target = Plain(bytes(100_000))
    proxy = weakref.proxy(target)
    assert size_of(proxy) < 1000
    assert size_of(weakref.ref(target)) < 1000
    del target
    assert size_of(proxy) < 1000, "a dead proxy is no error"


def test_a_budget_bounds_the_walk_and_the_rest_is_estimated() -> None:
    value = [[f"{row} {column}" for column in range(30)] for row in range(3000)]
    exact = size_of(value, max_nodes=10**9)
    assert not exact.estimated
    estimate = size_of(value, max_nodes=1000)
    assert estimate.estimated
    assert estimate.nodes <= 1100
    assert exact * 0.7 < estimate < exact * 1.3


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, collections.deque, dict.fromkeys])
def test_containers_larger_than_the_budget_are_sampled(kind: Any) -> None:
    value = kind(float(number) for number in range(100_000))
    exact = size_of(value, max_nodes=10**9)
    estimate = size_of(value, max_nodes=500)
    assert estimate.estimated
    assert exact * 0.8 < estimate < exact * 1.2


def test_the_default_budget_covers_a_usual_document() -> None:
    document = json.loads(
        json.dumps([{"id": n, "name": f"n{n}", "tags": ["a"]} for n in range(900)])
    )
    assert not size_of(document).estimated


def test_a_size_is_an_int_that_says_how_it_was_found() -> None:
    size = size_of("abc")
    assert isinstance(size, int)
    assert json.dumps({"bytes": size}) == json.dumps({"bytes": sys.getsizeof("abc")})
    assert (size.estimated, size.nodes, type(size.bytes)) == (False, 1, int)
    assert Size(5.7) == 5


@pytest.mark.parametrize(
    ("given_", "error"), [(0, ConfigError), (1.5, TypeError), (True, TypeError)]
)
def test_a_bad_budget_is_refused(given_: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_nodes must be"):
        size_of([], max_nodes=given_)


def test_a_numpy_array_counts_its_data_and_a_view_those_of_the_owner_it_keeps() -> None:
    numpy = pytest.importorskip("numpy")
    owner = numpy.zeros(100_000)
    assert 800_000 <= size_of(owner) < 800_300
    for view in (owner[10:20], owner.reshape(100, 1000), owner.T):
        assert 800_000 <= size_of(view) < 800_400
    assert 800_000 <= size_of([owner, owner[:], owner[5:]]) < 801_000
    assert size_of(numpy.float64(1.0)) < 100
    texts = numpy.array([f"text {n}" for n in range(1000)], dtype=object)
    assert size_of(texts) == sys.getsizeof(texts) + sum(map(sys.getsizeof, texts))
    assert not size_of(texts).estimated

    class Matrix(numpy.ndarray):  # type: ignore[misc, name-defined]
        nbytes = property(Trap._refuse)
        dtype = property(Trap._refuse)

    assert 800_000 <= size_of(numpy.ndarray.view(owner.copy(), Matrix).base) < 800_300
    assert 800_000 <= size_of(owner.view(Matrix)) < 800_400


def test_a_view_that_is_an_attribute_counts_the_owner_of_its_data() -> None:
    """As in a table: its columns are views of an array that nothing else holds."""
    numpy = pytest.importorskip("numpy")
    table = Plain(numpy.zeros(100_000)[:])
    assert 800_000 <= size_of(table) < 801_000


def rows_of(block: bytearray) -> Any:
    yield len(block)
    yield block


def test_closures_generators_and_views_count_what_they_hold() -> None:
    """A cache of at most 1 MiB of them held 40 MB."""

    def make(block: bytearray) -> Any:
        return lambda: block

    rows = rows_of(bytearray(10_000))
    next(rows)
    for value in (
        make(bytearray(10_000)),
        rows,
        memoryview(bytearray(10_000))[5:],
        bytearray(10_000).append,
    ):
        assert 10_000 < size_of(value) < 11_000
        assert size_of([value, value]) < 11_200
        assert not size_of(value).estimated


def test_what_surrounds_code_counts_nothing() -> None:
    """Neither the module of a closure nor the frames that run now belong to a value."""
    local = [bytes(10_000_000)]

    def inner(number: int) -> int:
        return number

    assert size_of(inner) < 1000
    frame = sys._getframe()
    assert size_of([frame]) == sys.getsizeof([frame])
    assert local


def test_the_size_of_a_librarys_object_is_a_lower_bound_and_says_so() -> None:
    assert size_of(zlib.compressobj()).estimated
    assert size_of([{"stream": zlib.decompressobj()}]).estimated
    assert not is_known(type(zlib.compressobj()))
    plain: list[Any] = [collections.deque(), re.compile("a"), threading.Lock(), Plain(1), Derived()]
    assert [value for value in plain if not is_known(type(value))] == []


@pytest.mark.parametrize("stub", [MagicMock(), types.SimpleNamespace(ndarray=list), None])
def test_what_stands_in_for_numpy_is_not_taken_for_it(
    stub: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests and builds of documents put a stub there."""
    monkeypatch.setitem(sys.modules, "numpy", stub)
    assert shallow_size([1]) == sys.getsizeof([1])


def test_a_lazy_numpy_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"{name} was asked for")

    monkeypatch.setitem(sys.modules, "numpy", Lazy("numpy"))
    assert shallow_size([1]) == sys.getsizeof([1])


def test_a_text_in_memory_counts_four_bytes_a_character_once_it_can_be_read() -> None:
    made = io.StringIO("x" * 10_000)
    assert 40_000 < size_of(made) < 40_500
    assert not size_of(made).opaque
    assert made.tell() == 0
    made.close()
    assert size_of(made) < 500


def test_a_text_that_is_being_written_is_opaque_where_to_ask_for_it_would_make_it_larger() -> None:
    written = io.StringIO()
    written.write("x" * 10_000)
    size = size_of(written)
    assert 10_000 < size < 10_500
    assert size.opaque == (() if sys.version_info < (3, 12) else ("_io.StringIO",))
    assert written.getvalue() == "x" * 10_000


def test_the_bytes_of_a_buffer_in_memory_count_once() -> None:
    buffer = io.BytesIO()
    buffer.write(bytes(50_000))
    assert 50_000 < size_of(buffer) < 60_000
