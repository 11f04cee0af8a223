"""`paginate` and its variants: the items of a paged source, with one page in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from memguard.bounded import options
from memguard.errors import LifecycleError, ValueTooLargeError

UNTIL = ("empty", "short")
_START: Any = object()

T = TypeVar("T")


def paginate(
    fetch_page: Callable[[int, int], Sequence[T]],
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
    return _pages(fetch_page, _Offset(fetch_page, page_size, until))


def paginate_after(
    fetch_after: Callable[[Any], Sequence[T]],
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
    return _pages(fetch_after, _Keyset(fetch_after, key, page_size))


def _pages(fetch: Callable[..., Any], cursor: _Offset | _Keyset) -> Iterator[Any]:
    # A function of its own, so that bad options are refused at the call, not at the first item.
    while True:
        page = cursor.checked(fetch(*cursor.arguments()))
        yield from page
        if cursor.is_last(page):
            return
        del page  # or two pages would be in memory while the next one is fetched


def apaginate(
    fetch_page: Callable[[int, int], Awaitable[Sequence[T]]],
    *,
    page_size: int,
    until: Literal["empty", "short"] = "empty",
) -> AsyncIterator[T]:
    """Yield as `paginate` does, with a *fetch_page* that is awaited."""
    return _apages(fetch_page, _Offset(fetch_page, page_size, until))


def apaginate_after(
    fetch_after: Callable[[Any], Awaitable[Sequence[T]]],
    *,
    key: Callable[[T], Any],
    page_size: int = 10_000,
) -> AsyncIterator[T]:
    """Yield as `paginate_after` does, with a *fetch_after* that is awaited."""
    return _apages(fetch_after, _Keyset(fetch_after, key, page_size))


async def _apages(fetch: Callable[..., Any], cursor: _Offset | _Keyset) -> AsyncIterator[Any]:
    while True:
        page = cursor.checked(await fetch(*cursor.arguments()))
        for item in page:
            yield item
        if cursor.is_last(page):
            return
        del page


def _check_page(page: Any, page_size: int) -> int:
    """Return the number of items of *page*; reject it if it is not a page, or too large."""
    try:
        count = len(page)
    except TypeError:
        raise TypeError(
            f"a page must be a list or another sequence (got {type(page).__name__}); "
            f"a generator has no bound that could be checked"
        ) from None
    if count > page_size:
        raise ValueTooLargeError(
            f"a page has at most page_size={page_size} items (got {count}); "
            f"pass the limit on to the query, or raise page_size"
        )
    return count


class _Offset:
    """The next page begins where the last one ended."""

    __slots__ = ("_offset", "_page_size", "_until")

    def __init__(self, fetch: Any, page_size: Any, until: Any) -> None:
        options.check_callable(fetch, "fetch_page", optional=False)
        self._page_size = options.check_positive_int(page_size, "page_size")
        self._until = options.check_choice(until, UNTIL, "until")
        self._offset = 0

    def arguments(self) -> tuple[int, int]:
        """Return what to fetch: offset and limit."""
        return self._offset, self._page_size

    def checked(self, page: Any) -> Any:
        """Return *page*, and count it."""
        self._offset += _check_page(page, self._page_size)
        return page

    def is_last(self, page: Any) -> bool:
        """Return whether no page follows."""
        count = len(page)
        return count == 0 or (self._until == "short" and count < self._page_size)


class _Keyset:
    """The next page begins after the key of the last item."""

    __slots__ = ("_after", "_key", "_page_size")

    def __init__(self, fetch: Any, key: Callable[[Any], Any], page_size: Any) -> None:
        options.check_callable(fetch, "fetch_after", optional=False)
        self._key = options.check_callable(key, "key", optional=False)
        self._page_size = options.check_positive_int(page_size, "page_size")
        self._after: Any = _START

    def arguments(self) -> tuple[Any]:
        """Return what to fetch: the key to start after, None at the start."""
        return (None if self._after is _START else self._after,)

    def checked(self, page: Any) -> Any:
        """Return *page*, and remember where it ends."""
        if _check_page(page, self._page_size):
            after = self._key(page[-1])
            if self._after is not _START and after == self._after:
                raise LifecycleError(
                    f"pagination does not advance: a page ends at the key it should have started "
                    f"after ({type(after).__name__}); the query must return items after the key, "
                    f"ordered by it, and keys must be unique"
                )
            self._after = after
        return page

    def is_last(self, page: Any) -> bool:
        """Return whether no page follows."""
        return len(page) == 0
