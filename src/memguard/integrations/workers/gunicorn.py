"""
Hooks for gunicorn: workers that share what is loaded, are guarded, and are replaced in time.

In ``gunicorn.conf.py``::

    from memguard.integrations.workers.gunicorn import hooks

    globals().update(hooks(limit="400MiB"))

Nothing of gunicorn is imported: it calls these hooks with what they need.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from memguard import log
from memguard.errors import LifecycleError
from memguard.integrations.workers.options import WorkerGuard, WorkerOptions, fair_share
from memguard.integrations.workers.recycler import LOOK_SECONDS, Recycler
from memguard.integrations.workers.turns import Turns
from memguard.relief.gc_policy import prefork
from memguard.units import format_bytes

__all__ = ["GunicornHooks", "hooks"]


class GunicornHooks:
    """
    What happens in the master and in each worker; the methods have the names of gunicorn's hooks.

    Bounded by: in the master one descriptor; in a worker a guard and one more thread.
    Locks: none of its own.
    Keeps alive: the guard and the recycler of this worker.

    Hooks of your own call these: ``def worker_exit(server, worker): ours.worker_exit(server,
    worker); …``.

    Args:
        limit: Private memory of one worker above which it is replaced: bytes, ``"400MiB"``, or
            ``"auto"``, which is its share of nine tenths of the container's bound. None replaces
            none.
        min_age: Seconds that a worker must have served before it is replaced.
        min_requests: And requests, where the worker counts them (uvicorn's does not).
        interval: Least seconds between two replacements, all workers of this master together.
        spread: Part of the limit, by up to which that of each worker is lowered by chance.
        look: Seconds between two looks.
        freeze: With ``preload_app``, freeze what is loaded before the first fork.
        guard: Options of the `MemoryGuard` in each worker; None starts none. Where the application
            has installed one, that is used, and these are not.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        limit: int | str | None = "auto",
        min_age: float | str = 300.0,
        min_requests: int = 20,
        interval: float | str = 60.0,
        spread: float = 0.1,
        look: float | str = LOOK_SECONDS,
        freeze: bool = True,
        guard: Mapping[str, Any] | None = {},
    ) -> None:
        self._options = WorkerOptions(
            limit=limit,
            min_age=min_age,
            min_requests=min_requests,
            interval=interval,
            spread=spread,
            look=look,
            freeze=freeze,
            guard=guard,
        )
        self._is_prepared = False
        self._turns: Turns | None = None
        self._guard: WorkerGuard | None = None
        self._recycler: Recycler | None = None
        self._pid = os.getpid()

    # -- in the master ----------------------------------------------------------------------------

    def pre_fork(self, server: Any, worker: Any) -> None:  # noqa: ARG002 - reason: gunicorn's signature
        """Before each fork: make what the workers will share; freeze what is loaded, once."""
        if self._is_prepared:
            return
        self._is_prepared = True
        if self._options.replaces:
            try:
                self._turns = Turns()
            except (OSError, LifecycleError) as error:
                self._options.replaces = False
                log.event(logging.WARNING, "worker.recycling_off", reason=str(error))
        if self._options.freeze and server.cfg.preload_app:
            prefork()

    # -- in a worker ------------------------------------------------------------------------------

    def post_worker_init(self, worker: Any) -> None:
        """
        When the application is loaded: guard this worker, and watch whether it outgrows its limit.

        Later than ``post_fork``, so that a guard that the application installs is found.
        """
        try:
            self._pid = os.getpid()
            if self._options.guard is not None:
                self._guard = WorkerGuard(self._options.guard)
            self._watch(worker)
        except Exception as error:  # noqa: BLE001 - reason: a worker that cannot boot ends gunicorn
            worker.log.warning("memguard: this worker is not guarded: %s", error)
            log.event(logging.ERROR, "worker.not_guarded", error=str(error))

    def worker_exit(self, server: Any, worker: Any) -> None:  # noqa: ARG002 - reason: gunicorn's signature
        """At the end of a worker: stop what was started in it."""
        if self._pid != os.getpid():
            return  # the master, on behalf of a worker that vanished
        recycler, self._recycler = self._recycler, None
        if recycler is not None:
            recycler.stop()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    @property
    def recycler(self) -> Recycler | None:
        """That of this worker; None in the master, and where no worker is replaced."""
        return self._recycler

    def _watch(self, worker: Any) -> None:
        if not self._options.replaces:
            return
        if self._turns is None:
            worker.log.warning("memguard: no worker is replaced: pre_fork was not called")
            return
        limit = self._options.limit or fair_share(worker.cfg.workers)
        if limit is None:
            worker.log.info("memguard: no worker is replaced: no limit was given or found")
            return
        worker.log.debug("memguard: replaced above %s of its own", format_bytes(limit))
        cfg = worker.cfg
        self._recycler = Recycler(
            self._options.rules(limit),
            self._turns,
            end=lambda _reason: _end(worker),
            relief=None if self._guard is None else self._guard.guard.relief,
            requests=_counter(worker),
            is_leaving=lambda: not worker.alive,
            insist=_terminate,
            grace=cfg.graceful_timeout + cfg.timeout + 5.0,
            say=lambda level, sentence: worker.log.log(level, "%s", sentence),
            spread=self._options.spread,
            look_seconds=self._options.look,
        ).start()


def hooks(**options: Any) -> dict[str, Callable[..., None]]:
    """
    Return gunicorn's hooks by their names: ``globals().update(hooks(limit="400MiB"))``.

    See `GunicornHooks` for the options.
    """
    ours = GunicornHooks(**options)
    return {
        "pre_fork": ours.pre_fork,
        "post_worker_init": ours.post_worker_init,
        "worker_exit": ours.worker_exit,
    }


def _is_of_uvicorn(worker: Any) -> bool:
    return any(cls.__module__.startswith("uvicorn") for cls in type(worker).__mro__)


def _counter(worker: Any) -> Callable[[], int | None]:
    """Return what tells the requests served; gunicorn's own workers count them in ``nr``."""
    counts = not _is_of_uvicorn(worker) and any(
        cls.__module__.startswith("gunicorn.workers.") and cls.__module__ != "gunicorn.workers.base"
        for cls in type(worker).__mro__
    )
    return (lambda: int(worker.nr)) if counts else (lambda: None)


def _end(worker: Any) -> None:
    """
    Have *worker* serve what it has accepted, accept no more, and exit.

    As gunicorn does for ``max_requests``: each of its workers asks ``alive`` once a second or after
    each request. That of uvicorn asks a signal only.
    """
    if _is_of_uvicorn(worker):
        _terminate()
        return
    worker.alive = False
    with contextlib.suppress(OSError, IndexError):  # wake the one that waits for a connection
        os.write(worker.PIPE[1], b"1")


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
