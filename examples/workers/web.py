"""An application that leaks: each request stays in memory. WSGI and ASGI."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

KEPT: list[bytes] = []
BODY_BYTES = int(os.environ.get("BODY_BYTES", "100000"))


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with the number of this process, and keep the request body forever."""
    KEPT.append(environ["PATH_INFO"].encode() + os.urandom(BODY_BYTES))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer as `app` does."""
    if scope["type"] != "http":
        raise RuntimeError(f"{scope['type']} is not served")
    await receive()
    KEPT.append(scope["path"].encode() + os.urandom(BODY_BYTES))
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
