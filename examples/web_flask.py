"""Which route keeps memory? A Flask application, asked over loopback, and what memguard says."""

import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
from flask import Flask

from memguard import MemoryGuard
from memguard.integrations.web.flask import Memguard, request_scope

app = Flask(__name__)
guard = MemoryGuard(leaks=False)
memguard = Memguard(app, guard=guard, admit=True, sample=1.0)  # a busy service measures less
reports: dict[int, str] = {}
closed: list[int] = []


@app.get("/reports/<int:number>")
def report(number: int) -> str:
    """Render a report, and keep it: the leak."""
    reports[number] = f"report {number}".ljust(100_000)
    return "done"


@app.get("/orders/<int:number>")
def order(number: int) -> str:
    """Open something that ends with the request, whatever happens."""
    request_scope().defer(closed.append, number)
    return "done"


class Quiet(WSGIRequestHandler):
    """Log nothing."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    """Serve, send requests, and print the growth by route."""
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}") as client:
            for number in range(40):
                client.get(f"/reports/{number}")
                client.get(f"/orders/{number}")
        server.shutdown()
        thread.join()
    guard.stop()  # a server would leave that to the end of the process

    print(f"orders closed: {len(closed)}")
    worst = memguard.statistics().routes[0]
    print(f"{worst.method} {worst.route} keeps most, {worst.count} requests")


if __name__ == "__main__":
    main()

# Prints:
# orders closed: 40
# GET /reports/<int:number> keeps most, 40 requests
