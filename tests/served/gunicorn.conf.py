"""gunicorn's part of the application: a guard in each worker, where that is asked for."""

import json
import os

if os.environ["WHERE"] == "hook":

    def post_fork(server: object, worker: object) -> None:  # noqa: ARG001 - reason: gunicorn's
        import application  # type: ignore[import-not-found]  # noqa: PLC0415 - not in the master

        application.guard()

elif os.environ["WHERE"] == "setup":
    from memguard.integrations.workers.gunicorn import hooks

    guard = {"interval": 0.1, **json.loads(os.environ["OPTIONS"])}
    globals().update(hooks(limit=None, guard=guard))
