"""Statistics of a pool; each kind of failure and each line that lost an object is logged once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from memguard import log
from memguard.bounded.pool.checkout import Record, site_of
from memguard.lifecycle import locks
from memguard.lifecycle.failures import Failures

MAX_SITES = 100
"""Sites of losses that are counted one by one; further ones are counted together."""


class Counts:
    """The counts of one pool. Thread-safe; logs, so never under a lock."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        # Re-entrant: a destructor that interrupts us may count as well.
        self._lock = locks.RLock()
        self._counts: Counter[str] = Counter()
        self._sites: Counter[str] = Counter()
        self._failures = Failures("pool.call_failed", pool=pool)

    def __getitem__(self, what: str) -> int:
        return self._counts[what]

    def add(self, what: str) -> None:
        """Count one *what*."""
        with self._lock:
            self._counts[what] += 1

    def fail(self, function: str, what: str, error: BaseException) -> None:
        """Count one *what*, an exception of the user's *function*; log the first of each kind."""
        self.add(what)
        self._failures.add(function, error)

    def lose(self, record: Record | None, outcome: str) -> None:
        """Count a checkout that was never released; log the first of each site."""
        site = "(interrupted)" if record is None else site_of(record)
        with self._lock:
            self._counts["lost"] += 1
            self._counts[outcome] += 1
            if site not in self._sites and len(self._sites) >= MAX_SITES:
                site = "(other sites)"
            self._sites[site] += 1
            is_new = self._sites[site] == 1 and site != "(other sites)"
        if is_new:
            log.event(log.WARNING, "pool.lease_lost", pool=self._pool, site=site, outcome=outcome)

    def sites(self) -> tuple[tuple[str, int], ...]:
        """Return ``(site, losses)``, the most first."""
        with self._lock:
            return tuple(self._sites.most_common())


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPoolStatistics:
    """What an `ObjectPool` holds, and what has happened since it was made. Counts."""

    name: str
    implementation: str
    """Which code runs: ``"python"``."""
    maxsize: int
    minsize: int
    size: int
    """Objects that exist or are being made: idle, lent, and in the hands of the pool."""
    idle: int
    leased: int
    waiting: int
    """Threads and tasks that wait for an object now."""
    created: int
    disposed: int
    """Objects disposed of by the pool: worn out, broken, reclaimed, or closed."""
    lost: int
    """Checkouts that were dropped without release."""
    recovered: int
    """Lost ones whose object was reset and lent again."""
    replaced: int
    """Lost ones whose object is gone, or still in use, so that a new one may take its place."""
    lost_sites: tuple[tuple[str, int], ...]
    """Where the lost ones were taken: ``(site, losses)``, the most first; at most a hundred."""
    overdue: int
    """Checkouts that lasted longer than *leak_after*."""
    waits: int
    """Checkouts that had to wait."""
    timeouts: int
    """Waits that ended with PoolExhaustedError."""
    expired: int
    """Objects disposed of for *max_lifetime* or *max_idle*."""
    factory_errors: int
    reset_errors: int
    validation_failures: int
    """Validations that raised or did not return a true value."""
    dispose_errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferPoolStatistics:
    """What a `BufferPool` holds, and what has happened since it was made. Counts and bytes."""

    name: str
    implementation: str
    """Which code runs: ``"python"``."""
    maxbytes: int
    bytes: int
    """Bytes of all blocks: idle, lent and quarantined."""
    blocks: int
    idle: int
    leased: int
    quarantined: int
    """Blocks released while something still exports their memory; not lent until it is gone."""
    created: int
    disposed: int
    """Idle blocks given up: for another size, under pressure, or at close."""
    lost: int
    """Leases that were dropped without release."""
    lost_sites: tuple[tuple[str, int], ...]
    """Where the lost ones were taken: ``(site, losses)``, the most first; at most a hundred."""
    refused: int
    """Leases refused because *maxbytes* was reached."""
