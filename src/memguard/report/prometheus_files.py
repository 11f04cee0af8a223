"""
The files of one worker in the directory of the client's multiprocess mode.

They are files of our own, beside those of the worker's other metrics and in the same format: our
thread never holds the lock that the host's metrics take, and what we wrote we may take back. Gauges
are filed under the process, and written anew each time. Counters are filed under a slot that a
successor takes over, so that workers that are recycled do not make ever more files.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from memguard.errors import CapacityError, ConfigError
from memguard.report.identity import UNKNOWN, started
from memguard.report.prometheus_families import Family
from memguard.report.prometheus_rows import Pauses, Row, bound_label

try:
    import fcntl
except ImportError:  # not POSIX; said where files are opened
    fcntl = None  # type: ignore[assignment]  # reason: there is no such module there

MOST_SLOTS = 1024
"""Workers of one directory at the same time."""
_GAUGES = re.compile(
    r"gauge_live[a-z]+_(?P<pid>\d{1,10})\.db_memguard(?P<started>\d{1,20})-\d{1,4}\.(?:db|tmp)"
)


class WorkerFiles:
    """
    Write rows where ``MultiProcessCollector`` finds them.

    Bounded by: a file for each kind of gauge, two for the counters of its slot; ``MOST_SLOTS``
        slots.
    Locks: none; for one thread at a time. The slot is held by ``flock(2)``, which the kernel lets
        go when the process ends in whatever way.
    Keeps alive: numbers, and three open files.

    Raises:
        ConfigError: This system has no ``flock``.
        CapacityError: All slots are taken.
        OSError: The directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys: dict[tuple[str, ...], str] = {}
        self._counters: dict[str, Any] = {}
        self._totals: dict[str, float] = {}
        """What the file says, by key."""
        self._seen: dict[str, float] = {}
        """What the guard said the last time, by key."""
        pid = os.getpid()
        self._slot, self._holder = _claimed_slot(directory)
        # The collector takes for the pid what stands before ".db": parts[2][:-3] of the name.
        self._process = f"{pid}.db_memguard{started(pid) or UNKNOWN}-{self._slot}"

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
        gauges: dict[str, list[tuple[str, float]]] = {"liveall": [], "livesum": [], "livemax": []}
        for row in rows:
            family, labels, value = row
            if family.type == "gauge" and not isinstance(value, Pauses):
                key = self._key(family, family.name, tuple(labels.items()))
                gauges[family.across].append((key, float(value)))
                continue
            for key, kind, now in self._countable(row):
                self._count(key, kind, now)
        for across, found in gauges.items():
            self._replace(f"gauge_{across}_{self._process}", found)

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
        file = self._counters.get(kind)
        if file is None:
            path = self._directory / f"{kind}_memguard-{self._slot}.db"
            if not path.exists():
                self._make(path, [])
            file = self._counters[kind] = _opened(path)
        total = self._totals.get(key)
        if total is None:
            total = file.read_value(key)[0]  # what the slot's former holders counted
        total += max(0.0, now - self._seen.get(key, 0.0))
        file.write_value(key, total, 0.0)
        self._totals[key] = total
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

    def _replace(self, name: str, found: list[tuple[str, float]]) -> None:
        path = self._directory / f"{name}.db"
        if found:
            self._make(path, found)
        else:
            path.unlink(missing_ok=True)

    def _make(self, path: Path, found: Iterable[tuple[str, float]]) -> None:
        """Write a whole file and only then let it be seen: an empty one would fail a scrape."""
        draft = path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        file = _opened(draft)
        try:
            for key, value in found:
                file.write_value(key, value, 0.0)
        finally:
            file.close()
        draft.replace(path)

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

    def reopen(self) -> None:
        """Let go of the counters' files after a failure; the next write opens them anew."""
        files, self._counters, self._totals = self._counters, {}, {}
        for file in files.values():
            with contextlib.suppress(Exception):
                file.close()

    def close(self) -> None:
        """Take the gauges back, and leave the counters to a successor."""
        self.reopen()
        for path in self._directory.glob(f"gauge_live*_{self._process}.*"):
            path.unlink(missing_ok=True)
        self._let_go()

    def abandon(self) -> None:
        """Let go of everything and change nothing: in a forked child it is the parent's."""
        self.reopen()
        self._let_go()

    def _let_go(self) -> None:
        holder, self._holder = self._holder, -1
        if holder >= 0:
            os.close(holder)


def _opened(path: Path) -> Any:
    return MmapedDict(str(path))  # type: ignore[no-untyped-call]  # reason: theirs is untyped


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
