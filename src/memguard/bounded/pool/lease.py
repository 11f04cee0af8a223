"""What a pool lends: an object with an end, for a thread or for an asyncio task."""
# ruff: noqa: SLF001 - reason: a lease is the part of a pool that its holder sees

from __future__ import annotations

from threading import get_ident
from types import TracebackType
from typing import Any, Generic, TypeVar

from memguard.bounded.pool.acquire import Queueing
from memguard.bounded.pool.checkout import Record
from memguard.bounded.pool.slots import Pair
from memguard.errors import LifecycleError

T = TypeVar("T")


class Lease(Generic[T]):
    """
    One object of a pool, lent until `release`, the end of the ``with`` block, or its own end.

    Bounded by: one object.
    Locks: none.
    Keeps alive: the object and the pool, until it is released.

    Thread-safe: it may be released from any thread.
    """

    __slots__ = ("__weakref__", "_pair", "_pool", "_record")

    _pair: Pair | None
    _record: Record | None

    def __init__(self, pool: Queueing) -> None:
        self._pool = pool
        self._pair = None
        self._record = None

    @property
    def obj(self) -> T:
        """
        The object.

        Raises:
            LifecycleError: The lease is over.
        """
        pair = self._pair
        if pair is None:
            raise LifecycleError("this lease is over; take a new one from the pool")
        obj: T = pair[0]
        return obj

    def release(self) -> None:
        """
        Give the object back.

        Raises:
            LifecycleError: It was given back before.
        """
        pool = self._pool
        pair = self._end()
        if pair[1].key in pool._swift:
            pool._idle.append(pair)
            if pool._line:
                pool._serve()
        else:
            pool._raise_if_told_to(pool._put_back(*pair))

    def discard(self) -> None:
        """
        Give the object back as broken: it is disposed of.

        Raises:
            LifecycleError: It was given back before.
        """
        pool = self._pool
        obj, slot = self._end()
        pool._raise_if_told_to(pool._let_go(obj, slot))

    def _end(self) -> Pair:
        pair, record = self._pair, self._record
        if pair is None or record is None:
            raise LifecycleError("this lease is over already; an object is given back once")
        try:
            # Not by position: the object may have been given back and lent to another by now.
            # Only tuples of numbers, code and names are compared.
            pair[1].lent.remove(record)
        except ValueError:
            self._pair = None
            raise LifecycleError(
                "the object of this lease was given back already; an object is given back once"
            ) from None
        self._pair = None
        return pair

    def __enter__(self) -> T:
        return self.obj

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pair is not None:  # else it was released within the block
            self.release()

    def __del__(self) -> None:
        pair = getattr(self, "_pair", None)  # missing when it was interrupted at birth
        if pair is not None:
            self._pool._dropped.append((pair, self._record))


class AsyncLease(Generic[T]):
    """
    What ``async with`` enters to lend one object of a pool; made by `ObjectPool.alease`.

    Bounded by: one object.
    Locks: none.
    Keeps alive: the pool, and the object while the block runs.

    For one task; enter it once.
    """

    __slots__ = ("_lease", "_pool", "_site", "_timeout")

    def __init__(self, pool: Queueing, timeout: float | str | None, site: Any) -> None:
        self._pool = pool
        self._timeout = timeout
        self._site = site
        self._lease: Lease[T] | None = None

    async def __aenter__(self) -> T:
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        if self._lease is not None:
            raise LifecycleError("this lease was entered before; call pool.alease() for each block")
        pool = self._pool
        lease: Lease[T] = Lease(pool)
        self._lease = lease
        task = asyncio.current_task()
        name = "(none)" if task is None else task.get_name()
        pair: Pair | None
        try:
            pair = pool._ready.pop()
        except IndexError:
            pair = None
        if pair is None:
            pair = await pool._take_async(self._timeout)
        lease._pair = pair
        record = (pool._timer(), get_ident(), *self._site, name)
        lease._record = record
        pair[1].lent.append(record)
        return lease.obj

    async def __aexit__(self, *exc_info: object) -> None:
        lease = self._lease
        if lease is not None and lease._pair is not None:
            lease.release()
