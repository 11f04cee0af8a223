"""Starlette, Flask and Django: one line each, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from memguard import ConfigError, LifecycleError, MemoryGuard
from memguard.integrations.web.flask import Memguard
from memguard.integrations.web.flask import request_scope as flask_scope
from memguard.integrations.web.requests import RequestWatch
from memguard.integrations.web.starlette import install, request_scope
from tests.web.waiting import wait_for_anyio


def converse(app: Any, scope: dict[str, Any], *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Be the server of *app* for one connection, and return what it sent."""
    sent: list[dict[str, Any]] = []
    waiting = list(messages)

    async def receive() -> Any:
        await asyncio.sleep(0)
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def go() -> None:
        await app(scope, receive, send)

    asyncio.run(go())
    wait_for_anyio()
    return sent


def test_a_socket_has_a_scope_until_it_is_gone() -> None:
    events: list[str] = []

    async def echo(socket: WebSocket) -> None:
        request_scope(socket).defer(events.append, "ended")
        await socket.accept()
        assert watch.statistics().in_flight == 1
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnect:
            events.append("left")

    app = Starlette(routes=[WebSocketRoute("/ws/{room}", echo)])
    watch = install(app)
    assert app.state.memguard is watch
    sent = converse(
        app,
        {"type": "websocket", "path": "/ws/secret", "headers": [], "query_string": b""},
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
        {"type": "websocket.disconnect", "code": 1001},
    )
    assert sent[1] == {"type": "websocket.send", "text": "hello"}
    assert events == ["left", "ended"]
    (row,) = watch.statistics().routes
    assert (row.method, row.route, row.sampled) == ("WEBSOCKET", "/ws/{room}", 0)
    assert watch.statistics().in_flight == 0


def test_an_application_that_serves_takes_no_middleware() -> None:
    app = Starlette()
    converse(app, {"type": "http", "method": "GET", "path": "/", "headers": []}, {})
    with pytest.raises(LifecycleError, match="where the application is made"):
        install(app)


def test_options_are_those_of_a_watch() -> None:
    with pytest.raises(ConfigError, match="sample"):
        install(Starlette(), sample=2)
    with pytest.raises(ConfigError, match="sample"):
        Memguard(Flask(__name__), sample=2)
    with pytest.raises(TypeError, match="unexpected"):
        install(Starlette(), smaple=1)
    with pytest.raises(TypeError, match="RequestWatch itself"):
        Memguard(watch=RequestWatch(), sample=0.5)


def test_a_flask_application_is_wrapped_once_and_before_it_serves() -> None:
    extension = Memguard()
    app = Flask(__name__)
    extension.init_app(app)
    assert app.extensions["memguard"] is extension
    with pytest.raises(LifecycleError, match="already"):
        extension.init_app(app)
    with pytest.raises(TypeError, match="must be a Flask"):
        extension.init_app(object())
    late = Flask(__name__)
    late.test_client().get("/")
    with pytest.raises(LifecycleError, match="begun to serve"):
        extension.init_app(late)
    assert late.wsgi_app.__name__ == "wsgi_app", "it is left as it was"


def test_a_flask_request_has_its_route_and_its_scope() -> None:
    app = Flask(__name__)
    extension = Memguard(app)
    closed: list[str] = []

    @app.route("/items/<name>", methods=["GET", "POST"])
    def item(name: str) -> str:
        flask_scope().defer(closed.append, name)
        return name

    client = app.test_client()
    client.get("/items/secret").close()
    client.get("/nowhere/secret").close()
    client.delete("/items/secret").close()
    assert closed == ["secret"]
    found = {(row.method, row.route) for row in extension.statistics().routes}
    assert found == {
        ("GET", "/items/<name>"),
        ("GET", "unmatched"),
        ("DELETE", "unmatched"),
    }


def test_a_flask_request_without_the_extension_has_no_scope() -> None:
    with Flask(__name__).test_request_context("/"), pytest.raises(LifecycleError, match="Memguard"):
        flask_scope()


def test_a_lifespan_is_run_twice_and_the_guard_with_it() -> None:
    guard = MemoryGuard(leaks=False, relief=False, interval=3600)
    running: list[bool] = []

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running.append(guard.status().running)
        yield
        running.append(guard.status().running)

    app = Starlette(lifespan=lifespan)
    install(app, guard=guard)
    for _ in range(2):
        sent = converse(
            app, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
        )
        assert [message["type"] for message in sent][-1] == "lifespan.shutdown.complete"
        assert not guard.status().running
    assert running == [True] * 4


