"""
A small service: a product page from a cache, a leak on request, and ``/metrics``.

``python -m examples.observability.app`` serves it in one process; for several there is
``gunicorn_conf.py`` beside this file. ``PORT`` and ``MEMGUARD_LIMIT`` may be set; port 0 takes a
free one and says which.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

import memguard

products: memguard.BoundedCache[int, bytes] = memguard.BoundedCache(maxsize=500, name="products")
leak: list[bytearray] = []

Answer = Callable[..., Any]


def metrics_app() -> Answer:
    """Return what answers a scrape: for this process, or for all workers of a server."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - reason: only in such a server

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # reason: theirs is untyped
        return make_wsgi_app(registry)
    from memguard.report.metrics.prometheus import MemguardCollector  # noqa: PLC0415 - reason: only in a server of one process

    return make_wsgi_app(MemguardCollector(memguard.install()).registry)


_metrics: list[Answer] = []


def app(environ: dict[str, Any], start_response: Answer) -> Iterable[bytes]:
    """Answer a request (WSGI, PEP 3333)."""
    path = environ["PATH_INFO"]
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if path == "/metrics":
        if not _metrics:
            _metrics.append(metrics_app())
        answer: Iterable[bytes] = _metrics[0](environ, start_response)
        return answer
    status, text = HTTPStatus.OK, "ok"
    if path == "/product":
        number = int(query.get("id", ["0"])[0])
        page = products.get(number)
        if page is None:
            page = products[number] = f"product {number}".encode().ljust(4096)
        text = page.decode()
    elif path == "/grow":
        leak.append(bytearray(b"x") * (int(query.get("mib", ["1"])[0]) << 20))
    elif path == "/free":
        leak.clear()
    elif path == "/pid":
        text = str(os.getpid())
    else:
        status, text = HTTPStatus.NOT_FOUND, "there is /product?id= /grow?mib= /free /pid /metrics"
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
    return [text.encode(), b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing about each request."""


def main() -> int:
    """Serve until interrupted."""
    memguard.install(interval=0.5)
    port = int(os.environ.get("PORT", "8000"))
    with make_server("127.0.0.1", port, app, _Server, _Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            pass
        finally:
            memguard.uninstall()
    return 0


if __name__ == "__main__":
    sys.exit(main())
