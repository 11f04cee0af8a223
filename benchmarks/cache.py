"""
What the caches cost: BoundedCache and @cached beside cachetools, feature for feature and locked.

``python -m benchmarks.cache`` times each pair in turns, in slices within one process, and keeps the
fastest slice of each, so that what else the machine does falls on both alike. It does so in several
fresh processes, compares within each, and goes by the median. Memory is what tracemalloc sees of a
cache alone, its keys and values made before. It prints a table and writes it, with machine, Python
and date, to ``benchmarks/results/``.

The bounds that the house promises stand in ``CASES`` and ``MOST_MEMORY``; the exit code says
whether they held. The peers are used as a thread-safe program must: under a ``threading.RLock``.

``--traces DIRECTORY`` adds hit ratios on recorded accesses, one key a line in ``*.txt``.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cachetools
import cachetools.func

from benchmarks.record import machine, write
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.bounded.cache.loading.decorator import cached

SIZE = 1000
MEMORY_ENTRIES = 100_000
MOST_MEMORY = 1.1
AN_HOUR = 3600
ROUNDS = 10
SLICE = 500
"""Operations timed at once: few, so that what else the machine does misses some of the slices."""

Loop = Callable[[list[Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that both sides do."""

    what: str
    ours: Callable[[], Loop]
    peer: Callable[[], Loop]
    keys: Callable[[], list[Any]]
    most: float | None = None
    """Promised: at most this share of the peer's time; None where nothing is promised."""


def filled(cache: Any) -> Any:
    """Return *cache* with SIZE entries."""
    for key in range(1000, 1000 + SIZE):
        cache[key] = 7
    return cache


def known_keys() -> list[Any]:
    """Return keys that are in a filled cache, equal but not identical, in random order."""
    keys = list(range(1000, 1000 + SIZE))
    order = []
    choice = random.Random(1)  # noqa: S311 - reason: no secret
    for _ in range(ROUNDS):
        choice.shuffle(keys)
        order += keys
    return order


def new_keys() -> list[Any]:
    """Return keys of which each pass evicts all the others."""
    keys = list(range(1000, 1000 + 12 * SIZE))
    random.Random(2).shuffle(keys)  # noqa: S311 - reason: no secret
    return keys


def missing_keys() -> list[Any]:
    """Return keys that are in no filled cache."""
    return list(range(10_000_000, 10_000_000 + ROUNDS * SIZE))


def loop(statement: str, cache: Any, *, locked: bool = False) -> Loop:
    """Return a loop over keys that runs *statement* on ``cache`` and ``key``."""
    body = f"with lock: {statement}" if locked else statement
    names: dict[str, Any] = {"cache": cache, "lock": threading.RLock()}
    source = f"def run(keys, cache=cache, lock=lock):\n    for key in keys:\n        {body}\n"
    exec(compile(source, f"<{statement}>", "exec"), names)  # noqa: S102 - reason: our own statement
    run: Loop = names["run"]
    return run


def pair(
    what: str,
    statement: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    keys: Callable[[], list[Any]],
    *,
    most: float | None = None,
) -> Case:
    """Return the same statement for our cache and for a locked peer."""
    return Case(
        what=what,
        ours=lambda: loop(statement, ours()),
        peer=lambda: loop(statement, peer(), locked=True),
        keys=keys,
        most=most,
    )


def identity(key: int) -> int:
    """Stand for a function whose result is worth remembering."""
    return key


LRU = SIZE + SIZE // 8


def ours_by_bytes() -> BoundedCache[int, int]:
    """Return a cache that holds SIZE ints, by bytes."""
    probe: BoundedCache[int, int] = BoundedCache(maxbytes="1MiB")
    probe[1000] = 7
    return BoundedCache(maxbytes=SIZE * probe.info(1000).bytes)


def peer_by_bytes() -> cachetools.LRUCache[int, int]:
    """Return a cache that holds SIZE ints, by bytes of the values alone."""
    return cachetools.LRUCache(SIZE * sys.getsizeof(7), getsizeof=sys.getsizeof)


def lru() -> Any:
    """Return ours by count, filled."""
    return filled(BoundedCache(LRU))


def peer_lru() -> Any:
    """Return cachetools' by count, filled."""
    return filled(cachetools.LRUCache(LRU))


def ttl() -> Any:
    """Return ours with a ttl, filled."""
    return filled(BoundedCache(LRU, ttl=AN_HOUR))


def peer_ttl() -> Any:
    """Return cachetools' with a ttl, filled."""
    return filled(cachetools.TTLCache(LRU, AN_HOUR))


def ours_decorated() -> Any:
    """Return a function remembered by us."""
    return cached(maxsize=LRU)(identity)


def peer_decorated() -> Any:
    """Return a function remembered by cachetools, thread-safe as it comes."""
    return cachetools.func.lru_cache(LRU)(identity)


