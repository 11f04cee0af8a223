"""The demo shop as a process that a benchmark can switch: bare, watched, traced."""

from __future__ import annotations

import argparse
import inspect
import json
import socket
import sys
import threading
import time
import tracemalloc
from typing import Literal, TypedDict

import uvicorn

import memguard
from examples.leaky_shop import repaired
from memguard.observe.readings import Reading, read_memory

State = Literal["bare", "watching", "steady", "tracing", "stacks"]


class Figures(TypedDict):
    """What the server says of itself: seconds of processor time, and counts."""

    cpu_seconds: float
    fast_ticks: int
    steady_ticks: int
    steady_cpu_seconds: float
    errors: int


FAST_SECONDS = 0.025
"""Between two readings of the fast detector."""


class Switch:
    """
    Obeys lines of input, a state or ``read``, and answers each with the process's own figures.

    Bounded by: two detectors. Locks: none, one thread. Keeps alive: the server.
    """

    def __init__(self, server: uvicorn.Server, interval: float) -> None:
        self._server = server
        self._open = threading.Event()
        # No growth of the warming shop may set off a tracing burst amid the slices.
        self._fast = memguard.LeakDetector(
            interval=FAST_SECONDS, min_growth_bytes="4GiB", read=self._read, name="fast"
        )
        self._steady = memguard.LeakDetector(interval=interval, min_growth_bytes="4GiB")

    def _read(self) -> Reading:
        # The detector's thread waits here between the guarded slices and keeps its full window,
        # which start() and stop() would clear.
        self._open.wait()
        return read_memory()

    def obey(self) -> None:
        """Answer each line until standard input ends, then stop the server."""
        self._fast.start()
        state = "bare"
        for line in sys.stdin:
            wanted = line.strip()
            if wanted != "read":
                self._leave(state)
                self._enter(wanted)
                state = wanted
            print(json.dumps(self._figures()), flush=True)
        self._leave(state)
        self._open.set()
        self._fast.stop()
        self._server.should_exit = True

    def _leave(self, state: str) -> None:
        if state == "watching":
            self._open.clear()
        elif state == "steady":
            self._steady.stop()
        elif state in ("tracing", "stacks"):
            tracemalloc.stop()

    def _enter(self, state: str) -> None:
        if state == "watching":
            self._open.set()
        elif state == "steady":
            self._steady.start()
        elif state in ("tracing", "stacks"):
            tracemalloc.start(1 if state == "tracing" else traced_frames())

    def _figures(self) -> Figures:
        fast, steady = self._fast.statistics(), self._steady.statistics()
        return {
            "cpu_seconds": time.process_time(),
            "fast_ticks": fast.ticks,
            "steady_ticks": steady.ticks,
            "steady_cpu_seconds": steady.cpu_seconds,
            "errors": fast.errors + steady.errors,
        }


def traced_frames() -> int:
    """Return how many frames the detector traces by default."""
    default = inspect.signature(memguard.LeakDetector).parameters["trace_frames"].default
    return int(default)


def serve(interval: float) -> None:
    """Serve the repaired shop until standard input ends; the first line of output is the port."""
    config = uvicorn.Config(repaired.app, access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        switch = Switch(server, interval)
        threading.Thread(target=switch.obey).start()
        server.run(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, required=True, help="of the steady detector")
    serve(parser.parse_args().interval)
