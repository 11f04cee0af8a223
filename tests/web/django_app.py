"""A Django project in one file: it leaks on one route, streams, and sends files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=["memguard.integrations.web.django.MemguardMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",  # noqa: S106 - reason: it protects nothing
    MEMGUARD={
        "sample": 1.0,
        "warmup": 5,
        "guard": {"leaks": False, "relief": False, "elevated": 0.97, "critical": 0.99},
        "admit": True,
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402 - reason: settings come first
from django.core.wsgi import get_wsgi_application  # noqa: E402 - reason: as above
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402 - reason: as above
from django.urls import include, path  # noqa: E402 - reason: as above

import memguard  # noqa: E402 - reason: as above
from memguard.integrations.web import django as integration  # noqa: E402 - reason: as above
from memguard.integrations.web.asgi import MemguardMiddleware as AsgiMiddleware  # noqa: E402 - reason: as above
from memguard.integrations.web.wsgi import MemguardMiddleware as WsgiMiddleware  # noqa: E402 - reason: as above

KEPT: list[bytes] = []
EVENTS: list[str] = []


def leaky(_request: Any, number: int) -> HttpResponse:
    """Keep 300 KiB forever."""
    KEPT.append(b"x" * 300_000)
    return HttpResponse(str(number))


async def leaky_async(_request: Any, number: int) -> HttpResponse:
    """Keep 300 KiB forever."""
    KEPT.append(b"x" * 300_000)
    return HttpResponse(str(number))


def fine(_request: Any, number: int) -> HttpResponse:
    """Take 300 KiB and give them back."""
    return HttpResponse(str(number + len(b"x" * 300_000) * 0))


def scoped(request: Any, name: str) -> HttpResponse:
    """Say when things end."""
    integration.request_scope(request).defer(EVENTS.append, f"{name}: scope")
    return HttpResponse(name)


async def scoped_async(request: Any, name: str) -> HttpResponse:
    """Say when things end, in a coroutine."""

    async def ended() -> None:
        EVENTS.append(f"{name}: awaited")

    request.memguard_scope.defer(ended)
    return HttpResponse(name)


def broken(request: Any) -> HttpResponse:
    """Raise."""
    request.memguard_scope.defer(EVENTS.append, "broken: scope")
    raise ZeroDivisionError


def stream(request: Any, blocks: int) -> StreamingHttpResponse:
    """Stream, for longer than the client may listen."""
    request.memguard_scope.defer(EVENTS.append, "stream: scope")

    def content() -> Iterator[bytes]:
        try:
            for _ in range(blocks):
                yield b"x" * 1000
        finally:
            EVENTS.append("stream: closed")

    return StreamingHttpResponse(content())


async def stream_async(request: Any, blocks: int) -> StreamingHttpResponse:
    """Stream from a coroutine."""

    async def ended() -> None:
        EVENTS.append("stream: awaited")

    request.memguard_scope.defer(ended)

    async def content() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield b"x" * 1000

    return StreamingHttpResponse(content())


def file(request: Any) -> FileResponse:
    """Send a file, through the server's own wrapper where it has one."""
    request.memguard_scope.defer(EVENTS.append, "file: scope")
    return FileResponse(open(__file__, "rb"))  # noqa: PTH123 - reason: the response closes it


def stats(_request: Any) -> JsonResponse:
    """Tell."""
    return JsonResponse(
        {
            **asdict(integration.statistics()),
            "events": EVENTS,
            "guard": memguard.status().running,
        }
    )


api = [
    path("leaky/<int:number>", leaky),
    path("leaky-async/<int:number>", leaky_async),
    path("fine/<int:number>", fine),
    path("scoped/<name>", scoped),
    path("scoped-async/<name>", scoped_async),
    path("broken", broken),
    path("stream/<int:blocks>", stream),
    path("stream-async/<int:blocks>", stream_async),
    path("file", file),
]
urlpatterns = [path("api/", include(api)), path("stats", stats)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
if os.environ.get("MEMGUARD_TEST_WRAPPED"):
    watch = integration._shared.watch()
    wsgi = WsgiMiddleware(wsgi, watch=watch)
    asgi = AsgiMiddleware(asgi, watch=watch)
