"""
The files of one worker in the directory of the client's multiprocess mode.

They are files of our own, beside those of the worker's other metrics and in the same format: our
thread never holds the lock that the host's metrics take, and what we wrote we may take back. Gauges
are filed under the process. Counters are filed under a slot that a successor takes over, so that
workers that are recycled do not make ever more files.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from memguard.errors import CapacityError, ConfigError
from memguard.lifecycle.identity import UNKNOWN, started
from memguard.report.metrics.prometheus.families import Family
from memguard.report.metrics.prometheus.rows import Pauses, Row, bound_label

try:
    import fcntl
except ImportError:  # not POSIX; said where files are opened
    fcntl = None  # type: ignore[assignment]  # reason: there is no such module there

MOST_SLOTS = 1024
"""Workers of one directory at the same time."""
MOST_COUNTERS = 4000
_BLOCK = 4096
_GAUGES = re.compile(
    r"gauge_live[a-z]+_(?P<pid>\d{1,10})\.db_memguard(?P<started>\d{1,20})-\d{1,4}\.(?:db|tmp)"
)


class WorkerFiles:
    """
    Write rows where ``MultiProcessCollector`` finds them.

    Every file is written whole and then renamed over the earlier one, so that a scrape never sees
    half of it; and its blocks are there before it is mapped, so that a full disk is an error and
    not the end of the process (a write to a mapped hole raises SIGBUS, ``mmap(2)``).

    Bounded by: a file for each kind of gauge, two for the counters of its slot, ``MOST_COUNTERS``
        in each of these; ``MOST_SLOTS`` slots.
    Locks: none; for one thread at a time. The slot is held by ``flock(2)``, which the kernel lets
        go when the process ends in whatever way.
    Keeps alive: numbers and names; no file stays open but the slot's.

    Raises:
        ConfigError: This system has no ``flock``.
        CapacityError: All slots are taken.
        OSError: The directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys: dict[tuple[str, ...], str] = {}
        pid = os.getpid()
        self._slot, self._holder = _claimed_slot(directory)
        # The collector takes for the pid what stands before ".db": parts[2][:-3] of the name.
        self._process = f"{pid}.db_memguard{started(pid) or UNKNOWN}-{self._slot}"
        self._totals = {kind: self._left_by_others(kind) for kind in ("counter", "histogram")}
        """What a file says, by key."""
        self._seen: dict[str, float] = {}
        """What the guard said the last time, by key."""
        self.dropped = 0
        """Counters left out, again at each write, because a file had too many."""

    def _left_by_others(self, kind: str) -> dict[str, float]:
        """Return what the former holders of the slot counted."""
        try:
            found = MmapedDict.read_all_values_from_file(str(self._counters(kind)))  # type: ignore[no-untyped-call]  # reason: theirs is untyped
            return {key: value for key, value, *_ in found}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RuntimeError, struct.error):
            return {}  # written by nobody we know

    def _counters(self, kind: str) -> Path:
        return self._directory / f"{kind}_memguard-{self._slot}.db"

    def begin(self, rows: Iterable[Row]) -> None:
        """Count from *rows* on: what came before was counted in another process, or not at all."""
        for row in rows:
            for key, _, value in self._countable(row):
                self._seen[key] = value

    def write(self, rows: Iterable[Row]) -> None:
        """
        Let counters go on to *rows*, and put their gauges in the place of the earlier ones.

        Raises:
            OSError: The directory cannot be written.
        """
        gauges: dict[str, dict[str, float]] = {"liveall": {}, "livesum": {}, "livemax": {}}
        self.dropped = 0
        for row in rows:
            family, labels, value = row
            if family.type == "gauge" and not isinstance(value, Pauses):
                key = self._key(family, family.name, tuple(labels.items()))
                gauges[family.across][key] = float(value)
                continue
            for key, kind, now in self._countable(row):
                self._count(key, kind, now)
        for across, found in gauges.items():
            path = self._directory / f"gauge_{across}_{self._process}.db"
            if found:
                _replace(path, found)
            else:
                path.unlink(missing_ok=True)
        for kind, totals in self._totals.items():
            _replace(self._counters(kind), totals)

    def _countable(self, row: Row) -> Iterable[tuple[str, str, float]]:
        """Yield (key, kind of file, value) of what only grows in *row*."""
        family, labels, value = row
        pairs = tuple(labels.items())
        if isinstance(value, Pauses):
            for bound, count in value.buckets:
                bucket = (*pairs, ("le", bound_label(bound)))
                yield self._key(family, f"{family.name}_bucket", bucket), "histogram", count
            yield self._key(family, f"{family.name}_sum", pairs), "histogram", value.total
        elif family.type == "counter":
            yield self._key(family, family.name, pairs), "counter", value

    def _count(self, key: str, kind: str, now: float) -> None:
        totals = self._totals[kind]
        total = totals.get(key)
        if total is None and len(totals) >= MOST_COUNTERS:
            self.dropped += 1  # each of many former holders had containers of other names
            return
        totals[key] = (total or 0.0) + max(0.0, now - self._seen.get(key, 0.0))
        self._seen[key] = now

    def _key(self, family: Family, sample: str, labels: tuple[tuple[str, str], ...]) -> str:
        """Return what the client files a sample under; kept, for making it costs the most."""
        known = (sample, *(value for _, value in labels))
        key = self._keys.get(known)
        if key is None:
            key = self._keys[known] = mmap_key(
                family.name.removesuffix("_total"),
                sample,
                [name for name, _ in labels],
                [value for _, value in labels],
                family.help,
            )
        return key

    def remove_dead(self) -> None:
        """Remove the gauges of processes that are no more."""
        for entry in os.scandir(self._directory):
            found = _GAUGES.fullmatch(entry.name)
            if found is None or self._process in entry.name:
                continue
            now, then = started(int(found["pid"])), int(found["started"])
            # The number of a dead process may have been given to another one.
            if now is None or (now != then and UNKNOWN not in (now, then)):
                Path(entry.path).unlink(missing_ok=True)

    def close(self) -> None:
        """Take the gauges back, and leave the counters to a successor."""
        try:
            for path in self._directory.glob(f"gauge_live*_{self._process}.*"):
                path.unlink(missing_ok=True)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the slot and change nothing: in a forked child it is the parent's."""
        holder, self._holder = self._holder, -1
        if holder >= 0:
            os.close(holder)


def _replace(path: Path, found: Mapping[str, float]) -> None:
    """Write a whole file and only then let it be seen."""
    draft = path.with_suffix(".tmp")
    # Length, key, padding and two doubles for each; what is mapped must be there already.
    size = 8 + sum(len(key.encode()) + 32 for key in found)
    draft.write_bytes(bytes(-(-size // _BLOCK) * _BLOCK))
    file: Any = MmapedDict(str(draft))  # type: ignore[no-untyped-call]  # reason: theirs is untyped
    try:
        for key, value in found.items():
            file.write_value(key, value, 0.0)
    finally:
        file.close()
    draft.replace(path)


def _claimed_slot(directory: Path) -> tuple[int, int]:
    """Return the first slot that no living process holds, and the descriptor that holds it."""
    if fcntl is None:
        raise ConfigError("a MultiprocessBridge needs flock, which this system does not have")
    for slot in range(MOST_SLOTS):
        # Closed in whatever a worker executes; a forked child closes its copy (see abandon).
        holder = os.open(directory / f"memguard-{slot}.slot", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(holder)
        except OSError:
            os.close(holder)
            raise
        else:
            return slot, holder
    raise CapacityError(f"all {MOST_SLOTS} slots of {directory} are taken by living processes")
