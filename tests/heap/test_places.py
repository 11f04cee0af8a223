"""What holds a value that a larger one replaces each time: neither of them gets longer."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.heap import places
from memguard.leaks.evidence import census
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding import advice
from memguard.leaks.finding.investigate import Investigation
from tests.detecting import options

pytestmark = pytest.mark.timeout(180)  # a search is of the whole heap of the tests

KINDS = {
    "str": "'x' * 100_000",
    "bytes": "b'x' * 100_000",
    "tuple": "tuple(f'row {next(C)}' for _ in range(900))",
}
SECRET = "yek terces"[::-1]

GROWN: dict[str, tuple[str, str, str]] = {
    "a global": ("TEXT = part()", "global TEXT; TEXT = TEXT + part()", "shop.app.TEXT"),
    "an entry": ("D = {KEY: part()}", "D[KEY] = D[KEY] + part()", "shop.app.D[str]"),
    "an entry below others": (
        "D = {KEY: {1: part()}}",
        "D[KEY][1] = D[KEY][1] + part()",
        "shop.app.D[str][int]",
    ),
    "an item": ("L = [part()]", "L[0] = L[0] + part()", "shop.app.L[…]"),
    "an attribute": (
        "class Log: pass\nLOG = Log(); LOG.text = part()",
        "LOG.text = LOG.text + part()",
        "shop.app.LOG.text",
    ),
    "a slot": (
        "class Log: __slots__ = ('text',)\nLOG = Log(); LOG.text = part()",
        "LOG.text = LOG.text + part()",
        "shop.app.LOG.text",
    ),
    "an attribute of a class": (
        "class Log: text = part()",
        "Log.text = Log.text + part()",
        "shop.app.Log.text",
    ),
    "an attribute of a dict of its own kind": (
        "class Log(dict): pass\nLOG = Log(a=1); LOG.text = part()",
        "LOG.text = LOG.text + part()",
        "shop.app.LOG.text",
    ),
    "a variable of a closure": (
        "def made(t):\n def add():\n  nonlocal t; t = t + part()\n return add\nADD = made(part())",
        "ADD()",
        "shop.app.ADD.<closure t>",
    ),
}


@pytest.fixture
def shop() -> Iterator[types.ModuleType]:
    module = types.ModuleType("shop.app")
    module.__dict__.update(__file__="/srv/shop/app.py", KEY=SECRET)
    sys.modules["shop.app"] = module
    yield module
    del sys.modules["shop.app"]
    module.__dict__.clear()


def investigated(grow: Any) -> Evidence:
    """Return the evidence where *grow* is called on and on."""
    investigation = Investigation(
        options(trace_seconds=0.5, retention_seconds=30.0), containers=dict
    )
    try:
        investigation.look(0.0)
        for _ in range(10):
            grow()
        investigation.begin(6.0)
        deadline = time.monotonic() + 20
        while not investigation.poll():
            grow()
            time.sleep(0.01)
            assert time.monotonic() < deadline
        return investigation.finish()
    finally:
        investigation.abandon()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", GROWN)
def test_where_a_larger_value_takes_the_place_of_each_is_named(
    shop: types.ModuleType, where: str, kind: str
) -> None:
    begin, grow, path = GROWN[where]
    space = vars(shop)
    begin = (
        f"import itertools\nC = itertools.count(10**6)\ndef part(): return {KINDS[kind]}\n{begin}"
    )
    exec(f"{begin}\ndef grow():\n    {grow}", space)  # noqa: S102 - reason: a program for each row
    found = investigated(space["grow"])
    held = next((each for each in found.holders if each.path == path), None)
    assert held is not None, [(each.path, each.type) for each in found.holders]
    assert held.type == kind
    assert held.anchored
    assert held.steady
    assert held.sample.lines
    if kind == "tuple":
        assert (held.unit, held.entries_added) == ("entries", 9_000)
        assert 50 < (held.sample.bytes_per_entry or 0) < 80
    else:
        assert (held.unit, held.entries_added) == ("bytes", 1_000_000)
    if where == "a global":
        assert "a larger one takes its place" in (advice.of_holder(held) or "")
    assert SECRET not in repr(found)


def test_an_array_that_is_made_longer_is_found_with_the_bytes_it_gained(
    shop: types.ModuleType,
) -> None:
    numpy = pytest.importorskip("numpy")
    space = vars(shop)
    space["ROWS"] = {"all": numpy.zeros(50_000)}

    def grow() -> None:
        space["ROWS"]["all"] = numpy.concatenate([space["ROWS"]["all"], numpy.zeros(50_000)])

    held = next(each for each in investigated(grow).holders if each.path == "shop.app.ROWS[str]")
    assert held.type == "numpy.ndarray"
    assert (held.unit, held.entries_added) == ("bytes", 10 * 50_000 * 8)


def test_a_value_that_stays_what_it_is_is_no_growth() -> None:
    kept = {"page": "x" * 200_000, "log": "x" * 200_000}
    first = census.take_look(1.0)
    kept["page"] = "y" * 200_000
    kept["log"] += "x" * 50_000
    second = census.take_look(2.0)
    mine = {key for _, key, _ in census.grown_values(first, second, limit=1000)}
    log, page = (next(key for key in kept if key == name) for name in ("log", "page"))
    assert id(log) in mine
    assert id(page) not in mine


def test_small_values_are_not_recorded() -> None:
    kept = [{"text": "x" * 10_000, "row": tuple(range(50))}, []]
    recorded = {holder for holder, _, _ in census.take_look(1.0).values}
    assert id(kept[0]) not in recorded


def test_a_place_whose_value_has_gone_holds_nothing() -> None:
    kept: dict[Any, Any] = {"text": "x" * 100_000, ("a", 1): "x" * 100_000}
    found = [place for _, place, _ in places.places_in(kept)]
    assert [place.amount() > 100_000 for place in found] == [True, True]
    del kept["text"]
    kept["a", 1] = None
    assert [place.amount() for place in found] == [0, 0]


def test_no_code_of_a_key_or_a_holder_runs() -> None:
    class Trap:
        def __hash__(self) -> int:
            assert not armed
            return 1

        def __eq__(self, other: object) -> bool:
            assert not armed
            return self is other

        @property
        def text(self) -> str:
            raise AssertionError

    armed: list[int] = []
    trap = Trap()
    kept = {trap: "x" * 100_000}
    armed.append(1)
    ((_, place, _),) = places.places_in(kept)
    assert place.amount() > 100_000
    assert list(places.places_in(trap)) == []


def test_a_place_does_not_keep_its_value() -> None:
    class Text(str):
        __slots__ = ()

    kept = ["x" * 100_000]
    before = sys.getrefcount(kept[0])
    found = list(places.places_in(kept))
    after = sys.getrefcount(kept[0])
    assert after == before
    assert len(found) == 1
    assert list(places.places_in([Text("x" * 100_000)])) == []  # a subclass may hold anything
