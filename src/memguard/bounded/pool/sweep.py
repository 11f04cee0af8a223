"""Stocktaking of a pool: the dropped is found, the worn out let go, the missing made."""

from __future__ import annotations

import logging
import math
from sys import getrefcount

from memguard import log
from memguard.bounded.pool.checkout import Record, holders_of
from memguard.bounded.pool.slots import AnySlot, FirmSlot, Pair
from memguard.bounded.pool.stock import UNWATCHED, Stock
from memguard.lifecycle import janitor

_NAP = 1.0
_LONGEST_PAUSE = 60.0
_MOST_LINES = 10
_probe = (object(), None)
_ALONE = getrefcount(_probe[0])
"""The count that an object has, seen from here, when a pair is all that refers to it."""


class Stocktaking(Stock):
    """The objects of a pool, and their upkeep by the janitor and by ordinary calls."""

    __slots__ = ()

    # -- what the collector brought back ------------------------------------------------------

    def _settle(self) -> None:
        """Account for checkouts that were dropped, and give their places to others."""
        if self._watched != janitor.epoch and self._size():
            self._watch()  # the janitor was stopped, and has forgotten us
        dead, dropped = self._slots.dead, self._dropped
        if not dead and not dropped:
            return
        while dead:
            try:
                slot = dead.popleft()
            except IndexError:  # another thread took it
                break
            try:
                permit = slot.place.pop()
            except IndexError:  # the pool had let it go before
                continue
            self._permits.append(permit)
            self._figures.lose(slot.lent.pop() if slot.lent else None, "replaced")
        while dropped:
            try:
                pair, record = dropped.popleft()
            except IndexError:  # another thread took it
                break
            self._recover(pair, record)
        if self._line:
            self._serve()

    def _recover(self, pair: Pair, record: Record | None) -> None:
        slot = pair[1]
        if record is not None:
            try:
                slot.lent.remove(record)
            except ValueError:
                return  # given back by release(obj)
        # Who still uses the object must not meet another holder.
        references = getrefcount(pair[0]) - (1 if type(slot) is FirmSlot else 0)
        if references <= _ALONE:
            self._figures.lose(record, "recovered")
            # An error of its reset is counted, and nothing to this caller.
            self._raise_if_fatal(self._put_back(pair[0], slot))
        elif not self._is_inherited(pair[0], slot):
            permit = slot.place.pop()
            self._by_id.pop(slot.key, None)
            self._permits.append(permit)
            self._figures.lose(record, "replaced")

    def _repair(self) -> None:
        """Find what a signal handler that raises in the midst of our steps made us drop."""
        for slot in self._by_id.copy().values():
            if slot() is None:
                self._bury(slot)
        self._places.repair()
        self._settle()

    # -- upkeep -------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._watched != janitor.epoch:  # else it knows us
            self._watched = janitor.epoch
            if not janitor.watch(self):
                self._watched = UNWATCHED

    def _sweep(self) -> float | None:
        """Do what is due; the janitor calls this."""
        self._repair()
        if not self._closed:
            now = self._timer()
            self._expire(now)
            self._tell_overdue(now)
            self._refill(now)
        watched, self._watched = self._watched, UNWATCHED
        if self._closed or (self._size() == 0 and self.minsize == 0):
            return None
        self._watched = watched
        limits = (self._max_idle, self._max_lifetime, self._leak_after)
        return min(_NAP, *(limit / 4 for limit in limits if limit is not None), _NAP)

    def _expire(self, now: float) -> None:
        """Let go of idle objects that are too old, or idle for too long."""
        if self._max_idle is None and self._max_lifetime is None:
            return
        kept: list[Pair] = []
        gone: list[Pair] = []
        spare = self._size() - self.minsize
        for _ in range(len(self._idle)):
            try:
                pair = self._idle.pop(0)
            except IndexError:  # lent meanwhile
                break
            slot = pair[1]
            if self._is_worn(slot, now) or (spare > 0 and self._is_stale(slot, now)):
                gone.append(pair)
                spare -= 1
            else:
                kept.append(pair)
        self._idle[:0] = kept
        if self._line:
            self._serve()
        for obj, slot in gone:
            self._figures.count("expired")
            self._let_go(obj, slot)

    def _is_stale(self, slot: AnySlot, now: float) -> bool:
        return self._max_idle is not None and now - slot.idle_since >= self._max_idle

    def _tell_overdue(self, now: float) -> None:
        if self._leak_after is None:
            return
        late: list[Record] = []
        for slot in self._by_id.copy().values():
            for record in slot.lent.copy():
                if now - record[0] >= self._leak_after and slot.told is not record:
                    slot.told = record
                    self._figures.count("overdue")
                    late.append(record)
        for holder in holders_of(late, now)[:_MOST_LINES]:
            log.event(
                logging.WARNING,
                "pool.lease_overdue",
                pool=self.name,
                site=holder.site,
                holder=holder.who,
                age_seconds=round(holder.age, 3),
            )
        if len(late) > _MOST_LINES:
            more = len(late) - _MOST_LINES
            log.event(logging.WARNING, "pool.leases_overdue", pool=self.name, not_shown=more)

    def _refill(self, now: float) -> None:
        """Make what is missing to *minsize*; a factory that fails is asked ever less often."""
        if self._size() >= self.minsize or now < self._not_before:
            return
        try:
            self._fill()
        except Exception:  # noqa: BLE001 - reason: counted and logged where it was raised
            self._pause = min(_LONGEST_PAUSE, max(_NAP, self._pause * 2))
            self._not_before = now + self._pause
        else:
            self._pause = 0.0

    def _fill(self) -> None:
        while self._size() < self.minsize and not self._closed:
            permit = self._places.take()
            if permit is None:  # others made them
                return
            pair = self._make(permit)
            self._idle.insert(0, pair)
            del pair
            if self._line:
                self._serve()

    def _shrink(self, share: float) -> int:
        """Let go of this *share* of the idle objects, those idle for longest; return how many."""
        goal = min(math.ceil(len(self._idle) * share), self._size() - self.minsize)
        done = 0
        while done < goal:
            try:
                obj, slot = self._idle.pop(0)
            except IndexError:  # lent meanwhile
                break
            self._let_go(obj, slot)
            done += 1
        return done
