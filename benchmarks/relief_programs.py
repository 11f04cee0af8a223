"""
Eight programs that cache or queue what data and ML programs do, under real limits.

``python -m benchmarks.relief_programs`` runs each *bare*, *tuned* by hand and *guarded*, in a
memory control group of its own, and prints and writes, with machine, Python and date, to
``benchmarks/results/``: how each ended, its operations and hits, the longest standstill of its
other threads, and what containers claimed beside what the process really freed. The exit code says
whether the bounds of the house held: bare is killed, guarded never; operations and hits 0.9 of the
tuned ones, no standstill above 50 ms, claimed ÷ freed within 0.5 to 2.

Needs Linux, root, and the libraries of the programs; one that is missing is left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import queue
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import machine, write
from examples.survival.contest import group

MIB = 1024**2
LEAST_SHARE = 0.9
MOST_STANDSTILL_MS = 50.0
CLAIMED = (0.5, 2.0)
MODES = ("bare", "tuned", "guarded")


# -- what runs under the limit --------------------------------------------------------------------


class Heartbeat:
    """A thread that wants to run each 5 ms, and knows by how much it was late at most."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.is_set():
            began = time.perf_counter()
            time.sleep(0.005)
            self.worst = max(self.worst, time.perf_counter() - began - 0.005)

    def stop(self) -> float:
        """End it, and return the seconds that it was late at most."""
        self._ended.set()
        self._thread.join()
        return self.worst


class Bytes:
    """A cache that is bounded by hand: by what its author has measured one value to weigh."""

    def __init__(self, most: float, weight: int) -> None:
        self._most = most / weight
        self._rows: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """Return a value, or None."""
        value = self._rows.get(key)
        if value is not None:
            self._rows.move_to_end(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._rows[key] = value
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)


