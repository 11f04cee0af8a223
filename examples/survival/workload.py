"""
The work: documents are rendered, thumbnails scaled and rows fetched, all through caches and pools.

Three caches with bounds that together allow 1.2 GiB, and a pool of buffers. The keys requested
follow a Zipf-like law over more data than fits anywhere: some keys often, most of them seldom. A
miss costs time (a hash over the data), as a query or a file would. ``python -m
examples.survival.workload MODE`` runs it once and prints what happened as one line of JSON.

MODE ``bare``: nothing but the caches. ``guarded``: one call of ``install`` before them. ``tuned``:
no guard, but bounds that fit into the limit, as if tuned by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import resource
import threading
import time
from pathlib import Path

from memguard import BoundedCache, BufferPool, install, status, uninstall
from memguard.observe import read_memory
from memguard.units import MiB

WANTED = {"documents": 512 * MiB, "thumbnails": 512 * MiB, "rows": 192 * MiB}
SIZES = {"documents": 48 * 1024, "thumbnails": 160 * 1024, "rows": 4 * 1024}
KEYS = {"documents": 24_000, "thumbnails": 8_000, "rows": 80_000}
TURNS = ("documents", "thumbnails", "rows", "rows")
TUNED_SHARE = 0.55
"""Of the limit, for all caches together: what a careful person leaves for the rest."""


def fetch(kind: str, number: int) -> bytes:
    """Make the value of a key: some work, and *SIZES* bytes."""
    seed = hashlib.sha256(f"{kind}:{number}".encode()).digest()
    data = seed * (SIZES[kind] // len(seed))
    for _ in range(3):
        hashlib.sha256(data).digest()
    return data


def caches(limit: int, mode: str) -> dict[str, BoundedCache[int, bytes]]:
    """Return the caches: as their owners wish them, or tuned by hand to *limit*."""
    total = sum(WANTED.values())
    return {
        kind: BoundedCache(
            name=kind,
            maxbytes=int(wanted / total * limit * TUNED_SHARE) if mode == "tuned" else wanted,
        )
        for kind, wanted in WANTED.items()
    }


def work(
    worker: int, requests: int, stores: dict[str, BoundedCache[int, bytes]], pool: BufferPool
) -> None:
    """Serve *requests*: look up, make on a miss, copy through a pooled buffer."""
    chance = random.Random(worker)  # noqa: S311 - reason: a workload, not a secret
    for turn in range(requests):
        kind = TURNS[turn % len(TURNS)]
        number = int(KEYS[kind] * chance.random() ** 3)
        store = stores[kind]
        value = store.get(number)
        if value is None:
            value = fetch(kind, number)
            store[number] = value
        with pool.lease(SIZES[kind]) as buffer:
            buffer[:64] = value[:64]


def run(mode: str, *, limit: int, requests: int, workers: int) -> dict[str, object]:
    """Run the workload once, and return what happened."""
    changes: list[str] = []
    if mode == "guarded":
        install(on_level=lambda alert: changes.append(f"{alert.previous} > {alert.level}"))
    stores = caches(limit, mode)
    pool = BufferPool(sorted(SIZES.values()), maxbytes="64MiB", name="buffers")
    began = time.perf_counter()
    threads = [
        threading.Thread(target=work, args=(number, requests // workers, stores, pool))
        for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    hits = sum(store.statistics().hits for store in stores.values())
    misses = sum(store.statistics().misses for store in stores.values())
    found: dict[str, object] = {
        "mode": mode,
        "requests": hits + misses,
        "seconds": round(seconds, 3),
        "requests_per_second": round((hits + misses) / seconds),
        "hit_ratio": round(hits / max(1, hits + misses), 4),
        "peak": read_memory().peak,
        "limit": limit,
        "level_changes": changes,
    }
    if mode == "guarded":
        found["status"] = status().to_dict()
        uninstall()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one mode and print the result."""
    parser = argparse.ArgumentParser(description="one run of the workload, as a line of JSON")
    parser.add_argument("mode", choices=["bare", "guarded", "tuned"])
    parser.add_argument("--limit", type=int, default=300 * MiB)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--group", help="a memory control group to join first")
    parser.add_argument("--rlimit", action="store_true", help="bound the address space instead")
    options = parser.parse_args(arguments)
    if options.group:
        Path(options.group, "cgroup.procs").write_text(str(os.getpid()), "utf-8")
    if options.rlimit:
        # Address space is more than memory: what is mapped already comes on top.
        mapped = read_memory().vms or 0
        resource.setrlimit(resource.RLIMIT_AS, (mapped + options.limit,) * 2)
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d ms %(message)s")
    found = run(
        options.mode, limit=options.limit, requests=options.requests, workers=options.workers
    )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
