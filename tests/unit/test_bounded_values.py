"""Values for a log are cut to size by walking them: no stranger's code, no giant text."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import pathlib
import threading
import tracemalloc
import uuid
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.integrations.logging.values import Bounds, Walk, formatted, shared
from tests import strangers
from tests.hostile_values import (
    Color,
    Hostile,
    HostileDict,
    HostileError,
    HostileList,
    HostileNumber,
    HostileText,
)

MiB = 1024**2


def bounds(**options: Any) -> Bounds:
    chosen: dict[str, Any] = {"max_bytes": 4096, "max_items": 20, "max_depth": 4, "allow": ()}
    return Bounds(**{**chosen, **options})


def cut(value: object, **options: Any) -> Any:
    return Walk(bounds(**options)).copy(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        -(2**70),
        1.5,
        2j,
        "héllo",
        b"bytes",
        [1, "two", [3.0]],
        (1, (2,)),
        {"a": {"b": [None]}, 3: 4},
        {1, 2},
        dt.datetime(2026, 11, 20, tzinfo=dt.UTC),
        dt.date(2026, 11, 20),
        dt.timedelta(1),
        uuid.UUID(int=7),
        decimal.Decimal("1.10"),
    ],
    ids=repr,
)
def test_what_is_small_and_known_stays_as_it_is(value: object) -> None:
    walk = Walk(bounds())
    copy = walk.copy(value)
    assert copy == value
    assert type(copy) is type(value)
    assert walk.cut == 0


def test_what_is_copied_is_not_what_was_given() -> None:
    """Another thread may fill the list before the log line is rendered."""
    given: dict[str, Any] = {"rows": [1]}
    copy = cut(given)
    given["rows"] += [2] * 1000
    assert copy == {"rows": [1]}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 5000, "x" * 4088 + "…[+912 chars]"),
        ("é" * 5000, "é" * 2044 + "…[+2956 chars]"),
        ("\ud800" * 5000, None),
        (b"\0" * 5000, repr(b"\0" * 1022) + "…[+3978 bytes]"),
        (bytearray(b"a" * 5000), repr(b"a" * 1022) + "…[+3978 bytes]"),
        (2**5000, "<int of 5001 bits>"),
        (list(range(25)), [*range(20), "…[+5 items]"]),
        (tuple(range(25)), (*range(20), "…[+5 items]")),
        (deque(range(25)), [*range(20), "…[+5 items]"]),
        (dict.fromkeys(range(25)), dict.fromkeys(range(20)) | {"…": "[+5 items]"}),
        ([[[[[1]]]]], [[[["<list of 1>"]]]]),
        (memoryview(b"x" * 9), "<memoryview of 9 bytes>"),
        (decimal.Decimal(10) ** 20 + decimal.Decimal(10) ** -20, None),
        (fractions.Fraction(1, 3), "1/3"),
        (pathlib.PurePosixPath("/srv/app"), "/srv/app"),
        (Color.RED, "tests.hostile_values.Color.RED"),
        (dict, "<class dict>"),
        (ValueError("no", 3), "ValueError('no', 3)"),
    ],
    ids=lambda value: type(value).__name__,  # no address: workers must agree on the names
)
def test_what_is_large_says_what_was_left_out(value: object, shown: object) -> None:
    copy = cut(value)
    if shown is not None:
        assert copy == shown
    assert len(repr(copy)) < 10_000


def test_types_that_inherit_from_builtins_are_read_as_these() -> None:
    point = namedtuple("point", "x y")  # noqa: PYI024 - reason: the untyped kind is the usual one
    assert cut(point(1, 2)) == (1, 2)
    assert cut(OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert cut(Counter("aab")) == {"a": 2, "b": 1}
    ordered = OrderedDict.fromkeys("abc")
    ordered.move_to_end("a")
    assert list(cut(ordered)) == ["b", "c", "a"]


def test_no_code_of_a_stranger_is_run() -> None:
    stranger = Hostile()
    name = "tests.hostile_values.Hostile"
    assert cut(stranger).startswith(f"<{name} at 0x")
    assert cut(HostileDict(a=1)) == {"a": 1}
    assert cut(HostileList([1, stranger]))[0] == 1
    assert cut(HostileText("text")) == "text"
    assert type(cut(HostileText("text"))) is str
    assert cut(HostileNumber(3)) == 3
    assert type(cut(HostileNumber(3))) is int
    assert cut(HostileError("why")) == "tests.hostile_values.HostileError('why')"
    assert list(cut({HostileText("key"): 1})) == ["key"]


def test_nothing_is_asked_of_proxies_and_of_types_with_a_hostile_metaclass() -> None:
    found = cut(strangers.make(Hostile()))
    assert strangers.touched == []
    assert len(found) == 8
    assert found[0].startswith("<tests.strangers.OfHostileMeta at 0x")
    assert found[3]["held"].startswith("<tests.hostile_values.Hostile at 0x")


def test_a_structure_that_contains_itself_comes_to_an_end() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert cut(circle) == [1, "<list that contains itself>"]
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    assert cut(mapping) == {"self": "<dict that contains itself>"}
    error = ValueError()
    error.args = (error,)
    assert cut(error) == "ValueError('ValueError(<tuple that contains itself>)')"


def test_an_allowed_type_writes_itself_and_is_cut_then() -> None:
    class Order:
        def __repr__(self) -> str:
            return "Order(" + "9" * 5000 + ")"

    class Sub(Order):
        pass

    class Broken:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    assert cut(Order(), allow=(Order,)).startswith("Order(999")
    assert cut(Sub(), allow=(Order,)).endswith("chars]")
    assert len(cut(Order(), allow=[object])) < 5000
    assert cut(Broken(), allow=(Broken,)).endswith("Broken: unreadable, ZeroDivisionError>")


def test_keys_that_are_alike_when_cut_are_kept_apart() -> None:
    long = {"k" * 5000 + "1": 1, "k" * 5000 + "2": 2, (1, 2): 3}
    copy = cut(long, max_bytes=16384)
    assert len(copy) == 3
    assert copy["(1, 2)"] == 3


def test_a_container_that_others_change_meanwhile_is_read_as_far_as_possible() -> None:
    growing = {n: n for n in range(1000)}
    ended = threading.Event()

    def change() -> None:
        at = 1000
        while not ended.is_set():
            growing[at] = at
            growing.pop(at - 500, None)
            at += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        copies = [cut(growing, max_items=1000, max_bytes="64KiB") for _ in range(100)]
    finally:
        ended.set()
        thread.join()
    assert all(type(copy) is dict and copy for copy in copies)


def measured(work: Callable[[], object]) -> int:
    """Return by how many bytes memory rose at most while *work* ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * (200 * MiB),
        lambda: b"\0" * (100 * MiB),
        lambda: ["y" * MiB] * 200,
        lambda: {str(n): ["y" * MiB] * 20 for n in range(20)},
        lambda: [[["é" * MiB] * 100] * 100] * 100,
        lambda: 1 << (8 * 20 * MiB),
        lambda: list(range(1_000_000)),
        lambda: ValueError("z" * (100 * MiB)),
        lambda: [None] * 20_000_000,
        lambda: [[]] * 1_000_000,
    ],
    ids=["str", "bytes", "list", "dict", "nested", "int", "long", "error", "nones", "empties"],
)
def test_memory_stays_bounded_whatever_is_logged(make: Callable[[], object]) -> None:
    value = make()
    Walk(bounds()).copy(value)  # what is imported at the first use is not what is measured
    assert measured(lambda: repr(Walk(bounds(max_items=10_000)).copy(value))) < 256 * 1024


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=40)
        | st.dictionaries(st.text() | st.integers() | st.binary(), inner, max_size=40)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(), max_size=40)
    ),
    max_leaves=30,
)


