"""What gunicorn's and Celery's workers have in common: options, a fair share, and a guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memguard import guard as guards
from memguard.errors import ConfigError, LifecycleError
from memguard.guard import MemoryGuard
from memguard.integrations.workers.recycle_policy import RecycleOptions
from memguard.observe.limits import read_limit
from memguard.units import parse_bytes, parse_seconds

_SHARE = 0.9
"""Of the control group's bound, that all workers together may take with ``limit="auto"``."""


class WorkerOptions:
    """
    The options of a worker, refused here and not in each of them.

    Bounded by: itself.
    Locks: none.
    Keeps alive: the callbacks among the guard's options.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        limit: int | str | None,
        min_age: float | str,
        min_requests: int,
        interval: float | str,
        spread: float,
        look: float | str,
        freeze: bool,
        guard: Mapping[str, Any] | None,
    ) -> None:
        if isinstance(min_requests, bool) or not isinstance(min_requests, int):
            raise TypeError(f"the least count must be an int (got {type(min_requests).__name__})")
        if isinstance(spread, bool) or not isinstance(spread, int | float):
            raise TypeError(f"spread must be a number (got {type(spread).__name__})")
        if not 0 <= spread <= 0.5:
            raise ConfigError(f"spread must be from 0 to 0.5 of the limit (got {spread})")
        if not isinstance(freeze, bool):
            raise TypeError(f"freeze must be True or False (got {type(freeze).__name__})")
        if guard is not None and not isinstance(guard, Mapping):
            raise TypeError(f"guard must be options or None (got {type(guard).__name__})")
        self.limit: int | None = None
        """Bytes; None for a fair share."""
        if limit is not None and limit != "auto":
            self.limit = parse_bytes(limit, name="limit")
        self.replaces = limit is not None
        self.spread, self.freeze = spread, freeze
        self.look = parse_seconds(look, name="look")
        if not 0.05 <= self.look <= 3600:
            raise ConfigError(f"look must be from 0.05 to 3600 seconds (got {look!r})")
        self._rules: dict[str, Any] = {
            "min_age": parse_seconds(min_age, name="min_age"),
            "min_requests": min_requests,
            "interval": parse_seconds(interval, name="interval"),
        }
        self.rules(1 if self.limit is None else self.limit)
        self.guard = None if guard is None else dict(guard)
        """Options of the guard; None where there is to be none."""
        if guard is not None:
            MemoryGuard(**{**guard, "history": False}).close()

    def rules(self, limit: int) -> RecycleOptions:
        """Return when a worker with *limit* is replaced."""
        return RecycleOptions(limit=limit, **self._rules)


class WorkerGuard:
    """
    The guard of a worker: that of the application where it has installed one, else one of our own.

    Bounded by: one guard.
    Locks: none.
    Keeps alive: the guard.

    Args:
        options: Of a guard of our own.

    Raises:
        ConfigError: The environment asks for something that cannot be.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            guards.status()
        except LifecycleError:
            self._is_ours = True
            self.guard = guards.install(**options)
        else:
            self._is_ours = False
            self.guard = guards.install()  # a fork has stopped it

    def close(self) -> None:
        """Stop it and take it away, if it is ours. Idempotent."""
        if self._is_ours:
            self._is_ours = False
            self.guard.stop(timeout=2.0)
            guards.uninstall()


def fair_share(workers: int | None) -> int | None:
    """Return one worker's share of the container in bytes; None outside of one."""
    groups = [bound.bytes for bound in read_limit().bounds if bound.kind.startswith("cgroup")]
    return int(_SHARE * min(groups) / max(1, workers or 1)) if groups else None
