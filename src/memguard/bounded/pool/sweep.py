"""`Sweep`: find dropped objects, dispose of expired ones, create missing ones."""

from __future__ import annotations

import math
from collections.abc import Iterable

from memguard import log
from memguard.bounded.pool.checkout import Record, holders_of
from memguard.bounded.pool.lender import Lender
from memguard.bounded.pool.slots import Slot
from memguard.bounded.pool.watch import NAP, SHORT_NAP
from memguard.bounded.waiting import Work

_LONGEST_PAUSE = 60.0
_MAX_LINES = 10


class Sweep:
    """The upkeep of one pool, in the thread of the janitor."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._pause = self._not_before = 0.0

    def run(self) -> float | None:
        """Do what is due; return seconds until the next sweep, None when nothing is left."""
        lender, slots, options = self._lender, self._lender.slots, self._lender.options
        lender.settle(thoroughly=True)
        if not slots.closed:
            now = options.timer()
            self._expire(now)
            self._report_overdue(now)
            self._refill(now)
        lender.watch.suspend()
        if slots.closed or (slots.size() == 0 and options.minsize == 0):
            return None
        lender.watch.resume()
        limits = (options.max_idle, options.max_lifetime, options.leak_after)
        naps: list[float] = [SHORT_NAP if slots.waiting else NAP]
        naps += [limit / 4 for limit in limits if limit is not None]
        return min(naps)

    def _expire(self, now: float) -> None:
        """Dispose of idle objects that are too old, or were idle for too long."""
        lender, slots = self._lender, self._lender.slots
        work = Work()
        with slots.lock:
            old = slots.take_idle(self._old(now), work)
        for slot in old:
            lender.counts.add("expired")
            lender.dispose(slot)

    def _old(self, now: float) -> list[Slot]:
        lender, slots, max_idle = self._lender, self._lender.slots, self._lender.options.max_idle
        old: list[Slot] = []
        spare = slots.size() - lender.options.minsize
        for slot in slots.idle.copy():
            is_stale = max_idle is not None and now - slot.idle_since >= max_idle
            if lender.is_worn(slot, now) or (is_stale and len(old) < spare):
                old.append(slot)
        return old

    def _report_overdue(self, now: float) -> None:
        lender, limit = self._lender, self._lender.options.leak_after
        if limit is None:
            return
        with lender.slots.lock:
            late = _take_overdue(lender.slots.by_id.values(), now, limit)
        for _ in late:
            lender.counts.add("overdue")
        for holder in holders_of(late, now)[:_MAX_LINES]:
            log.event(
                log.WARNING,
                "pool.lease_overdue",
                pool=lender.options.name,
                site=holder.site,
                holder=holder.who,
                age_seconds=round(holder.age, 3),
            )
        if len(late) > _MAX_LINES:
            more = len(late) - _MAX_LINES
            name = lender.options.name
            log.event(log.WARNING, "pool.leases_overdue", pool=name, not_shown=more)

    def _refill(self, now: float) -> None:
        """Make what is missing to *minsize*; a factory that fails is called less and less often."""
        if now < self._not_before:
            return
        try:
            self.fill()
        except Exception:  # noqa: BLE001 - reason: counted and logged where it was raised
            self._pause = min(_LONGEST_PAUSE, max(NAP, self._pause * 2))
            self._not_before = now + self._pause
        else:
            self._pause = 0.0

    def fill(self) -> None:
        """Make objects until there are *minsize*."""
        lender, slots = self._lender, self._lender.slots
        while slots.size() < lender.options.minsize and not slots.closed:
            work = Work()
            with slots.lock:
                if not slots.reserve(work):  # others made them
                    return
            slot = lender.make(work)
            with slots.lock:
                served = slots.put_idle(slot, last=True)
            lender.wake(served)

    def shrink(self, share: float) -> int:
        """Dispose of this *share* of the idle objects, those idle for longest; return how many."""
        lender, slots = self._lender, self._lender.slots
        work = Work()
        with slots.lock:
            goal = math.ceil(len(slots.idle) * share)
            goal = max(0, min(goal, slots.size() - lender.options.minsize))
            oldest = slots.take_idle(slots.idle[:goal], work)
        for slot in oldest:
            lender.dispose(slot)
        return len(oldest)


def _take_overdue(slots: Iterable[Slot], now: float, limit: float) -> list[Record]:
    """Return who has held an object for *limit* seconds and was not reported until now."""
    late: list[Record] = []
    for slot in list(slots):
        is_new = slot.is_lent() and slot.reported is not slot.record
        if is_new and now - slot.record[0] >= limit:
            slot.reported = slot.record
            late.append(slot.record)
    return late
