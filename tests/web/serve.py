"""
A real server on a free loopback port, as a process: ``python serve.py uvicorn module:app``.

It prints its port, and serves until its standard input ends.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

STDIN = 0


def main(kind: str, name: str) -> None:
    """Serve until standard input ends."""
    module, _, attribute = name.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    {"uvicorn": uvicorn, "wsgiref": wsgiref, "werkzeug": werkzeug}[kind](app)


def uvicorn(app: Any) -> None:
    """Serve ASGI."""
    import uvicorn as library  # noqa: PLC0415 - reason: one server a process

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = library.Server(library.Config(app, log_config=None, timeout_graceful_shutdown=5))
    at_end_of_input(lambda: setattr(server, "should_exit", True))
    say(listener.getsockname()[1])
    server.run(sockets=[listener])
    say("stopped")


def wsgiref(app: Any) -> None:
    """Serve WSGI with the standard library, one request at a time."""
    from wsgiref.simple_server import (  # noqa: PLC0415 - reason: one server a process
        WSGIRequestHandler,
        make_server,
    )

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - reason: its name there
            pass

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        at_end_of_input(server.shutdown)
        say(server.server_port)
        server.serve_forever(0.05)


def werkzeug(app: Any) -> None:
    """Serve WSGI in threads."""
    from werkzeug.serving import make_server  # noqa: PLC0415 - reason: one server a process

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    at_end_of_input(server.shutdown)
    say(server.server_port)
    server.serve_forever(0.05)


def say(what: object) -> None:
    """Tell the test."""
    print(what, flush=True)  # noqa: T201 - reason: the test reads it


def at_end_of_input(stop: Callable[[], object]) -> None:
    """Call *stop* when standard input ends, which it does when the test dies, too."""

    def wait() -> None:
        while os.read(STDIN, 4096):  # not sys.stdin: its lock would be held when the process ends
            pass
        stop()

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
