"""A Flask application that leaks on one route, streams, and sends files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Flask, Response, request, send_file

from memguard import MemoryGuard
from memguard.integrations.web.flask import Memguard, request_scope

KEPT: list[bytes] = []
EVENTS: list[str] = []

app = Flask(__name__)
# What else the host has in its memory must not be a reason to measure nothing.
guard = MemoryGuard(leaks=False, relief=False, elevated=0.97, critical=0.99, name="web")
memguard = Memguard(app, sample=1.0, warmup=5, guard=guard)
blueprint = Blueprint("api", __name__, url_prefix="/api")


@blueprint.get("/leaky/<int:number>")
def leaky(number: int) -> str:
    """Keep 300 KiB forever."""
    KEPT.append(b"x" * 300_000)
    return str(number)


@blueprint.get("/fine/<int:number>")
def fine(number: int) -> str:
    """Take 300 KiB and give them back."""
    return str(number + len(b"x" * 300_000) * 0)


@blueprint.get("/scoped/<name>")
def scoped(name: str) -> Response:
    """Say in which order things end."""
    request_scope().defer(EVENTS.append, f"{name}: scope")
    response = Response(name)
    response.call_on_close(lambda: EVENTS.append(f"{name}: response"))
    return response


@blueprint.get("/broken")
def broken() -> str:
    """Raise."""
    request_scope().defer(EVENTS.append, "broken: scope")
    raise ZeroDivisionError


@blueprint.get("/stream/<int:blocks>")
def stream(blocks: int) -> Response:
    """Stream, for longer than the client may listen."""
    request_scope().defer(EVENTS.append, "stream: scope")

    def content() -> Iterator[bytes]:
        try:
            for _ in range(blocks):
                yield b"x" * 1000
        finally:
            EVENTS.append("stream: closed")

    return Response(content())


@blueprint.get("/file")
def file() -> Response:
    """Send a file, through the server's own wrapper where it has one."""
    request_scope().defer(EVENTS.append, "file: scope")
    EVENTS.append(f"file: {'wrapper' if 'wsgi.file_wrapper' in request.environ else 'plain'}")
    return send_file(__file__)


@app.get("/stats")
def stats() -> dict[str, Any]:
    """Tell."""
    return {**asdict(memguard.statistics()), "events": EVENTS, "guard": guard.status().running}


app.register_blueprint(blueprint)
