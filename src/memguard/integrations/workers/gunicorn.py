"""
Hooks for gunicorn: guarded workers that share preloaded memory and are replaced in time.

In ``gunicorn.conf.py``::

    from memguard.integrations.workers.gunicorn import hooks

    globals().update(hooks(limit="400MiB"))

Nothing of gunicorn is imported: it calls these hooks with what they need.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any, Unpack

from memguard import log
from memguard.integrations.workers.recycler import Recycler
from memguard.integrations.workers.worker import WorkerKeywords, WorkerOptions, WorkerProcess
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
        min_requests: Requests that a worker must have served before it is replaced, if it counts
            them (uvicorn's does not).
        **options: Those of `WorkerOptions`: *limit*, *min_age*, *interval*, *spread*, *look*,
            *freeze* (with ``preload_app``) and *guard*. If the application has installed a
            guard, that one is used and our options are ignored.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(self, *, min_requests: int = 20, **options: Unpack[WorkerKeywords]) -> None:
        self._process = WorkerProcess(WorkerOptions(min_requests=min_requests, **options))
        self._is_prepared = False

    # -- in the master ----------------------------------------------------------------------------

    def pre_fork(self, server: Any, worker: Any) -> None:  # noqa: ARG002 - reason: gunicorn's signature
        """Before each fork: make what the workers will share; freeze what is loaded, once."""
        if self._is_prepared:
            return
        self._is_prepared = True
        self._process.share_turns()
        if server.cfg.preload_app:
            self._process.freeze()

    # -- in a worker ------------------------------------------------------------------------------

    def post_worker_init(self, worker: Any) -> None:
        """
        When the application is loaded: guard this worker, and watch whether it outgrows its limit.

        Later than ``post_fork``, so that a guard that the application installs is found.
        """
        try:
            self._process.begin()
            self._watch(worker)
        except Exception as error:  # noqa: BLE001 - reason: a worker that cannot boot ends gunicorn
            worker.log.warning("memguard: this worker is not guarded: %s", error)
            log.event(log.ERROR, "worker.not_guarded", error=str(error))

    def worker_exit(self, server: Any, worker: Any) -> None:  # noqa: ARG002 - reason: gunicorn's signature
        """At the end of a worker: stop what was started in it."""
        if self._process.is_begun:  # else the master, on behalf of a worker that vanished
            self._process.end()

    @property
    def recycler(self) -> Recycler | None:
        """That of this worker; None in the master, and if no worker is replaced."""
        return self._process.recycler

    def _watch(self, worker: Any) -> None:
        cfg = worker.cfg
        why_not = self._process.recycle(
            cfg.workers,
            end=lambda _reason: _end(worker),
            requests=_counter(worker),
            is_leaving=lambda: not worker.alive,
            insist=_terminate,
            grace=cfg.graceful_timeout + cfg.timeout + 5.0,
            server_log=lambda level, sentence: worker.log.log(level, "%s", sentence),
        )
        recycler = self._process.recycler
        if recycler is not None:
            limit = format_bytes(recycler.options.limit)
            worker.log.debug("memguard: replaced above %s of its own", limit)
            recycler.start()
        elif self._process.options.limit is not None:
            level = log.INFO if self._is_prepared else log.WARNING
            worker.log.log(level, "memguard: no worker is replaced: %s", why_not)


def hooks(
    *, min_requests: int = 20, **options: Unpack[WorkerKeywords]
) -> dict[str, Callable[..., None]]:
    """
    Return gunicorn's hooks by their names: ``globals().update(hooks(limit="400MiB"))``.

    See `GunicornHooks` for the options.
    """
    ours = GunicornHooks(min_requests=min_requests, **options)
    return {
        "pre_fork": ours.pre_fork,
        "post_worker_init": ours.post_worker_init,
        "worker_exit": ours.worker_exit,
    }


def _is_of_uvicorn(worker: Any) -> bool:
    return any(cls.__module__.startswith("uvicorn") for cls in type(worker).__mro__)


def _counter(worker: Any) -> Callable[[], int | None]:
    """Return a counter of the requests served; gunicorn's own workers count them in ``nr``."""
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
