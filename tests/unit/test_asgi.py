"""The ASGI middleware: a scope for each request, messages and errors untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from memguard import LifecycleError, MemoryGuard, Scope
from memguard.integrations.web.asgi import MemguardMiddleware
from memguard.integrations.web.requests import RequestWatch
from memguard.integrations.web.starlette import install, request_scope
from tests.web.waiting import make_critical

Handler = Callable[[Any, Any, Any], Awaitable[None]]


def http(path: str = "/secret/42", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [], **more}


class Client:
    """The server's side of one connection."""

    def __init__(self, *messages: str) -> None:
        self.messages = [{"type": kind} for kind in messages]
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> Any:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))


def run(app: Handler, scope: dict[str, Any], *messages: str, **options: Any) -> tuple[Client, Any]:
    watch = RequestWatch(**{"sample": 1.0, "warmup": 0, **options})
    client = Client(*messages)
    asyncio.run(_serve(MemguardMiddleware(app, watch=watch), scope, client))
    return client, watch.statistics()


async def _serve(app: Handler, scope: dict[str, Any], client: Client) -> None:
    await app(scope, client.receive, client.send)


def test_a_server_that_leaves_a_field_empty_is_served() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    client, seen = run(app, http(root_path=None))
    assert (client.sent[0]["status"], seen.requests, seen.errors) == (204, 1, 0)


