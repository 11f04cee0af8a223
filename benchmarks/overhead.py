"""
What memguard costs a web application: the same requests with it and without, in one process.

``python -m benchmarks.overhead`` serves the repaired demo shop, saturates it over loopback, and
switches memguard on and off between short slices of the same requests: bare, guarded, guarded,
bare. A block of four gives one ratio, free of linear drift; blocks give the median and its spread.

- control: bare against bare, which shows what this machine can resolve at all
- watching: the detector's thread reads memory, nothing else
- tracing: tracemalloc at the detector's depth, as in its evidence window

Wall time says what a client sees and is noisy; the server's processor time per request is steadier.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import inspect
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import uvicorn

import memguard
from examples.leaky_shop import db, repaired

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

State = Literal["bare", "watching", "tracing"]

ROOT = Path(__file__).parents[1]
CONNECTIONS = 4
ACCEPTED_LOSS = 0.01
BOOTSTRAPS = 2000
MACHINE_FIELDS = ("model name", "Model")


# --- the server process --------------------------------------------------------------------------


class Switch:
    """
    Obeys lines of input: ``bare``, ``watching``, ``tracing`` and ``read``; answers in JSON.

    Bounded by: one detector. Locks: none, one thread. Keeps alive: the server.
    """

    def __init__(self, server: uvicorn.Server, interval: float, reports: Path) -> None:
        self._server = server
        # No growth of the warming shop may set off a tracing window amid the slices.
        self._detector = memguard.LeakDetector(
            interval=interval, min_growth_bytes="4GiB", report_dir=reports
        )

    def obey(self) -> None:
        """Answer each line until standard input ends, then stop the server."""
        state: State = "bare"
        for line in sys.stdin:
            wanted = line.strip()
            if wanted != "read":
                self._leave(state)
                state = self._enter(wanted)
            print(json.dumps(self._figures()), flush=True)
        self._leave(state)
        self._server.should_exit = True

    def _leave(self, state: State) -> None:
        if state == "watching":
            self._detector.stop(timeout=10)
        elif state == "tracing":
            tracemalloc.stop()

    def _enter(self, wanted: str) -> State:
        if wanted == "watching":
            self._detector.start()
            return "watching"
        if wanted == "tracing":
            tracemalloc.start(traced_frames())
            return "tracing"
        return "bare"

    def _figures(self) -> dict[str, Any]:
        figures = asdict(self._detector.statistics())
        return {"cpu_seconds": time.process_time(), "statistics": figures}


def traced_frames() -> int:
    """Return how many frames the detector traces by default."""
    default = inspect.signature(memguard.LeakDetector).parameters["trace_frames"].default
    return int(default)


def serve(interval: float, directory: Path) -> None:
    """Serve the repaired shop until standard input ends; the first line of output is the port."""
    config = uvicorn.Config(repaired.app, access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        switch = Switch(server, interval, directory / "reports")
        threading.Thread(target=switch.obey).start()
        server.run(sockets=[listener])


# --- the load ------------------------------------------------------------------------------------


def requests(count: int, seed: int = 1) -> list[bytes]:
    """
    Return *count* encoded requests, the same for the same *seed*: pages, orders, shipments.

    No exports: their worker thread would carry work of one slice into the next.
    """
    dice = random.Random(seed)  # noqa: S311 - reason: a repeatable load, no secret
    made = []
    for number in range(count):
        kind = dice.choices(("page", "order", "ship"), weights=(60, 30, 10))[0]
        if kind == "page":
            path = f"/products/{dice.randint(1, db.PRODUCTS)}"
            made.append(f"GET {path} HTTP/1.1\r\nhost: shop\r\ncookie: visitor=v{number}\r\n\r\n")
        elif kind == "ship":
            path = f"/orders/{dice.randint(1, 500)}/ship"
            made.append(f"POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n")
        else:
            lines = [{"product": n + 1, "pieces": 1, "gift_note": "x" * 200} for n in range(20)]
            body = json.dumps({"customer": f"customer-{number}", "lines": lines})
            head = f"POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: {len(body)}\r\n\r\n"
            made.append(head + body)
    return [request.encode() for request in made]


class Load:
    """
    Keeps the server busy: a few connections, each with its next request out when its answer is in.

    Bounded by: four connections. Locks: none, one thread. Keeps alive: its sockets, until close.
    """

    def __init__(self, port: int) -> None:
        self._files = []
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._files.append(connection.makefile("rwb"))
            connection.close()  # the file keeps it open

    def __call__(self, wanted: Sequence[bytes]) -> float:
        """Send all of *wanted*, await every answer, and return the seconds it took."""
        begin = time.perf_counter()
        for number, request in enumerate(wanted):
            file = self._files[number % CONNECTIONS]
            if number >= CONNECTIONS:
                self._answer(file)
            file.write(request)
            file.flush()
        for number in range(len(wanted), len(wanted) + min(CONNECTIONS, len(wanted))):
            self._answer(self._files[number % CONNECTIONS])
        return time.perf_counter() - begin

    def close(self) -> None:
        """Close all connections."""
        for file in self._files:
            file.close()

    def _answer(self, file: Any) -> None:
        status = file.readline()
        if status[9:10] != b"2":
            raise RuntimeError(f"the shop answered {status!r}: this run measures nothing")
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        file.read(length)


class Server:
    """The server process, seen from the load's side. Bounded by: one child. Locks: none."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.port = int(self._line())

    def ask(self, line: State | Literal["read"]) -> dict[str, Any]:
        """Send one *line* to the switch and return its figures."""
        if self._child.stdin is None:
            raise RuntimeError("the server has no standard input")
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()
        figures: dict[str, Any] = json.loads(self._line())
        return figures

    def _line(self) -> str:
        line = self._child.stdout.readline() if self._child.stdout else ""
        if not line:
            raise RuntimeError(f"the server ended with {self._child.poll()}")
        return line


