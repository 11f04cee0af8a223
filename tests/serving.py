"""Real servers on loopback for tests: uvicorn, and the standard library's for WSGI."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn

from tests.waiting import wait_for

TOKEN = "a-token-of-a-test-0123456789"  # noqa: S105 - reason: guards servers of tests for seconds


@dataclass(frozen=True)
class Answer:
    """What a server sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: str | bytes | None = None, **headers: str
    ) -> Answer:
        """Send one request; underscores in names of *headers* are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=25)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            found = connection.getresponse()
            lower = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, lower, found.read())
        finally:
            connection.close()

    def post(self, path: str = "/memguard/relieve", body: str = "", **headers: str) -> Answer:
        """Send a form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask(path, "POST", body, **{**kind, **headers})


@contextlib.contextmanager
def asgi_server(app: Any, **options: Any) -> Iterator[Served]:
    """Serve *app* by uvicorn in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, **{"lifespan": "on", "ws": "none", **options})
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started
        yield Served(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(25)
        listener.close()


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # With the usual five, a burst of connections is dropped and tried again seconds later.
    request_queue_size = 128


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def wsgi_server(app: Any) -> Iterator[Served]:
    """Serve *app* by wsgiref, a thread for each request."""
    server = make_server("127.0.0.1", 0, app, server_class=_Threads, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Served(server.server_port)
    finally:
        server.shutdown()
        thread.join(25)
        server.server_close()
