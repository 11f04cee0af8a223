"""Run the workload under a real limit: a memory control group, or else a bound on address space."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memguard.observe import read_limit

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run ended."""

    mode: str
    seconds: float
    ending: str
    """``exit 0``, ``SIGKILL``, …"""
    result: dict[str, Any] | None
    """What it printed; None when it did not finish."""
    curve: tuple[tuple[float, int], ...]
    """(seconds, bytes) of resident memory, seen from outside."""
    log: str


@contextlib.contextmanager
def group(limit: int) -> Iterator[Path | None]:
    """Yield a memory group with *limit* below our own, or None where none can be made."""
    own = [found for found in read_limit().groups if found.version == 1]
    path = None
    if own:
        path = Path(own[0].directories[0], f"memguard-{os.getpid()}-{time.monotonic_ns()}")
        try:
            path.mkdir()
            (path / "memory.limit_in_bytes").write_text(str(limit), "ascii")
        except OSError:
            with contextlib.suppress(OSError):
                path.rmdir()
            path = None
    try:
        yield path
    finally:
        # The kernel lets go of a dead process's group a moment after its parent hears.
        deadline = time.monotonic() + 10
        while path is not None and path.is_dir() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                path.rmdir()
            time.sleep(0.02)


def contest(modes: Sequence[str], *, limit: int, requests: int) -> list[Outcome]:
    """Run each of *modes* in a group of its own."""
    outcomes = []
    for mode in modes:
        with group(limit) as path:
            outcomes.append(run(mode, limit=limit, requests=requests, path=path))
    return outcomes


def run(mode: str, *, limit: int, requests: int, path: Path | None) -> Outcome:
    """Run the workload once, and watch its resident memory from outside."""
    command = [sys.executable, "-m", "examples.survival.workload", mode]
    command += [f"--limit={limit}", f"--requests={requests}"]
    command.append("--rlimit" if path is None else f"--group={path}")
    began = time.monotonic()
    curve = []
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            size = resident(process.pid)
            if size is not None:
                curve.append((round(time.monotonic() - began, 3), size))
            time.sleep(0.02)
        output, log = process.communicate()
    code = process.returncode
    return Outcome(
        mode=mode,
        seconds=time.monotonic() - began,
        ending=signal.Signals(-code).name if code < 0 else f"exit {code}",
        result=json.loads(output) if code == 0 else None,
        curve=tuple(curve),
        log=log,
    )


def resident(pid: int) -> int | None:
    """Return the resident memory of process *pid*, bytes; None when it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text("ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
