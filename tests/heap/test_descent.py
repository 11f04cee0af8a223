"""From the modules down: what no climb reaches because its holder is replaced all the time."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from memguard.leaks.holders import descent


class Registry:
    def __init__(self) -> None:
        self.rows: list[Any] = []


class Slotted:
    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: list[Any] = []


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """Return a module of the user's own, imported."""
    made = types.ModuleType("descent_specimen")
    made.__file__ = __file__
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def kinds(path: list[Any]) -> list[str]:
    return [type(obj).__name__ for obj in path]


def paths_to(*wanted: object, seconds: float = 30.0) -> dict[int, list[str]]:
    return descent.find_from_above(
        {id(obj): obj for obj in wanted}, kinds, deadline=time.monotonic() + seconds
    )


def test_a_container_below_a_module_is_found_with_the_way_to_it(module: types.ModuleType) -> None:
    registry = Registry()
    target = registry.rows
    vars(module)["REGISTRY"] = {"one": registry}
    found = paths_to(target)
    assert found[id(target)][0] == "dict", "the namespace of the module"
    assert found[id(target)][-1] == "list"
    assert "Registry" in found[id(target)]


def test_slots_are_a_way_down_too(module: types.ModuleType) -> None:
    holder = Slotted()
    vars(module)["HOLDER"] = holder
    assert "Slotted" in paths_to(holder.rows)[id(holder.rows)]


def test_closures_and_defaults_are_opened_and_code_is_not(module: types.ModuleType) -> None:
    cell, default = [object()], [object()]

    def inner() -> list[object]:
        return cell

    def plain(rows: list[object] = default) -> list[object]:
        return rows

    vars(module).update(inner=inner, plain=plain)
    found = paths_to(cell, default, plain.__code__, seconds=30.0)
    assert "cell" in found[id(cell)]
    assert "function" in found[id(default)], "a default outlives every call, and may grow"
    assert id(plain.__code__) not in found


def test_links_of_a_chain_are_no_step_deeper(module: types.ModuleType) -> None:
    first = Slotted()
    last = first
    for _ in range(500):
        link = Slotted()
        link.rows.append(last)
        last = link
    vars(module)["LAST"] = last
    path = paths_to(first)[id(first)]
    assert path == ["dict", *["Slotted", "list"] * 500, "Slotted"]


def test_what_hangs_nowhere_is_not_found() -> None:
    assert paths_to([object()]) == {}


def test_the_walk_ends_at_its_deadline(module: types.ModuleType) -> None:
    vars(module)["MANY"] = [[number] for number in range(20_000)]
    began = time.monotonic()
    paths_to([object()], seconds=0.0)
    assert time.monotonic() - began < 20


def test_a_path_that_was_cut_meanwhile_is_repaired_with_what_is_there_now() -> None:
    entry = object()
    registry = Registry()
    registry.rows = [entry]
    cut = registry.rows
    registry.rows = [*cut, object()]  # copied and exchanged, as copy-on-write does
    path = descent.repair([{"registry": registry}, registry, cut, entry])
    assert path[2] is registry.rows


def test_a_path_that_still_holds_is_left_alone() -> None:
    registry = Registry()
    entry = object()
    registry.rows = [entry]
    path = [{"registry": registry}, registry, registry.rows, entry]
    assert descent.repair(list(path)) == path


def test_a_link_that_was_the_head_of_its_chain_is_found_below_the_head_of_now() -> None:
    def wrapped(inner: object) -> Any:
        return lambda: inner

    link = wrapped(None)
    namespace = {"HANDLER": wrapped(wrapped(wrapped(link))), "OTHER": wrapped(None)}
    path = descent.repair([namespace, link, link.__closure__])
    assert path[1] is namespace["HANDLER"]
