"""
Does memguard itself stay flat? A guarded program that works for a quarter of an hour.

``python -m benchmarks.soak [--minutes 15]`` installs a guard with a detector, keeps one of each
container busy, and takes a reading every second. It fails where private memory grew by more than
2 MiB from the second tenth of the run to the last, where a thread or descriptor was left behind,
or where the guard took more than 0.5 % of a core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

import memguard
from benchmarks.record import machine, write
from memguard.observe.readings import read_memory

MOST_GROWTH_BYTES = 2 * 2**20
MOST_CPU_SHARE = 0.005
ROUND_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """What a run showed; bytes are of private memory, medians of a tenth of the run."""

    minutes: float
    rounds: int
    early_bytes: int
    late_bytes: int
    guard_cpu_share: float
    """Processor time of the threads of the guard and of the janitor, over wall time."""
    other_cpu_share: float
    """That of the threads that call this program's timers: they do its work."""
    leaks: int
    threads_left: tuple[str, ...]
    descriptors_left: int

    def faults(self) -> list[str]:
        """Return one line for each bound that did not hold."""
        found = []
        if self.late_bytes - self.early_bytes > MOST_GROWTH_BYTES:
            found.append(f"grew by {self.late_bytes - self.early_bytes:,} bytes")
        if self.guard_cpu_share > MOST_CPU_SHARE:
            found.append(f"memguard took {self.guard_cpu_share:.2%} of a core")
        if self.leaks:
            found.append(f"{self.leaks} leaks reported in a program that has none")
        if self.threads_left or self.descriptors_left > 0:
            found.append(f"left {self.threads_left} and {self.descriptors_left} descriptors")
        return found


class Work:
    """One of each container, each used in every round as a service would."""

    def __init__(self) -> None:
        self.cache = memguard.BoundedCache[int, bytes](1000, ttl=30)
        self.pool = memguard.ObjectPool(lambda: bytearray(1000), reset=None, maxsize=4)
        self.buffers = memguard.BufferPool([4096], maxbytes="1MiB")
        self.events = memguard.ListenerRegistry()
        self.timers = memguard.TimerRegistry()
        self.heard = 0

    def do(self, number: int) -> None:
        """Use each container once or a few hundred times."""
        for key in range(number % 500, number % 500 + 200):
            self.cache.get_or_load(key * 7 % 3000, lambda key: bytes(key % 500))
        with self.pool.lease() as pooled:
            pooled[0] = number % 256
        with self.buffers.lease(4096) as view:
            view[0] = number % 256
        with memguard.Scope() as scope:
            self.events.on("round", self._hear, owner=scope)
            self.events.emit("round", number)
        self.timers.after(0.01, self._hear, number)

    def _hear(self, _number: int) -> None:
        self.heard += 1

    def close(self) -> None:
        """End all of them."""
        for container in (self.timers, self.events, self.buffers, self.pool, self.cache):
            container.close()


def soak(minutes: float) -> Soak:
    """Work for *minutes* under a guard, and return what was left and what it cost."""
    descriptors = _descriptors()
    guard = memguard.install(interval=1.0)
    work = Work()
    levels: list[int] = []
    rounds = 0
    started = read_at = time.monotonic()
    while (now := time.monotonic()) - started < minutes * 60:
        work.do(rounds)
        rounds += 1
        if now - read_at >= 1.0:
            read_at = now
            levels.append(read_memory().private or 0)
        time.sleep(ROUND_SECONDS)
    seconds = time.monotonic() - started
    guard_cpu, other_cpu = _cpu_of_threads()
    leaks = len(guard.reports)
    work.close()
    memguard.uninstall()
    tenth = max(1, len(levels) // 10)
    return Soak(
        minutes=minutes,
        rounds=rounds,
        early_bytes=int(statistics.median(levels[tenth : 2 * tenth] or levels)),
        late_bytes=int(statistics.median(levels[-tenth:])),
        guard_cpu_share=guard_cpu / seconds,
        other_cpu_share=other_cpu / seconds,
        leaks=leaks,
        threads_left=_threads_left(),
        descriptors_left=_descriptors() - descriptors,
    )


def _cpu_of_threads() -> tuple[float, float]:
    """Return the seconds that the guard's threads have taken, and those of the timers."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent = {"timer": 0.0, "guard": 0.0}
    for thread in psutil.Process().threads():
        name = names.get(thread.id, "")
        if name.startswith("memguard-"):
            kind = "timer" if "timer" in name else "guard"
            spent[kind] += thread.user_time + thread.system_time
    return spent["guard"], spent["timer"]


def _threads_left(seconds: float = 10.0) -> tuple[str, ...]:
    """Return the names of our threads; those with nothing left to do have *seconds* to end."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("memguard-")]
    for thread in ours:
        thread.join(seconds)
    return tuple(thread.name for thread in ours if thread.is_alive())


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main(arguments: list[str] | None = None) -> int:
    """Run it, print and store what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    found = soak(parser.parse_args(arguments).minutes)
    for name, value in asdict(found).items():
        print(f"{name:18} {value}")
    print("wrote", write("soak", machine(), asdict(found)))
    for fault in found.faults():
        print("FAULT:", fault)
    return 1 if found.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
