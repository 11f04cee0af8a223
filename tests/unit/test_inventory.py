"""The inventory: lists what lives under its name, keeps nothing alive, survives what lists it."""

from __future__ import annotations

import dataclasses
import gc
import threading
from typing import Any

import pytest

from memguard.bounded import inventory
from memguard.bounded.cache.bounded_cache import BoundedCache


class Container:
    """The least that can be listed."""

    def __init__(self, items: int = 3) -> None:
        self.items = items

    def footprint(self) -> inventory.Footprint:
        """Say how much there is."""
        return inventory.Footprint(items=self.items, bytes=100 * self.items)

    def statistics(self) -> str:
        """Say something."""
        return "statistics"


class Broken(Container):
    """Cannot be asked."""

    def footprint(self) -> inventory.Footprint:
        raise LookupError


def rows(name: str) -> list[inventory.InventoryRow]:
    """Return the rows of that name."""
    return [row for row in inventory.inventory() if row.name == name]


def test_a_live_container_is_listed_with_what_it_holds() -> None:
    container = Container()
    inventory.register(container, name="pool of three", kind="Pool")
    assert rows("pool of three") == [
        inventory.InventoryRow("pool of three", "Pool", 3, 300, "statistics")
    ]
    assert inventory.names()[id(container)] == ("pool of three", "Pool")
    assert container in inventory.containers()


def test_a_dead_container_is_forgotten() -> None:
    container = Container()
    inventory.register(container, name="short-lived", kind="Pool")
    ident = id(container)
    gc.disable()
    try:
        del container
        assert ident not in inventory.names()
        assert rows("short-lived") == []
    finally:
        gc.enable()
    assert not inventory._dead
    assert ident not in inventory._entries


def test_an_unregistered_container_is_forgotten_at_once() -> None:
    container = Container()
    inventory.register(container, name="gone", kind="Pool")
    inventory.unregister(container)
    inventory.unregister(container)
    assert rows("gone") == []


def test_a_container_answers_for_what_belongs_to_it() -> None:
    container, held = Container(), {"a": 1}
    inventory.register(container, name="holder", kind="Pool", also=(held,))
    assert inventory.names()[id(held)] == ("holder", "Pool")
    assert len(rows("holder")) == 1
    assert inventory.containers().count(container) == 1
    del container
    assert id(held) not in inventory.names()


def test_an_id_given_to_a_younger_container_is_not_forgotten_with_the_older() -> None:
    old, young = Container(), Container()
    inventory.register(old, name="old", kind="Pool")
    entry = inventory._entries[id(old)]
    inventory.register(young, name="young", kind="Pool")
    inventory._entries[id(old)] = inventory._entries[id(young)]
    inventory._dead.append(entry)
    assert "young" in {name for name, _ in inventory.names().values()}
    assert inventory._entries.pop(id(old))() is young


def test_one_container_that_cannot_be_asked_hides_no_other() -> None:
    broken, fine = Broken(), Container()
    inventory.register(broken, name="broken", kind="Pool")
    inventory.register(fine, name="fine", kind="Pool")
    assert rows("broken") == [inventory.InventoryRow("broken", "Pool", 0, None, None)]
    assert rows("fine")[0].items == 3


def test_rows_hold_no_live_entries() -> None:
    cache: BoundedCache[str, Any] = BoundedCache(3, name="with entries")
    cache["secret key"] = object()
    row = rows("with entries")[0]
    assert (row.kind, row.items) == ("BoundedCache", 1)
    assert row.statistics.currsize == 1
    assert "secret key" not in repr(row)


def test_listing_while_containers_come_and_go_raises_nothing() -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def churn() -> None:
        try:
            while not stop.is_set():
                inventory.register(Container(), name="churn", kind="Pool")
        except BaseException as error:  # noqa: BLE001 - reason: it is what the test looks for
            errors.append(error)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            inventory.names()
            inventory.inventory()
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert errors == []
    assert rows("churn") == []


def test_a_cache_is_asked_once_and_says_the_same_as_its_footprint() -> None:
    """Its bytes may be an estimate, which takes a walk over its values."""

    class Asked(BoundedCache[int, bytes]):
        def footprint(self) -> inventory.Footprint:
            raise AssertionError

    cache: BoundedCache[int, bytes] = BoundedCache(maxsize=9, name="asked")
    asked = Asked(maxsize=9, name="asked once")
    for each in (cache, asked):
        each[1] = b"x" * 1000
    (row,), (other,) = rows("asked"), rows("asked once")
    assert inventory.Footprint(row.items, row.bytes) == cache.footprint()
    assert (other.items, other.bytes) == (row.items, row.bytes)


def test_a_row_is_what_its_constructor_makes() -> None:
    """It is made by a shorter way."""
    container = Container()
    inventory.register(container, name="row", kind="Container")
    (found,) = rows("row")
    assert found == inventory.InventoryRow("row", "Container", 3, 300, "statistics")
    assert list(vars(found)) == [field.name for field in dataclasses.fields(found)]


def test_one_that_cannot_be_reset_in_a_child_is_not_in_the_way_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Resettable(Container):
        resets = 0

        def _after_fork_in_child(self) -> None:
            self.resets += 1
            if self.items == 2:
                raise ZeroDivisionError

    monkeypatch.setattr(inventory, "_entries", {})  # those of others are no child's
    made = [Resettable(items) for items in (1, 2, 3)]
    for container in made:
        inventory.register(container, name="resettable", kind="Resettable")
    with pytest.raises(ZeroDivisionError):
        inventory._after_fork_in_child()
    assert [container.resets for container in made] == [1, 1, 1]
