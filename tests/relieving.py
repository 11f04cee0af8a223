"""What tests of relief share: a process that is told its memory, caches of known sizes."""

from __future__ import annotations

from dataclasses import replace

from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.observe.headroom import Fill, Headroom
from memguard.observe.limits import Bound, Limit
from memguard.observe.readings import Reading
from memguard.relief.gauge import Gauge
from tests.clock import FakeClock

MIB = 1024**2


class Process:
    """A process whose memory is whatever the test says, in a group with a limit."""

    def __init__(
        self, clock: FakeClock, *, used: int | None, limit: int | None = 100 * MIB
    ) -> None:
        self.clock = clock
        self.used = used
        self.limit = limit
        self.shared = 0
        self.others = 0
        self.headrooms = 0

    def read(self) -> Reading:
        resident = None if self.used is None else self.used + self.shared
        return Reading(at=self.clock(), anon=self.used, rss=resident, shmem=self.shared)

    def glance(self) -> Reading:
        """Return a cheap one, which does not know what of the mapped pages is shared memory."""
        return replace(self.read(), shmem=None)

    def headroom(self, reading: Reading, *, limit: Limit) -> Headroom:
        self.headrooms += 1
        fills = []
        if self.limit is not None and reading.private is not None:
            bound = Bound(
                bytes=self.limit, kind="cgroup2.max", source="/g/memory.max", directory="/g"
            )
            used = reading.private + self.others
            fills.append(Fill(bound=bound, used=used, scope="group"))
        return Headroom(fills=tuple(fills), limit=limit)

    def bounds(self) -> Limit:
        return Limit(bytes=self.limit, source="/g/memory.max")

    def gauge(
        self, *, limit: int | None = None, interval: float = 1.0, children: bool = False
    ) -> Gauge:
        return Gauge(
            limit=limit,
            children=children,
            interval=interval,
            timer=self.clock,
            read=self.read,
            glance=self.glance,
            bounds=self.bounds,
            headroom=self.headroom,
        )


def filled(
    name: str, *, entries: int, entry_bytes: int = 10_000, maxbytes: int | None = None
) -> BoundedCache[int, bytes]:
    """Return a cache that counts bytes and holds *entries* values of about *entry_bytes*."""
    cache: BoundedCache[int, bytes] = BoundedCache(
        maxbytes=maxbytes or 1000 * entries * entry_bytes, name=name
    )
    for number in range(entries):
        cache[number] = b"x" * entry_bytes
    return cache


def bytes_in(cache: BoundedCache[int, bytes]) -> int:
    return cache.footprint().bytes or 0
