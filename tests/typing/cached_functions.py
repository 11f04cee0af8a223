"""What type checkers know of `cached` functions: their parameters, and what they return."""

from __future__ import annotations

from typing import assert_type

from memguard import BoundedCache, cached


@cached
def price(product: int, currency: str = "EUR") -> float:
    """With the default options."""
    return float(product) if currency == "EUR" else 0.0


@cached(maxsize=1000, ttl="10m", on_removal=print)
def stock(product: int) -> list[str]:
    """With options."""
    return [str(product)]


@cached(maxbytes="8MiB", single_flight=False)
async def fetch(url: str) -> bytes:
    """Of a coroutine."""
    return url.encode()


class Shop:
    """Whatever can be cached in a class."""

    @cached(maxsize=100)
    def price(self, product: int, *, discount: float = 0.0) -> float:
        """Of a method."""
        return product - discount

    @cached
    async def later(self, product: int) -> str:
        """Of a coroutine method."""
        return str(product)

    @classmethod
    @cached
    def of_town(cls, town: str) -> Shop:
        """Of a class method."""
        return cls() if town else Shop()

    @staticmethod
    @cached
    def parse(line: str) -> int:
        """Of a static method."""
        return int(line)

    @staticmethod
    @cached
    def now() -> float:
        """Of a static method without parameters."""
        return 0.0


assert_type(price(1), float)
assert_type(price(product=1, currency="USD"), float)
assert_type(price.cache_invalidate(1), bool)
assert_type(price.cache_info().hits, int)
assert_type(price.__wrapped__(1), float)
price("1")  # type: ignore[arg-type]  # reason: the product is a number
price(1, 2)  # type: ignore[arg-type]  # reason: the currency is a string
price(1, curency="USD")  # type: ignore[call-arg]  # reason: no such parameter
price()  # type: ignore[call-arg]  # reason: the product is missing

assert_type(stock(1), list[str])
stock(1, 2)  # type: ignore[call-arg]  # reason: one parameter
cached(maxsise=10)  # type: ignore[call-overload]  # reason: no such option
cached(maxsize=10, ttl=10, idel=20)  # type: ignore[call-overload]  # reason: no such option
cached(policy="fifo")  # type: ignore[call-overload]  # reason: no such policy

assert_type(Shop().price(1), float)
assert_type(Shop().price(1, discount=0.5), float)
assert_type(Shop.price(Shop(), 1), float)
assert_type(Shop().price.cache_invalidate(1), bool)
assert_type(Shop().price.cache_info().hits, int)
Shop().price("1")  # type: ignore[call-overload]  # reason: the product is a number
Shop().price(1, 0.5)  # type: ignore[call-overload]  # reason: the discount is keyword-only

assert_type(Shop.of_town("Ulm"), Shop)
assert_type(Shop().of_town("Ulm"), Shop)
Shop.of_town(1)  # type: ignore[call-overload]  # reason: a town is a string

assert_type(Shop.parse("1"), int)
assert_type(Shop().parse(line="1"), int)
assert_type(Shop().now(), float)
Shop.parse(1)  # type: ignore[call-overload]  # reason: a line is a string


async def coroutines() -> None:
    """Await what is cached."""
    assert_type(await fetch("/"), bytes)
    assert_type(await Shop().later(1), str)
    await fetch(1)  # type: ignore[arg-type]  # reason: an address is a string


shared = BoundedCache[object, float](100)


@cached(cache=shared)
def tax(country: str) -> float:
    """Kept in a cache that others use, too."""
    return len(country) / 100


assert_type(tax("DE"), float)
