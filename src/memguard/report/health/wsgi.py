"""Health routes and the live page as a WSGI application: for gunicorn, Flask, Django."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from memguard.report.health.application import HealthApplication
from memguard.report.health.http import MOST_BODY, Replies, Request, Response, Wait

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]


class HealthWsgi(HealthApplication[WsgiApp]):
    """
    Show how a guarded process is doing, over WSGI (PEP 3333).

    ``/health/live``, ``/health/ready``, ``/health/memory`` and ``/memguard``, below whatever path
    it is mounted at (``SCRIPT_NAME``). A request for numbers takes its worker for milliseconds, for
    five seconds at most; a relief run for *relieve_seconds* at most: choose less than what the
    server allows a request (gunicorn: 30).

    Bounded by, Locks, Keeps alive, options: see `HealthApplication`.

    Example:
        >>> from memguard import MemoryGuard
        >>> health = HealthWsgi(MemoryGuard(leaks=False))  # DispatcherMiddleware(app, {"/ops": …})
    """

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, or have *app* answer it."""
        route = environ.get("PATH_INFO", "")
        app = self._app_for(route)
        self._notice_server(environ.get("SERVER_NAME"))
        if app is not None:
            return app(environ, start_response)
        method = environ["REQUEST_METHOD"]
        body: bytes | None = b""
        if self._wants_body(method, route):
            try:
                body = _body(environ)
            except _NoBodyError as error:
                refused = Replies.to(_headers(environ)).refuse(*error.args)
                return _sent(refused, method, start_response)
        request = Request(
            method=method,
            route=route,
            mounted_at=environ.get("SCRIPT_NAME", ""),
            query=environ.get("QUERY_STRING", ""),
            headers=_headers(environ),
            body=body,
        )
        answer = self._answer(request)
        if isinstance(answer, Wait):
            answer = self._waited(answer)
        return _sent(answer, method, start_response)

    def _waited(self, wait: Wait) -> Response:
        """Wait, and no longer than allowed."""
        try:
            wait.future.exception(wait.seconds)
        except TimeoutError:
            return wait.late()
        return self._finished(wait)


class _NoBodyError(Exception):
    """The form cannot be read: a status, a name and a message."""


def _sent(answer: Response, method: str, start_response: StartResponse) -> Iterable[bytes]:
    status = HTTPStatus(answer.status)
    start_response(f"{status.value} {status.phrase}", list(answer.headers))
    return [] if method == "HEAD" else [answer.body]


def _headers(environ: Environ) -> dict[str, str]:
    found = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    }
    found["content-type"] = environ.get("CONTENT_TYPE", "")
    return found


def _body(environ: Environ) -> bytes | None:
    """
    Return the body, None if it is too long.

    Raises:
        _NoBodyError: It has no length, as a chunked one, which PEP 3333 cannot end; or it is cut
            short. What it asked for would be lost, and everything freed.
    """
    given = str(environ.get("CONTENT_LENGTH") or "").strip()
    if environ.get("HTTP_TRANSFER_ENCODING") or (given and not given.isdecimal()):
        raise _NoBodyError(411, "length required", "The form must have a Content-Length.")
    length = int(given[:20] or 0)
    if length > MOST_BODY:
        return None
    try:
        body: bytes = environ["wsgi.input"].read(length) if length > 0 else b""
    except OSError:  # the client went away
        body = b""
    if len(body) < length:
        raise _NoBodyError(400, "malformed", "The form is shorter than its Content-Length.")
    return body
