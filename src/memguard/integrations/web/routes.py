"""
Memory growth by route: counts, sums and a bounded sample. Pure.

A route is a template such as ``/items/{id}``, never a path: paths are written by clients, so there
is no end of them, and they may hold secrets.
"""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass

from memguard.integrations.web.metering import AllocatedSource

OTHER = "other"
"""The route that stands for all those beyond the bound."""
UNMATCHED = "unmatched"
"""The route of requests that no route matched, or whose route is not known."""
METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
    | {"WEBSOCKET"}
)
"""Known methods; a client may invent others, which are counted as ``_OTHER``."""
SAMPLE_SIZE = 128
"""Growths remembered for each route, for the percentile."""
MOST_CHARACTERS = 200
"""Of a route's template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStatistics:
    """
    What the requests of one route did to the memory of the process. Bytes.

    Take *mean_bytes* for a sign of growth only if it is several times *stderr_bytes*. Objects of
    at most 512 bytes are counted and each taken for 80: of those, it may say a third or twice.
    """

    method: str
    """``"GET"``, …; ``"WEBSOCKET"``; ``"_OTHER"``: no known method; ``"*"``: several."""
    route: str
    """The template; ``"unmatched"``, or ``"other"`` for all that came after the bound."""
    count: int
    """Requests that ended."""
    failed: int
    """Requests that raised."""
    sampled: int
    """Requests that were measured."""
    growth_bytes: int
    """What was kept by all that were measured; negative if more was freed."""
    mean_bytes: float | None
    """*growth_bytes* for each measured request; None if none was."""
    stderr_bytes: float | None
    """The standard error of that mean; None below two."""
    p95_bytes: int | None
    """95 % of the measured requests grew by at most this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatistics:
    """
    What a `RequestWatch` saw.

    Each request that was chosen for measuring has one outcome, the last one when the next begins.
    """

    source: AllocatedSource | None
    """What is measured: ``"allocated"`` bytes, or ``"private"`` memory; None before the first."""
    requests: int
    """Begun; the refused are not among them."""
    in_flight: int
    """Begun and not ended."""
    refused: int
    """Answered with 503, for memory was critical."""
    sampled: int
    """Chosen, and measured."""
    overlapped: int
    """Chosen, but another request was under way: the growth may be that one's."""
    warming: int
    """Chosen, but among the first of its route."""
    discarded: int
    """Chosen, but tracemalloc was on, relief was at work, or no request followed soon."""
    failed: int
    """Chosen, but it raised: the traceback still held what it had made."""
    abandoned: int
    """Never ended by the server, and collected."""
    routes: tuple[RouteStatistics, ...]
    """The one that grew most first."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]


class Row:
    """
    One route. Bounded by: 128 growths. Locks: none. Keeps alive: numbers.

    The sample is Vitter's algorithm R (1985, doi 10.1145/3147.3165).
    """

    __slots__ = ("count", "failed", "growth", "sample", "sampled", "squares")

    def __init__(self) -> None:
        self.count = self.failed = self.sampled = self.growth = 0
        self.squares = 0.0
        self.sample: array[int] = array("q")

    def add(self, growth: int, chance: random.Random) -> None:
        """Count a growth in bytes."""
        self.sampled += 1
        self.growth += growth
        self.squares += float(growth) * growth
        if len(self.sample) < SAMPLE_SIZE:
            self.sample.append(growth)
            return
        place = chance.randrange(self.sampled)
        if place < SAMPLE_SIZE:
            self.sample[place] = growth

    def statistics(self, method: str, route: str) -> RouteStatistics:
        """Return what was counted."""
        many = self.sampled
        mean = self.growth / many if many else None
        stderr = None
        if mean is not None and many > 1:
            variance = max(0.0, self.squares - many * mean * mean) / (many - 1)
            stderr = math.sqrt(variance / many)
        ordered = sorted(self.sample)
        return RouteStatistics(
            method=method,
            route=route,
            count=self.count,
            failed=self.failed,
            sampled=many,
            growth_bytes=self.growth,
            mean_bytes=mean,
            stderr_bytes=stderr,
            p95_bytes=ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None,
        )


class RouteTable:
    """
    Count requests and their growth by method and route.

    Bounded by: *max_routes* rows and one for the others, 128 growths each.
    Locks: none; the caller locks.
    Keeps alive: strings and numbers.
    """

    def __init__(self, max_routes: int, *, warmup: int, chance: random.Random) -> None:
        self._max_routes = max_routes
        self._warmup = warmup
        self._chance = chance
        self._rows: dict[tuple[str, str], Row] = {}

    def add(self, method: str, route: str, *, failed: bool) -> Row | None:
        """Count one request; return its row for `measure`, None while the route warms up."""
        row = self._row(method if method in METHODS else "_OTHER", route[:MOST_CHARACTERS])
        row.count += 1
        if failed:
            row.failed += 1
        return None if row.count <= self._warmup else row

    def measure(self, row: Row, growth: int) -> None:
        """Count what a request of *row* grew by, in bytes."""
        row.add(growth, self._chance)

    def _row(self, method: str, route: str) -> Row:
        row = self._rows.get((method, route))
        if row is None:
            if len(self._rows) >= self._max_routes:
                method, route = "*", OTHER
            row = self._rows.setdefault((method, route), Row())
        return row

    def statistics(self) -> tuple[RouteStatistics, ...]:
        """Return a row for each route, the one that grew most first."""
        rows = [row.statistics(*key) for key, row in self._rows.items()]
        return tuple(sorted(rows, key=lambda row: (-row.growth_bytes, row.route, row.method)))
