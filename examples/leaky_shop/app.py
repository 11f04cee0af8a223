"""
The leaky shop. Three leaks, each as people write them; memguard knows none of them.

A ``planted:`` comment marks the line that allocates what leaks. Only the demo's own comparison
reads these marks.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, TypedDict

from starlette.responses import HTMLResponse, JSONResponse, Response

from . import db, jobs, signals
from .shop import create_app, log, shelf_item

if TYPE_CHECKING:
    from starlette.requests import Request


class Session(TypedDict):
    """What the shop remembers of a visitor."""

    since: float
    viewed: list[int]
    shelf: str


# Leak 1: a "cache" by session. Crawlers send no cookie, so that every hit is a new session.
SESSIONS: dict[str, Session] = {}


def remember_session(visitor: str, product: db.Product, related: list[db.Product]) -> Session:
    """Render the visitor's shelf once, so that the next page need not."""
    shelf = "".join([shelf_item(visitor, other) for other in related])  # planted: sessions
    session = SESSIONS[visitor] = Session(since=time.time(), viewed=[product.id], shelf=shelf)
    return session


async def product_page(request: Request) -> Response:
    """Show one product, with a shelf of others around it."""
    database = request.app.state.database
    visitor = request.cookies.get("visitor", "nobody")
    product = db.find_product(database, request.path_params["number"])
    if product is None:
        return JSONResponse({"error": "no such product"}, status_code=404)
    session = SESSIONS.get(visitor)
    if session is None:
        session = remember_session(visitor, product, db.related_products(database, product, 24))
    return HTMLResponse(f"<h1>{product.name}</h1>\n{session['shelf']}")


async def checkout(request: Request) -> Response:
    """Place an order, and confirm it to the customer on the day it is shipped."""
    payload = (await request.body()).decode()  # planted: listeners
    number = db.add_order(request.app.state.database, json.loads(payload))

    def confirm(_sender: object, *, shipped: int) -> None:
        if shipped == number:
            log.debug("order %d is on its way, %d bytes go into the mail", number, len(payload))

    # Leak 2: with weak=True the mails were lost, for nothing else holds the closure. Now the signal
    # holds every one of them, and each its order's payload, shipped or not.
    signals.order_shipped.connect(confirm, weak=False)
    return JSONResponse({"order": number}, status_code=201)


# Leak 3 is in jobs.py: the service keeps each finished export for its download, forever.
app = create_app(product_page=product_page, checkout=checkout, service=jobs.SERVICE)
