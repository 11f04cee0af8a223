"""The state of one cache: every slot of the hot path in one place. Its contract: see `_store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memguard.bounded.cache.entry import Entry
from memguard.bounded.cache.eviction import Order
from memguard.bounded.cache.expiry import ExpiryIndex
from memguard.bounded.counter import Tally


class State:
    """What a cache is made of, and what its fast half asks of its slow half."""

    __slots__ = (
        "_async_flights",
        "_base_bytes",
        "_busy",
        "_bytes",
        "_count",
        "_direct",
        "_evictions",
        "_expiry",
        "_explicit",
        "_flights",
        "_foreign",
        "_idle",
        "_lock",
        "_log",
        "_map",
        "_maxbytes",
        "_maxsize",
        "_misses",
        "_order",
        "_plainly_sized",
        "_replayed",
        "_replaying",
        "_rich",
        "_root",
        "_sizer",
        "_stamp",
        "_swift",
        "_timed",
        "_timer",
        "_ttl",
        "_updates",
    )

    _map: dict[Any, Entry]
    _foreign: dict[int, tuple[Entry, ...]]
    _flights: dict[Any, Any]
    _async_flights: Any
    _log: list[Entry]
    _lock: Any  # threading.RLock, which is a function to the type checker
    _order: Order
    _root: Any
    _expiry: ExpiryIndex
    _timer: Any
    _ttl: Any
    _idle: Any
    _maxsize: float
    _base_bytes: int
    """Bookkeeping of one entry, in bytes."""
    _sizer: Any
    _maxbytes: int | None
    _bytes: int
    _count: int
    _stamp: float
    _swift: bool
    _direct: bool
    _rich: bool
    _plainly_sized: bool
    _timed: bool
    _busy: bool
    _replayed: int
    _replaying: bool
    _evictions: int
    _explicit: int
    _misses: Tally
    _updates: Tally

    if TYPE_CHECKING:  # what the ledger, and what is made of it, brings

        def _find_foreign(self, key: Any) -> Entry | None: ...

        def _has_lapsed(self, entry: Entry) -> bool: ...

        def _is_due(self, entry: Entry, now: Any) -> bool: ...

        def _expire_all(self) -> Any: ...

        def _entry_bytes(self, key: Any, value: Any) -> int: ...

        def _put(self, key: Any, value: Any) -> Any: ...

        def _take(self, key: Any, default: Any) -> Any: ...

        def _ensure_watched(self) -> None: ...

        def _interrupted(self, *, inside: bool) -> None: ...
