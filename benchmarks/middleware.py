"""
What the middleware costs a request: the same application bare and watched, without a server.

``python -m benchmarks.middleware`` calls Starlette, FastAPI, Flask and Django in turns, in slices
of some milliseconds within one process, and keeps the fastest slice of each. It does so in several
fresh processes and goes by the median. Without a server, a request is as cheap as it can be, and
the ratio as bad. It prints a table and writes it, with machine, Python and date, to
``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path as django_path
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.elsewhere import measure_elsewhere
from benchmarks.record import machine, write
from memguard.integrations.web import django as django_integration
from memguard.integrations.web import starlette
from memguard.integrations.web.asgi import MemguardMiddleware
from memguard.integrations.web.flask import Memguard
from memguard.integrations.web.requests import RequestWatch

Slice = Callable[[int], object]
"""Serves so many requests."""

SAMPLES = {"not measured": 0.0, "default": 0.05, "all measured": 1.0}
PER_SLICE = 100
PROCESSES = 5

Message = MutableMapping[str, Any]
Asgi = Callable[..., Awaitable[None]]


def asgi(app: Asgi) -> Slice:
    """Return a slice that calls an ASGI application."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        """Take it."""

    async def serve(times: int) -> None:
        for number in range(times):
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": f"/items/{number}",
                "raw_path": b"/items",
                "root_path": "",
                "query_string": b"",
                "headers": [(b"host", b"here")],
            }
            await app(scope, receive, send)

    loop = asyncio.new_event_loop()
    return lambda times: loop.run_until_complete(serve(times))


def wsgi(app: Callable[..., Any]) -> Slice:
    """Return a slice that calls a WSGI application."""

    def start_response(*_: object) -> None:
        """Take it."""

    def serve(times: int) -> None:
        for number in range(times):
            environ = {
                "REQUEST_METHOD": "GET",
                "SCRIPT_NAME": "",
                "PATH_INFO": f"/items/{number}",
                "QUERY_STRING": "",
                "SERVER_NAME": "here",
                "SERVER_PORT": "80",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "HTTP_HOST": "here",
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(),
                "wsgi.errors": sys.stderr,
            }
            body = app(environ, start_response)
            try:
                for _ in body:
                    pass
            finally:
                body.close()

    return serve


async def nothing(_scope: object, _receive: object, _send: object) -> None:
    """Be the cheapest application there is."""


def starlette_app() -> Starlette:
    """Return an application with one route."""

    async def item(_request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/items/{number:int}", item)])


def fastapi_app() -> FastAPI:
    """Return an application with one route."""
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int) -> int:
        return number

    return app


def flask_app() -> Flask:
    """Return an application with one route."""
    app = Flask("benchmark")

    @app.get("/items/<int:number>")
    def item(number: int) -> str:
        return str(number)

    return app


def django_item(_request: object, number: int) -> HttpResponse:
    """Answer."""
    return HttpResponse(str(number))


urlpatterns = [django_path("items/<int:number>", django_item)]


def django_app(options: dict[str, Any] | None) -> Any:
    """Return a project with one route, watched with *options*, or bare."""
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None)
        django.setup()
    name = f"{django_integration.__name__}.{django_integration.MemguardMiddleware.__name__}"
    settings.MIDDLEWARE = [] if options is None else [name]
    settings.MEMGUARD = options or {}
    django_integration._shared._changed(setting="MEMGUARD")  # noqa: SLF001 - reason: as a test that overrides settings
    return get_wsgi_application()


def contestants() -> dict[str, Slice]:
    """Return each framework, bare and watched."""
    found = {
        "nothing, bare": asgi(nothing),
        "Starlette, bare": asgi(starlette_app()),
        "FastAPI, bare": asgi(fastapi_app()),
        "Flask, bare": wsgi(flask_app()),
        "Django, bare": wsgi(django_app(None)),
    }
    for what, sample in SAMPLES.items():
        watched = MemguardMiddleware(nothing, watch=RequestWatch(sample=sample))
        found[f"nothing, {what}"] = asgi(watched)
        for name, app in (("Starlette", starlette_app()), ("FastAPI", fastapi_app())):
            starlette.install(app, sample=sample)
            found[f"{name}, {what}"] = asgi(app)
        flask = flask_app()
        Memguard(flask, sample=sample)
        found[f"Flask, {what}"] = wsgi(flask)
        found[f"Django, {what}"] = wsgi(django_app({"sample": sample}))
    return found


def measure(rounds: int) -> dict[str, float]:
    """Return the nanoseconds of a request of each, in its fastest slice."""
    slices = contestants()
    best = dict.fromkeys(slices, float("inf"))
    for serve in slices.values():
        serve(PER_SLICE)
    for _ in range(rounds):
        for name, serve in slices.items():
            began = time.perf_counter_ns()
            serve(PER_SLICE)
            best[name] = min(best[name], (time.perf_counter_ns() - began) / PER_SLICE)
    return best


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=30, help="slices of each (default 30)")
    parser.add_argument("--inner", action="store_true", help="measure in this process")
    options = parser.parse_args()
    if options.inner:
        print(json.dumps(measure(options.rounds)))
        return 0
    runs = [measure_elsewhere("benchmarks.middleware", options.rounds) for _ in range(PROCESSES)]
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    rows = []
    for name in runs[0]:
        bare = f"{name.partition(',')[0]}, bare"
        ratios = [run[name] / run[bare] for run in runs]
        rows.append(
            {
                "what": name,
                "microseconds": round(statistics.median(run[name] for run in runs) / 1000, 2),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_low": round(min(ratios), 3),
                "ratio_high": round(max(ratios), 3),
            }
        )
    for row in sorted(rows, key=lambda row: str(row["what"])):
        print("{what:<26}{microseconds:>9} µs  {ratio} ({ratio_low} to {ratio_high})".format(**row))
    write("middleware", about, {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
