"""Streams: page by page, batch by batch, line by line, and never all of it in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceABC
from typing import Any, Literal, TypeVar

from memguard.bounded.streams.batches import Batch
from memguard.bounded.streams.lines import astream_lines, stream_lines
from memguard.bounded.streams.pages import Keyset, Offset
from memguard.bounded.streams.pipeline import apipeline, pipeline

__all__ = [
    "ain_batches",
    "apaginate",
    "apaginate_after",
    "apipeline",
    "astream_lines",
    "in_batches",
    "paginate",
    "paginate_after",
    "pipeline",
    "stream_lines",
]

T = TypeVar("T")


def paginate(
    fetch_page: Callable[[int, int], SequenceABC[T]],
    *,
    page_size: int,
    until: Literal["empty", "short"] = "empty",
) -> Iterator[T]:
    """
    Yield the items of all pages, by offset, with one page in memory at a time.

    While pages are fetched one after the other, insertions and deletions move what comes after
    them, so that items may be seen twice or never; `paginate_after` has no such trouble.

    Args:
        fetch_page: Called as ``fetch_page(offset, page_size)``; returns the items from there on, at
            most *page_size* of them.
        page_size: Most items of a page.
        until: ``"empty"`` asks until a page has no items, so that a server that sends less than it
            was asked for loses nothing; ``"short"`` stops after a page with fewer than *page_size*.

    Raises:
        TypeError: An option of the wrong kind, or a page without a length.
        ConfigError: An option out of range.
        ValueTooLargeError: A page had more items than *page_size*; raised while iterating.
    """
    return _pages(fetch_page, Offset(fetch_page, page_size, until))


def paginate_after(
    fetch_after: Callable[[Any], SequenceABC[T]],
    *,
    key: Callable[[T], Any],
    page_size: int = 10_000,
) -> Iterator[T]:
    """
    Yield the items of all pages, each fetched after the key of the last item before it.

    For tables ordered by a unique key: ``select ... where id > ? order by id limit 500``. It ends
    with the first empty page.

    Args:
        fetch_after: Called with the key of the last item, None at the start; returns the items
            after it.
        key: The key of an item.
        page_size: Most items that a page may have.

    Raises:
        TypeError: An option of the wrong kind, or a page without a length.
        ConfigError: *page_size* is less than 1.
        ValueTooLargeError: A page had more items than *page_size*; raised while iterating.
        LifecycleError: A page ended at the key it should have started after; going on would never
            end. Raised while iterating.
    """
    return _pages(fetch_after, Keyset(fetch_after, key, page_size))


def _pages(fetch: Callable[..., Any], cursor: Offset | Keyset) -> Iterator[Any]:
    # A function of its own, so that bad options are refused at the call, not at the first item.
    while True:
        page = cursor.checked(fetch(*cursor.arguments()))
        yield from page
        if cursor.is_last(page):
            return
        del page  # or two pages would be in memory while the next one is fetched


def apaginate(
    fetch_page: Callable[[int, int], Awaitable[SequenceABC[T]]],
    *,
    page_size: int,
    until: Literal["empty", "short"] = "empty",
) -> AsyncIterator[T]:
    """Yield as `paginate` does, with a *fetch_page* that is awaited."""
    return _apages(fetch_page, Offset(fetch_page, page_size, until))


def apaginate_after(
    fetch_after: Callable[[Any], Awaitable[SequenceABC[T]]],
    *,
    key: Callable[[T], Any],
    page_size: int = 10_000,
) -> AsyncIterator[T]:
    """Yield as `paginate_after` does, with a *fetch_after* that is awaited."""
    return _apages(fetch_after, Keyset(fetch_after, key, page_size))


async def _apages(fetch: Callable[..., Any], cursor: Offset | Keyset) -> AsyncIterator[Any]:
    while True:
        page = cursor.checked(await fetch(*cursor.arguments()))
        for item in page:
            yield item
        if cursor.is_last(page):
            return
        del page


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
        oversized: What becomes of a single item above *max_bytes*: an error, or a batch of its own.

    Raises:
        TypeError: An option of the wrong kind.
        ConfigError: Neither *size* nor *max_bytes* is given, or one is out of range.
        ValueTooLargeError: A single item is above *max_bytes*; raised while iterating. The items
            before it have been yielded.
    """
    if not isinstance(iterable, Iterable):
        raise TypeError(f"iterable must be iterable (got {type(iterable).__name__})")
    return _batches(iterable, Batch(size, max_bytes, sizer, oversized))


def _batches(iterable: Iterable[Any], batch: Batch) -> Iterator[list[Any]]:
    for item in iterable:
        weight = batch.weigh(item)
        if not batch.fits(weight):
            yield batch.take()
        batch.refuse_oversized(weight)
        batch.add(item, weight)
        del item
        if batch.is_full():
            yield batch.take()
    if batch.items:
        yield batch.take()


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
    return _abatches(iterable, Batch(size, max_bytes, sizer, oversized))


async def _abatches(iterable: AsyncIterable[Any], batch: Batch) -> AsyncIterator[list[Any]]:
    async for item in iterable:
        weight = batch.weigh(item)
        if not batch.fits(weight):
            yield batch.take()
        batch.refuse_oversized(weight)
        batch.add(item, weight)
        del item
        if batch.is_full():
            yield batch.take()
    if batch.items:
        yield batch.take()