def called(function: Any, keys: Callable[[], list[Any]]) -> Loop:
    """Return a loop that calls *function*, warmed up with *keys*."""
    for key in keys():
        function(key)
    return loop("cache(key)", function)


CASES = (
    pair("get, hit", "cache.get(key)", lru, peer_lru, known_keys, most=1.0),
    pair("[], hit", "cache[key]", lru, peer_lru, known_keys, most=1.1),
    pair("get, miss", "cache.get(key)", lru, peer_lru, missing_keys),
    pair("in", "key in cache", lru, peer_lru, known_keys),
    pair("set, known key", "cache[key] = 7", lru, peer_lru, known_keys, most=1.3),
    pair(
        "set with eviction",
        "cache[key] = 7",
        lambda: BoundedCache(SIZE),
        lambda: cachetools.LRUCache(SIZE),
        new_keys,
        most=1.1,
    ),
    pair(
        "set with eviction by bytes",
        "cache[key] = 7",
        ours_by_bytes,
        peer_by_bytes,
        new_keys,
    ),
    pair("ttl: get, hit", "cache.get(key)", ttl, peer_ttl, known_keys, most=0.6),
    pair("ttl: set, known key", "cache[key] = 7", ttl, peer_ttl, known_keys, most=1.2),
    pair(
        "ttl: set with eviction",
        "cache[key] = 7",
        lambda: BoundedCache(SIZE, ttl=AN_HOUR),
        lambda: cachetools.TTLCache(SIZE, AN_HOUR),
        new_keys,
        most=1.0,
    ),
    Case(
        what="decorated function, hit",
        ours=lambda: called(ours_decorated(), known_keys),
        peer=lambda: called(peer_decorated(), known_keys),
        keys=known_keys,
        most=0.8,
    ),
    Case(
        what="decorated function, miss",
        ours=lambda: called(ours_decorated(), new_keys),
        peer=lambda: called(peer_decorated(), new_keys),
        keys=new_keys,
    ),
)


def time_case(case: Case, repeats: int) -> dict[str, float]:
    """Return nanoseconds of one operation on either side, loop included: the best of all slices."""
    ours, peer, keys = case.ours(), case.peer(), case.keys()
    best = {"ours": float("inf"), "peer": float("inf")}
    ours(keys)
    peer(keys)
    slices = [keys[start : start + SLICE] for start in range(0, len(keys), SLICE)]
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for piece in slices:
                for name, run in (("ours", ours), ("peer", peer)):
                    began = time.perf_counter_ns()
                    run(piece)
                    took = (time.perf_counter_ns() - began) / len(piece)
                    best[name] = min(best[name], took)
    finally:
        gc.enable()
    return best


def weigh(make: Callable[[int], Any], keys: list[Any]) -> float:
    """Return the bytes of each entry of a full cache, its keys and values not counted."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        cache = make(len(keys))
        for key in keys:
            cache[key] = 7
        len(cache)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / len(keys)
    finally:
        tracemalloc.stop()


def weigh_all(count: int) -> dict[str, list[float]]:
    """Return bytes of each entry, ours and the peer's, for ints and strings, with a ttl or not."""
    ints: list[Any] = [number + 1000 for number in range(count)]
    texts: list[Any] = [f"{number:050}" for number in range(count)]
    return {
        "int keys": [weigh(BoundedCache, ints), weigh(cachetools.LRUCache, ints)],
        "str keys": [weigh(BoundedCache, texts), weigh(cachetools.LRUCache, texts)],
        "int keys, ttl": [
            weigh(lambda size: BoundedCache(size, ttl=AN_HOUR), ints),
            weigh(lambda size: cachetools.TTLCache(size, AN_HOUR), ints),
        ],
    }


def loads_of_one_cold_key(threads: int = 8) -> int:
    """Return how often *threads* that miss one key together load it."""
    loads: list[int] = []
    barrier = threading.Barrier(threads)

    def load(key: int) -> int:
        loads.append(key)
        time.sleep(0.05)
        return key

    function = cached(maxsize=10)(load)

    def work() -> None:
        barrier.wait()
        function(1)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(loads)


def synthetic() -> Iterator[tuple[str, list[int]]]:
    """Yield made-up accesses: skewed ones, alone and swept by scans of keys that never return."""
    choice = random.Random(42)  # noqa: S311 - reason: no secret
    items = 50_000
    weights = [1 / rank for rank in range(1, items + 1)]
    skewed = choice.choices(range(items), weights, k=200_000)
    yield "zipf(1.0)", skewed
    swept: list[int] = []
    for start in range(0, len(skewed), 20_000):
        swept += skewed[start : start + 20_000]
        swept += range(10_000_000 + start, 10_000_000 + start + 10_000)
    yield "zipf(1.0) with scans", swept