DJANGO = """
import asyncio, sys
import django
from django.conf import settings
settings.configure(
    ROOT_URLCONF=__name__, LOGGING_CONFIG=None, ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["memguard.integrations.web.django.MemguardMiddleware"],
)
django.setup()
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import Client, AsyncClient, RequestFactory, override_settings
from django.urls import path
from memguard import ConfigError, LifecycleError, MemoryGuard, status
from memguard.integrations.web import django as integration
from memguard.integrations.web.django import request_scope, statistics
from tests.web.waiting import make_critical

def view(request, name):
    assert not request_scope(request).closed
    return HttpResponse(name)
async def aview(request, name):
    return HttpResponse(name)
urlpatterns = [path("items/<name>", view), path("async/<name>", aview)]

def routes():
    return {(row.method, row.route, row.count) for row in statistics().routes}
"""


def django_program(body: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO + body],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_django_clients_sync_and_async_are_served_and_counted() -> None:
    django_program("""
assert Client().get("/items/secret").content == b"secret"
assert Client().get("/nowhere/secret").status_code == 404
assert asyncio.run(AsyncClient().get("/async/secret")).content == b"secret"
assert asyncio.run(AsyncClient().get("/items/secret")).content == b"secret"
assert routes() == {
    ("GET", "/items/<name>", 2), ("GET", "/async/<name>", 1), ("GET", "unmatched", 1),
}, routes()
assert statistics().in_flight == 0
""")


def test_django_settings_are_checked_where_django_reads_them() -> None:
    django_program("""
for wrong, error in (({"sample": 2}, ConfigError), ({"smaple": 1}, TypeError), ("x", TypeError),
                     ({"guard": {"interval": 0}}, ConfigError)):
    with override_settings(MEMGUARD=wrong):
        try:
            Client().get("/items/secret")
        except error as said:
            assert str(said).startswith("in the setting MEMGUARD: "), said
            continue
        raise AssertionError(wrong)
for attempt in range(2):  # the guard of the first one does not stand in the way of the second
    with override_settings(MEMGUARD={"guard": {"leaks": False}, "smaple": 1}):
        try:
            Client().get("/items/secret")
        except TypeError as said:
            assert "smaple" in str(said), said
        else:
            raise AssertionError("smaple")
    try:
        status()
    except LifecycleError:
        continue
    raise AssertionError("the guard of an attempt that failed runs on")
with override_settings(MEMGUARD={"guard": {"leaks": False}}):
    Client().get("/items/secret")
    assert status().running
try:
    status()
except LifecycleError:
    pass
else:
    raise AssertionError("the guard was left installed")
try:
    request_scope(RequestFactory().get("/"))
except LifecycleError:
    pass
else:
    raise AssertionError("there is no scope")
""")


def test_django_refuses_work_while_memory_is_critical() -> None:
    django_program("""
with MemoryGuard(leaks=False, relief=False, interval=3600) as guard:
    make_critical(guard)
    with override_settings(MEMGUARD={"guard": guard, "admit": True, "retry_after": 9}):
        refused = Client().get("/items/secret")
        assert (refused.status_code, refused["Retry-After"]) == (503, "9")
        refused = asyncio.run(AsyncClient().get("/async/secret"))
        assert (refused.status_code, refused["Retry-After"]) == (503, "9")
        assert Client().get("/health/live").status_code == 404
        assert statistics().refused == 2
""")


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("starlette", "starlette", "web"),
        ("flask", "flask", "flask"),
        ("django", "django", "django"),
    ],
)
def test_a_missing_package_is_one_clear_sentence(module: str, package: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
import memguard.integrations.web.asgi, memguard.integrations.web.wsgi
try:
    import memguard.integrations.web.{module}
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert f"memguard-py[{extra}]" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_the_middleware_loads_no_framework() -> None:
    heavy = ["starlette", "flask", "django", "asyncio", "http", "werkzeug", "ctypes"]
    program = f"""
import sys, memguard.integrations.web.asgi, memguard.integrations.web.wsgi
print([name for name in {heavy} if name in sys.modules])
"""
    done: Any = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