@settings(max_examples=60)
@given(PLAIN, st.integers(256, 5000), st.integers(1, 30), st.integers(1, 5))
def test_whatever_it_is_the_copy_fits(value: object, size: int, items: int, depth: int) -> None:
    walk = Walk(bounds(max_bytes=size, max_items=items, max_depth=depth))
    copy = walk.copy(value)
    # A character may be written in six (\x1f, \ud800), a value has at most some words beside it.
    assert len(repr(copy)) <= 6 * size + 40 * (size // 8 + 8)
    if not walk.cut:
        assert len(repr(copy)) <= len(repr(value)) + 10


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=10), PLAIN, max_size=10))
def test_no_value_of_an_event_is_there_at_the_expense_of_all_others(event: dict[str, Any]) -> None:
    event = {**event, "large": "x" * 100_000, "event": "order.placed"}
    limits = bounds(max_items=50, max_bytes=16384)
    found = shared(event.items(), limits, Walk(limits), first=("event",))
    assert found["event"] == "order.placed"
    assert set(found) == set(event)
    assert found["large"].startswith("xxx")


def test_the_names_that_matter_are_kept_among_too_many() -> None:
    limits = bounds(max_items=5)
    event = {**{f"k{n}": n for n in range(100)}, "event": "e"}
    found = shared(event.items(), limits, Walk(limits), first=("event",))
    assert found["event"] == "e"
    assert found["…"] == "[+95 items]"
    assert len(found) == 7


def test_many_small_values_are_bounded_together() -> None:
    limits = bounds(max_items=10_000, max_bytes=2048)
    event = {f"key {n}": 2**1000 + n for n in range(10_000)} | {"event": "e" * 10_000}
    found = shared(event.items(), limits, Walk(limits), first=("event",))
    assert len(repr(found)) < 10_000
    assert found["event"].startswith("eee")
    assert int(found["…"][2:].split()[0]) + len(found) - 1 == len(event)


@pytest.mark.parametrize(
    ("template", "arguments", "text"),
    [
        ("%d of %s", (1, "x"), "1 of x"),
        ("%d", ("<int of 5000 bits>",), None),
        ("%s", (), None),
        ("%99999d", (1,), None),
        ("%*d", (10**6, 1), None),
        ("%(a)s" * 1000, {"a": "x"}, None),
        ("100 %", (), None),
    ],
)
def test_a_template_is_filled_in_where_it_can_be(
    template: str, arguments: Any, text: str | None
) -> None:
    assert formatted(template, arguments, longest=100) == text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_bytes": 100}, ConfigError, "256 bytes to 16 MiB"),
        ({"max_bytes": 1.5}, TypeError, "max_bytes"),
        ({"max_items": 0}, ConfigError, "1 to 10000"),
        ({"max_depth": 21}, ConfigError, "1 to 20"),
        ({"max_depth": True}, TypeError, "an int"),
        ({"allow": str}, TypeError, "in a tuple"),
        ({"allow": ("str",)}, TypeError, "in a tuple"),
    ],
)
def test_bad_bounds_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        bounds(**options)
