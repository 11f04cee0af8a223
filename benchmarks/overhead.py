"""
What memguard costs a web application: the same requests with it and without, in one process.

``python -m benchmarks.overhead`` serves the repaired demo shop, saturates it over loopback, and
switches memguard on and off between short slices of the same requests: bare, guarded, guarded,
bare. A block of four gives one ratio, free of linear drift; many short blocks give a median that
stands above the noise of a shared machine.

- control: bare against bare, which shows what this machine can resolve at all
- watching: the detector's own thread, taking a reading every 25 ms, with a full window behind it.
  That is ten times the pace of the demo, so that there is something to be measured. What the
  demo's pace costs follows from it by the count of readings.
- tracing: tracemalloc with one frame, as in the first burst of the detector's evidence
- stacks: tracemalloc with the detector's default frames, as in the second burst

Wall time says what a client sees; the server's processor time for the same requests is steadier.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.record import machine
from benchmarks.shop_load import ROOT, Load, Server, requests, server
from benchmarks.shop_server import traced_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shop_server import State

WARM_SECONDS = 2.5
"""Of watching before it counts: warm-up and more than a window at the fast pace."""
ACCEPTED_LOSS = 0.01
BOOTSTRAPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Guarded over bare, from blocks of four slices; above 1 means slower."""

    median: float
    low: float
    """2.5 % of bootstrapped medians lie below."""
    high: float
    """2.5 % of bootstrapped medians lie above."""
    minimum: float
    maximum: float
    blocks: int

    def __str__(self) -> str:
        return (
            f"{self.median:.4f}  (95 % of medians {self.low:.4f} to {self.high:.4f}; "
            f"blocks {self.minimum:.3f} to {self.maximum:.3f}, n={self.blocks})"
        )


