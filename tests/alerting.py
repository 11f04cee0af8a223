"""States made to order for rules, notices for sinks, and receivers that behave and misbehave."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from memguard import MemoryGuard
from memguard.relief.records import Alert, PressureState
from memguard.report.alerting.notice import Notice
from memguard.report.state import GuardState, guard_state

MIB = 1024**2
PATIENCE = 30.0
"""Seconds that a test waits before it fails: machines are busy."""


@functools.cache
def _plain() -> GuardState:
    guard = MemoryGuard(limit="1GiB")
    found = guard_state(guard)
    guard.close()
    return replace(found, containers=(), reports=(), alerts=(), running=True)


def state_of(
    *,
    ratio: float | None = 0.5,
    level: Any = "ok",
    private: int | None = 100 * MIB,
    tracer: int | None = None,
    watched: float | None = None,
    paused: float = 0.0,
    detector: Any = "watching",
    **changes: Any,
) -> GuardState:
    """Return plausible figures, with what a rule looks at as given."""
    found = _plain()
    used = None if ratio is None else int(ratio * 1000 * MIB)
    state = PressureState(
        level=level, used=used, limit=1000 * MIB, source="here", private=private, at=1.0
    )
    assert found.gc is not None
    assert found.detector is not None
    gc = None
    if watched is not None:
        young = replace(found.gc.generations[0], pause_total=paused)
        rest = tuple(replace(each, pause_total=0.0) for each in found.gc.generations[1:])
        gc = replace(found.gc, watched_seconds=watched, generations=(young, *rest))
    made: dict[str, Any] = {
        "pressure": state,
        "reading": replace(found.reading, anon=private, swap=None, rss=private, tracer=tracer),
        "gc": gc,
        "detector": replace(found.detector, state=detector),
        "time": 1_700_000_000.0,
    }
    if private is None:
        made["reading"] = replace(made["reading"], footprint=None)
    return replace(found, **{**made, **changes})


def pressure_alert(kind: Any, level: Any = "critical") -> Alert:
    return Alert(
        kind=kind,
        level=level,
        previous="ok",
        reasons=("it is full", "it grows"),
        used=900 * MIB,
        limit=1000 * MIB,
        source="here",
        time=1_700_000_000.0,
    )


def notice(number: int = 1, **changes: Any) -> Notice:
    fields: dict[str, Any] = {
        "id": f"{number:016x}",
        "fingerprint": "f" * 16,
        "status": "firing",
        "rule": "memory_used",
        "severity": "critical",
        "summary": f"number {number}",
        "facts": (("used", "900.0 MiB"),),
        "value": 0.9,
        "unit": "ratio",
        "started_at": 1_700_000_000.0,
        "time": 1_700_000_300.0,
        "guard": "shop",
        "host": "web-1",
        "pid": 42,
        "labels": (("env", "test"),),
    }
    return Notice(**{**fields, **changes})


@dataclass
class Answer:
    """What a receiver does with one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


class Receiver:
    """A real HTTP server on loopback that answers as told: first *answers*, then 200."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.times: list[float] = []
        remaining = list(answers)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = remaining.pop(0) if remaining else Answer()
                receiver.times.append(time.monotonic())
                receiver.requests.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # it may have hung up on a huge answer
                    self.wfile.write(answer.body)

            def do_GET(self) -> None:
                receiver.requests.append((self.path, dict(self.headers), None))
                self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-path"

    @property
    def summaries(self) -> list[str]:
        return [body["summary"] for _, _, body in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Conversation = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def rogue(converse: Conversation, *, accept: bool = True) -> Iterator[int]:
    """
    Yield the port of a server that does *converse* with each connection, all in their own threads.

    With ``accept=False`` it never accepts: the system completes the connection, nobody reads it.
    """
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    threads: list[threading.Thread] = []

    def one(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(PATIENCE)
            converse(peer, over)

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                peer, _ = server.accept()
                threads.append(threading.Thread(target=one, args=(peer,), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=serve, daemon=True)
    if accept:
        acceptor.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        if accept:
            acceptor.join(PATIENCE)
        server.close()
        for thread in threads:
            thread.join(PATIENCE)


def hang(peer: socket.socket, over: threading.Event) -> None:
    """Take everything and never answer."""
    peer.settimeout(0.05)
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            if not peer.recv(65536):
                over.wait(0.01)


def reset(peer: socket.socket, over: threading.Event) -> None:
    """Take something and slam the door."""
    del over
    peer.recv(100)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip(peer: socket.socket, over: threading.Event) -> None:
    """Answer with a byte now and then, forever: no single wait is long."""
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.02):
        peer.sendall(b"X")


def flood(peer: socket.socket, over: threading.Event) -> None:
    """Answer with headers and no end."""
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    line = b"X-Filling: " + b"x" * 60_000 + b"\r\n"
    while not over.is_set():
        peer.sendall(line)


def unused_port() -> int:
    """
    Return a port where nobody listens.

    It is below those that the system gives out: of these another server might be given it, and a
    client that tries it again and again is at last given it itself, and connects to itself (RFC
    9293, 3.5: a simultaneous open).
    """
    choice = random.SystemRandom()  # the seed of the tests is the same in others beside this one
    while True:
        port = choice.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
