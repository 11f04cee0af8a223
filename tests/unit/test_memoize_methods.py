"""@cached on methods: results belong to an instance and never keep it alive."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from memguard.bounded.cache.loading.decorator import cached
from memguard.lifecycle import janitor


class Shop:
    """Counts real calls for each instance; equal to every other shop, and so not hashable."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.calls = 0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop)

    @cached(maxsize=100)
    def price(self, product: int, *, discount: int = 0) -> int:
        """Tell the price."""
        self.calls += 1
        return self.factor * product - discount

    @classmethod
    @cached
    def of_class(cls, number: int) -> tuple[type, int]:
        return cls, number

    @classmethod
    @cached
    def number(cls, number: int) -> int:
        return number

    @staticmethod
    @cached
    def static(number: int) -> int:
        return number + 1

    @cached
    async def later(self, product: int) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        return self.factor * product


@pytest.fixture(autouse=True)
def empty() -> None:
    """Start each test with nothing remembered."""
    Shop.price.cache_clear()
    Shop.of_class.cache_clear()


def test_instances_do_not_share_results_even_when_they_are_equal_and_unhashable() -> None:
    one, two = Shop(1), Shop(2)
    assert [one.price(5), two.price(5), one.price(5), two.price(5)] == [5, 10, 5, 10]
    assert (one.calls, two.calls) == (1, 1)
    assert one.price(5, discount=1) == 4
    assert Shop.price(one, 5) == 5
    assert one.calls == 2


def test_results_do_not_keep_their_instance_alive() -> None:
    shop = Shop(1)
    assert shop.price(5) == 5
    there = weakref.ref(shop)
    gc.disable()
    try:
        del shop
        assert there() is None
    finally:
        gc.enable()


def test_results_of_dead_instances_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    janitor.stop()
    monkeypatch.setattr(janitor, "watch", lambda *_, **__: True)  # the test sweeps, nobody else
    for number in range(50):
        assert Shop(number).price(1) == number
    survivor = Shop(7)
    assert survivor.price(1) == 7
    gc.collect()
    assert Shop.price.cache_info().currsize > 1
    Shop.price._keys.instances._sweep()  # what the janitor does once a second
    assert Shop.price.cache_info().currsize == 1
    assert survivor.price(1) == 7
    assert survivor.calls == 1


def test_the_janitor_sweeps_methods_only_while_there_are_instances() -> None:
    class Till:  # of its own: what other tests keep alive is no instance of it
        @cached(maxsize=100)
        def price(self, product: int) -> int:
            return product

    till = Till()
    till.price(1)
    instances = Till.price._keys.instances
    assert janitor.watches(instances)
    assert instances._sweep() is not None
    del till
    gc.collect()
    assert instances._sweep() is None


def test_a_new_instance_at_an_old_address_starts_empty() -> None:
    """CPython gives the memory of a dead object to the next one, and with it its id."""
    for number in range(200):
        assert Shop(number).price(1) == number


def test_a_bound_method_can_invalidate_its_own_result() -> None:
    one, two = Shop(1), Shop(2)
    one.price(5)
    two.price(5)
    assert one.price.cache_invalidate(5)
    assert not one.price.cache_invalidate(5)
    assert two.price.cache_invalidate(5)


class Branch(Shop):
    """Another class with the same class method."""


def test_a_class_method_can_invalidate_its_result() -> None:
    """From Python 3.13 on, Python binds it and does not say to which class."""
    assert not Shop.of_class.cache_invalidate(1)
    Shop.of_class(1)
    Shop.of_class(2)
    assert Shop.of_class.cache_invalidate(1)
    assert not Shop.of_class.cache_invalidate(1)
    assert Shop.of_class.cache_info().currsize == 1
    Branch.of_class(3)
    assert Branch.of_class.cache_invalidate(3)
    assert not Branch.of_class.cache_invalidate(3)


