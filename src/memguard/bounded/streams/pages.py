"""Where a pagination stands, and whether a page is what was asked for. Pure but for *key*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memguard.bounded import options
from memguard.errors import LifecycleError, ValueTooLargeError

UNTIL = ("empty", "short")
_START: Any = object()


def check_page(page: Any, page_size: int) -> int:
    """Return the number of items of *page*; refuse what is no page, or larger than agreed."""
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


class Offset:
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
        self._offset += check_page(page, self._page_size)
        return page

    def is_last(self, page: Any) -> bool:
        """Return whether no page follows."""
        count = len(page)
        return count == 0 or (self._until == "short" and count < self._page_size)


class Keyset:
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
        if check_page(page, self._page_size):
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
