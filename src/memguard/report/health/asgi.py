"""Health routes and the live page as an ASGI application: for uvicorn, Starlette, FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from memguard.report.health.background import Outcome
from memguard.report.health.response import MOST_BODY, Request, Response, Wait, refusal
from memguard.report.health.site import GuardSource, HealthSite, HealthStatistics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODY_SECONDS = 5.0


class HealthAsgi:
    """
    Tell how a guarded process is doing, over ASGI 3.0.

    ``/health/live``, ``/health/ready``, ``/health/memory`` and ``/memguard``, below whatever path
    it is mounted at. Numbers are gathered and memory is given back in threads of its own, never on
    the event loop (asyncio); the probes are answered at once.

    Bounded by: five threads, each while it has something to do; 64 requests that wait for each; a
        body of 4 KiB; one relief run at a time.
    Locks: small ones around lists; none is held while anything is gathered or given back.
    Keeps alive: the guard, or the function that returns it, and *app*.

    Example:
        >>> from memguard import MemoryGuard
        >>> health = HealthAsgi(MemoryGuard(leaks=False))  # app.mount("/ops", health)

    Args:
        guard: The `MemoryGuard`, or a function that returns it, called at each request:
            ``memguard.install`` where each worker process installs its own.
        app: What is asked for every other path; None answers those with 404.
        relieve_token: Lets who knows it give memory back, by the button of the page or with
            ``X-Memguard-Token``; at least 16 characters. None: nobody can.
        read_token: Needed to see numbers; the probes never need it. None: everybody may.
        critical_is_unready: ``/health/ready`` answers 503 while memory is critical.
        refresh: Seconds between two questions of the page, 0.5 to 3600.
        relieve_seconds: Longest wait for a relief run, 0.1 to 300; one that takes longer goes on,
            and 202 is answered.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    def __init__(
        self,
        guard: GuardSource,
        app: AsgiApp | None = None,
        *,
        relieve_token: str | None = None,
        read_token: str | None = None,
        critical_is_unready: bool = False,
        refresh: float | str = 2.0,
        relieve_seconds: float | str = 10.0,
    ) -> None:
        if app is not None and not callable(app):
            raise TypeError(f"app must be an ASGI application or None (got {type(app).__name__})")
        self._app = app
        self._site = HealthSite(
            guard,
            relieve_token=relieve_token,
            read_token=read_token,
            critical_is_unready=critical_is_unready,
            refresh=refresh,
            relieve_seconds=relieve_seconds,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, or have *app* answer it."""
        root = scope.get("root_path", "")
        route = _route(scope.get("path", ""), root)
        ours = scope["type"] == "http" and (self._app is None or self._site.knows(route))
        if self._app is not None and not ours:
            await self._app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(scope, receive, send, route, root)

    def statistics(self) -> HealthStatistics:
        """Return what was answered so far. Thread-safe."""
        return self._site.statistics()

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, route: str, root: str
    ) -> None:
        method = scope["method"]
        body: bytes | None = b""
        if self._site.wants_body(method, route):
            if not _is_asyncio():
                await _send(send, _other_loop(), with_body=True)
                return
            try:
                body = await asyncio.wait_for(_body(receive), _BODY_SECONDS)
            except _GoneError:
                return
            except TimeoutError:
                late = refusal(408, "too slow", "the form did not come in time")
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
        answer = self._site.answer(request)
        if isinstance(answer, Wait):
            answer = await self._wait(answer)
        await _send(send, answer, with_body=method != "HEAD")

    async def _wait(self, wait: Wait) -> Response:
        """Wait for the outcome without holding up the loop, and no longer than allowed."""
        if not _is_asyncio():
            return _other_loop()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome[Any]] = loop.create_future()

        def settle(outcome: Outcome[Any]) -> None:
            if not future.done():
                future.set_result(outcome)

        def tell(outcome: Outcome[Any]) -> None:
            loop.call_soon_threadsafe(settle, outcome)

        refused = wait.ask(tell)
        if refused is not None:
            return refused
        try:
            outcome = await asyncio.wait_for(future, wait.seconds)
        except TimeoutError:
            return wait.late()
        try:
            return wait.finish(outcome)
        except Exception as error:  # noqa: BLE001 - reason: law 2, no exception of ours reaches the host
            return self._site.failed(error)


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
    return refusal(503, "no asyncio", "this needs an event loop of asyncio")


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
