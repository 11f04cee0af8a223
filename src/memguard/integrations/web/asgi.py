"""ASGI middleware (ASGI 3, asgi.readthedocs.io): for Starlette, FastAPI, Litestar and others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from memguard.errors import AdmissionError
from memguard.integrations.web.requests import (
    KEY,
    ROUTE,
    RequestMiddleware,
    WatchedRequest,
    is_open,
)
from memguard.integrations.web.templates import template_of

__all__ = ["MemguardMiddleware"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRY_AGAIN_LATER = 1013  # a registered close code of WebSockets (RFC 6455, 11.7)


class MemguardMiddleware(RequestMiddleware[Application, Scope]):
    """
    Give each request a `memguard.Scope`, and watch what requests do to memory.

    ``scope["memguard.scope"]`` is closed when the application has returned: after the last byte and
    the background tasks, and also if it raised, was cancelled, or the client went away. Nothing
    is buffered; messages, exceptions and cancellation pass unchanged. The template of the route is
    read from Starlette's or FastAPI's router, or from ``scope["memguard.route"]``.

    Bounded by: its `RequestWatch`.
    Locks: that of its `RequestWatch`.
    Keeps alive: the application and the watch.

    Args:
        app: The application.
        watch: Counts the requests, and has all options; one of its own by default.
        route: Returns the template of the route for an ASGI scope after the response, or None.

    Raises:
        TypeError: An option is of the wrong kind.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a WebSocket or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan" and self.watch.guard is not None:
            await self._lifespan(scope, receive, send)
        elif kind not in ("http", "websocket") or is_open(scope.get(KEY)):
            await self.app(scope, receive, send)
        else:
            await self._request(scope, receive, send, is_socket=kind == "websocket")

    async def _request(
        self, scope: Scope, receive: Receive, send: Send, *, is_socket: bool
    ) -> None:
        root_path = scope.get("root_path") or ""
        path = (scope.get("path") or "").removeprefix(root_path)
        try:
            request = self.watch.begin(path, measure=not is_socket)
        except AdmissionError:
            await self._refuse(scope, receive, send)
            return
        owned = scope[KEY] = request.scope
        failed = True
        try:
            if is_socket:
                receive, send = _pausing(request, receive, send)
            await self.app(scope, receive, send)
            failed = False
        except GeneratorExit:
            owned.close()  # the loop is gone, and nothing can be awaited now
            raise
        finally:
            try:
                await owned.aclose()
            finally:
                method = "WEBSOCKET" if is_socket else scope.get("method", "")
                route = self.watch.route(self._template, scope, root_path)
                request.end(method, route, failed=failed)

    def _template(self, scope: Scope, root_path: str) -> str | None:
        if self._route is not None:
            return self._route(scope)
        return scope.get(ROUTE) or template_of(scope, root_path)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, body = self.watch.refusal()
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        if scope["type"] == "http":
            kind = "http.response"
        elif "websocket.http.response" in (scope.get("extensions") or {}):
            kind = "websocket.http.response"
        else:
            await receive()  # websocket.connect comes first
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
            return
        await send({"type": f"{kind}.start", "status": 503, "headers": raw})
        await send({"type": f"{kind}.body", "body": body})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the guard before the application, and stop it after."""
        started = False

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.watch.start_guard()
            return message

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "lifespan.startup.complete":
                started = True
            elif message["type"].startswith(("lifespan.shutdown.", "lifespan.startup.")):
                self.watch.stop_guard()  # before the server ends the loop
            await send(message)

        try:
            await self.app(scope, receiving, sending)
        finally:
            # An application without a lifespan ends at once, and is served anyway.
            self.watch.stop_guard(again=not started)


def _pausing(request: WatchedRequest, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return both ways of a WebSocket that does not count as busy while it waits for its client."""

    async def receiving() -> Message:
        request.pause()
        try:
            return await receive()
        finally:
            request.resume()

    async def sending(message: Message) -> None:
        request.touch()
        await send(message)

    return receiving, sending
