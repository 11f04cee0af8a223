"""The middleware in real frameworks behind real servers, asked over loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.timeout(180)  # the first test of a server waits for its start, too

WEB = Path(__file__).parents[1] / "web"
PATIENCE = 30.0
FASTAPI = ("uvicorn", "fastapi_app:app")
FLASK = ("wsgiref", "flask_app:app")
FLASK_THREADS = ("werkzeug", "flask_app:app")
DJANGO = ("wsgiref", "django_app:wsgi")
DJANGO_ASGI = ("uvicorn", "django_app:asgi")
TEMPLATES = {
    FASTAPI: "/api/{}/{{number}}",
    FLASK: "/api/{}/<int:number>",
    FLASK_THREADS: "/api/{}/<int:number>",
    DJANGO: "/api/{}/<int:number>",
    DJANGO_ASGI: "/api/{}/<int:number>",
}


def client_of(port: int) -> httpx.Client:
    # A connection for each request: one that a server closes after an error cannot be used again.
    alone = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, limits=alone)


class Site:
    """A running server and a client for it."""

    def __init__(self, process: subprocess.Popen[str], client: httpx.Client, port: int) -> None:
        self.process = process
        self.client = client
        self.port = port

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/stats").json()
        return found

    def route(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = [
            row for row in self.stats()["routes"] if name in row["route"]
        ]
        assert len(found) == 1, self.stats()["routes"]
        return found[0]

    def wait_for_events(self, since: int, *events: str) -> None:
        self.wait_until(lambda seen: seen["events"][since:] == list(events))

    @property
    def event_count(self) -> int:
        return len(self.stats()["events"])

    def wait_until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition(seen := self.stats()):
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)


@contextmanager
def serving(server: tuple[str, str], **environment: str) -> Iterator[Site]:
    process = subprocess.Popen(
        [sys.executable, str(WEB / "serve.py"), *server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    assert process.stdin
    assert process.stdout
    try:
        port = int(process.stdout.readline())
        with client_of(port) as client:
            yield Site(process, client, port)
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.stdout.close()


class Sites(dict[tuple[str, str], Site]):
    """Each server is started once, when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self.stack = stack

    def __missing__(self, server: tuple[str, str]) -> Site:
        site = self[server] = self.stack.enter_context(serving(server))
        return site


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    with ExitStack() as stack:
        yield Sites(stack)