def cached(
    mode: str,
    seconds: float,
    *,
    limit: int,
    keys: int,
    weight: int,
    load: Callable[[int], Any],
    use: Callable[[Any], Any],
    extra: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Ask for keys, some far more often than others; load and keep what is missing."""
    chance = random.Random(7)  # noqa: S311 - reason: no secret
    cache: Any
    if mode == "bare":
        cache = {}
    elif mode == "tuned":
        cache = Bytes(limit * 0.55, weight)
    else:
        from memguard import BoundedCache  # noqa: PLC0415 - reason: bare programs have none

        cache = BoundedCache(maxbytes="100GiB", name="benchmark")
    done = hits = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        key = int(keys * chance.random() ** 3)
        value = cache.get(key)
        if value is None:
            value = cache[key] = load(key)
        else:
            hits += 1
        use(value)
        if extra is not None and done % 50 == 49:
            extra()
        done += 1
    return {"operations": done, "hits": hits}


def images(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """Pictures, decoded and made smaller."""
    image: Any = importlib.import_module("PIL.Image")

    def load(key: int) -> Any:
        return image.new("RGB", (640, 480), (key % 256, 0, 0)).resize((600, 450))

    def use(picture: Any) -> Any:
        return picture.getpixel((1, 1))

    return cached(mode, seconds, limit=limit, keys=3000, weight=830_000, load=load, use=use)


def arrays(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """Views of numpy arrays."""
    np: Any = importlib.import_module("numpy")

    rng = np.random.default_rng(1)

    def load(_key: int) -> Any:
        return np.sort(rng.random(120_000)).reshape(300, 400)[10:]  # a view: its owner is kept

    return cached(
        mode, seconds, limit=limit, keys=3000, weight=960_000, load=load, use=lambda a: a[0].sum()
    )


def frames(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """DataFrames with a column of text."""
    np: Any = importlib.import_module("numpy")
    pd: Any = importlib.import_module("pandas")

    names = np.array([f"customer number {number:08}" for number in range(20_000)])
    rng = np.random.default_rng(1)

    def load(_key: int) -> Any:
        return pd.DataFrame({"amount": rng.random(20_000), "name": rng.permutation(names)})

    return cached(
        mode,
        seconds,
        limit=limit,
        keys=1500,
        weight=900_000,
        load=load,
        use=lambda f: f["amount"].sum(),
    )


def trees(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """Trees of lxml, which tells nobody what they weigh."""
    etree: Any = importlib.import_module("lxml.etree")

    text = b"<r>" + b"<a><b>x</b></a>" * 3000 + b"</r>"
    return cached(
        mode,
        seconds,
        limit=limit,
        keys=4000,
        weight=1_200_000,
        load=lambda _key: etree.fromstring(text),
        use=lambda tree: tree[0].tag,
    )


def bursts(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """Arrays in a cache, and every now and then 80 MiB of work."""
    np: Any = importlib.import_module("numpy")

    rng = np.random.default_rng(1)

    def burst() -> None:
        if mode == "guarded":
            import memguard  # noqa: PLC0415 - reason: a bare program has none

            with memguard.install().admit(80 * MIB, wait=5.0):
                np.ones(80 * MIB // 8).sum()
        else:
            np.ones(80 * MIB // 8).sum()

    return cached(
        mode,
        seconds,
        limit=limit,
        keys=3000,
        weight=960_000,
        load=lambda _key: np.sort(rng.random(120_000)),
        use=lambda array: array[0],
        extra=burst,
    )


def etl(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """Sums by key, written out when there are too many; each writing costs."""
    sums: dict[int, list[float]] = {}
    flushes = [0]

    with tempfile.TemporaryFile("w") as out:

        def flush() -> int:
            rows = len(sums)
            json.dump([len(row) for row in sums.values()], out)
            sums.clear()
            flushes[0] += 1
            return rows * 300

        wanted = threading.Event()
        if mode == "guarded":
            import memguard  # noqa: PLC0415 - reason: a bare program has none

            memguard.on_pressure(
                wanted.set, stage="cheap"
            )  # written by the thread whose data they are
        most = limit * 0.55 / 330
        done = 0
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for _ in range(1000):
                sums.setdefault(done * 7919 % 100_000_007, []).append(float(done))
                done += 1
            if (mode == "tuned" and len(sums) > most) or wanted.is_set():
                flush()
                wanted.clear()
    return {"operations": done, "hits": 0, "flushes": flushes[0]}


def tensors(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """A loader of tensors that is faster than the training."""
    torch: Any = importlib.import_module("torch")

    torch.set_num_threads(1)
    # Torch itself takes a third of the limit.
    most = int(limit * 0.3)
    return queued(mode, seconds, most=most, make=lambda: torch.ones(500_000), weight=2_000_000)


def queued(
    mode: str, seconds: float, *, most: int, make: Callable[[], Any], weight: int
) -> dict[str, Any]:
    """Make items in a thread, and work on them in another that is slower."""
    waiting: Any
    if mode == "guarded":
        from memguard import BoundedQueue  # noqa: PLC0415 - reason: a bare program has none

        waiting = BoundedQueue(maxbytes=most, name="benchmark")
    else:
        waiting = queue.Queue(0 if mode == "bare" else most // weight)
    ends = time.monotonic() + seconds

    def produce() -> None:
        while time.monotonic() < ends:
            waiting.put(make())
        waiting.put(None)

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    done = 0
    while (item := waiting.get()) is not None:
        item.sum()
        time.sleep(0.004)
        done += 1
        if time.monotonic() > ends:
            break
    return {"operations": done, "hits": 0}


def backlog(mode: str, seconds: float, limit: int) -> dict[str, Any]:
    """An asyncio service that takes messages faster than it writes them."""

    async def main() -> int:
        waiting: Any
        if mode == "guarded":
            from memguard import BoundedQueue  # noqa: PLC0415 - reason: a bare program has none

            waiting = BoundedQueue(maxbytes=limit // 2, name="benchmark")
            put, get = waiting.aput, waiting.aget
        else:
            waiting = asyncio.Queue(0 if mode == "bare" else int(limit * 0.5 / 100_000))
            put, get = waiting.put, waiting.get
        ends = time.monotonic() + seconds

        async def produce() -> None:
            while time.monotonic() < ends:
                await put(os.urandom(100_000))
                await asyncio.sleep(0)

        task = asyncio.ensure_future(produce())
        done = 0
        while time.monotonic() < ends:
            await get()
            await asyncio.sleep(0.001)
            done += 1
        task.cancel()
        return done

    return {"operations": asyncio.run(main()), "hits": 0}


@dataclass(frozen=True, slots=True)
class Program:
    """One of the eight, and its limit."""

    run: Callable[[str, float, int], dict[str, Any]]
    limit: int
    needs: tuple[str, ...] = ()


PROGRAMS = {
    "images": Program(images, 400 * MIB, ("PIL",)),
    "arrays": Program(arrays, 500 * MIB, ("numpy",)),
    "frames": Program(frames, 500 * MIB, ("pandas", "numpy")),
    "etl": Program(etl, 300 * MIB),
    "tensors": Program(tensors, 700 * MIB, ("torch",)),
    "trees": Program(trees, 300 * MIB, ("lxml",)),
    "bursts": Program(bursts, 500 * MIB, ("numpy",)),
    "backlog": Program(backlog, 300 * MIB),
}


def inside(name: str, mode: str, seconds: float) -> None:
    """Be one program, in the group that the parent has put this process into."""
    program = PROGRAMS[name]
    for needed in program.needs:
        importlib.import_module(needed)  # holds the interpreter for long, in every mode
    if mode == "guarded":
        import memguard  # noqa: PLC0415 - reason: a bare program has none

        memguard.install(leaks=False)
    heartbeat = Heartbeat()
    found = program.run(mode, seconds, program.limit)
    found["standstill_ms"] = round(heartbeat.stop() * 1000, 1)
    if mode == "guarded":
        status = memguard.status()
        if (relief := status.relief) is not None:
            found |= {"runs": relief.runs, "claimed": relief.claimed, "freed": relief.real}
        found["cpu"] = round(status.monitor.cpu_seconds / seconds, 5)
    print(json.dumps(found), flush=True)
    os._exit(0)  # what is left in queues is of no interest


# -- what judges ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run ended."""

    program: str
    mode: str
    ending: str
    found: dict[str, Any]
    log: str


def run(name: str, mode: str, seconds: float) -> Outcome:
    """Run one program in a group of its own."""
    command = [sys.executable, "-m", "benchmarks.relief_programs", "--inside", name, mode]
    with group(PROGRAMS[name].limit) as path:
        if path is None:
            raise SystemExit("no memory group can be made here (version 1, as root)")
        place = path / "cgroup.procs"

        def join() -> None:
            place.write_text(str(os.getpid()))

        done = subprocess.run(
            [*command, f"--seconds={seconds}"],
            preexec_fn=join,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds * 4 + 60,
        )
    code = done.returncode
    return Outcome(
        program=name,
        mode=mode,
        ending=signal.Signals(-code).name if code < 0 else f"exit {code}",
        found=json.loads(done.stdout.splitlines()[-1]) if code == 0 else {},
        log=done.stderr[-2000:],
    )


def median(rows: list[Outcome], what: Callable[[dict[str, Any]], float]) -> float:
    """Return the median of a figure."""
    return statistics.median(what(row.found) for row in rows)


def compared(tuned: list[Outcome], guarded: list[Outcome]) -> dict[str, Any]:
    """Return the figures of guarded runs, those that are ratios beside the ones tuned by hand."""

    def operations(found: dict[str, Any]) -> float:
        return float(found["operations"])

    def hits(found: dict[str, Any]) -> float:
        return float(found["hits"] / found["operations"])

    figures: dict[str, Any] = {
        "operations": round(median(guarded, operations) / median(tuned, operations), 3)
    }
    if hand := median(tuned, hits):
        figures["hits"] = round(median(guarded, hits) / hand, 3)
    figures["standstill_ms_of_tuned"] = max(row.found["standstill_ms"] for row in tuned)
    for name, most in (("standstill_ms", max), ("runs", sum), ("claimed", sum), ("freed", sum)):
        figures[name] = most(row.found[name] for row in guarded)
    if figures["claimed"] and figures["freed"] > 0:
        figures["claimed_over_freed"] = round(figures["claimed"] / figures["freed"], 2)
    figures["monitor_core_share"] = median(guarded, lambda found: float(found["cpu"]))
    return figures


def judged(name: str, outcomes: list[Outcome]) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of a program, and what is out of bounds."""
    bare, tuned, guarded = ([row for row in outcomes if row.mode == mode] for mode in MODES)
    survived = [row for row in guarded if row.found]
    figures: dict[str, Any] = {
        "program": name,
        "limit": PROGRAMS[name].limit,
        "bare": [row.ending for row in bare],
        "survived": f"{len(survived)} of {len(guarded)}",
    }
    wrong = []
    if any(row.ending != "SIGKILL" for row in bare):
        wrong.append("bare was not killed")
    if len(survived) < len(guarded):
        wrong.append(f"guarded survived {figures['survived']}")
    if not survived or not all(row.found for row in tuned):
        return figures, [*wrong, "nothing to compare"]
    figures |= compared(tuned, survived)
    low, high = CLAIMED
    for figure, least, most in (
        ("operations", LEAST_SHARE, float("inf")),
        ("hits", LEAST_SHARE, float("inf")),
        ("standstill_ms", 0.0, MOST_STANDSTILL_MS),
        ("claimed_over_freed", low, high),
    ):
        if figure in figures and not least <= figures[figure] <= most:
            wrong.append(f"{figure} is {figures[figure]}")
    return figures, wrong


def main() -> int:
    """Run all, and say what is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", nargs=2, metavar=("PROGRAM", "MODE"))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--times", type=int, default=10, help="guarded runs of each program")
    parser.add_argument("--only", nargs="*", choices=sorted(PROGRAMS), default=sorted(PROGRAMS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside[0], options.inside[1], options.seconds)
    rows, bad, missing = [], [], []
    for name in options.only:
        absent = [each for each in PROGRAMS[name].needs if importlib.util.find_spec(each) is None]
        if absent:
            missing.append(f"{name} (needs {', '.join(absent)})")
            continue
        modes = ["bare"] + ["tuned"] * min(3, options.times) + ["guarded"] * options.times
        random.Random(1).shuffle(modes)  # noqa: S311 - reason: no secret
        outcomes = [run(name, mode, options.seconds) for mode in modes]
        figures, wrong = judged(name, outcomes)
        rows.append(figures)
        bad += [f"{name}: {each}" for each in wrong]
        print(json.dumps(figures), *(f"\n  OUT OF BOUNDS: {each}" for each in wrong), flush=True)
        for outcome in outcomes:
            if outcome.mode == "guarded" and outcome.ending != "exit 0":
                print(f"  guarded {outcome.ending}: {outcome.log[-600:]}", flush=True)
    about = machine()
    file = write(
        "relief_programs",
        about,
        {"programs": rows, "out_of_bounds": bad, "left_out": missing},
        options.output,
    )
    print(f"left out: {', '.join(missing) or 'none'}; written to {file.name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
