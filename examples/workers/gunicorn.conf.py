"""
Workers that are guarded, and replaced one by one when they outgrow their limit.

In this directory: ``gunicorn web:app``. The defaults are those for a server; ``python
examples/workers`` sets the variables, to show in seconds what otherwise takes hours.
"""

from __future__ import annotations

import os

from memguard.integrations.workers.gunicorn import hooks

workers = 2
preload_app = True
control_socket_disable = True

globals().update(
    hooks(
        limit=os.environ.get("WORKER_LIMIT", "400MiB"),
        min_age=os.environ.get("WORKER_MIN_AGE", "5m"),
        interval=os.environ.get("WORKER_INTERVAL", "1m"),
        look=os.environ.get("WORKER_LOOK", "5s"),
    )
)
