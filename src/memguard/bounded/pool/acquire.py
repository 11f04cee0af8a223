"""How threads and tasks come by an object of a pool: at once, or by waiting in line for it."""

from __future__ import annotations

import time
from typing import Any

from memguard.bounded.pool.checkout import Holder, holders_of, told
from memguard.bounded.pool.permits import Permit
from memguard.bounded.pool.slots import Pair
from memguard.bounded.pool.stock import CLOSED
from memguard.bounded.pool.sweep import Stocktaking
from memguard.bounded.pool.wait_queue import LOOK_AGAIN_SECONDS, AsyncWaiter, Waiter
from memguard.errors import PoolExhaustedError
from memguard.units import format_seconds, parse_seconds


class Queueing(Stocktaking):
    """The objects of a pool, and the line of those that wait for one."""

    __slots__ = ()

    def _take(self, timeout: float | str | None) -> Pair:
        seconds = self._timeout if timeout is None else parse_seconds(timeout, name="timeout")
        deadline = time.monotonic() + seconds
        self._settle()
        while True:
            pair = self._take_at_once() or self._wait_until(deadline, seconds)
            if pair is not None:
                return pair

    def _wait_until(self, deadline: float, seconds: float) -> Pair | None:
        """Return an object, or None when the one handed over was not fit to be lent."""
        waiter = Waiter()
        try:
            self._queue(waiter)
            while not waiter.sleep(_slice(deadline)) and time.monotonic() < deadline:
                self._look_again()
            gift = waiter.leave()
        except BaseException:
            self._leave(waiter, waiter.leave())
            raise
        if gift is None:
            self._give_up(waiter, seconds)
        return self._accept(gift)

    async def _take_async(self, timeout: float | str | None) -> Pair:
        # As `_take`, with another waiter.
        import asyncio  # noqa: PLC0415 - reason: a host without asyncio must not load it

        seconds = self._timeout if timeout is None else parse_seconds(timeout, name="timeout")
        deadline = time.monotonic() + seconds
        self._settle()
        while True:
            pair = self._take_at_once()
            if pair is not None:
                return pair
            waiter = AsyncWaiter(asyncio.get_running_loop())
            try:
                self._queue(waiter)
                while not await waiter.sleep(_slice(deadline)) and time.monotonic() < deadline:
                    self._look_again()
                gift = waiter.leave()
            except BaseException:
                self._leave(waiter, waiter.leave())
                raise
            if gift is None:
                self._give_up(waiter, seconds)
            pair = self._accept(gift)
            if pair is not None:
                return pair

    def _queue(self, waiter: Waiter | AsyncWaiter) -> None:
        self._figures.count("waits")
        self._line.append(waiter)
        self._look_again()  # something may have come free between looking and queueing
        self._raise_if_closed()

    def _look_again(self) -> None:
        """Do what others did not come to: some thread may have been interrupted in the midst."""
        self._repair()
        self._serve()

    def _accept(self, gift: Any) -> Pair | None:
        if gift is CLOSED:
            self._raise_if_closed()
        if type(gift) is Permit:
            return self._make(gift)
        return gift if self._is_fit(gift) else None

    def _leave(self, waiter: Waiter | AsyncWaiter, gift: Any) -> None:
        """Undo waiting that was interrupted: what was handed over goes to the next."""
        self._line.forget(waiter)
        self._put_item(gift)
        if self._line:
            self._serve()

    def _give_up(self, waiter: Waiter | AsyncWaiter, seconds: float) -> None:
        self._line.forget(waiter)
        self._figures.count("timeouts")
        holders = self.holders()
        raise PoolExhaustedError(
            f"pool {self.name!r}: all {self.maxsize} objects are lent and none came back within "
            f"{format_seconds(seconds)}; {told(holders)}; "
            f"give them back sooner (with pool.lease() as obj), or raise maxsize",
            tuple(map(str, holders)),
        )

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds objects now, the oldest first, at most a hundred. Cost: O(maxsize)."""
        records = [record for slot in self._by_id.copy().values() for record in slot.lent.copy()]
        return holders_of(records, self._timer())


def _slice(deadline: float) -> float:
    return max(0.0, min(LOOK_AGAIN_SECONDS, deadline - time.monotonic()))
