"""The same shop, repaired: its caches are bounded, and its listeners and timers end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from starlette.responses import HTMLResponse, JSONResponse, Response

from memguard import BoundedCache, ListenerRegistry, Scope, TimerRegistry
from memguard.bounded.timers import Timer

from . import db, jobs, signals
from .shop import create_app, log, shelf_item

if TYPE_CHECKING:
    from starlette.requests import Request


class Session(TypedDict):
    """What the shop remembers of a visitor."""

    since: float
    viewed: list[int]
    shelf: str


# Repair 1: the least recently seen visitor makes room for the next one.
SESSIONS: BoundedCache[str, Session] = BoundedCache(maxsize=200, ttl=1800, name="sessions")


def remember_session(visitor: str, product: db.Product, related: list[db.Product]) -> Session:
    """Render the visitor's shelf once, so that the next page need not."""
    shelf = "".join([shelf_item(visitor, other) for other in related])
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


class Unshipped(NamedTuple):
    """An order that waits, and what will happen if it waits too long."""

    payload: str
    reminder: Timer


# Repair 2: one listener for all orders, a bound on what waits for shipping, and listeners of a
# single order that end with its request. A reminder goes when its order goes, whatever the reason.
EVENTS = ListenerRegistry(name="shop events")
REMINDERS = TimerRegistry(maxsize=1_000, name="reminders")
UNSHIPPED: BoundedCache[int, Unshipped] = BoundedCache(
    maxsize=100,
    ttl=1800,
    name="unshipped orders",
    on_removal=lambda _number, order, _cause: order.reminder.close(),
)


@signals.order_shipped.connect
def confirm(_sender: object, *, shipped: int) -> None:
    """Confirm a shipped order to its customer."""
    order = UNSHIPPED.pop(shipped, None)
    payload = "shipped late: the mail goes out without its gift notes"
    if order is not None:
        payload = order.payload
    log.debug("order %d is on its way, %d bytes go into the mail", shipped, len(payload))


def remind(number: int) -> None:
    """Notify the warehouse of an order that was not shipped."""
    log.info("order %d has been waiting for twenty minutes", number)


async def checkout(request: Request) -> Response:
    """Place an order, and confirm it to the customer on the day it is shipped."""
    payload = (await request.body()).decode()
    with Scope(name="checkout") as scope:
        EVENTS.on(
            "order stored",
            lambda number: log.debug("order %d is stored, %d bytes", number, len(payload)),
            owner=scope,
        )
        number = db.add_order(request.app.state.database, json.loads(payload))
        EVENTS.emit("order stored", number)
    UNSHIPPED[number] = Unshipped(payload, REMINDERS.after("20m", remind, number))
    return JSONResponse({"order": number}, status_code=201)


class RepairedJobService(jobs.JobService):
    """
    Repair 3: a finished export waits for its download a quarter of an hour, and in company of 99.

    Bounded by: 100 finished jobs, besides those waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready: BoundedCache[int, jobs.Job] = BoundedCache(
            maxsize=100, ttl=900, name="finished exports"
        )

    def keep(self, job: jobs.Job) -> None:
        """Keep a finished *job* until its time or its place has run out."""
        self.ready[job.id] = job

    def find(self, number: int) -> jobs.Job | None:
        """Return the finished job with this *number*, or None."""
        job: jobs.Job | None = self.ready.get(number)
        return job


SERVICE = RepairedJobService()
app = create_app(product_page=product_page, checkout=checkout, service=SERVICE)
