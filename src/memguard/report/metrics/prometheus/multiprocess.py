"""
`MultiprocessBridge`: the metrics of a guard for servers of several processes, such as gunicorn.

Whichever worker is scraped must answer for all of them, and in the multiprocess mode of
``prometheus_client`` it can only do so with what is in the files of ``PROMETHEUS_MULTIPROC_DIR``:
collectors are not asked. So each worker writes its own there, every few seconds.

Needs the package ``prometheus-client`` (extra ``prometheus``).
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from memguard.bounded.options import check_seconds
from memguard.errors import CapacityError, ConfigError, LifecycleError
from memguard.extras import missing
from memguard.lifecycle.at_exit import not_at_exit, stop_at_exit
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.identity import UNKNOWN, is_running, started
from memguard.lifecycle.service import Service
from memguard.lifecycle.ticker import Ticker
from memguard.lifecycle.turn import Turn
from memguard.report.metrics.metric import Metric, Pauses, bound_label
from memguard.report.metrics.prometheus.gatherer import Gatherer, Table
from memguard.report.state import Guarded

try:
    from prometheus_client.mmap_dict import MmapedDict, mmap_key
except ImportError as error:
    raise missing("prometheus-client", "prometheus") from error
try:
    import fcntl
except ImportError:  # not POSIX; said where files are opened
    fcntl = None  # type: ignore[assignment]  # reason: there is no such module there

__all__ = ["MultiprocessBridge"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MOST_SLOTS = 1024
"""Workers of one directory at the same time."""
MOST_COUNTERS = 4000
_BLOCK = 4096
_GAUGES = re.compile(
    r"gauge_live[a-z]+_(?P<pid>\d{1,10})\.db_memguard(?P<started>\d{1,20})-\d{1,4}\.(?:db|tmp)"
)


class MultiprocessBridge(Service):
    """
    Write what guards know into the files of the client's multiprocess mode, again and again.

    ``MultiProcessCollector`` of the client then shows it with everything else. Counters are summed
    over all workers, dead ones too. Gauges are one for each worker (label ``pid``), or the sum or
    the highest of those that live; what a dead worker said is removed by the next bridge that
    looks. The names are those of `MemguardCollector`.

    Start it in the worker, after the fork (gunicorn: in ``post_worker_init``): it counts from then
    on.

    Bounded by: *max_containers* pairs of name and kind of containers; three files for each kind of
        gauge, and one pair for each worker that lives at the same time.
    Locks: one that only `stop` waits for; guards and containers are read outside of it.
    Keeps alive: its guards.

    Thread-safe. In a forked child it is stopped, and writes nothing until it is started there.

    Args:
        guard: The guard whose metrics these are.
        more: Other guards of this process; each has a name of its own.
        interval: Seconds between two writes, 0.1 to 3600.
        max_containers: Pairs of name and kind of containers that get labels of their own; the rest
            is summed as ``container="other"``. All workers together may have as many each.
        containers: Names of containers that get labels before all others.
        directory: Where the files go; None takes ``PROMETHEUS_MULTIPROC_DIR``.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of range, two guards have the same name, or there is no directory.
        MissingExtraError: At import: ``prometheus-client`` is not installed.
    """

    def __init__(
        self,
        guard: Guarded,
        *more: Guarded,
        interval: float | str = 5.0,
        max_containers: int = 25,
        containers: Collection[str] = (),
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self.interval = check_seconds(interval, "interval", 0.1, 3600)
        """Seconds between two writes."""
        self._gatherer = Gatherer(
            (guard, *more), max_containers=max_containers, containers=containers
        )
        self._directory = _checked(directory)
        self._name = guard.name
        self._failures = Failures("prometheus.failed")
        self._files: WorkerFiles | None = None
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Be stopped, and forget the files of the parent: also in a forked child."""
        self._gatherer.reset()
        self._turn = Turn()
        self._ticker: Ticker | None = None
        self._dropped = 0
        if self._files is not None:
            self._files.abandon()
            self._files = None

    def start(self) -> Self:
        """
        Write once, start the thread that goes on writing, and return the bridge.

        Raises:
            LifecycleError: It is running already.
        """
        check()
        if self._ticker is not None:
            raise LifecycleError("this bridge is already started; call stop() first")
        stop_at_exit(self, 2.0)  # before that of the thread, which therefore ends first
        self._ticker = Ticker(_Beat(self), f"memguard-prometheus-{self._name}")
        self.tick()
        try:
            self._ticker.start()
        except RuntimeError:  # no thread can be started
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """
        Write the counters a last time, take the gauges back, and end the thread. Idempotent.

        Args:
            timeout: Seconds to wait for a write that is under way.

        Returns:
            True when the thread has ended.
        """
        check()
        ticker, self._ticker = self._ticker, None
        if ticker is None:
            return True
        not_at_exit(self)
        ended = ticker.stop(timeout)
        # If what a write of this thread calls stops it, that write is the last one.
        self._note(self._turn.run(self._write, busy=None, timeout=timeout))
        return ended

    @property
    def errors(self) -> int:
        """Writes that failed; each kind was logged once."""
        return self._failures.count

    @property
    def dropped(self) -> int:
        """Counters that the last write left out: earlier workers had left too many."""
        return self._dropped

    def tick(self) -> float:
        """
        Write what is known now, if it is started, and return the seconds until the next time.

        Raises nothing; a tick during another one does nothing. Cost: what a scrape costs, and 3 µs
        for each of its samples.
        """
        self._note(self._turn.run(self._write_while_started, busy=None))
        return self.interval

    def _write_while_started(self) -> Exception | None:
        return None if self._ticker is None else self._write()

    def _write(self) -> Exception | None:
        """Write, or write a last time if it was stopped; return what went wrong."""
        try:
            rows = self._gatherer.gather()
            if self._files is None:
                self._files = WorkerFiles(self._directory)
                self._files.begin(rows)
            self._files.write(rows)
            self._files.remove_dead()
            self._dropped = self._files.dropped
        except Exception as error:  # noqa: BLE001 - reason: the disk may be full or the directory gone
            return error
        else:
            return None
        finally:
            if self._ticker is None and self._files is not None:
                files, self._files = self._files, None
                with contextlib.suppress(OSError):
                    files.close()

    def _note(self, error: Exception | None) -> None:
        if error is not None:
            self._failures.add("write", error)


