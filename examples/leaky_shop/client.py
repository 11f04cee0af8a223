"""
The shop's visitors: one paced HTTP client over one kept-alive connection.

Bounded in count (``--rate`` times ``--seconds``) and in time: it ends, whatever the server does.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from . import db

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GRACE_SECONDS = 15.0
"""How long after its time the client goes on to catch up, before it gives up the rest."""
FAILURES_IN_A_ROW = 20
"""After so many the shop is taken to be closed."""

_ROUTES = {"product": 40, "order": 25, "export": 25, "ship": 6, "download": 4}
_RETURNING = 0.15
_LINES = 24
_NOTE_WORDS = ("happy", "birthday", "dear", "friend", "many", "thanks", "for", "the", "evening")


class Visitors:
    """
    Sends the shop's requests, the same ones in the same order for the same seed.

    Bounded by: numbers only. Locks: none, one thread. Keeps alive: the HTTP client given.
    """

    def __init__(self, http: httpx.Client, seed: int) -> None:
        self._http = http
        self._dice = random.Random(seed)  # noqa: S311 - reason: a repeatable load, no secret
        self._visitors = 0
        self._last_order = 1
        self._last_job = 1
        self._send: dict[str, Callable[[], httpx.Response]] = {
            "product": self._product,
            "order": self._order,
            "export": self._export,
            "ship": self._ship,
            "download": self._download,
        }

    def send_one(self) -> tuple[str, bool]:
        """Send one request; return its route and whether the shop answered it well."""
        route = self._dice.choices(list(_ROUTES), weights=list(_ROUTES.values()))[0]
        try:
            return route, self._send[route]().is_success
        except httpx.HTTPError:
            return route, False

    def _product(self) -> httpx.Response:
        back = self._visitors > 10 and self._dice.random() < _RETURNING
        if back:
            visitor = self._visitors - self._dice.randrange(10)
        else:
            visitor = self._visitors = self._visitors + 1
        return self._http.get(
            f"/products/{self._dice.randint(1, db.PRODUCTS)}",
            headers={"cookie": f"visitor=v{visitor:08d}"},
        )

    def _order(self) -> httpx.Response:
        order: db.Order = {
            "customer": f"customer-{self._dice.randrange(80)}",
            "lines": [
                {
                    "product": self._dice.randint(1, db.PRODUCTS),
                    "pieces": self._dice.randint(1, 5),
                    "gift_note": " ".join(self._dice.choices(_NOTE_WORDS, k=220)),
                }
                for _ in range(_LINES)
            ],
        }
        response = self._http.post("/orders", json=order)
        if response.is_success:
            self._last_order = int(response.json()["order"])
        return response

    def _export(self) -> httpx.Response:
        response = self._http.post("/exports")
        if response.is_success:
            self._last_job = int(response.json()["job"])
        return response

    def _ship(self) -> httpx.Response:
        return self._http.post(f"/orders/{self._last_order}/ship")

    def _download(self) -> httpx.Response:
        return self._http.get(f"/exports/{self._last_job}")


def run(url: str, *, seconds: float, rate: float, seed: int) -> dict[str, object]:
    """
    Send ``rate * seconds`` requests to *url* at an even pace; return what came of them.

    A slow answer is caught up with afterwards, but never for longer than 15 seconds.
    """
    planned = round(rate * seconds)
    routes: collections.Counter[str] = collections.Counter()
    failed = in_a_row = 0
    waits: list[float] = []
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(base_url=url, timeout=5.0, limits=limits, trust_env=False) as http:
        visitors = Visitors(http, seed)
        start = time.monotonic()
        for number in range(planned):
            now = time.monotonic()
            if now > start + seconds + GRACE_SECONDS or in_a_row == FAILURES_IN_A_ROW:
                break
            if (early := start + number / rate - now) > 0:
                time.sleep(early)
            sent_at = time.monotonic()
            route, good = visitors.send_one()
            waits.append(time.monotonic() - sent_at)
            routes[route] += 1
            failed += not good
            in_a_row = 0 if good else in_a_row + 1
        took = time.monotonic() - start
    waits.sort()
    return {
        "planned": planned,
        "sent": len(waits),
        "failed": failed,
        "seconds": took,
        "median_ms": 1000 * waits[len(waits) // 2] if waits else None,
        "p99_ms": 1000 * waits[len(waits) * 99 // 100] if waits else None,
        "slowest_ms": 1000 * waits[-1] if waits else None,
        "routes": dict(routes),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the client as a process: ``python -m leaky_shop.client URL --result FILE``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args(arguments)
    result = run(options.url, seconds=options.seconds, rate=options.rate, seed=options.seed)
    options.result.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
