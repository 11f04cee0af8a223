"""
The service in several processes.

``gunicorn -c examples/observability/gunicorn_conf.py examples.observability.app:app``, with
``PROMETHEUS_MULTIPROC_DIR`` set to a directory of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

workers = 2
bind = os.environ.get("BIND", "127.0.0.1:8000")


def on_starting(server: Any) -> None:  # noqa: ARG001 - reason: gunicorn gives it
    """Begin with an empty directory: what an earlier server counted is not ours."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)


def post_worker_init(worker: Any) -> None:
    """Guard this worker and export its metrics, after the fork: threads do not survive one."""
    import memguard  # noqa: PLC0415 - reason: in the worker
    from memguard.report.metrics.prometheus import MultiprocessBridge  # noqa: PLC0415 - reason: in the worker

    worker.memguard_bridge = MultiprocessBridge(memguard.install(), interval=1.0).start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - reason: gunicorn gives it
    """Take its gauges back; its counters stay in the sum."""
    import memguard  # noqa: PLC0415 - reason: in the worker

    bridge = getattr(worker, "memguard_bridge", None)
    if bridge is not None:
        bridge.close()
    memguard.uninstall()


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - reason: gunicorn gives it
    """Forget the gauges of the application itself; those of memguard look after themselves."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - reason: not before the fork

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # reason: theirs is untyped
