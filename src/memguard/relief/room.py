"""How much room does each bound have for more work? Pure: numbers in, an answer out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from memguard.observe.headroom import Fill
from memguard.observe.readings import Reading
from memguard.units import format_bytes

_MOUNTS = re.compile(r"^/sys/fs/cgroup(/memory|/unified)?(?=/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundUse:
    """One bound, and how much of it is taken. Bytes."""

    name: str
    """For people: ``the group /x``, ``the host``, ``RLIMIT_AS``, ``the option limit``."""
    source: str
    """Where it is written."""
    limit: int
    used: int
    """What cannot be reclaimed, of all that the bound counts."""
    own: int | None = None
    """How much of this process is in *used*; None if it is not known."""

    @classmethod
    def of(cls, fill: Fill, reading: Reading) -> BoundUse:
        """Return *fill*, in memory, with the part of this process, of the same moment."""
        bound = fill.bound
        if bound.directory is not None:
            name = f"the group {_MOUNTS.sub('', bound.directory) or '/'}"
            name += " (memory.high)" if bound.kind == "cgroup2.high" else ""
        else:
            name = {
                "host": "the host",
                "none": f"the {bound.source}",
                "rlimit.as": "RLIMIT_AS, for memory,",
                "rlimit.data": "RLIMIT_DATA, for memory,",
            }.get(bound.kind, bound.source)
        return cls(
            name=name,
            source=bound.source,
            limit=bound.bytes,
            used=fill.used,
            own=reading.private,
        )

    def used_with(self, reading: Reading | None) -> int:
        """Return what is used if this process has what is in *reading* now."""
        now = None if reading is None else reading.private
        if now is None or self.own is None:
            return self.used
        return max(0, self.used + now - self.own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one bound has left for more work. Bytes."""

    bound: BoundUse
    mark: int
    """What is never passed on purpose: the critical share of the limit."""
    used: int
    reserved: int
    """What running work has requested and not taken yet."""

    @property
    def left(self) -> int:
        """Bytes left below *mark*; negative when it is passed already."""
        return self.mark - self.used - self.reserved

    def lacks(self, cost: int) -> int:
        """Return the bytes that are missing for work of *cost*, 0 if it fits."""
        return max(0, cost - self.left)

    def __str__(self) -> str:
        """Return it in words, with the numbers that it follows from."""
        return (
            f"{self.bound.name} has room for {format_bytes(max(0, self.left))} "
            f"(limit {format_bytes(self.bound.limit)}, critical at {format_bytes(self.mark)}, "
            f"{format_bytes(self.used)} used, {format_bytes(self.reserved)} reserved)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The room of every bound at one moment: work has to fit in all of them."""

    each: tuple[Room, ...]

    @classmethod
    def of(
        cls,
        bounds: Iterable[BoundUse],
        *,
        critical: float,
        reserved: int,
        reading: Reading | None = None,
    ) -> Rooms:
        """
        Return the room of each of *bounds*.

        Args:
            bounds: As a look saw them.
            critical: The share of a limit that is never passed on purpose.
            reserved: What running work may still take.
            reading: This process now, if that is known: what it has grown since the look counts.
        """
        return cls(
            each=tuple(
                Room(
                    bound=bound,
                    mark=int(critical * bound.limit),
                    used=bound.used_with(reading),
                    reserved=reserved,
                )
                for bound in bounds
            )
        )

    def tightest(self) -> Room | None:
        """Return the one with the fewest bytes left; None if no bound is known."""
        return min(self.each, key=lambda room: room.left, default=None)

    def lacks(self, cost: int) -> int:
        """Return the bytes that are missing for work of *cost* where most are missing."""
        return max((room.lacks(cost) for room in self.each), default=0)

    def too_small(self, cost: int) -> Room | None:
        """Return the smallest bound that could not hold work of *cost* if all else were gone."""
        small = [room for room in self.each if cost > room.mark]
        return min(small, key=lambda room: room.mark, default=None)

    def worth_freeing(self, cost: int, private: int | None) -> int:
        """
        Return the bytes that relief has to free for work of *cost*; 0 where that is in vain.

        It is in vain where more is missing than this process holds.

        Args:
            cost: Bytes requested.
            private: What this process holds by itself; None if that is not known.
        """
        missing = self.lacks(cost)
        return 0 if private is not None and missing > private else missing
