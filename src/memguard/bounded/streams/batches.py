"""`in_batches` and `ain_batches`: lists of bounded length and bounded bytes."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Literal, TypeVar

from memguard.bounded import options
from memguard.bounded.sizing.entries import Parts, SharedBytes, weigh
from memguard.errors import ConfigError, ValueTooLargeError

OVERSIZED = ("raise", "alone")

T = TypeVar("T")


def in_batches(
    iterable: Iterable[T],
    *,
    size: int | None = None,
    max_bytes: int | str | None = None,
    sizer: Callable[[T], int] | None = None,
    oversized: Literal["raise", "alone"] = "raise",
) -> Iterator[list[T]]:
    """
    Yield lists of at most *size* items and at most *max_bytes* bytes, in order, none of them empty.

    Each list is the caller's. At most one batch and one item are in memory at a time, as long as
    the caller keeps none.

    Args:
        iterable: Where the items come from.
        size: Most items of a batch.
        max_bytes: Most bytes of a batch, as a number or ``"64MiB"``.
        sizer: Bytes of an item; by default an estimate of what it takes in memory.
        oversized: A single item above *max_bytes* is an error, or a batch of its own.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: Neither *size* nor *max_bytes* is given, or one is out of range.
        ValueTooLargeError: A single item is above *max_bytes*; raised while iterating. The items
            before it have been yielded.
    """
    if not isinstance(iterable, Iterable):
        raise TypeError(f"iterable must be iterable (got {type(iterable).__name__})")
    return _batches(iterable, _Batch(size, max_bytes, sizer, oversized))


def _batches(iterable: Iterable[Any], batch: _Batch) -> Iterator[list[Any]]:
    yield from chain.from_iterable(map(batch.add, iterable))
    yield from batch.rest()


def ain_batches(
    iterable: AsyncIterable[T],
    *,
    size: int | None = None,
    max_bytes: int | str | None = None,
    sizer: Callable[[T], int] | None = None,
    oversized: Literal["raise", "alone"] = "raise",
) -> AsyncIterator[list[T]]:
    """Yield as `in_batches` does, from an asynchronous *iterable*."""
    if not isinstance(iterable, AsyncIterable):
        raise TypeError(
            f"iterable must be asynchronously iterable (got {type(iterable).__name__}); "
            f"for an ordinary one use in_batches"
        )
    return _abatches(iterable, _Batch(size, max_bytes, sizer, oversized))


async def _abatches(iterable: AsyncIterable[Any], batch: _Batch) -> AsyncIterator[list[Any]]:
    async for item in iterable:
        full = batch.add(item)
        del item  # or it would stay in memory while the next one is fetched
        for items in full:
            yield items
    for items in batch.rest():
        yield items


class _Batch:
    """The items of the next batch, within its bounds."""

    __slots__ = ("_bytes", "_items", "_max_bytes", "_oversized", "_parts", "_size", "_sizer")

    def __init__(
        self, size: Any, max_bytes: Any, sizer: Callable[[Any], int] | None, oversized: Any
    ) -> None:
        if size is None and max_bytes is None:
            raise ConfigError(
                "size or max_bytes is required: a batch without a bound is everything at once; "
                "give a number of items, or bytes as in max_bytes='8MiB'"
            )
        self._size = None if size is None else options.check_positive_int(size, "size")
        self._max_bytes = None if max_bytes is None else options.check_bytes(max_bytes, "max_bytes")
        if max_bytes is None and sizer is not None:
            raise ConfigError("sizer measures bytes and needs max_bytes; to count items use size")
        self._sizer = options.check_callable(sizer, "sizer") or weigh
        self._oversized = options.check_choice(oversized, OVERSIZED, "oversized")
        self._items: list[Any] = []
        self._bytes = 0
        self._parts = Parts()
        """What several items of the batch may share counts once."""

    def add(self, item: Any) -> Iterator[list[Any]]:
        """Add *item*; yield each batch that this completes, before or with it."""
        weight = self._weigh(item)
        more = self._parts.take(weight)
        if self._max_bytes is not None and self._bytes + more > self._max_bytes:
            yield from self.rest()
            more = self._parts.take(weight)
            if weight > self._max_bytes and self._oversized == "raise":
                raise ValueTooLargeError(
                    f"a single item has {weight} bytes, more than max_bytes={self._max_bytes}; "
                    f"raise max_bytes, or pass oversized='alone' to get it as a batch of its own"
                )
        self._items.append(item)
        del item
        self._bytes += more
        if len(self._items) == self._size or (
            self._max_bytes is not None and self._bytes >= self._max_bytes
        ):
            yield from self.rest()

    def rest(self) -> Iterator[list[Any]]:
        """Yield the items so far, if there are any, and start a new batch."""
        items, self._items, self._bytes = self._items, [], 0
        self._parts.clear()
        if items:
            yield items

    def _weigh(self, item: Any) -> int:
        """Return the bytes of *item*; 0 when bytes do not matter."""
        if self._max_bytes is None:
            return 0
        weight: int = self._sizer(item)
        if type(weight) is SharedBytes:
            return weight
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise TypeError(
                f"sizer must return a whole number of bytes (got {type(weight).__name__})"
            )
        if weight < 0:
            raise ConfigError(f"sizer must return a number of bytes >= 0 (got {weight})")
        return weight
