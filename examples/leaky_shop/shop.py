"""What the leaky shop and the repaired one have in common: routes, database, exports."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from . import db, signals

if TYPE_CHECKING:
    from starlette.requests import Request

    from .jobs import JobService

Endpoint = Callable[["Request"], Awaitable[Response]]

log = logging.getLogger("leaky_shop")

SHELF_ITEM = """\
<article class="card" data-visitor="{visitor}">
  <h3><a href="/products/{product.id}?from={visitor}">{product.name}</a></h3>
  <p>{product.teaser}</p>
  <p class="price">{euros:.2f} EUR</p>
</article>
"""


def database_path() -> Path:
    """Return where the shop's database is: ``SHOP_DATABASE``, or ``shop.sqlite3`` here."""
    return Path(os.environ.get("SHOP_DATABASE", "shop.sqlite3"))


def shelf_item(visitor: str, product: db.Product) -> str:
    """Return one product as HTML; the link remembers who came from where."""
    return SHELF_ITEM.format(visitor=visitor, product=product, euros=product.cents / 100)


def create_app(*, product_page: Endpoint, checkout: Endpoint, service: JobService) -> Starlette:
    """Return the shop around the parts in which the leaky and the repaired one differ."""

    async def ship(request: Request) -> Response:
        number = int(request.path_params["number"])
        signals.order_shipped.send(request.app, shipped=number)
        return JSONResponse({"shipped": number})

    async def start_export(_: Request) -> Response:
        return JSONResponse({"job": service.submit().id}, status_code=202)

    async def download_export(request: Request) -> Response:
        job = service.find(int(request.path_params["number"]))
        if job is None or job.csv is None:
            return JSONResponse({"state": "waiting, or gone"}, status_code=202)
        return PlainTextResponse(job.csv, media_type="text/csv")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        path = database_path()
        with contextlib.closing(db.connect(path)) as app.state.database:
            service.start(path)
            try:
                yield
            finally:
                service.stop()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/products/{number:int}", product_page),
            Route("/orders", checkout, methods=["POST"]),
            Route("/orders/{number:int}/ship", ship, methods=["POST"]),
            Route("/exports", start_export, methods=["POST"]),
            Route("/exports/{number:int}", download_export),
        ],
    )
