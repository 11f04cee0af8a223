"""The template of a route, asked of the real routers: never what the client wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from memguard.integrations.web.asgi import MemguardMiddleware
from memguard.integrations.web.starlette import install
from memguard.integrations.web.templates import template_of
from tests.web.waiting import wait_for_anyio

HERE = Path(__file__).parent


async def ok(_request: Request) -> Response:
    return PlainTextResponse("ok")


def starlette() -> Starlette:
    deep = Mount("/deep/{kind}", app=Starlette(routes=[Route("/f/{name}", ok)]))
    return Starlette(
        routes=[
            Route("/", ok),
            Route("/items/{id:int}", ok),
            Route("/both/{id}", ok, methods=["GET"]),
            Route("/both/{other}", ok, methods=["POST"]),
            Mount("/{tenant}/api", routes=[Route("/users/{name}", ok), deep]),
            Host("{sub}.example.org", Router([Route("/hosted/{id}", ok)])),
            Mount("/static", StaticFiles(directory=HERE)),
            Mount("/raw", app=PlainTextResponse("raw")),
        ]
    )


def fastapi() -> FastAPI:
    inner = APIRouter(prefix="/inner")
    outer = APIRouter(prefix="/outer")
    nested = FastAPI()

    async def answer(secret: str) -> str:
        return secret

    inner.get("/x/{secret}")(answer)
    inner.post("/x/{secret}")(answer)
    outer.get("/y/{secret}")(answer)
    outer.include_router(inner)
    app = FastAPI()
    app.get("/items/{secret}")(answer)
    app.include_router(outer)
    app.include_router(outer, prefix="/again")
    app.add_route("/plain/{secret}", ok)
    nested.get("/in/{secret}")(answer)
    app.mount("/sub/{tenant}", nested)
    return app


STARLETTE = [
    ("GET", "/", "/"),
    ("GET", "/items/42", "/items/{id}"),
    ("HEAD", "/items/42", "/items/{id}"),
    ("POST", "/items/42", "/items/{id}"),
    ("POST", "/both/secret", "/both/{other}"),
    ("GET", "/items/secret", "unmatched"),
    ("GET", "/secret/api/users/secret", "/{tenant}/api/users/{name}"),
    ("GET", "/secret/api/deep/secret/f/secret", "/{tenant}/api/deep/{kind}/f/{name}"),
    ("GET", "/secret/api/secret", "/{tenant}/api/{path}"),
    ("GET", f"/static/{Path(__file__).name}", "/static/{path}"),
    ("GET", "/static/secret", "/static/{path}"),
    ("GET", "/raw/secret", "/raw/{path}"),
    ("GET", "/secret", "unmatched"),
]
FASTAPI = [
    ("GET", "/items/secret", "/items/{secret}"),
    ("GET", "/outer/y/secret", "/outer/y/{secret}"),
    ("GET", "/outer/inner/x/secret", "/outer/inner/x/{secret}"),
    ("POST", "/outer/inner/x/secret", "/outer/inner/x/{secret}"),
    ("GET", "/again/outer/inner/x/secret", "/again/outer/inner/x/{secret}"),
    ("GET", "/plain/secret", "/plain/{secret}"),
    ("GET", "/docs", "/docs"),
    ("GET", "/sub/secret/in/secret", "/sub/{tenant}/in/{secret}"),
    ("GET", "/sub/secret/docs", "/sub/{tenant}/docs"),
    ("GET", "/secret", "unmatched"),
]


class Copying:
    """A middleware that hands on a copy of the scope, so that what a router writes is lost."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


def ask(app: Any, method: str, path: str, **options: Any) -> None:
    async def go() -> None:
        transport = httpx.ASGITransport(app, **options)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            await client.request(method, path)

    asyncio.run(go())
    wait_for_anyio()


@pytest.mark.parametrize("copying", [False, True], ids=["", "copied"])
@pytest.mark.parametrize("way", ["installed", "around"])
@pytest.mark.parametrize(
    ("make", "method", "path", "template"),
    [(starlette, *case) for case in STARLETTE] + [(fastapi, *case) for case in FASTAPI],
)
def test_a_request_is_known_by_its_template(  # noqa: PLR0917 - reason: columns of the table
    make: Any,
    method: str,
    path: str,
    template: str,
    way: str,
    copying: bool,  # noqa: FBT001 - reason: as above
) -> None:
    app: Any = make()
    if copying:
        app.user_middleware.append(Middleware(Copying))
    if way == "installed":
        watch = install(app)
    else:
        app = MemguardMiddleware(app)
        watch = app.watch
    ask(app, method, path)
    (row,) = watch.statistics().routes
    if copying and way == "around":
        # The application itself is known only by what it has written.
        assert row.route == template
    assert (row.method, row.route) == (method, template)
    assert watch.statistics().errors == 0


@pytest.mark.parametrize("root_path", ["", "/proxied", "/proxied/deeply"])
def test_the_path_of_a_proxy_is_no_part_of_the_template(root_path: str) -> None:
    for make, path, template in (
        (starlette, "/items/42", "/items/{id}"),
        (starlette, "/secret/api/users/secret", "/{tenant}/api/users/{name}"),
        (fastapi, "/outer/inner/x/secret", "/outer/inner/x/{secret}"),
        (fastapi, "/sub/secret/in/secret", "/sub/{tenant}/in/{secret}"),
    ):
        app: Any = make()
        watch = install(app)
        ask(app, "GET", root_path + path, root_path=root_path)
        assert [row.route for row in watch.statistics().routes] == [template]


def test_a_host_is_no_label() -> None:
    app = starlette()
    watch = install(app)

    async def go() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://secret.example.org"
        ) as client:
            await client.get("/hosted/secret")

    asyncio.run(go())
    assert [row.route for row in watch.statistics().routes] == ["/hosted/{id}"]


def test_a_bare_router_is_asked_as_well() -> None:
    middleware = MemguardMiddleware(Router([Route("/items/{id}", ok)]))
    ask(middleware, "GET", "/items/secret")
    assert [row.route for row in middleware.statistics().routes] == ["/items/{id}"]


@pytest.mark.parametrize(
    "scope",
    [
        {"path": "/secret"},
        {"path": "/secret", "app": object()},
        {"path": "/secret", "route": object()},
        {"path": "/secret", "route": object(), "fastapi": None, "router": 5},
    ],
)
def test_what_is_no_router_has_no_template(scope: dict[str, Any]) -> None:
    assert template_of({"type": "http", "method": "GET", **scope}, "") is None


def test_a_prefix_that_cannot_be_told_is_a_star() -> None:
    route = Route("/users/{name}", ok)
    scope = {"type": "http", "path": "/secret/users/secret", "route": route}
    assert template_of({**scope, "root_path": "/secret"}, "") == "/*/users/{name}"
