"""
`MultiprocessBridge`: the metrics of a guard for servers of several processes, such as gunicorn.

Whichever worker is scraped must answer for all of them, and in the multiprocess mode of
``prometheus_client`` it can only do so with what is in the files of ``PROMETHEUS_MULTIPROC_DIR``:
collectors are not asked. So each worker writes its figures there, every few seconds.

Needs the package ``prometheus-client`` (extra ``prometheus``).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Self

from memguard.errors import ConfigError, LifecycleError
from memguard.extras import missing
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import reset_after_fork
from memguard.lifecycle.ticker import Ticker
from memguard.lifecycle.turn import Turn
from memguard.report.metrics.prometheus.gather import Gatherer
from memguard.report.metrics.prometheus.rows import rows_of
from memguard.report.state import Guarded
from memguard.units import parse_seconds

try:
    from memguard.report.metrics.prometheus.files import WorkerFiles
except ImportError as error:
    raise missing("prometheus-client", "prometheus") from error


__all__ = ["MultiprocessBridge"]

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class MultiprocessBridge:
    """
    Write what guards know into the files of the client's multiprocess mode, again and again.

    ``MultiProcessCollector`` of the client then tells it with everything else. Counters are summed
    over all workers, dead ones too. Gauges are one for each worker (label ``pid``), or the sum or
    the highest of those that live; what a dead worker said is removed by the next bridge that
    looks. The names are those of `MemguardCollector`.

    Start it in the worker, after the fork (gunicorn: in ``post_fork``), and count begins there.

    Bounded by: *max_containers* pairs of name and kind of containers; three files for each kind of
        gauge, and one pair for each worker that lives at the same time.
    Locks: one that nobody waits for but `stop`; guards and containers are asked beside it.
    Keeps alive: its guards.

    Thread-safe. In a forked child it is stopped, and writes nothing until it is started there.

    Args:
        guard: The guard to tell of.
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
        self.interval = parse_seconds(interval, name="interval")
        """Seconds between two writes."""
        if not 0.1 <= self.interval <= 3600:
            raise ConfigError(f"interval must be from 0.1 to 3600 seconds (got {interval!r})")
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
        if self._ticker is not None:
            raise LifecycleError("this bridge is already started; call stop() first")
        _running.add(self)
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)  # before that of the thread, which therefore ends first
        self._ticker = Ticker(_Beat(self), f"memguard-prometheus-{self._name}")
        self.tick()
        try:
            self._ticker.start()
        except RuntimeError:  # no thread is to be had
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
        ticker, self._ticker = self._ticker, None
        if ticker is None:
            return True
        _running.discard(self)
        ended = ticker.stop(timeout)
        # Stopped by what a write of this thread calls, it is busy: it ends with that.
        self._note(self._turn.run(self._write, busy=None, timeout=timeout))
        return ended

    def close(self) -> None:
        """Do what `stop` does."""
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def errors(self) -> int:
        """Writes that failed; each kind was logged once."""
        return self._failures.count

    @property
    def dropped(self) -> int:
        """Counters that the last write left out, for there were too many of earlier workers."""
        return self._dropped

    def tick(self) -> float:
        """
        Write what is known now, where it is started, and return the seconds until the next time.

        Raises nothing; a tick during another one does nothing. Cost: what a scrape costs, and 3 µs
        for each of its samples.
        """
        self._note(self._turn.run(self._write_if_started, busy=None))
        return self.interval

    def _write_if_started(self) -> Exception | None:
        return None if self._ticker is None else self._write()

    def _write(self) -> Exception | None:
        """Write, or write a last time where it was stopped; return what went wrong."""
        try:
            rows = list(rows_of(self._gatherer.gather()))
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
        """Write, but for the first time."""
        if self._is_first:
            self._is_first = False
            return self._bridge.interval
        return self._bridge.tick()

    def look_on_request(self) -> None:
        """Write now."""
        self._bridge.tick()


_running: weakref.WeakSet[MultiprocessBridge] = weakref.WeakSet()


def _stop_all() -> None:
    for bridge in list(_running):
        bridge.stop(2.0)


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
