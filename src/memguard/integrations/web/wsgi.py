"""WSGI middleware (PEP 3333): for Flask, Django, Bottle, Falcon, Pyramid and others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from memguard.errors import AdmissionError
from memguard.integrations.web.requests import (
    KEY,
    ROUTE,
    RequestMiddleware,
    WatchedRequest,
    is_open,
)

__all__ = ["MemguardMiddleware"]

Environ: TypeAlias = dict[str, Any]
Application: TypeAlias = Callable[[Environ, Any], Iterable[bytes]]


class MemguardMiddleware(RequestMiddleware[Application, Environ]):
    """
    Give each request a `memguard.Scope`, and watch what requests do to memory.

    ``environ["memguard.scope"]`` is closed when the server has closed the response, as PEP 3333
    obliges it to: after the last byte, even if the application or its generator raised or the
    client went away. ``start_response``, ``write`` and the blocks of the body pass untouched, and a
    file handed to ``wsgi.file_wrapper`` still goes by ``sendfile``. Asynchronous disposers are not
    for WSGI: they are logged as failed.

    The template of the route is what the application has left in ``environ["memguard.route"]``; the
    integrations for Flask and Django leave it there.

    Bounded by: its `RequestWatch`.
    Locks: that of its `RequestWatch`.
    Keeps alive: the application and the watch.

    Args:
        app: The application.
        watch: Counts the requests, and has all options; one of its own by default.
        route: Returns the template of the route for an environ after the response, or None.

    Raises:
        TypeError: An option is of the wrong kind.
    """

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve a request."""
        if is_open(environ.get(KEY)):
            nested: Iterable[bytes] = self.app(environ, start_response)
            return nested
        try:
            request = self.watch.begin(environ.get("PATH_INFO", ""))
        except AdmissionError:
            headers, body = self.watch.refusal()
            start_response("503 Service Unavailable", headers)
            return [body]
        environ[KEY] = request.scope
        ending = _Ending(self, request, environ)
        try:
            wrapper = environ.get("wsgi.file_wrapper")
            if wrapper is not None and not isinstance(wrapper, type):
                # uWSGI's is a function: what comes from it can only be known by being seen.
                wrapper = environ["wsgi.file_wrapper"] = _SeenWrapper(wrapper)
            body_given = self.app(environ, start_response)
        except BaseException:
            ending.run()
            raise
        if _is_file(wrapper, body_given):
            _hook(body_given, ending, environ, request)
            return body_given
        kind = _SizedBody if hasattr(type(body_given), "__len__") else _Body
        return kind(body_given, ending)

    def template(self, environ: Environ) -> str | None:
        """Return the template of the route of a request that was served."""
        if self._route is not None:
            return self._route(environ)
        return environ.get(ROUTE)


class _Ending:
    """Ends the request when its response has ended: exactly once."""

    __slots__ = ("_handled", "_pending")

    def __init__(
        self, middleware: MemguardMiddleware, request: WatchedRequest, environ: Environ
    ) -> None:
        self._pending = [(middleware, request, environ)]  # taken by the first that runs
        self._handled = id(sys.exc_info()[1])  # what the server was handling before, if anything

    def run(self) -> None:
        try:
            middleware, request, environ = self._pending.pop()
        except IndexError:
            return
        # The server closes in its own finally; then the exception is one that was not there before.
        failed = id(sys.exc_info()[1]) not in (id(None), self._handled)
        route = middleware.watch.route(middleware.template, environ)
        request.close(environ.get("REQUEST_METHOD", ""), route, failed=failed)


class _Body:
    """A response body that ends its request when it is closed; its blocks pass untouched."""

    __slots__ = ("_body", "_ending")

    def __init__(self, body: Iterable[bytes], ending: _Ending) -> None:
        self._body: Iterable[bytes] = body
        self._ending = ending

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        # The original goes first: what it holds is not growth.
        close = getattr(self._body, "close", None)
        self._body = ()
        try:
            if close is not None:
                close()
        finally:
            close = None
            self._ending.run()


class _SizedBody(_Body):
    """One whose number of blocks is known: servers take the length of a single one."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # reason: made for bodies that have a length


class _SeenWrapper:
    """A server's ``wsgi.file_wrapper`` that is not a class, and the last thing it made."""

    __slots__ = ("_wrapper", "made")

    def __init__(self, wrapper: Callable[..., Any]) -> None:
        self._wrapper = wrapper
        self.made: Any = None

    def __call__(self, *arguments: Any) -> Any:
        self.made = self._wrapper(*arguments)
        return self.made


def _is_file(wrapper: Any, body: Any) -> bool:
    """Return whether the server will see its own wrapper in *body*, and send the file itself."""
    if isinstance(wrapper, _SeenWrapper):
        made, wrapper.made = wrapper.made, None
        return made is not None and made is body
    return wrapper is not None and issubclass(type(body), wrapper)


class _Closing:
    """The ``close`` of a file, and then the end of its request. Called once, it drops both."""

    __slots__ = ("_close", "_ending")

    def __init__(self, close: Any, ending: _Ending) -> None:
        self._close = close
        self._ending = ending

    def __call__(self) -> None:
        close, self._close = self._close, None
        try:
            if close is not None:
                close()
        finally:
            self._ending.run()


def _hook(body: Any, ending: _Ending, environ: Environ, request: WatchedRequest) -> None:
    """Give *body*, the type of which its server looks for, an end to its request."""
    try:
        body.close = _Closing(getattr(body, "close", None), ending)
    except (AttributeError, TypeError):
        # It takes no attribute: the request is over when the server drops the environ, and its
        # scope is then collected, which winds up what it owns.
        environ["memguard.request"] = request
