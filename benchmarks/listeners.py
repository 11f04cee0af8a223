"""
What an event costs: ListenerRegistry beside blinker, pyee and psygnal.

``python -m benchmarks.listeners`` runs all of them in turns, in slices of a few milliseconds within
one process, and keeps the fastest slice of each. It does so in several fresh processes, compares
within each, and goes by the median. It prints a table and writes it, with machine, Python and date,
to ``benchmarks/results/``.

The bounds that the house promises, beside blinker: an emit to ten listeners in at most 1.2 of its
time, connecting and disconnecting one in at most 1.5; the exit code says whether they held.

Not like for like: blinker lets an exception stop the rest; pyee and psygnal keep functions for
ever; none of them has owners or remembers who registered what.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.elsewhere import measure_elsewhere
from benchmarks.record import machine, write
from benchmarks.turns import Slice, if_installed, in_turns
from memguard.bounded.events.registry import ListenerRegistry

BOUNDS = {
    ("ListenerRegistry emit, 10 functions", "blinker send, 10 functions"): 1.2,
    ("ListenerRegistry emit, 10 methods", "blinker send, 10 methods"): 1.2,
    ("ListenerRegistry on + close, function", "blinker connect + disconnect, function"): 1.5,
    ("ListenerRegistry on + close, method", "blinker connect + disconnect, method"): 1.5,
}
"""What ours may cost at most, as a share of the peer."""


class Ear:
    """Hears as little as can be heard."""

    def hear(self, sender: object = None) -> None:
        """Do nothing."""


def functions(count: int) -> list[Callable[..., None]]:
    """Return so many different functions that do nothing."""

    def make() -> Callable[..., None]:
        def hear(sender: object = None) -> None:
            """Do nothing."""

        return hear

    return [make() for _ in range(count)]


def repeat(call: Callable[..., object], *args: Any) -> Slice:
    """Return a slice that makes one call so many times."""

    def run(times: int) -> None:
        for _ in range(times):
            call(*args)

    return run


# Each registration is beside one that stays: events that nobody listens to are rare.


def ours() -> dict[str, Slice]:
    """Return what ListenerRegistry does."""
    registry = ListenerRegistry(name="benchmark")
    ten, ears, steady = functions(10), [Ear() for _ in range(10)], functions(1)[0]
    for fn, ear in zip(ten, ears, strict=True):
        registry.on("functions", fn)
        registry.on("methods", ear.hear)
    registry.on("churn", steady)
    KEPT.append((registry, ears))  # methods are held weakly: somebody must hold their objects
    return {
        "ListenerRegistry emit, 10 functions": repeat(registry.emit, "functions", None),
        "ListenerRegistry emit, 10 methods": repeat(registry.emit, "methods", None),
        **churn(registry),
    }


def churn(registry: ListenerRegistry) -> dict[str, Slice]:
    """Return registrations that end at once."""
    one, ear, owner = functions(1)[0], Ear(), Ear()

    def function(times: int) -> None:
        for _ in range(times):
            registry.on("churn", one).close()

    def method(times: int) -> None:
        for _ in range(times):
            registry.on("churn", ear.hear).close()

    def off(times: int) -> None:
        for _ in range(times):
            registry.on("churn", ear.hear)
            registry.off("churn", ear.hear)

    def owned(times: int) -> None:
        for _ in range(times):
            registry.on("churn", one, owner=owner).close()

    return {
        "ListenerRegistry on + close, function": function,
        "ListenerRegistry on + close, method": method,
        "ListenerRegistry on + off, method": off,
        "ListenerRegistry on + close, with an owner": owned,
    }


KEPT: list[object] = []
"""What must outlive the making of the slices."""


def blinkers() -> dict[str, Slice]:
    """Return what blinker does."""
    blinker: Any = importlib.import_module("blinker")
    signals = [blinker.Signal() for _ in range(3)]
    ten, ears, steady = functions(10), [Ear() for _ in range(10)], functions(1)[0]
    for fn, ear in zip(ten, ears, strict=True):
        signals[0].connect(fn)
        signals[1].connect(ear.hear)
    churn = signals[2]
    churn.connect(steady)
    one, ear = functions(1)[0], Ear()

    def function(times: int) -> None:
        for _ in range(times):
            churn.connect(one)
            churn.disconnect(one)

    def method(times: int) -> None:
        for _ in range(times):
            churn.connect(ear.hear)
            churn.disconnect(ear.hear)

    KEPT.append((ears, ten, steady))
    return {
        "blinker send, 10 functions": repeat(signals[0].send, None),
        "blinker send, 10 methods": repeat(signals[1].send, None),
        "blinker connect + disconnect, function": function,
        "blinker connect + disconnect, method": method,
    }


def pyees() -> dict[str, Slice]:
    """Return what pyee does."""
    pyee: Any = importlib.import_module("pyee")
    emitter = pyee.EventEmitter()
    for fn in functions(10):
        emitter.on("functions", fn)
    one = functions(1)[0]
    emitter.on("churn", functions(1)[0])

    def function(times: int) -> None:
        for _ in range(times):
            emitter.on("churn", one)
            emitter.remove_listener("churn", one)

    return {
        "pyee emit, 10 functions": repeat(emitter.emit, "functions", None),
        "pyee on + remove_listener, function": function,
    }


def psygnals() -> dict[str, Slice]:
    """Return what psygnal does."""
    psygnal: Any = importlib.import_module("psygnal")
    signals = [psygnal.SignalInstance((object,)) for _ in range(2)]
    for fn in functions(10):
        signals[0].connect(fn)
    churn, one = signals[1], functions(1)[0]
    churn.connect(functions(1)[0])

    def function(times: int) -> None:
        for _ in range(times):
            churn.connect(one)
            churn.disconnect(one)

    return {
        "psygnal emit, 10 functions": repeat(signals[0].emit, None),
        "psygnal connect + disconnect, function": function,
    }


def contestants() -> dict[str, Slice]:
    """Return who is here; peers that are not installed are left out, and said to be."""
    found = ours()
    for peer in (blinkers, pyees, psygnals):
        found.update(if_installed(peer))
    return found


def ratios(best: dict[str, float]) -> dict[str, float]:
    """Return what ours cost beside the peer, within one process."""
    return {name: round(best[name] / best[peer], 4) for name, peer in BOUNDS if peer in best}


def main() -> int:
    """Measure, print, write; 1 where an event costs more than promised."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=40, help="slices of each (default 40)")
    parser.add_argument("--processes", type=int, default=7, help="fresh processes (default 7)")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    parser.add_argument("--inner", action="store_true", help="measure here, print JSON only")
    options = parser.parse_args()
    if options.rounds < 5 or options.processes < 1:
        parser.error("--rounds must be >= 5 and --processes >= 1")
    if options.inner:
        print(json.dumps(in_turns(contestants(), options.rounds)))
        return 0
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    runs = [
        measure_elsewhere("benchmarks.listeners", options.rounds) for _ in range(options.processes)
    ]
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    for name, nanoseconds in median.items():
        print(f"{nanoseconds:>10.0f} ns  {name}")
    found = [ratios(run) for run in runs]
    held = bool(found[0])
    for (name, peer), bound in BOUNDS.items():
        each = sorted(run[name] for run in found if name in run)
        if each:
            middle = statistics.median(each)
            held = held and middle <= bound
            print(f"{middle:.2f} of {peer} (promised {bound}; {each[0]:.2f} to {each[-1]:.2f})")
    result = {
        "rounds": options.rounds,
        "median_nanoseconds": {name: round(value, 1) for name, value in median.items()},
        "ratios_of_each_process": found,
        "held": held,
    }
    write("listeners", about, result, options.output)
    print(f"within what is promised: {held}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