def test_a_key_of_a_class_method_is_made_without_the_class() -> None:
    class Book:
        @classmethod
        @cached(key=lambda number: number // 10)
        def of_class(cls, number: int) -> tuple[str, int]:
            return cls.__name__, number

    class Atlas(Book):
        pass

    assert [Book.of_class(11), Atlas.of_class(12), Book.of_class(19)] == [
        ("Book", 11),
        ("Atlas", 12),
        ("Book", 11),
    ]


def test_results_of_a_class_method_do_not_keep_the_class_alive() -> None:
    def used() -> weakref.ref[Any]:
        class Page(Shop):
            pass

        Page.of_class(1)
        Shop.of_class.cache_clear()  # the result is the class
        Page.number(1)
        return weakref.ref(Page)

    there = used()
    gc.collect()
    assert there() is None


def test_a_bound_method_shows_the_parameters_that_its_caller_gives() -> None:
    """Frameworks read them: with the instance among them, FastAPI asked its clients for it."""
    for method in (Shop(1).price, Shop(1).later, Shop(1).of_class, Shop.of_class, Shop.static):
        signature = inspect.signature(method)
        assert not {"self", "cls"} & signature.parameters.keys()
    assert (
        str(inspect.signature(Shop(1).price)) == "(product: 'int', *, discount: 'int' = 0) -> 'int'"
    )
    assert "self" in inspect.signature(Shop.price).parameters


def test_fastapi_calls_a_cached_method_that_a_path_depends_on() -> None:
    shop, app = Shop(3), FastAPI()

    async def price(found: int = Depends(shop.price)) -> int:
        return found

    app.add_api_route("/price", price)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get("/price?product=5&discount=1")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.text) == (200, "14")


def test_a_bound_method_looks_like_one() -> None:
    shop = Shop(1)
    assert shop.price == shop.price
    assert hash(shop.price) == hash(shop.price)
    assert shop.price != Shop(1).price
    assert shop.price.__self__ is shop
    assert shop.price.__name__ == "price"
    assert "price" in repr(shop.price)
    assert shop.price.cache_info() == Shop.price.cache_info()


def test_class_and_static_methods_are_cached_too() -> None:
    class Branch(Shop):
        """A class of its own."""

    assert Shop.of_class(1) == (Shop, 1)
    assert Branch.of_class(1) == (Branch, 1)
    assert Shop.of_class(1) is Shop.of_class(1)
    assert Shop.static(1) == Shop(3).static(1) == 2


def test_async_methods_belong_to_their_instance() -> None:
    one, two = Shop(1), Shop(2)

    async def main() -> list[int]:
        return [*await asyncio.gather(*(shop.later(3) for shop in (one, two, one, two)))]

    assert asyncio.run(main()) == [3, 6, 3, 6]
    assert (one.calls, two.calls) == (1, 1)


def test_instances_with_slots_and_weakref_are_told_apart_by_identity() -> None:
    class Slotted:
        __slots__ = ("__weakref__", "factor")

        def __init__(self, factor: int) -> None:
            self.factor = factor

        @cached
        def times(self, number: int) -> int:
            return self.factor * number

    one, two = Slotted(1), Slotted(2)
    assert (one.times(3), two.times(3)) == (3, 6)
    there = weakref.ref(one)
    del one
    assert there() is None


def test_an_instance_without_weakref_is_keyed_by_itself() -> None:
    """As in functools: kept alive until its entries leave, for nothing tells of its death."""

    class Number(int):
        calls = 0

        @cached(maxsize=2)
        def times(self, number: int) -> int:
            type(self).calls += 1
            return self * number

    assert Number(3).times(2) == Number(3).times(2) == 6
    assert Number.calls == 1
    assert Number.times.cache_info() == (1, 1, 2, 1)


def test_an_instance_without_weakref_and_hash_is_not_cached() -> None:
    class Bare:
        __slots__ = ("calls",)
        __hash__ = None  # type: ignore[assignment]

        def __init__(self) -> None:
            self.calls = 0

        def __eq__(self, other: object) -> bool:
            return self is other

        @cached
        def call(self, number: int) -> int:
            self.calls += 1
            return number

    bare = Bare()
    assert (bare.call(1), bare.call(1), bare.calls) == (1, 1, 2)
    assert Bare.call.cache_info() == (0, 2, 128, 0)


def test_a_function_that_becomes_a_method_later_is_treated_as_one() -> None:
    class Late:
        """Gets its method after it was made."""

    @cached
    def method(self: Any, number: int) -> int:  # noqa: ARG001 - reason: a method to be
        return number

    Late.method = method  # type: ignore[attr-defined]
    late = Late()
    assert late.method(1) == 1  # type: ignore[attr-defined]
    there = weakref.ref(late)
    del late
    assert there() is None


def test_the_key_function_of_a_method_is_not_given_the_instance() -> None:
    class Keyed:
        @cached(key=lambda text: text.lower())
        def shout(self, text: str) -> str:
            return text.upper() + str(id(self))

    one, two = Keyed(), Keyed()
    assert one.shout("a") == one.shout("A") != two.shout("a")
