"""An application for real servers, which says what its guard does; see `tests/server_processes`."""

from __future__ import annotations

# ruff: noqa: PLC0415 - a bare application imports nothing of memguard
import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

WHERE = os.environ["WHERE"]
"""Where `guard` is called: ``bare`` (nowhere), ``import``, ``factory``, ``lifespan``, ``hook``."""
OPTIONS: dict[str, Any] = json.loads(os.environ["OPTIONS"])
LEAK: list[bytearray] = []

logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(process)d %(message)s")


def guard() -> None:
    """Install the guard of this process."""
    import memguard
    from memguard.guard import children

    children.PATIENCE = float(os.environ.get("PATIENCE", "1.0"))
    memguard.install(**{"interval": 0.1, **OPTIONS})


def status() -> dict[str, Any]:
    """Return what the guard of this process says of itself; it is not touched if it is bare."""
    found: dict[str, Any] = {"pid": os.getpid(), "installed": False}
    if WHERE == "bare":
        return found
    import memguard

    try:
        now = memguard.status()
    except memguard.LifecycleError:
        return found
    return found | {
        "installed": True,
        "running": now.running,
        "ticks": now.monitor.ticks,
        "detector": None if now.detector is None else now.detector.state,
        "degraded": {row.part: row.reason for row in now.degraded},
        "published": None if now.publisher is None else now.publisher.file,
        "history": None if now.history is None else now.history.file,
    }


def report() -> dict[str, Any]:
    """Have the detector of this process write a report, as its signal does."""
    import memguard

    detector = memguard.install().detector
    assert detector is not None
    with contextlib.suppress(memguard.LifecycleError):  # another greenlet of this thread is at it
        detector.look_on_request()
    return {"pid": os.getpid()}


def leak() -> dict[str, Any]:
    """Begin to leak, until this process ends."""

    def go_on() -> None:
        while True:
            LEAK.extend(bytearray(2000) for _ in range(20))
            time.sleep(0.005)

    threading.Thread(target=go_on, daemon=True).start()
    return {"pid": os.getpid()}


EARLY: dict[str, Any] = {}
"""Containers that were made at import, and what making a timer there said."""


def make_early() -> None:
    """Make what needs a thread before the server forks."""
    import memguard

    EARLY["cache"] = memguard.BoundedCache(10, ttl=0.05)
    EARLY["cache"]["key"] = "value"
    EARLY["timers"] = memguard.TimerRegistry()
    try:
        EARLY["timers"].every(0.001, int)
    except memguard.LifecycleError as error:
        EARLY["said"] = str(error)


def early() -> dict[str, Any]:
    """Return whether an entry made in this process goes without being asked for."""
    from memguard.lifecycle import janitor

    cache, before = EARLY["cache"], janitor.statistics().sweeps
    cache["other"] = "value"
    deadline = time.monotonic() + 20.0
    while janitor.statistics().sweeps == before and time.monotonic() < deadline:
        time.sleep(0.01)
    swept = janitor.statistics().sweeps > before
    return {"pid": os.getpid(), "swept": swept, "said": EARLY.get("said")}


def answer(path: str) -> bytes:
    """Return what is at *path*."""
    if path == "/busy":
        time.sleep(0.2)  # so that the next request finds another worker
    found = {"/report": report, "/leak": leak, "/early": early}.get(path, status)()
    return json.dumps(found).encode()


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer as WSGI."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer(environ["PATH_INFO"])]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer as ASGI."""
    if scope["type"] == "lifespan":
        await receive()
        if WHERE == "lifespan":
            guard()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if WHERE == "lifespan":
            import memguard

            memguard.uninstall()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = answer(scope["path"])
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def make_app() -> Any:
    """Return the WSGI application."""
    if WHERE == "factory":
        guard()
    return app


def make_asgi() -> Any:
    """Return the ASGI application."""
    if WHERE == "factory":
        guard()
    return asgi


if os.environ.get("EARLY"):
    make_early()
if WHERE == "import":
    guard()
elif "uwsgi" in sys.modules and WHERE == "hook":
    from uwsgidecorators import postfork  # type: ignore[import-untyped]

    postfork(guard)
elif WHERE == "setup":
    from memguard.integrations.workers.uwsgi import setup

    setup(**{"interval": 0.1, **OPTIONS})
