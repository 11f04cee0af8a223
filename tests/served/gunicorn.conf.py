"""gunicorn's part of the application: a guard in each worker, where that is asked for."""

import os

if os.environ["WHERE"] == "hook":

    def post_fork(server: object, worker: object) -> None:  # noqa: ARG001 - reason: gunicorn's
        import application  # type: ignore[import-not-found]  # noqa: PLC0415 - not in the master

        application.guard()
