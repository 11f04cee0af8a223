"""
Tasks, one kind of which leaks. In this directory: ``celery -A tasks worker``.

Messages and results are files below ``CELERY_DIRECTORY``, so no broker is needed to try it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from celery import Celery

from memguard.integrations.workers.celery import setup

KEPT: list[bytes] = []

directory = Path(os.environ.get("CELERY_DIRECTORY", tempfile.gettempdir())) / "celery-files"
for name in ("queue", "control", "results"):
    (directory / name).mkdir(parents=True, exist_ok=True)

app = Celery("tasks", broker="filesystem://", backend=(directory / "results").as_uri())
app.conf.broker_transport_options = {
    "data_folder_in": str(directory / "queue"),
    "data_folder_out": str(directory / "queue"),
    "control_folder": str(directory / "control"),
    "polling_interval": 0.05,
}
workers = setup(
    app,
    limit=os.environ.get("WORKER_LIMIT", "400MiB"),
    min_age=os.environ.get("WORKER_MIN_AGE", "5m"),
    interval=os.environ.get("WORKER_INTERVAL", "1m"),
    look=os.environ.get("WORKER_LOOK", "5s"),
)


@app.task  # type: ignore[untyped-decorator]  # reason: Celery ships no types
def remember(size: int) -> int:
    """Keep *size* bytes forever, and return the number of this process."""
    KEPT.append(os.urandom(size))
    return os.getpid()


@app.task  # type: ignore[untyped-decorator]  # reason: Celery ships no types
def forget(size: int) -> int:
    """Need *size* bytes for a moment, and return the number of this process."""
    os.urandom(size)
    return os.getpid()
