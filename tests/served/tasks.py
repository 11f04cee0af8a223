"""Tasks of a real Celery worker, which say what the guard of their process does."""

import json
import os
from typing import Any

import application  # type: ignore[import-not-found]
from celery import Celery, signals

app = Celery("served", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)

if application.WHERE == "hook":

    @signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def begin(**_: object) -> None:
        application.guard()

elif application.WHERE == "setup":
    from memguard.integrations.workers.celery import setup

    setup(app, limit=None, guard={"interval": 0.1, **application.OPTIONS})


@app.task(name="ask")  # type: ignore[untyped-decorator]
def ask(path: str) -> Any:
    """Answer in a process of the pool."""
    return json.loads(application.answer(path))
