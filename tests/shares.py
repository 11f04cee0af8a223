"""
A program that leaks several kinds of objects at once, and what a report says of each.

    python -m tests.shares KIND …  →  {"truth": {kind: bytes an entry}, "report": {...}} as JSON
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import tracemalloc

import memguard
from tests.specimens_of_weight import KINDS

MEASURED = 500


class Kept:
    """The holders of the growth: a dict for each kind, each with a name of its own."""


def truth_of(kind: str) -> float:
    """Return the bytes that an entry of *kind* and its place in a dict take."""
    KINDS[kind](1)
    gc.collect()
    tracemalloc.start()
    kept = {number: KINDS[kind](number) for number in range(10**6, 10**6 + MEASURED)}
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    kept.clear()
    return taken / MEASURED


def leak(kinds: list[str], stop: threading.Event) -> None:
    """Add an entry of each kind every few milliseconds."""
    held = [getattr(Kept, f"kind_{place}") for place in range(len(kinds))]
    number = 10**6
    while not stop.wait(0.003):
        number += 1
        for kind, entries in zip(kinds, held, strict=True):
            entries[number] = KINDS[kind](number)


def main(kinds: list[str]) -> None:
    """Leak *kinds*, look, and write what was seen."""
    truth = {kind: truth_of(kind) for kind in kinds}
    for place in range(len(kinds)):
        setattr(Kept, f"kind_{place}", {})
    stop = threading.Event()
    thread = threading.Thread(target=leak, args=(kinds, stop))
    thread.start()
    try:
        stop.wait(0.3)
        report = memguard.diagnose(seconds=1.0)
    finally:
        stop.set()
        thread.join()
    json.dump({"truth": truth, "report": report.to_dict()}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