def recorded(directory: Path | None, limit: int = 300_000) -> Iterator[tuple[str, list[int]]]:
    """Yield the accesses in the files of *directory*, one key a line."""
    for path in sorted(directory.glob("*.txt")) if directory else ():
        numbers: dict[str, int] = {}
        lines = path.read_text(encoding="utf-8").split("\n")[:limit]
        yield path.stem, [numbers.setdefault(line, len(numbers)) for line in lines if line]


def hit_ratio(policy: Any, capacity: int, accesses: list[int]) -> float:
    """Return the share of *accesses* that a cache of *capacity* entries answers, in percent."""
    cache: BoundedCache[int, bool] = BoundedCache(capacity, policy=policy)
    for key in accesses:
        if cache.get(key) is None:
            cache[key] = True
    return 100 * cache.statistics().hit_rate


def hit_ratios(directory: Path | None) -> dict[str, list[float]]:
    """Return the hit ratios of LRU and S3-FIFO on every trace that is larger than the cache."""
    ratios = {}
    for name, accesses in (*synthetic(), *recorded(directory)):
        for capacity in (1000, 10_000):
            if len(set(accesses)) > 1.05 * capacity:
                ratios[f"{name} at {capacity:,}"] = [
                    round(hit_ratio(policy, capacity, accesses), 1) for policy in ("lru", "s3fifo")
                ]
    return ratios


def measure_once(repeats: int) -> dict[str, Any]:
    """Return everything that one process measures."""
    return {
        "times": {case.what: time_case(case, repeats) for case in CASES},
        "memory": weigh_all(MEMORY_ENTRIES),
        "loads": loads_of_one_cold_key(),
    }


def in_fresh_processes(processes: int, repeats: int) -> list[dict[str, Any]]:
    """Return what *processes* of this program measure, one after the other."""
    command = [sys.executable, "-m", "benchmarks.cache", "--once", "--repeats", str(repeats)]
    runs = []
    for _ in range(processes):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    return runs


def report(runs: list[dict[str, Any]], ratios: dict[str, list[float]]) -> tuple[Any, bool]:
    """Print the tables; return the figures, and whether all promises held."""
    held = True
    rows = {}
    print("| What | ours, ns | cachetools + RLock, ns | ratio | target |")
    print("|---|---:|---:|---:|---:|")
    for case in CASES:
        measured = [run["times"][case.what] for run in runs]
        shares = sorted(each["ours"] / each["peer"] for each in measured)
        ratio = statistics.median(shares)
        ours, peer = (
            statistics.median(each[side] for each in measured) for side in ("ours", "peer")
        )
        held = held and (case.most is None or ratio <= case.most)
        promised = "" if case.most is None else f"{case.most}"
        print(
            f"| {case.what} | {ours:,.0f} | {peer:,.0f} "
            f"| {ratio:.2f} ({shares[0]:.2f} to {shares[-1]:.2f}) | {promised} |"
        )
        rows[case.what] = {"ours": ours, "peer": peer, "ratio": ratio, "promised": case.most}
    print("\n| Bytes of an entry | ours | cachetools | ratio | target |\n|---|---:|---:|---:|---:|")
    memory = {}
    for what in runs[0]["memory"]:
        ours, peer = (statistics.median(run["memory"][what][i] for run in runs) for i in (0, 1))
        held = held and ours / peer <= MOST_MEMORY
        print(f"| {what} | {ours:.0f} | {peer:.0f} | {ours / peer:.2f} | {MOST_MEMORY} |")
        memory[what] = {"ours": ours, "peer": peer, "ratio": ours / peer}
    loads = max(run["loads"] for run in runs)
    held = held and loads == 1
    print(f"\n8 threads that miss one cold key together load it {loads} time(s); promised: once.")
    print("\n| Hit ratio, % | LRU | S3-FIFO |\n|---|---:|---:|")
    for name, (plain, scan_resistant) in ratios.items():
        print(f"| {name} | {plain:.1f} | {scan_resistant:.1f} |")
    return {"times": rows, "memory": memory, "loads": loads, "hit_ratios": ratios}, held


def main() -> int:
    """Measure, print, write; 1 where a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--processes", type=int, default=5, help="fresh processes (default 5)")
    parser.add_argument("--repeats", type=int, default=15, help="passes of each (default 15)")
    parser.add_argument("--traces", type=Path, help="a directory of recorded accesses")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.processes < 1 or options.repeats < 1:
        parser.error("--processes and --repeats must be >= 1")
    if options.once:
        json.dump(measure_once(options.repeats), sys.stdout)
        return 0
    description = machine()
    print(" · ".join(f"{value}" for value in description.values()))
    print(f"{options.processes} processes, the best slice of {options.repeats} passes in each\n")
    runs = in_fresh_processes(options.processes, options.repeats)
    figures, held = report(runs, hit_ratios(options.traces))
    write("cache", description, figures, options.output)
    print("\nAll promises held." if held else "\nA promise did not hold.")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
