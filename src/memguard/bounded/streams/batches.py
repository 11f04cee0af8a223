"""One batch that is being filled: how much fits, and when it is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memguard.bounded import options
from memguard.bounded.sizing import bytes_of
from memguard.errors import ConfigError, ValueTooLargeError
from memguard.units import parse_bytes

OVERSIZED = ("raise", "alone")


class Batch:
    """The items of the batch that comes next, within its bounds."""

    __slots__ = ("_bytes", "_max_bytes", "_oversized", "_size", "_sizer", "items")

    def __init__(
        self, size: Any, max_bytes: Any, sizer: Callable[[Any], int] | None, oversized: Any
    ) -> None:
        if size is None and max_bytes is None:
            raise ConfigError(
                "size or max_bytes is required: a batch without a bound is everything at once; "
                "give a number of items, or bytes as in max_bytes='8MiB'"
            )
        self._size = None if size is None else options.check_positive_int(size, "size")
        self._max_bytes = None
        if max_bytes is not None:
            self._max_bytes = parse_bytes(max_bytes, name="max_bytes")
            if self._max_bytes < 1:
                raise ConfigError(f"max_bytes must be >= 1 byte (got {max_bytes!r})")
        elif sizer is not None:
            raise ConfigError("sizer measures bytes and needs max_bytes; to count items use size")
        self._sizer = options.check_callable(sizer, "sizer") or bytes_of
        self._oversized = options.check_choice(oversized, OVERSIZED, "oversized")
        self.items: list[Any] = []
        self._bytes = 0

    def weigh(self, item: Any) -> int:
        """Return the bytes of *item*, 0 where they do not matter."""
        if self._max_bytes is None:
            return 0
        weight: int = self._sizer(item)
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise TypeError(
                f"sizer must give a whole number of bytes (got {type(weight).__name__})"
            )
        if weight < 0:
            raise ConfigError(f"sizer must give a number of bytes >= 0 (got {weight})")
        return weight

    def fits(self, weight: int) -> bool:
        """Return whether an item of *weight* bytes may be added; always true of an empty batch."""
        return not self.items or self._max_bytes is None or self._bytes + weight <= self._max_bytes

    def refuse_oversized(self, weight: int) -> None:
        """Raise where a single item is above the bound, unless it may be alone."""
        if self._max_bytes is not None and weight > self._max_bytes and self._oversized == "raise":
            raise ValueTooLargeError(
                f"a single item has {weight} bytes, more than max_bytes={self._max_bytes}; "
                f"raise max_bytes, or pass oversized='alone' to get it as a batch of its own"
            )

    def add(self, item: Any, weight: int) -> None:
        """Add an item that fits."""
        self.items.append(item)
        self._bytes += weight

    def is_full(self) -> bool:
        """Return whether nothing more can be added."""
        if self._size is not None and len(self.items) >= self._size:
            return True
        return self._max_bytes is not None and self._bytes >= self._max_bytes

    def take(self) -> list[Any]:
        """Return the items, and start a new batch."""
        taken, self.items, self._bytes = self.items, [], 0
        return taken
