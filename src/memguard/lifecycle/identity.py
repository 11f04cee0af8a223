"""Is it still the same process? Its ID does not prove that, because IDs are reused."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

UNKNOWN = 0


def started(pid: int, *, proc: str = "/proc") -> int | None:
    """
    Return when process *pid* was started, as a number to compare with an earlier answer.

    Clock ticks since boot on Linux, which no change of the clock moves (proc_pid_stat(5),
    ``starttime``); elsewhere seconds since the epoch.

    Thread-safe; cost: 20 µs.

    Returns:
        The number; None if there is no such process, or it has ended and waits to be reaped
        by its parent; `UNKNOWN` if it exists but its start is unknown.
    """
    try:
        text = (Path(proc) / str(pid) / "stat").read_bytes()
        # The name of the command, which may hold anything, stands before the last parenthesis.
        state, *fields = text.rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else int(fields[18])
    except FileNotFoundError:
        if (Path(proc) / "self" / "stat").exists():
            return None
    except (OSError, ValueError, IndexError):
        pass
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError, OverflowError, ValueError):
        return UNKNOWN


def is_running(pid: int, since: int) -> bool:
    """Return True while there is a process *pid* that, as far as is known, started at *since*."""
    now = started(pid)
    return now is not None and (now == since or UNKNOWN in (now, since))


def owner(pid: int) -> int | None:
    """Return the effective user of process *pid*; None if it or its user is unknown."""
    try:
        return int(psutil.Process(pid).uids().effective) if os.name == "posix" else None
    except (psutil.Error, OSError, OverflowError, ValueError):
        return None
