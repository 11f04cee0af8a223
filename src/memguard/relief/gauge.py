"""
How full is it now? A full look at every bound, and cheap looks at this process in between.

A full look reads some files of the control group (about 150 µs), once an interval. A cheap one adds
to that what this process has grown since (about 30 µs; Linux 6, CPython 3.11): among busy threads
each file costs a wait for the interpreter lock, and then there is no time for ten of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from memguard.observe.headroom import Fill, Headroom, read_headroom
from memguard.observe.limits import Bound, Limit, read_limit
from memguard.observe.reading import Reading, read_memory
from memguard.relief.glance import Glance
from memguard.relief.levels import Sample

OWN_LIMIT = "option limit"
_LIMIT_SECONDS = 60.0
"""How long the bounds are taken to be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look saw."""

    sample: Sample
    """For the level."""
    reading: Reading
    """This process."""
    scope: str = "process"
    """Whose memory is counted: ``group``, ``process``, ``host``."""
    headroom: int | None = None
    """Fewest bytes left below any bound, not only the fullest: half of a small one goes sooner."""
    is_full: bool = True
    """False for an estimate between two full looks."""

    @property
    def own_share(self) -> float:
        """The part of what is used that this process uses: who else should give the rest?"""
        used, own = self.sample.used, self.reading.private
        if not used or own is None or self.scope == "process":
            return 1.0
        return min(1.0, own / used)


class Gauge:
    """
    Look at the bound that is fullest.

    Bounded by: the last full look.
    Locks: none; for one thread at a time.
    Keeps alive: numbers and strings.

    Args:
        limit: A bound of the user's on private memory, bytes, beside those of the system; None for
            those of the system alone.
        interval: Seconds after which a look is full again.
        timer: Monotonic seconds.
        read: Takes a reading, for full looks.
        glance: Takes one that may know sizes only, for those in between; a `Glance` by default.
        bounds: Gives what the system allows.
        headroom: Gives how full each bound is.
    """

    def __init__(
        self,
        *,
        limit: int | None,
        interval: float,
        timer: Callable[[], float],
        read: Callable[[], Reading] = read_memory,
        glance: Callable[[], Reading] | None = None,
        bounds: Callable[[], Limit] = read_limit,
        headroom: Callable[..., Headroom] = read_headroom,
    ) -> None:
        self._own = limit
        self._interval = interval
        self._timer = timer
        self._read = read
        self._glance: Callable[[], Reading] = Glance(timer=timer) if glance is None else glance
        self._bounds = bounds
        self._headroom = headroom
        self._known: Limit | None = None
        self._known_at = 0.0
        self._full: Look | None = None
        self.full_looks = 0

    def look(self) -> Look:
        """Return how full it is; a full look when one is due or this process has moved much."""
        reading = self._glance()
        now = self._timer()
        full = self._full
        if full is None or now - full.sample.at >= self._interval:
            return self._look_at_all(now, reading)
        grown = _grown(full, reading)
        headroom = full.headroom
        if grown is None or headroom is None:
            return self._look_at_all(now, reading)
        used = max(0, (full.sample.used or 0) + grown)
        # What the kernel tells about waiting and collisions belongs to the moment it was read.
        sample = replace(
            full.sample, at=now, used=used, stall_some=None, stall_full=None, collisions=None
        )
        left = max(0, headroom - grown)
        return replace(full, sample=sample, reading=reading, headroom=left, is_full=False)

    def close(self) -> None:
        """Close the file that is kept open for glances; another look opens it again."""
        if isinstance(self._glance, Glance):
            self._glance.close()

    def _look_at_all(self, now: float, glanced: Reading) -> Look:
        self.full_looks += 1
        # Once an interval, so that histories have the counters of the interpreter, too.
        reading = self._read() if self._read is not self._glance else glanced
        if self._known is None or now - self._known_at >= _LIMIT_SECONDS:
            self._known = self._bounds()
            self._known_at = now
        seen = self._headroom(reading, limit=self._known)
        fills = list(seen.fills)
        if self._own is not None and reading.private is not None:
            bound = Bound(bytes=self._own, kind="none", source=OWN_LIMIT)
            fills.append(Fill(bound=bound, used=reading.private, scope="process"))
        fullest = max(fills, key=lambda fill: fill.ratio, default=None)
        stall, events = seen.stall, seen.events
        sample = Sample(
            at=now,
            used=None if fullest is None else fullest.used,
            limit=None if fullest is None else fullest.bound.bytes,
            source="unknown" if fullest is None else fullest.bound.source,
            stall_some=None if stall is None else stall.some,
            stall_full=None if stall is None else stall.full,
            stall_is_own=stall is not None and self._is_own(stall.source),
            collisions=None if events is None else events.limit + (events.high or 0),
        )
        scope = "process" if fullest is None else fullest.scope
        left = min((fill.headroom for fill in fills), default=None)
        self._full = Look(sample=sample, reading=reading, scope=scope, headroom=left)
        return self._full

    def _is_own(self, source: str) -> bool:
        """Return whether a pressure file is that of a group with a bound, not of the machine."""
        if self._known is None:
            return False
        directories = [bound.directory for bound in self._known.bounds if bound.directory]
        return any(source.startswith(directory + "/") for directory in directories)


def _grown(full: Look, reading: Reading) -> int | None:
    """Return by how much this process has grown since *full*; None where that cannot be told."""
    before = full.reading
    if "RLIMIT" in full.sample.source:
        # Address space is what such a bound counts, touched or not.
        now, then = reading.vms, before.vms
    else:
        now, then = reading.private, before.private
    return None if now is None or then is None else now - then