@contextlib.contextmanager
def server(interval: float) -> Iterator[Server]:
    """Run the shop in a child process; it has ended when the block is left."""
    with tempfile.TemporaryDirectory(prefix="memguard-overhead-") as directory:
        database = Path(directory) / "shop.sqlite3"
        db.create(database)
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.overhead"),
                *("--serve", directory, "--interval", str(interval)),
            ],
            cwd=ROOT,
            env={**os.environ, "SHOP_DATABASE": str(database)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Server(child)
            if child.stdin is not None:
                child.stdin.close()
            child.wait(timeout=30)
        finally:
            child.kill()
            child.wait()


# --- the measurement -----------------------------------------------------------------------------


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


def compare(
    shop: Server, load: Load, state: State, wanted: Sequence[bytes], blocks: int
) -> Comparison:
    """Return what *state* costs over bare, in *blocks* of the slices bare, state, state, bare."""
    walls: list[float] = []
    cpus: list[float] = []
    bare_walls: list[float] = []
    for block in range(blocks):
        # ABBA and BAAB in turn, so that no state owns the outer slices.
        order: list[State] = ["bare", state, state, "bare"]
        if block % 2 == 1:
            order = [state, "bare", "bare", state]
        first, *middle, last = [_slice(shop, load, wanted, now) for now in order]
        bare, guarded = ((first, last), middle) if block % 2 == 0 else (middle, (first, last))
        walls.append(sum(wall for wall, _ in guarded) / sum(wall for wall, _ in bare))
        cpus.append(sum(cpu for _, cpu in guarded) / sum(cpu for _, cpu in bare))
        bare_walls += [wall for wall, _ in bare]
    return Comparison(
        state="control" if state == "bare" else state,
        wall=ratio(walls),
        cpu=ratio(cpus),
        requests_per_second=len(wanted) / statistics.median(bare_walls),
    )


def _slice(shop: Server, load: Load, wanted: Sequence[bytes], state: State) -> tuple[float, float]:
    shop.ask(state)
    before = shop.ask("read")["cpu_seconds"]
    wall = load(wanted)
    return wall, shop.ask("read")["cpu_seconds"] - before


def watch_long(
    shop: Server, load: Load, wanted: Sequence[bytes], seconds: float
) -> dict[str, float]:
    """Return what the detector says of its own processor time over *seconds* of full load."""
    before = shop.ask("watching")["statistics"]
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        load(wanted)
    after = shop.ask("read")["statistics"]
    took = time.perf_counter() - begin
    ticks = after["ticks"] - before["ticks"]
    cpu = after["cpu_seconds"] - before["cpu_seconds"]
    shop.ask("bare")
    return {
        "seconds": took,
        "ticks": ticks,
        "cpu_seconds": cpu,
        "cpu_share": cpu / took,
        "microseconds_per_tick": 1e6 * cpu / ticks if ticks else 0.0,
    }


def machine() -> dict[str, Any]:
    """Return what the numbers depend on; no name of the host."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            field, _, value = line.partition(":")
            if field.strip() in MACHINE_FIELDS:
                model = value.strip()
                break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "memguard": memguard.__version__,
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the numbers; 1 when watching costs more than is accepted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--blocks", type=int, default=60, help="of four slices, for watching")
    parser.add_argument("--requests", type=int, default=2000, help="in each slice")
    parser.add_argument("--interval", type=float, default=0.25, help="seconds between readings")
    parser.add_argument("--long", type=float, default=20.0, help="seconds of unbroken watching")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.interval, options.serve)
        return 0
    wanted = requests(options.requests)
    with server(options.interval) as shop, contextlib.closing(Load(shop.port)) as load:
        for _ in range(5):  # caches fill, code specialises
            load(wanted)
        comparisons = [
            compare(shop, load, "bare", wanted, max(1, options.blocks // 3)),
            compare(shop, load, "watching", wanted, options.blocks),
            compare(shop, load, "tracing", wanted, max(1, options.blocks // 10)),
        ]
        own = watch_long(shop, load, wanted, options.long)
    return _tell(options, machine(), comparisons, own)


def _tell(
    options: argparse.Namespace,
    where: dict[str, Any],
    comparisons: Sequence[Comparison],
    own: dict[str, float],
) -> int:
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    print(f"a reading every {options.interval:g} s, {options.requests} requests in each slice")
    for comparison in comparisons:
        print(f"\n{comparison.state}: bare at {comparison.requests_per_second:,.0f} requests/s")
        print(f"  wall time      x {comparison.wall}")
        print(f"  processor time x {comparison.cpu}")
    print(
        f"\nthe detector's own count: {own['cpu_seconds']:.4f} s of CPU in {own['seconds']:.1f} s "
        f"({own['cpu_share']:.3%}), {own['ticks']:.0f} readings of "
        f"{own['microseconds_per_tick']:.0f} us"
    )
    watching = next(comparison for comparison in comparisons if comparison.state == "watching")
    loss = 1 - 1 / watching.wall.median
    accepted = loss <= ACCEPTED_LOSS
    print(
        f"watching: {loss:+.2%} of throughput lost, at most {ACCEPTED_LOSS:.0%} is accepted: "
        + ("yes" if accepted else "NO")
    )
    options.out.mkdir(parents=True, exist_ok=True)
    python = "".join(where["python"].split(".")[:2])
    path = options.out / f"overhead-{where['date']}-py{python}.json"
    document = {
        "machine": where,
        "interval_seconds": options.interval,
        "requests_per_slice": options.requests,
        "traced_frames": traced_frames(),
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "own_count": own,
        "throughput_lost": loss,
        "accepted": accepted,
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return 0 if accepted else 1


if __name__ == "__main__":
    sys.exit(main())