class _Beat:
    """What the thread calls. Its first call comes at once, when `start` has just written."""

    def __init__(self, bridge: MultiprocessBridge) -> None:
        self._bridge = bridge
        self._is_first = True

    def tick(self) -> float:
        """Write, except for the first time."""
        if self._is_first:
            self._is_first = False
            return self._bridge.interval
        return self._bridge.tick()

    def look_on_request(self) -> None:
        """Write now."""
        self._bridge.tick()


def _checked(directory: str | os.PathLike[str] | None) -> Path:
    given = os.environ.get(VARIABLE) if directory is None else directory
    if given is not None and not isinstance(given, str | os.PathLike):
        raise TypeError(f"directory must be a path or None (got {type(given).__name__})")
    if not given:
        raise ConfigError(
            f"{VARIABLE} is not set; set it to an empty directory before the server starts, or use "
            "MemguardCollector in a server of one process"
        )
    path = Path(given)
    if not path.is_dir():
        raise ConfigError(f"{path} must be a directory that is there; create it: mkdir -p")
    return path


class WorkerFiles:
    """
    Write samples where ``MultiProcessCollector`` finds them.

    They are separate files, next to those of the worker's other metrics and in the same format:
    our thread never holds the lock that the host's metrics take, and what we wrote we may take
    back. Gauges are filed under the process. Counters are filed under a slot that a successor takes
    over, so that workers that are recycled do not make ever more files.

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
            return {}  # written by an unknown process

    def _counters(self, kind: str) -> Path:
        return self._directory / f"{kind}_memguard-{self._slot}.db"

    def begin(self, table: Table) -> None:
        """Count from *table* on: what came before was counted elsewhere, or not at all."""
        for metric, labels, value in _rows(table):
            for key, _, number in self._countable(metric, labels, value):
                self._seen[key] = number

    def write(self, table: Table) -> None:
        """
        Let counters go on to *table*, and put its gauges in the place of the earlier ones.

        Raises:
            OSError: The directory cannot be written.
        """
        gauges: dict[str, dict[str, float]] = {"liveall": {}, "livesum": {}, "livemax": {}}
        self.dropped = 0
        for metric, labels, value in _rows(table):
            if metric.kind == "gauge" and not isinstance(value, Pauses):
                key = self._key(metric, metric.prometheus, tuple(labels.items()))
                gauges[metric.across][key] = float(value)
                continue
            for key, kind, now in self._countable(metric, labels, value):
                self._count(key, kind, now)
        for across, found in gauges.items():
            path = self._directory / f"gauge_{across}_{self._process}.db"
            if found:
                _replace(path, found)
            else:
                path.unlink(missing_ok=True)
        for kind, totals in self._totals.items():
            _replace(self._counters(kind), totals)

    def _countable(
        self, metric: Metric, labels: Mapping[str, str], value: float | Pauses
    ) -> Iterable[tuple[str, str, float]]:
        """Yield (key, kind of file, value) of what only grows."""
        pairs = tuple(labels.items())
        name = metric.prometheus
        if isinstance(value, Pauses):
            for bound, count in value.buckets:
                bucket = (*pairs, ("le", bound_label(bound)))
                yield self._key(metric, f"{name}_bucket", bucket), "histogram", count
            yield self._key(metric, f"{name}_sum", pairs), "histogram", value.total
        elif metric.kind == "counter":
            yield self._key(metric, name, pairs), "counter", value

    def _count(self, key: str, kind: str, now: float) -> None:
        totals = self._totals[kind]
        total = totals.get(key)
        if total is None and len(totals) >= MOST_COUNTERS:
            self.dropped += 1  # each of many former holders had containers of other names
            return
        totals[key] = (total or 0.0) + max(0.0, now - self._seen.get(key, 0.0))
        self._seen[key] = now

    def _key(self, metric: Metric, sample: str, labels: tuple[tuple[str, str], ...]) -> str:
        """Return what the client files a sample under; kept, for making it costs the most."""
        known = (sample, *(value for _, value in labels))
        key = self._keys.get(known)
        if key is None:
            key = self._keys[known] = mmap_key(
                metric.prometheus.removesuffix("_total"),
                sample,
                [name for name, _ in labels],
                [value for _, value in labels],
                metric.help,
            )
        return key

    def remove_dead(self) -> None:
        """Remove the gauges of processes that have ended."""
        for entry in os.scandir(self._directory):
            found = _GAUGES.fullmatch(entry.name)
            if found is None or self._process in entry.name:
                continue
            # The number of a dead process may have been given to another one.
            if not is_running(int(found["pid"]), int(found["started"])):
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


def _rows(table: Table) -> Iterator[tuple[Metric, dict[str, str], float | Pauses]]:
    for metric, column in table.items():
        for labels, value in zip(*column, strict=True):
            yield metric, labels, value


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
