"""A load that saturates the demo shop, and the server process as seen from the load's side."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from examples.leaky_shop import db

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.shop_server import Figures, State

ROOT = Path(__file__).parents[1]
CONNECTIONS = 4


def requests(count: int, *, first_visitor: int, seed: int = 1) -> list[bytes]:
    """
    Return *count* encoded requests, the same for the same *seed*: pages, orders, shipments.

    Each page is for a visitor never seen before, numbered from *first_visitor*, so that no slice
    finds its sessions in the cache. No exports: their worker thread would carry work from one slice
    into the next.
    """
    dice = random.Random(seed)  # noqa: S311 - reason: a repeatable load, no secret
    made = []
    for visitor in range(first_visitor, first_visitor + count):
        kind = dice.choices(("page", "order", "ship"), weights=(60, 30, 10))[0]
        if kind == "page":
            cookie = f"cookie: visitor=v{visitor:08d}"
            path = f"/products/{dice.randint(1, db.PRODUCTS)}"
            made.append(f"GET {path} HTTP/1.1\r\nhost: shop\r\n{cookie}\r\n\r\n")
        elif kind == "ship":
            path = f"/orders/{dice.randint(1, 200)}/ship"
            made.append(f"POST {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n")
        else:
            lines = [{"product": n + 1, "pieces": 1, "gift_note": "x" * 200} for n in range(20)]
            body = json.dumps({"customer": "customer-1", "lines": lines})
            head = f"POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: {len(body)}\r\n\r\n"
            made.append(head + body)
    return [request.encode() for request in made]


class Load:
    """
    Keeps the server busy: a few connections, each with its next request out when its answer is in.

    Bounded by: four connections. Locks: none, one thread. Keeps alive: its sockets, until close.
    """

    def __init__(self, port: int) -> None:
        self._files = []
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._files.append(connection.makefile("rwb"))
            connection.close()  # the file keeps it open

    def __call__(self, wanted: Sequence[bytes]) -> float:
        """Send all of *wanted*, await every answer, and return the seconds it took."""
        begin = time.perf_counter()
        for number, request in enumerate(wanted):
            file = self._files[number % CONNECTIONS]
            if number >= CONNECTIONS:
                self._answer(file)
            file.write(request)
            file.flush()
        for number in range(len(wanted), len(wanted) + min(CONNECTIONS, len(wanted))):
            self._answer(self._files[number % CONNECTIONS])
        return time.perf_counter() - begin

    def close(self) -> None:
        """Close all connections."""
        for file in self._files:
            file.close()

    def _answer(self, file: Any) -> None:
        status = file.readline()
        if status[9:10] != b"2":
            raise RuntimeError(f"the shop answered {status!r}: this run measures nothing")
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        file.read(length)


class Server:
    """The server process, seen from the load's side. Bounded by: one child. Locks: none."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.port = int(self._line())

    def ask(self, line: State | Literal["read"]) -> Figures:
        """Send one *line* to the switch and return its figures."""
        if self._child.stdin is None:
            raise RuntimeError("the server has no standard input")
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()
        figures: Figures = json.loads(self._line())
        return figures

    def _line(self) -> str:
        line = self._child.stdout.readline() if self._child.stdout else ""
        if not line:
            raise RuntimeError(f"the server ended with {self._child.poll()}")
        return line


@contextlib.contextmanager
def server(interval: float) -> Iterator[Server]:
    """Run the shop in a child process; it has ended when the block is left."""
    with tempfile.TemporaryDirectory(prefix="memguard-overhead-") as directory:
        database = Path(directory) / "shop.sqlite3"
        db.create(database)
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.shop_server"),
                *("--interval", str(interval)),
            ],
            cwd=ROOT,
            env={**os.environ, "SHOP_DATABASE": str(database)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Server(child)
            if child.stdin is not None:
                child.stdin.close()
            child.wait(timeout=30)
        finally:
            child.kill()
            child.wait()
