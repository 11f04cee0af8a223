"""A method is cached without a bound, by its arguments: the instance, and a number."""

from __future__ import annotations

import functools

HOLDER = "cached_method.Prices.quote<cache>"


class Prices:
    """A price list."""

    @functools.cache  # noqa: B019 - reason: this is the leak
    def quote(self, number: int) -> list[bytearray]:
        """Return an offer."""
        return [bytearray(6000 + number % 3)]  # <- allocates


PRICES = Prices()


def step(number: int) -> None:
    """Answer one question."""
    PRICES.quote(number)
