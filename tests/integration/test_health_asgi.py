"""The health application on a real uvicorn: alone, mounted, around another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from memguard import MemoryGuard
from memguard.report.health.asgi import HealthAsgi
from tests.contracts.health_contract import HealthContract
from tests.serving import TOKEN, Served, asgi_server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(120)


class TestOverAsgi(HealthContract):
    @staticmethod
    def serve(guard: Any, **options: Any) -> AbstractContextManager[Served]:
        return asgi_server(HealthAsgi(guard, **options))


@pytest.fixture
def guard() -> Iterator[MemoryGuard]:
    with MemoryGuard(limit="100GiB", interval=0.02, leaks=False) as guard:
        yield guard


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def below(site: Served, prefix: str) -> None:
    """Check that everything is there below *prefix*, and leads nowhere else."""
    assert site.ask(f"{prefix}/health/live").status == 200
    assert site.ask(f"{prefix}/memguard").status == 200
    assert site.ask(f"{prefix}/").status == 200
    assert site.ask(f"{prefix}/memguard/").headers["location"] == "../memguard"
    assert site.ask(f"{prefix}/nix").status == 404
    assert site.post(f"{prefix}/memguard/relieve", X_Memguard_Token=TOKEN).status == 200
    assert site.ask("/hello").text == "hello"
    assert "alive" not in site.ask("/health/live").text


def test_it_is_mounted_in_starlette(guard: MemoryGuard) -> None:
    health = HealthAsgi(guard, relieve_token=TOKEN)
    app = Starlette(routes=[Route("/hello", hello), Mount("/ops/here", health)])
    with asgi_server(app) as site:
        below(site, "/ops/here")


def test_it_is_mounted_in_fastapi(guard: MemoryGuard) -> None:
    app = FastAPI()
    app.add_route("/hello", hello)
    app.mount("/ops", HealthAsgi(guard, relieve_token=TOKEN))
    with asgi_server(app) as site:
        below(site, "/ops")


def test_it_works_below_the_root_path_of_a_server(guard: MemoryGuard) -> None:
    """As behind a proxy that takes the prefix away, which uvicorn is told of."""
    with asgi_server(HealthAsgi(guard), root_path="/behind") as site:
        assert site.ask("/health/live").status == 200
        assert site.ask("/memguard").status == 200


def test_it_answers_its_own_and_leaves_the_rest_to_the_application(guard: MemoryGuard) -> None:
    started = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            message = await receive()
            started.append(message["type"])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await PlainTextResponse(f"app {scope['path']}")(scope, receive, send)

    with asgi_server(HealthAsgi(guard, app)) as site:
        assert site.ask("/health/live").json == {"alive": True}
        assert site.ask("/memguard").status == 200
        for path in ("/", "/health", "/memguard/", "/other"):
            assert site.ask(path).text == f"app {path}"
    assert started == ["lifespan.startup"]


def test_the_loop_goes_on_while_memory_is_given_back(guard: MemoryGuard) -> None:
    """Everything that may take long is done in a thread of ours, none of the loop's."""
    begun, opened = threading.Event(), threading.Event()
    names: list[str] = []

    def slow() -> None:
        names.append(threading.current_thread().name)
        begun.set()
        assert opened.wait(30)

    answers = []
    health = HealthAsgi(guard, relieve_token=TOKEN, relieve_seconds=20)
    with guard.on_pressure(slow, deadline=30), asgi_server(health) as site:
        asking = threading.Thread(
            target=lambda: answers.append(site.post(X_Memguard_Token=TOKEN).status)
        )
        asking.start()
        try:
            wait_for(begun.is_set)
            assert site.ask("/health/live").status == 200
            assert answers == []
        finally:
            opened.set()
            asking.join(25)
    assert answers == [200]
    assert names == ["memguard-callbacks"]


def test_who_never_ends_a_form_is_not_waited_for(
    guard: MemoryGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memguard.report.health.asgi._BODY_SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/memguard/relieve", "headers": []}
    asyncio.run(asyncio.wait_for(HealthAsgi(guard, relieve_token=TOKEN)(scope, receive, send), 20))
    assert sent[0]["status"] == 408


def test_who_goes_away_within_a_form_gets_no_answer(guard: MemoryGuard) -> None:
    messages = iter([{"type": "http.request", "body": b"a", "more_body": True}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/memguard/relieve", "headers": []}
    asyncio.run(HealthAsgi(guard, relieve_token=TOKEN)(scope, receive, send))
    assert sent == []


def test_a_token_that_is_sent_twice_is_none(guard: MemoryGuard) -> None:
    """What a proxy in between takes for the token and what we take must not differ."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    header = (b"x-memguard-token", TOKEN.encode())
    scope = {"type": "http", "method": "POST", "path": "/memguard/relieve"}
    health = HealthAsgi(guard, relieve_token=TOKEN)
    asyncio.run(health({**scope, "headers": [header, header]}, receive, send))
    assert sent[0]["status"] == 403


def test_a_websocket_is_closed_and_another_kind_of_loop_is_told(guard: MemoryGuard) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    health = HealthAsgi(guard)
    asyncio.run(health({"type": "websocket", "path": "/memguard"}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
    sent.clear()
    health = HealthAsgi(guard, relieve_token=TOKEN)
    for method, path in (("GET", "/health/memory"), ("POST", "/memguard/relieve")):
        sent.clear()
        scope = {"type": "http", "method": method, "path": path, "headers": []}
        with pytest.raises(StopIteration):  # driven by hand, as by a loop that is not asyncio's
            health(scope, receive, send).send(None)
        assert sent[0]["status"] == 503
        assert b"asyncio" in sent[1]["body"]


def test_wrong_tokens_do_not_fill_the_log(
    guard: MemoryGuard, caplog: pytest.LogCaptureFixture
) -> None:
    with asgi_server(HealthAsgi(guard, relieve_token=TOKEN)) as site:
        for _ in range(20):
            assert site.post(X_Memguard_Token="x" * 20).status == 403
    assert caplog.text.count("health.relief_refused") == 1
    assert TOKEN not in caplog.text
