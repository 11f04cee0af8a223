"""Which route keeps memory? A Django project in one file, and what memguard says of it."""

import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
import httpx
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import memguard
from memguard.integrations.web.django import request_scope, statistics

reports: dict[int, str] = {}
closed: list[int] = []


def report(_request: HttpRequest, number: int) -> HttpResponse:
    """Render a report, and keep it: the leak."""
    reports[number] = f"report {number}".ljust(100_000)
    return HttpResponse("done")


def order(request: HttpRequest, number: int) -> HttpResponse:
    """Open something that ends with the request, whatever happens."""
    request_scope(request).defer(closed.append, number)
    return HttpResponse("done")


urlpatterns = [path("reports/<int:number>", report), path("orders/<int:number>", order)]


class Quiet(WSGIRequestHandler):
    """Log nothing."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    """Serve, send requests, and print the growth by route."""
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        MIDDLEWARE=["memguard.integrations.web.django.MemguardMiddleware"],
        ROOT_URLCONF=__name__,
        # A busy service measures a tenth of its requests or less.
        MEMGUARD={"guard": {"leaks": False}, "admit": True, "sample": 1.0},
    )
    django.setup()
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            for number in range(40):
                client.get(f"/reports/{number}")
                client.get(f"/orders/{number}")
        server.shutdown()
        thread.join()
    memguard.uninstall()  # a server would leave that to the end of the process

    print(f"orders closed: {len(closed)}")
    worst = statistics().routes[0]
    print(f"{worst.method} {worst.route} keeps most, {worst.count} requests")


if __name__ == "__main__":
    main()

# Prints:
# orders closed: 40
# GET /reports/<int:number> keeps most, 40 requests
