"""
What importing costs: memguard, beside what it builds on and what is used for similar ends.

``python -m benchmarks.imports`` starts all programs in each round, in another order, and prints
a table with processor time and resident memory of whole processes. It writes it, with machine,
Python and date, to ``benchmarks/results/``. The bounds that the house promises: ``import memguard``
costs at most 1.2 times a bare interpreter, ``from memguard import BoundedCache`` at most 1.3 times
``import cachetools, psutil``; the exit code says whether they held.

Linux only: resident memory is read from ``/proc``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.record import machine, write

BARE = "pass"
PEERS = "import cachetools, psutil"
# A session of pytest without tests, with the plugins named and no others.
PYTEST = "import pytest; pytest.main(['--quiet', '--collect-only', '-p', 'no:cacheprovider', {}])"
PLUGIN = "'-p', 'memguard.integrations.testing.plugin'"

PROGRAMS = {
    "a bare interpreter": BARE,
    "import memguard": "import memguard",
    "from memguard import BoundedCache": "from memguard import BoundedCache",
    "from memguard import cached": "from memguard import cached",
    "from memguard import LeakDetector": "from memguard import LeakDetector",
    "from memguard import install": "from memguard import install",
    "import cachetools, psutil": PEERS,
    "import structlog": "import structlog",
    "import sentry_sdk": "import sentry_sdk",
    "pytest": PYTEST.format(""),
    "pytest, the plugin installed": PYTEST.format(PLUGIN),
}
BASES = {
    "from memguard import BoundedCache": "import cachetools, psutil",
    "pytest, the plugin installed": "pytest",
}
"""What a program is compared with; with the bare interpreter where it is not named here."""
PROMISED = {"import memguard": 1.2, "from memguard import BoundedCache": 1.3}
SAY_RESIDENT = "\nimport sys\nprint(open('/proc/self/statm').read().split()[1], file=sys.stderr)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one program: a whole process, from its start to its end."""

    program: str
    milliseconds: float
    """Processor time, the median."""
    mebibytes: float
    """Resident memory at the end, the median."""
    base: str
    time_ratio: float
    """To the base of the same round, the median."""
    memory_ratio: float


def run(program: str, folder: str) -> tuple[float, float]:
    """Return processor seconds and resident bytes of a process that runs *program*."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", program + SAY_RESIDENT],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert process.stderr is not None  # noqa: S101 - reason: it is a pipe, by the call above
    said = process.stderr.read().split()
    _, status, usage = os.wait4(process.pid, 0)
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{program!r} failed: {b' '.join(said).decode()}")
    return usage.ru_utime + usage.ru_stime, int(said[-1]) * os.sysconf("SC_PAGE_SIZE")


def measure(rounds: int, programs: dict[str, str]) -> list[Cost]:
    """Return what each of *programs* costs, in *rounds* that each run all of them."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        for name, program in programs.items():  # compiles what is not compiled yet
            run(program, folder)
            print(f"  {name}", file=sys.stderr)
        for _ in range(rounds):
            for name in random.sample(list(programs), len(programs)):
                spent[name].append(run(programs[name], folder))

    costs = []
    for name, own in spent.items():
        base = BASES.get(name, "a bare interpreter")
        pairs = list(zip(own, spent[base], strict=True))  # of the same round
        costs.append(
            Cost(
                program=name,
                milliseconds=round(1000 * statistics.median(time for time, _ in own), 1),
                mebibytes=round(statistics.median(size for _, size in own) / 1024**2, 1),
                base=base,
                time_ratio=round(statistics.median(mine[0] / its[0] for mine, its in pairs), 2),
                memory_ratio=round(statistics.median(mine[1] / its[1] for mine, its in pairs), 2),
            )
        )
    return costs


def is_installed(program: str) -> bool:
    """Return whether the first module that *program* imports is there."""
    words = program.replace(";", " ").replace(",", " ").split()
    return words[0] == "pass" or importlib.util.find_spec(words[1]) is not None


def main() -> int:
    """Measure, print, write; 1 where an import costs more than promised."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=40, help="processes a program (default 40)")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    options = parser.parse_args()
    if options.rounds < 5:
        parser.error(f"--rounds must be >= 5 (got {options.rounds})")
    programs = {name: program for name, program in PROGRAMS.items() if is_installed(program)}
    costs = measure(options.rounds, programs)
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    print("| process | time | memory | beside | time | memory |\n|---|---:|---:|---|---:|---:|")
    for cost in costs:
        own = f"| `{cost.program}` | {cost.milliseconds} ms | {cost.mebibytes} MiB "
        print(f"{own}| {cost.base} | {cost.time_ratio} | {cost.memory_ratio} |")
    broken = [
        cost.program
        for cost in costs
        if max(cost.time_ratio, cost.memory_ratio) > PROMISED.get(cost.program, float("inf"))
    ]
    result = {"promised": PROMISED, "broken": broken, "costs": [asdict(cost) for cost in costs]}
    write("imports", about, result, options.output)
    print("more than promised: " + (", ".join(broken) or "nothing"))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
