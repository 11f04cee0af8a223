"""How real servers are started with the application of `tests/served`."""

from __future__ import annotations

import sys

from tests.server_processes import SERVED, program

WORKERS = 2


def gunicorn(where: str, *options: str, asgi: bool = False) -> list[str]:
    maker, name = ("make_asgi()", "asgi") if asgi else ("make_app()", "app")
    return [
        *(sys.executable, "-m", "gunicorn", "-c", str(SERVED / "gunicorn.conf.py")),
        *("--no-control-socket", "-w", str(WORKERS), "-b", "unix:{socket}", *options),
        f"application:{maker if where == 'factory' else name}",
    ]


def uvicorn(where: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--uds", "{socket}", "--workers", str(WORKERS)),
        *(["--factory", "application:make_asgi"] if where == "factory" else ["application:asgi"]),
        *options,
    ]


def hypercorn(_where: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "hypercorn", "-b", "unix:{socket}", "-w", str(WORKERS), *options),
        "application:asgi",
    ]


def granian(where: str, *options: str) -> list[str]:
    interface = "wsgi" if "wsgi" in options else "asgi"
    name = "app" if interface == "wsgi" else "asgi"
    return [
        *(sys.executable, "-m", "granian", "--uds", "{socket}", "--interface", interface),
        *("--workers", str(WORKERS)),
        *(["--factory", f"application:make_{name}"] if where == "factory" else []),
        *([f"application:{name}"] if where != "factory" else []),
    ]


def uwsgi(_where: str, *options: str) -> list[str]:
    return [
        *(program("uwsgi") or "uwsgi", "--http-socket", "{socket}", "--master", "--die-on-term"),
        *("--processes", str(WORKERS), "--need-app", "--module", "application:app", *options),
    ]
