"""Health routes and the live page as an ASGI application: for uvicorn, Starlette, FastAPI."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from memguard.report.health.application import HealthApplication
from memguard.report.health.background import WorkFailedError
from memguard.report.health.http import MOST_BODY, Request, Response, Wait, refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODY_SECONDS = 5.0


class HealthAsgi(HealthApplication[AsgiApp]):
    """
    Show how a guarded process is doing, over ASGI 3.0.

    ``/health/live``, ``/health/ready``, ``/health/memory`` and ``/memguard``, below whatever path
    it is mounted at. Numbers are gathered and memory is freed in threads of its own, never on the
    event loop (asyncio); the probes are answered at once.

    Bounded by, Locks, Keeps alive, options: see `HealthApplication`.

    Example:
        >>> from memguard import MemoryGuard
        >>> health = HealthAsgi(MemoryGuard(leaks=False))  # app.mount("/ops", health)
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, or have *app* answer it."""
        root = scope.get("root_path", "")
        route = _route(scope.get("path", ""), root)
        app = self._app_for(route if scope["type"] == "http" else None)
        if app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(scope, receive, send, route, root)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, route: str, root: str
    ) -> None:
        method = scope["method"]
        self._notice_server((scope.get("server") or (None,))[0])
        body: bytes | None = b""
        if self._wants_body(method, route):
            if not _is_asyncio():
                await _send(send, _other_loop(), with_body=True)
                return
            try:
                body = await asyncio.wait_for(_body(receive), _BODY_SECONDS)
            except _GoneError:
                return
            except TimeoutError:
                late = refusal(408, "too slow", "the form did not arrive in time")
                await _send(send, late, with_body=True)
                return
        request = Request(
            method=method,
            route=route,
            mounted_at=root,
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=_headers(scope.get("headers", ())),
            body=body,
        )
        answer = self._answer(request)
        if isinstance(answer, Wait):
            answer = await self._waited(answer)
        await _send(send, answer, with_body=method != "HEAD")

    async def _waited(self, wait: Wait) -> Response:
        """Wait without holding up the loop, and no longer than allowed."""
        if not _is_asyncio():
            return _other_loop()
        try:
            with contextlib.suppress(WorkFailedError):
                await asyncio.wait_for(asyncio.wrap_future(wait.future), wait.seconds)
        except TimeoutError:
            return wait.late()
        return self._finished(wait)


class _GoneError(Exception):
    """The client went away."""


def _is_asyncio() -> bool:
    """Return False on another kind of loop, which we have no way to wake."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _other_loop() -> Response:
    return refusal(503, "no asyncio", "this needs an asyncio event loop")


def _route(path: str, root: str) -> str:
    """Return the path below where we are mounted; older servers leave that out of it themselves."""
    root = root.rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def _headers(pairs: Any) -> dict[str, str]:
    """Return headers by name in lower case; one that comes twice is joined, and so fits nothing."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, or None as soon as it is too long."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, response: Response, *, with_body: bool) -> None:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body if with_body else b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Agree to start and to stop; there is nothing to do for either."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