def ratio(values: Sequence[float], seed: int = 1) -> Ratio:
    """Return the median of *values* with a percentile bootstrap (Efron 1979) of that median."""
    dice = random.Random(seed)  # noqa: S311 - reason: a repeatable resampling, no secret
    medians = sorted(
        statistics.median(dice.choices(values, k=len(values))) for _ in range(BOOTSTRAPS)
    )
    return Ratio(
        median=statistics.median(values),
        low=medians[round(0.025 * (BOOTSTRAPS - 1))],
        high=medians[round(0.975 * (BOOTSTRAPS - 1))],
        minimum=min(values),
        maximum=max(values),
        blocks=len(values),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One guarded state against bare."""

    state: str
    wall: Ratio
    """Seconds for the same requests."""
    cpu: Ratio
    """Processor seconds of the server for the same requests."""
    requests_per_second: float
    """Bare, median of the slices."""
    ticks_per_second: float
    """Readings of the fast detector in a guarded second."""


class Bench:
    """
    Sends slices of requests to one server and compares its states.

    Bounded by: a few numbers a block. Locks: none, one thread. Keeps alive: server and load.
    """

    def __init__(self, shop: Server, load: Load, requests_in_slice: int) -> None:
        self._shop = shop
        self._load = load
        self._count = requests_in_slice
        self._visitors = 0

    def compare(self, state: State, blocks: int) -> Comparison:
        """Return what *state* costs over bare, from *blocks* of four slices each."""
        walls: list[float] = []
        cpus: list[float] = []
        bare_seconds: list[float] = []
        guarded_seconds = ticks = 0.0
        for block in range(blocks):
            # ABBA and BAAB in turn, so that no state owns the outer slices.
            order: list[State] = ["bare", state, state, "bare"]
            if block % 2 == 1:
                order = [state, "bare", "bare", state]
            first, *middle, last = [self._slice(now) for now in order]
            ends, inner = [first, last], middle
            bare, guarded = (ends, inner) if block % 2 == 0 else (inner, ends)
            walls.append(sum(one[0] for one in guarded) / sum(one[0] for one in bare))
            cpus.append(sum(one[1] for one in guarded) / sum(one[1] for one in bare))
            bare_seconds += [one[0] for one in bare]
            guarded_seconds += sum(one[0] for one in guarded)
            ticks += sum(one[2] for one in guarded)
        return Comparison(
            state="control" if state == "bare" else state,
            wall=ratio(walls),
            cpu=ratio(cpus),
            requests_per_second=self._count / statistics.median(bare_seconds),
            ticks_per_second=ticks / guarded_seconds,
        )

    def watch(self, state: State, seconds: float) -> dict[str, float]:
        """Return what the steady detector counts of itself in *seconds* of full load in *state*."""
        before = self._shop.ask(state)
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            self.send()
        after = self._shop.ask("read")
        took = time.perf_counter() - begin
        self._shop.ask("bare")
        ticks = after["steady_ticks"] - before["steady_ticks"]
        cpu = after["steady_cpu_seconds"] - before["steady_cpu_seconds"]
        return {
            "seconds": took,
            "ticks": ticks,
            "cpu_seconds": cpu,
            "cpu_share": cpu / took,
            "microseconds_per_tick": 1e6 * cpu / ticks if ticks else 0.0,
        }

    def send(self) -> float:
        """Send one slice of requests from new visitors; return the seconds it took."""
        wanted = requests(self._count, first_visitor=self._visitors)
        self._visitors += self._count
        return self._load(wanted)

    def _slice(self, state: State) -> tuple[float, float, int]:
        before = self._shop.ask(state)
        wall = self.send()
        after = self._shop.ask("read")
        if after["errors"]:
            raise RuntimeError("a detector counted errors: this run measures nothing")
        cpu = after["cpu_seconds"] - before["cpu_seconds"]
        return wall, cpu, after["fast_ticks"] - before["fast_ticks"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the numbers; 1 when watching costs more than is accepted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--blocks", type=int, default=300, help="of four slices, for watching")
    parser.add_argument("--requests", type=int, default=200, help="in each slice")
    parser.add_argument(
        "--interval", type=float, default=0.25, help="seconds, the pace asked about"
    )
    parser.add_argument("--steady", type=float, default=20.0, help="seconds of unbroken watching")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    few = max(1, options.blocks // 10)
    with server(options.interval) as shop, contextlib.closing(Load(shop.port)) as load:
        bench = Bench(shop, load, options.requests)
        bench.watch("watching", WARM_SECONDS)
        comparisons = [
            bench.compare("bare", options.blocks),
            bench.compare("watching", options.blocks),
            bench.compare("tracing", few),
            bench.compare("stacks", few),
        ]
        own = bench.watch("steady", options.steady)
    if not comparisons[1].ticks_per_second:
        raise RuntimeError("no reading fell into a guarded slice; take more --requests or --blocks")
    return _tell(options, comparisons, own)


def _tell(
    options: argparse.Namespace, comparisons: Sequence[Comparison], own: dict[str, float]
) -> int:
    where = {**machine(), "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None}
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    for comparison in comparisons:
        print(f"\n{comparison.state}: bare at {comparison.requests_per_second:,.0f} requests/s")
        print(f"  wall time      x {comparison.wall}")
        print(f"  processor time x {comparison.cpu}")
    watching = comparisons[1]
    pace = 1 / options.interval / watching.ticks_per_second
    lost, at_most = (_lost(value, pace) for value in (watching.wall.median, watching.wall.high))
    accepted = at_most <= ACCEPTED_LOSS
    print(
        f"\nwatching with {watching.ticks_per_second:.0f} readings/s: "
        f"{_lost(watching.wall.median, 1):+.2%} of throughput lost"
        f"\nwatching with {1 / options.interval:g} readings/s: {lost:+.3%}, with 97.5 % certainty "
        f"at most {at_most:.3%}; accepted is {ACCEPTED_LOSS:.0%}: {'yes' if accepted else 'NO'}"
        f"\nthe detector's own count at that pace: {own['cpu_seconds']:.4f} s of CPU in "
        f"{own['seconds']:.1f} s ({own['cpu_share']:.3%}), {own['ticks']:.0f} readings of "
        f"{own['microseconds_per_tick']:.0f} us"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"overhead-{where['date']}.json"
    document = {
        "machine": where,
        "requests_per_slice": options.requests,
        "traced_frames": traced_frames(),
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "interval_seconds": options.interval,
        "throughput_lost_at_interval": lost,
        "throughput_lost_at_most": at_most,
        "own_count_at_interval": own,
        "accepted": accepted,
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return 0 if accepted else 1


def _lost(seconds_ratio: float, pace: float) -> float:
    """Return the share of throughput lost, where *pace* times the measured readings are taken."""
    return 1 - 1 / (1 + (seconds_ratio - 1) * pace)


if __name__ == "__main__":
    sys.exit(main())
