"""Measure in fresh processes: where objects come to lie in memory is luck, and each has its own."""

from __future__ import annotations

import json
import subprocess
import sys


def measure_elsewhere(module: str, rounds: int) -> dict[str, float]:
    """Return what ``python -m MODULE --inner`` prints: nanoseconds of each contestant."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--inner", "--rounds", str(rounds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    best: dict[str, float] = json.loads(done.stdout)
    return best
