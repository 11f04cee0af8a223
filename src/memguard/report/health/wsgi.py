"""Health routes and the live page as a WSGI application: for gunicorn, Flask, Django."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from memguard.report.health.background import Outcome
from memguard.report.health.response import MOST_BODY, Request, Response, Wait
from memguard.report.health.site import GuardSource, HealthSite, HealthStatistics

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class HealthWsgi:
    """
    Tell how a guarded process is doing, over WSGI (PEP 3333).

    ``/health/live``, ``/health/ready``, ``/health/memory`` and ``/memguard``, below whatever path
    it is mounted at (``SCRIPT_NAME``). A request for numbers takes its worker for milliseconds, for
    five seconds at most; a relief run for *relieve_seconds* at most.

    Bounded by: five threads, each while it has something to do; 64 requests that wait for each; a
        body of 4 KiB; one relief run at a time.
    Locks: small ones around lists; none is held while anything is gathered or given back.
    Keeps alive: the guard, or the function that returns it, and *app*.

    Example:
        >>> from memguard import MemoryGuard
        >>> health = HealthWsgi(MemoryGuard(leaks=False))  # DispatcherMiddleware(app, {"/ops": …})

    Args:
        guard: The `MemoryGuard`, or a function that returns it, called at each request:
            ``memguard.install`` where each worker process installs its own.
        app: What is asked for every other path; None answers those with 404.
        relieve_token: Lets who knows it give memory back, by the button of the page or with
            ``X-Memguard-Token``; at least 16 characters. None: nobody can.
        read_token: Needed to see numbers; the probes never need it. None: everybody may.
        critical_is_unready: ``/health/ready`` answers 503 while memory is critical.
        refresh: Seconds between two questions of the page, 0.5 to 3600.
        relieve_seconds: Longest wait for a relief run, 0.1 to 300; one that takes longer goes on,
            and 202 is answered. Less than what the server allows a request (gunicorn: 30).

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    def __init__(
        self,
        guard: GuardSource,
        app: WsgiApp | None = None,
        *,
        relieve_token: str | None = None,
        read_token: str | None = None,
        critical_is_unready: bool = False,
        refresh: float | str = 2.0,
        relieve_seconds: float | str = 10.0,
    ) -> None:
        if app is not None and not callable(app):
            raise TypeError(f"app must be a WSGI application or None (got {type(app).__name__})")
        self._app = app
        self._site = HealthSite(
            guard,
            relieve_token=relieve_token,
            read_token=read_token,
            critical_is_unready=critical_is_unready,
            refresh=refresh,
            relieve_seconds=relieve_seconds,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, or have *app* answer it."""
        route = environ.get("PATH_INFO", "")
        if self._app is not None and not self._site.knows(route):
            return self._app(environ, start_response)
        method = environ["REQUEST_METHOD"]
        body: bytes | None = b""
        if self._site.wants_body(method, route):
            body = _body(environ)
        request = Request(
            method=method,
            route=route,
            mounted_at=environ.get("SCRIPT_NAME", ""),
            query=environ.get("QUERY_STRING", ""),
            headers=_headers(environ),
            body=body,
        )
        answer = self._site.answer(request)
        if isinstance(answer, Wait):
            answer = self._wait(answer)
        status = HTTPStatus(answer.status)
        start_response(f"{status.value} {status.phrase}", list(answer.headers))
        return [] if method == "HEAD" else [answer.body]

    def statistics(self) -> HealthStatistics:
        """Return what was answered so far. Thread-safe."""
        return self._site.statistics()

    def _wait(self, wait: Wait) -> Response:
        """Wait for the outcome, and no longer than allowed."""
        told = threading.Event()
        outcomes: list[Outcome[Any]] = []

        def tell(outcome: Outcome[Any]) -> None:
            outcomes.append(outcome)
            told.set()

        refused = wait.ask(tell)
        if refused is not None:
            return refused
        if not told.wait(wait.seconds):
            return wait.late()
        try:
            return wait.finish(outcomes[0])
        except Exception as error:  # noqa: BLE001 - reason: law 2, no exception of ours reaches the host
            return self._site.failed(error)


def _headers(environ: Environ) -> dict[str, str]:
    found = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    }
    found["content-type"] = environ.get("CONTENT_TYPE", "")
    return found


def _body(environ: Environ) -> bytes | None:
    """Return the body, None where it is too long; without a length nothing is read (PEP 3333)."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return b""
    if length > MOST_BODY:
        return None
    try:
        body: bytes = environ["wsgi.input"].read(length) if length > 0 else b""
    except OSError:  # the client went away
        return b""
    return body
