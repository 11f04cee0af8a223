"""Leases: an object lent until its release, for a thread or for an asyncio task."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, TypeVar

from memguard.bounded.pool.lender import Lender
from memguard.bounded.pool.slots import Slot
from memguard.errors import LifecycleError

T = TypeVar("T")


class Lease(Generic[T]):
    """
    One object of a pool, lent until `release`, the end of the ``with`` block, or its own end.

    Bounded by: one object.
    Locks: that of the pool, for a few steps.
    Keeps alive: the object and the pool's state, until it is released.

    Thread-safe: it may be released from any thread.
    """

    __slots__ = ("__weakref__", "_lender", "_slot")

    def __init__(self, lender: Lender, timeout: float | str | None, site: tuple[Any, ...]) -> None:
        self._lender = lender
        self._slot: Slot | None = None
        self._slot, _ = lender.take(timeout, site, self)

    @property
    def obj(self) -> T:
        """
        The object.

        Raises:
            LifecycleError: The lease is over.
        """
        slot = self._slot
        if slot is None:
            raise LifecycleError("this lease is over; take a new one from the pool")
        obj: T = slot.obj
        return obj

    def release(self) -> None:
        """
        Release the object.

        Raises:
            LifecycleError: It is over already.
        """
        self._end()

    def discard(self) -> None:
        """
        Release the object as broken: it is disposed of.

        Raises:
            LifecycleError: It is over already.
        """
        self._end(broken=True)

    def _end(self, *, broken: bool = False) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            raise LifecycleError("this lease is already over; release it once")
        self._lender.end(self, slot, broken=broken)

    def __enter__(self) -> T:
        return self.obj

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._slot is not None:  # else it was released within the block
            self._end()


class AsyncLease(Generic[T]):
    """
    What ``async with`` enters to lend one object of a pool; made by `ObjectPool.alease`.

    Bounded by: one object.
    Locks: that of the pool, for a few steps.
    Keeps alive: the pool's state, and the object while the block runs.

    For one task; enter it once.
    """

    __slots__ = ("__weakref__", "_entered", "_lender", "_site", "_slot", "_timeout")

    def __init__(self, lender: Lender, timeout: float | str | None, site: tuple[Any, ...]) -> None:
        self._lender = lender
        self._timeout = timeout
        self._site = site
        self._slot: Slot | None = None
        self._entered = False

    async def __aenter__(self) -> T:
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        if self._entered:
            raise LifecycleError("this lease was entered before; call pool.alease() for each block")
        self._entered = True
        task = asyncio.current_task()
        site = (*self._site, "(none)" if task is None else task.get_name())
        obj: T
        self._slot, obj = await self._lender.take_async(self._timeout, site, self)
        return obj

    async def __aexit__(self, *exc_info: object) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._lender.end(self, slot)
