"""One worker process of a forking server: its options, its guard and its recycler."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from memguard import guard as guards
from memguard import log
from memguard.bounded.options import (
    check_flag,
    check_instance,
    check_int,
    check_number,
    check_seconds,
)
from memguard.errors import LifecycleError
from memguard.guard import MemoryGuard
from memguard.integrations.workers.recycle_policy import RecycleOptions
from memguard.integrations.workers.recycler import Recycler
from memguard.integrations.workers.turns import Turns
from memguard.observe.limits import read_limit
from memguard.relief.collector import prefork
from memguard.units import parse_bytes, parse_seconds

_SHARE = 0.9
"""Of the control group's bound, that all workers together may take with ``limit="auto"``."""


class WorkerKeywords(TypedDict, total=False):
    """The options that gunicorn's and Celery's workers have in common; see `WorkerOptions`."""

    limit: int | str | None
    min_age: float | str
    interval: float | str
    spread: float
    look: float | str
    freeze: bool
    guard: Mapping[str, Any] | None


@dataclass(kw_only=True, slots=True)
class WorkerOptions:
    """
    When a worker is replaced, and which guard it has.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    limit: int | str | None = "auto"
    """Private memory of one worker above which it is replaced: bytes, ``"400MiB"``, or ``"auto"``,
    which is its share of nine tenths of the container's bound. None replaces none."""
    min_age: float | str = 300.0
    """Seconds that a worker must have worked before it is replaced."""
    min_requests: int = 20
    """And requests or tasks."""
    interval: float | str = 60.0
    """Least seconds between two replacements, all workers of one parent together."""
    spread: float = 0.1
    """Part of the limit, by up to which that of each worker is lowered at random."""
    look: float | str = 5.0
    """Seconds between two looks."""
    freeze: bool = True
    """Freeze what is loaded before the first fork."""
    guard: Mapping[str, Any] | None = field(default_factory=dict)
    """Options of the `MemoryGuard` in each worker; None starts none."""

    def __post_init__(self) -> None:
        """Refuse what cannot work here, and not in each worker."""
        check_int(self.min_requests, "the least count", 0, 10**9)
        check_number(self.spread, "spread", 0, 0.5, " of the limit")
        check_flag(self.freeze, "freeze")
        check_instance(self.guard, Mapping, "guard", optional=True)
        check_seconds(self.look, "look", 0.05, 3600)
        if self.limit is not None and self.limit != "auto":
            self.limit = parse_bytes(self.limit, name="limit")
        self.rules(self.limit if isinstance(self.limit, int) else 1)
        if self.guard is not None:
            MemoryGuard(**{**self.guard, "history": False}).close()

    def rules(self, limit: int) -> RecycleOptions:
        """Return when a worker with *limit* is replaced."""
        return RecycleOptions(
            limit=limit,
            min_age=parse_seconds(self.min_age, name="min_age"),
            min_requests=self.min_requests,
            interval=parse_seconds(self.interval, name="interval"),
        )


class WorkerProcess:
    """
    What memguard runs in one worker process, and what its parent prepares for it.

    Bounded by: a guard, a recycler and one descriptor.
    Locks: none.
    Keeps alive: the guard and the recycler of this process.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self.recycler: Recycler | None = None
        self.guard: MemoryGuard | None = None
        self._owns_guard = False
        self._turns: Turns | None = None
        self._is_frozen = False
        self._pid: int | None = None

    @property
    def is_begun(self) -> bool:
        """True in the process in which `begin` was called."""
        return self._pid == os.getpid()

    def share_turns(self) -> None:
        """In the parent: make what the workers share, so that they end one after the other."""
        if self.options.limit is None:
            return
        try:
            self._turns = Turns()
        except (OSError, LifecycleError) as error:
            self.options.limit = None
            log.event(log.WARNING, "worker.recycling_off", reason=str(error))

    def freeze(self) -> None:
        """In the parent, right before a fork: freeze what is loaded, once."""
        if self.options.freeze and not self._is_frozen:
            self._is_frozen = True
            prefork()

    def begin(self, **guard_options: Any) -> None:
        """
        In a worker: use the guard that the application has installed, or install one.

        Args:
            **guard_options: Instead of those of the options, for a guard of our own.

        Raises:
            ConfigError: The environment asks for what cannot be.
        """
        self._pid = os.getpid()
        if self.options.guard is None:
            return
        try:
            guards.status()
        except LifecycleError:
            self.guard = guards.install(**{**self.options.guard, **guard_options})
            self._owns_guard = True
        else:
            self.guard = guards.install()  # a fork has stopped it

    def recycle(self, workers: int | None, **how: Any) -> str | None:
        """
        In a worker: make its `Recycler`, not started yet.

        Args:
            workers: Workers of this parent, for a fair share of the container.
            **how: Options of the `Recycler`: how a worker of this server ends.

        Returns:
            Why there is none, or None.
        """
        if self.options.limit is None:
            return "limit is None"
        limit = self.options.limit if isinstance(self.options.limit, int) else fair_share(workers)
        if limit is None:
            return "no limit was given or found"
        if self._turns is None:
            return "this process was not forked from the one that made the turns"
        self.recycler = Recycler(
            self.options.rules(limit),
            self._turns,
            relief=None if self.guard is None else self.guard.relief,
            spread=self.options.spread,
            look_seconds=parse_seconds(self.options.look),
            **how,
        )
        return None

    def end(self) -> None:
        """Stop what was started in this process. Idempotent."""
        recycler, self.recycler = self.recycler, None
        if recycler is not None:
            recycler.stop()
        guard, self.guard = self.guard, None
        if guard is not None and self._owns_guard:
            guard.stop(timeout=2.0)
            guards.uninstall()
        self._owns_guard = False


def fair_share(workers: int | None) -> int | None:
    """Return one worker's share of the container in bytes; None outside of one."""
    groups = [bound.bytes for bound in read_limit().bounds if bound.kind.startswith("cgroup")]
    return int(_SHARE * min(groups) / max(1, workers or 1)) if groups else None
