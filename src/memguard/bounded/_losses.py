"""What was lent and never given back: counted, by the place that took it."""

from __future__ import annotations

import logging
import threading

from memguard import log
from memguard.bounded._checkout import Record, site_of

MOST_SITES = 100
"""Places of loss that are told apart; further ones are counted together."""


class Losses:
    """The lost checkouts of one pool. Thread-safe."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._lock = threading.RLock()  # re-entrant: a destructor may interrupt and count as well
        self._sites: dict[str, int] = {}
        self._others = 0
        self.total = 0

    def lose(self, record: Record | None, outcome: str) -> None:
        """Count a checkout that was never given back; each place is logged once."""
        site = "(interrupted hand-over)" if record is None else site_of(record)
        with self._lock:
            self.total += 1
            known = site in self._sites
            room = len(self._sites) < MOST_SITES
            if known or room:
                self._sites[site] = self._sites.get(site, 0) + 1
            else:
                self._others += 1
        if room and not known:
            log.event(
                logging.WARNING, "pool.lease_lost", pool=self._pool, site=site, outcome=outcome
            )

    def sites(self) -> tuple[tuple[str, int], ...]:
        """Return ``(site, losses)``, the most first."""
        with self._lock:
            sites = list(self._sites.items())
            others = self._others
        sites.sort(key=_count_of, reverse=True)
        return (*sites, *([("(other places)", others)] if others else []))


def _count_of(row: tuple[str, int]) -> int:
    return row[1]