def test_the_scope_of_a_request_is_open_during_it_and_closed_after_it() -> None:
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        owned = scope["memguard.scope"]
        assert isinstance(owned, Scope)
        assert not owned.closed
        owned.defer(seen.append, "ended")

        async def later() -> None:
            await asyncio.sleep(0)
            seen.append("awaited")

        owned.defer(later)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        seen.append("answered")

    client, known = run(app, http())
    assert seen == ["answered", "awaited", "ended"]
    assert [message["type"] for message in client.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    assert (known.routes[0].count, known.in_flight) == (1, 0)


def test_an_error_passes_unchanged_and_the_scope_is_closed() -> None:
    mistake = ValueError("mine")
    kept: list[Scope] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        kept.append(scope["memguard.scope"])
        raise mistake

    watch = RequestWatch(sample=1.0)
    with pytest.raises(ValueError, match="mine") as caught:
        asyncio.run(_serve(MemguardMiddleware(app, watch=watch), http(), Client()))
    assert caught.value is mistake
    assert mistake.__cause__ is None
    assert kept[0].closed
    assert (watch.statistics().failed, watch.statistics().in_flight) == (1, 0)


def test_a_cancellation_passes_and_the_scope_is_closed_to_its_end() -> None:
    ended: list[str] = []

    async def slow_disposer() -> None:
        await asyncio.sleep(0.01)
        ended.append("disposed")

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        scope["memguard.scope"].defer(slow_disposer)
        await receive()

    async def go() -> None:
        client = Client()
        middleware = MemguardMiddleware(app, watch=watch)
        task = asyncio.create_task(_serve(middleware, http(), client))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    watch = RequestWatch()
    asyncio.run(go())
    assert ended == ["disposed"]
    assert watch.statistics().in_flight == 0


def test_a_coroutine_that_is_thrown_away_still_closes_its_scope() -> None:
    """As at the end of a loop that did not wait: nothing can be awaited, and nothing is."""
    ended: list[str] = []

    async def asynchronous() -> None:
        await asyncio.sleep(1)

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        scope["memguard.scope"].defer(ended.append, "ended")
        scope["memguard.scope"].defer(asynchronous)
        await receive()

    class Never:
        def __await__(self) -> Any:
            yield None

    async def receive() -> Any:
        await Never()

    watch = RequestWatch()
    coroutine = MemguardMiddleware(app, watch=watch)(http(), receive, Client().send)
    coroutine.send(None)
    coroutine.close()
    assert ended == ["ended"]
    assert watch.statistics().in_flight == 0


def test_a_middleware_within_another_leaves_the_request_to_it() -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        scope["memguard.scope"].defer(lambda: None)

    inner = RequestWatch()
    _, known = run(MemguardMiddleware(app, watch=inner), http())
    assert (known.requests, inner.statistics().requests) == (1, 0)


def test_a_scope_that_is_used_twice_serves_two_requests() -> None:
    """As by a server or a framework that tries again."""
    owned: list[Scope] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        assert not scope["memguard.scope"].closed
        owned.append(scope["memguard.scope"])

    middleware = MemguardMiddleware(app)
    scope = http()
    for _ in range(2):
        asyncio.run(_serve(middleware, scope, Client()))
    assert owned[0] is not owned[1]
    assert middleware.statistics().requests == 2


def test_a_health_check_behind_a_proxy_is_exempt() -> None:
    served: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        served.append(scope["path"])

    with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
        make_critical(guard)
        run(app, http("/api/health/live", root_path="/api"), guard=guard, admit=True)
        run(app, http("/api/work", root_path="/api"), guard=guard, admit=True)
    assert served == ["/api/health/live"]


def test_no_path_becomes_a_label() -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        scope["path_params"] = {"id": "42"}

    _, known = run(app, http())
    assert [row.route for row in known.routes] == ["unmatched"]
    assert "42" not in repr(known)


@pytest.mark.parametrize("route", ["/items/{id}", None, 5])
def test_an_application_may_name_its_route(route: Any) -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        scope["memguard.route"] = route

    _, known = run(app, http())
    assert known.routes[0].route == ("/items/{id}" if isinstance(route, str) else "unmatched")


def test_a_resolver_names_the_route() -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        scope["mine"] = "/mine/{id}"

    middleware = MemguardMiddleware(app, route=lambda scope: scope["mine"])
    asyncio.run(_serve(middleware, http(), Client()))
    assert middleware.statistics().routes[0].route == "/mine/{id}"


def test_unknown_kinds_of_connections_pass() -> None:
    kinds = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        kinds.append(scope["type"])

    _, known = run(app, {"type": "something new"})
    assert (kinds, known.requests) == (["something new"], 0)


def test_a_lifespan_passes_and_starts_and_stops_the_guard() -> None:
    guard = MemoryGuard(leaks=False, relief=False, interval=3600)
    running = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        running.append(guard.status().running)
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        running.append(guard.status().running)
        await send({"type": "lifespan.shutdown.complete"})

    client, _ = run(app, {"type": "lifespan"}, "lifespan.startup", "lifespan.shutdown", guard=guard)
    assert [message["type"] for message in client.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert running == [True, True]
    assert not guard.status().running


def test_an_application_without_lifespan_gets_its_guard_with_the_first_request() -> None:
    guard = MemoryGuard(leaks=False, relief=False, interval=3600)
    watch = RequestWatch(guard=guard)

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            raise RuntimeError("no lifespan here")

    middleware = MemguardMiddleware(app, watch=watch)
    with pytest.raises(RuntimeError):
        asyncio.run(_serve(middleware, {"type": "lifespan"}, Client("lifespan.startup")))
    assert not guard.status().running
    asyncio.run(_serve(middleware, http(), Client()))
    assert guard.status().running
    guard.stop()


async def _never(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("it must not be called")


@pytest.mark.parametrize(
    ("scope", "kinds", "status"),
    [
        (http(), ["http.response.start", "http.response.body"], 503),
        ({"type": "websocket", "path": "/"}, ["websocket.close"], None),
        (
            {"type": "websocket", "path": "/", "extensions": {"websocket.http.response": {}}},
            ["websocket.http.response.start", "websocket.http.response.body"],
            503,
        ),
    ],
)
def test_while_memory_is_critical_clients_are_told_to_come_back(
    scope: dict[str, Any], kinds: list[str], status: int | None
) -> None:
    with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
        make_critical(guard)
        client, known = run(_never, scope, "websocket.connect", guard=guard, admit=True)
    assert [message["type"] for message in client.sent] == kinds
    assert client.sent[0].get("status") == status
    if status:
        assert (b"retry-after", b"5") in client.sent[0]["headers"]
    else:
        assert client.sent[0]["code"] == 1013
    assert known.refused == 1


def test_wrong_options_are_refused() -> None:
    with pytest.raises(TypeError, match="route must be callable"):
        MemguardMiddleware(_never, route="/a")  # type: ignore[arg-type]  # reason: what is tested
    with pytest.raises(TypeError, match="RequestWatch"):
        MemguardMiddleware(_never, watch=5)  # type: ignore[arg-type]  # reason: what is tested
    with pytest.raises(TypeError, match=r"asgi\.MemguardMiddleware"):
        install(_never)  # type: ignore[arg-type]  # reason: what is tested


def test_a_request_without_the_middleware_has_no_scope() -> None:
    with pytest.raises(LifecycleError, match="install"):
        request_scope(Request(http()))
