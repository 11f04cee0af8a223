"""
Which route keeps memory? A FastAPI application, asked over loopback, and what memguard says of it.

Starlette is the same, with ``request_scope(request)`` in place of the dependency.
"""

import threading
from typing import Annotated

import httpx
import uvicorn
from fastapi import Depends, FastAPI

from memguard import MemoryGuard, Scope
from memguard.integrations.web.starlette import install, request_scope

app = FastAPI()
guard = MemoryGuard(leaks=False)
watch = install(app, guard=guard, admit=True, sample=1.0)  # a busy service measures a tenth or less
reports: dict[int, str] = {}


@app.get("/reports/{number}")
def report(number: int) -> int:
    """Render a report, and keep it: the leak."""
    reports[number] = f"report {number}".ljust(100_000)
    return number


@app.get("/orders/{number}")
async def order(number: int, scope: Annotated[Scope, Depends(request_scope)]) -> int:
    """Open something that ends with the request, whatever happens."""
    scope.defer(closed.append, number)
    return number


closed: list[int] = []


def main() -> None:
    """Serve, send requests, and print the growth by route."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for number in range(40):
            client.get(f"/reports/{number}")
            client.get(f"/orders/{number}")
    server.should_exit = True
    thread.join()

    print(f"orders closed: {len(closed)}; guard running: {guard.status().running}")
    worst = watch.statistics().routes[0]
    print(f"{worst.method} {worst.route} keeps most, {worst.count} requests")


if __name__ == "__main__":
    main()

# Prints:
# orders closed: 40; guard running: False
# GET /reports/{number} keeps most, 40 requests
