"""What only C code holds: the object that may keep it is named, as a conjecture."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memguard.leaks.holders.paths import Retention, find_paths
from memguard.lifecycle import locks

pytest.importorskip("sqlite3")
pytestmark = pytest.mark.timeout(180)

SOURCE = """
import sqlite3

DB = sqlite3.connect(":memory:")
OTHERS = []

def by_name(db, n):
    rates = {"rate": [n]}

    def convert(value):
        return value * rates["rate"][0]

    db.create_function("convert_%d" % n, 1, convert)
    return id(convert)

def at_once(db, n):
    rows = [n]
    db.create_collation("order_%d" % n, lambda one, other: rows[0])

def to_two(db, n):
    def convert(value):
        return [n, value]

    db.set_authorizer(None)
    db.create_function("convert_%d" % n, 1, convert)
    OTHERS.append(convert)
    OTHERS.remove(convert)
"""
SAYS = "; the code around it passes it to {}(): perhaps {} keeps it"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[types.ModuleType]:
    """Return a module with a connection, which was there before memguard was imported."""
    file = tmp_path / "shop_of_keepers.py"
    file.write_text(SOURCE, "utf-8")
    os.utime(file, (1e9, 1e9))
    spec = importlib.util.spec_from_file_location("shop_of_keepers", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["shop_of_keepers"] = module
    spec.loader.exec_module(module)
    yield module
    module.DB.close()
    del sys.modules["shop_of_keepers"]
    vars(module).clear()


def path_to(is_wanted: Callable[[types.FunctionType], bool]) -> Retention:
    """Return how the function is reached, which nothing here holds."""
    gc.collect()
    wanted = {
        id(obj): obj
        for obj in gc.get_objects()
        if type(obj) is types.FunctionType
        and obj.__module__ == "shop_of_keepers"
        and is_wanted(obj)
    }
    found = find_paths(wanted, seconds=100.0)
    assert len(found) == 1
    return found.popitem()[1]


def of(outer: str) -> Callable[[types.FunctionType], bool]:
    return lambda function: function.__qualname__.startswith(f"{outer}.<locals>")


needs_counts = pytest.mark.skipif(
    locks.FREE_THREADED, reason="what only C holds is known by reference counts"
)


@needs_counts
@pytest.mark.parametrize(
    ("outer", "method"), [("by_name", "create_function"), ("at_once", "create_collation")]
)
def test_the_connection_that_may_keep_a_function_is_named(
    shop: types.ModuleType, outer: str, method: str
) -> None:
    getattr(shop, outer)(shop.DB, 1)
    found = path_to(of(outer))
    keeper = "shop_of_keepers.DB (sqlite3.Connection)"
    assert found.path == "function, held by nothing that Python can see" + SAYS.format(
        method, keeper
    )
    assert (found.anchored, found.unseen) == (False, True)


@needs_counts
def test_of_several_none_is_singled_out(shop: types.ModuleType) -> None:
    more = [shop.sqlite3.connect(":memory:") for _ in range(2)]
    try:
        shop.by_name(shop.DB, 1)
        found = path_to(of("by_name"))
        assert found.path.endswith(
            SAYS.format("create_function", "one of several sqlite3.Connection")
        )
    finally:
        for each in more:
            each.close()


@needs_counts
def test_what_is_passed_to_more_than_one_method_is_not_guessed(shop: types.ModuleType) -> None:
    shop.to_two(shop.DB, 1)
    assert path_to(of("to_two")).path == "function, held by nothing that Python can see"


@needs_counts
def test_source_that_changed_since_is_not_read(shop: types.ModuleType) -> None:
    os.utime(str(shop.__file__))
    shop.by_name(shop.DB, 1)
    assert path_to(of("by_name")).path == "function, held by nothing that Python can see"