def each(*servers: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", servers, ids="-".join)


def measured(running: Site, *routes: str) -> bool:
    """Return whether enough requests of each of these routes were measured."""
    return all(running.route(name)["sampled"] >= 10 for name in routes)


@each(*TEMPLATES)
def test_growth_is_told_by_route_and_the_right_one_is_blamed(
    sites: Sites, server: tuple[str, str]
) -> None:
    running = sites[server]
    deadline = time.monotonic() + PATIENCE
    rounds = 0
    # A client may be faster than the end of its request, which is then not measured.
    while rounds < 35 or not measured(running, "leaky/", "/fine"):
        assert time.monotonic() < deadline, running.stats()
        assert running.get(f"/api/fine/{rounds}").status_code == 200
        assert running.get(f"/api/leaky/{rounds}").status_code == 200
        rounds += 1
    running.wait_until(lambda seen: seen["in_flight"] == 1)
    leaky, fine = running.route("leaky/"), running.route("/fine")
    assert leaky["route"] == TEMPLATES[server].format("leaky")
    assert fine["route"] == TEMPLATES[server].format("fine")
    assert leaky["count"] == fine["count"] == rounds
    assert 250_000 < leaky["mean_bytes"] < 400_000
    assert abs(fine["mean_bytes"]) < 50_000


@each(*TEMPLATES)
def test_no_path_becomes_a_label_and_nothing_stays_in_flight(
    sites: Sites, server: tuple[str, str]
) -> None:
    running = sites[server]
    for number in range(3):
        assert running.get(f"/nowhere/{number}").status_code == 404
    seen = running.stats()
    assert seen["guard"], "the guard of the application is running"
    assert "/nowhere" not in repr(seen["routes"])
    running.wait_until(lambda seen: seen["in_flight"] == 1)
    assert running.route("unmatched")["count"] >= 3


@pytest.mark.parametrize(
    ("server", "events"),
    [
        (FASTAPI, ["bob: background", "bob: scope"]),
        (FLASK, ["bob: response", "bob: scope"]),
        (DJANGO, ["bob: scope"]),
        (DJANGO_ASGI, ["bob: scope"]),
    ],
)
def test_the_scope_ends_after_the_response(
    sites: Sites, server: tuple[str, str], events: list[str]
) -> None:
    running = sites[server]
    since = running.event_count
    assert "bob" in running.get("/api/scoped/bob").text
    running.wait_for_events(since, *events)
    assert running.get("/api/broken").status_code == 500
    running.wait_for_events(since, *events, "broken: scope")
    running.wait_until(lambda seen: seen["in_flight"] == 1)  # it is counted after its scope
    # Flask answers for what its views raise, and nothing comes out of it.
    assert running.route("/api/broken")["failed"] == (0 if server == FLASK else 1)


@each(FASTAPI, FLASK, DJANGO)
def test_a_client_that_goes_away_leaves_nothing_open(sites: Sites, server: tuple[str, str]) -> None:
    running = sites[server]
    since = running.event_count
    with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as connection:
        request = b"GET /api/stream/1000000 HTTP/1.1\r\nHost: here\r\n\r\n"
        connection.sendall(request)
        assert connection.recv(1000)
    running.wait_until(lambda seen: "stream: scope" in seen["events"][since:])
    running.wait_until(lambda seen: seen["in_flight"] == 1)
    assert "stream: all" not in running.stats()["events"][since:]


@pytest.mark.parametrize(
    ("server", "path", "events"),
    [
        (FASTAPI, "/api/stream/5", ["stream: all", "stream: scope"]),
        (FLASK, "/api/stream/5", ["stream: closed", "stream: scope"]),
        (DJANGO, "/api/stream/5", ["stream: closed", "stream: scope"]),
        (DJANGO_ASGI, "/api/stream-async/5", ["stream: awaited"]),
        (DJANGO_ASGI, "/api/scoped-async/bob", ["bob: awaited"]),
    ],
)
def test_a_stream_is_whole_and_its_scope_ends_after_it(
    sites: Sites, server: tuple[str, str], path: str, events: list[str]
) -> None:
    running = sites[server]
    since = running.event_count
    assert len(running.get(path).content) in (3, 5000)
    running.wait_for_events(since, *events)


@each(FLASK, DJANGO, DJANGO_ASGI)
def test_a_file_is_sent_whole(sites: Sites, server: tuple[str, str]) -> None:
    running = sites[server]
    since = running.event_count
    module = server[1].partition(":")[0]
    assert running.get("/api/file").content == (WEB / f"{module}.py").read_bytes()
    running.wait_until(lambda seen: "file: scope" in seen["events"][since:])
    running.wait_until(lambda seen: seen["in_flight"] == 1)


@each(DJANGO, DJANGO_ASGI)
def test_django_inside_the_server_middleware_only_names_the_route(server: tuple[str, str]) -> None:
    with serving(server, MEMGUARD_TEST_WRAPPED="1") as running:
        for number in range(3):
            running.get(f"/api/leaky/{number}")
        running.get("/api/scoped/bob")
        running.wait_for_events(0, "bob: scope")
        running.wait_until(lambda seen: seen["in_flight"] == 1)
        assert running.route("/leaky/")["route"] == TEMPLATES[server].format("leaky")
        assert running.route("/leaky/")["count"] == 3


def test_the_lifespan_starts_and_stops_the_guard() -> None:
    with serving(FASTAPI) as running:
        assert running.stats()["guard"]
        assert running.process.stdin
        running.process.stdin.close()
        running.client.close()
        assert running.process.wait(PATIENCE) == 0
        assert running.process.stdout
        assert running.process.stdout.read() == "stopped\n"


GUNICORN = ("sync", "gthread")


@pytest.mark.parametrize("worker", GUNICORN)
def test_gunicorn_with_a_preloaded_application(worker: str, tmp_path: Path) -> None:
    """The guard is started in the worker, and files go by its own wrapper."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "1", "--threads", "4"),
            *("--worker-class", worker, "--bind", f"fd://{listener.fileno()}"),
            *("--pythonpath", str(WEB), "--worker-tmp-dir", str(tmp_path), "flask_app:app"),
        ],
        pass_fds=[listener.fileno()],
        stdout=log,
        stderr=log,
        text=True,
    )
    listener.close()
    try:
        with client_of(port) as client:
            running = Site(process, client, port)
            assert running.stats()["guard"], (tmp_path / "log").read_text()
            rounds = 0
            while rounds < 20 or not measured(running, "/leaky/"):
                assert rounds < 1000, running.stats()
                running.get(f"/api/leaky/{rounds}")
                rounds += 1
            assert running.get("/api/file").content == (WEB / "flask_app.py").read_bytes()
            running.wait_until(lambda seen: seen["in_flight"] == 1)
            assert running.stats()["events"] == ["file: wrapper", "file: scope"]
            leaky = running.route("/leaky/")
            assert leaky["count"] == rounds
            assert 150_000 < leaky["mean_bytes"] < 600_000
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            log.close()
