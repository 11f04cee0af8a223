"""
Django in one line: ``MIDDLEWARE = ["memguard.integrations.web.django.MemguardMiddleware", ...]``.

Options come from the setting ``MEMGUARD``, a dict of those of `RequestWatch`; its ``"guard"`` may
also be a dict of options for the guard of the process::

    MEMGUARD = {"sample": 0.1, "guard": {"limit": "2GiB"}, "admit": True}
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from memguard.bounded.lifetime.scope import Scope
from memguard.errors import AdmissionError, ConfigError, LifecycleError
from memguard.extras import missing
from memguard.guard import process
from memguard.integrations.web.requests import (
    KEY,
    ROUTE,
    RequestWatch,
    WatchedRequest,
    is_open,
    scope_in,
)
from memguard.integrations.web.routes import RequestStatistics

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction
    from django import conf
    from django.core.signals import setting_changed
    from django.http import HttpResponse
except ImportError:
    raise missing("django", "django") from None

__all__ = ["MemguardMiddleware", "request_scope", "statistics"]


class _Shared:
    """The watch of this process: Django makes the middleware again for each of its handlers."""

    def __init__(self) -> None:
        self._made: dict[str, RequestWatch] = {}
        self._installed = False

    def watch(self) -> RequestWatch:
        """Return the watch that the settings ask for, made at the first call."""
        found = self._made.get("watch")
        if found is not None:
            return found
        try:
            made = self._of_the_settings()
        except (TypeError, ConfigError, LifecycleError) as error:
            kind = next(k for k in (ConfigError, LifecycleError, TypeError) if isinstance(error, k))
            raise kind(f"in the setting MEMGUARD: {error}") from error
        setting_changed.connect(self._changed, dispatch_uid="memguard")
        return self._made.setdefault("watch", made)  # one, of whichever thread is faster

    def _of_the_settings(self) -> RequestWatch:
        given = getattr(conf.settings, "MEMGUARD", {})
        if not isinstance(given, Mapping):
            raise TypeError(f"it must be a dict (got {type(given).__name__})")
        options = dict(given)
        guard = options.get("guard")
        if not isinstance(guard, Mapping):
            return RequestWatch(**options)
        options["guard"] = process.install(**guard)
        try:
            made = RequestWatch(**options)
        except BaseException:
            if guard:  # then it is ours, and the next attempt would fail for being the second
                process.uninstall()
            raise
        self._installed = True
        return made

    def _changed(self, *, setting: str, **_: Any) -> None:
        """Start over when a test overrides its settings."""
        if setting == "MEMGUARD":
            self._made.clear()
            installed, self._installed = self._installed, False
            if installed:
                process.uninstall()


_shared = _Shared()


class MemguardMiddleware:
    """
    Give each request a `memguard.Scope`, and watch what requests do to memory.

    Put it first in ``MIDDLEWARE``. ``request.memguard_scope`` is closed when the server has closed
    the response, streamed or not; under ASGI when its content is complete, so that asynchronous
    disposers are awaited. Works with sync and async applications alike, without a thread between.

    A request counts as failed when its response is a server error.

    Bounded by: its `RequestWatch`, one for the process.
    Locks: that of its `RequestWatch`.
    Keeps alive: the next middleware and the watch.

    Raises:
        TypeError: An option in the setting ``MEMGUARD`` is of the wrong kind.
        ConfigError: One is out of its range.
        LifecycleError: It has options for a guard, and one is installed already.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self.watch = _shared.watch()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve a request; a coroutine if Django runs async."""
        if self._is_async:
            return self._serve_async(request)
        outer = _outer(request)
        if outer is not None:
            response = self.get_response(request)
            outer[ROUTE] = _template(request)
            return response
        watched = self._begin(request)
        if not isinstance(watched, WatchedRequest):
            return watched
        try:
            response = self.get_response(request)
        except BaseException:
            watched.close(request.method, self._route(request), failed=True)
            raise
        self._end_later(response, watched, request)
        return response

    async def _serve_async(self, request: Any) -> Any:
        outer = _outer(request)
        if outer is not None:
            response = await self.get_response(request)
            outer[ROUTE] = _template(request)
            return response
        watched = self._begin(request)
        if not isinstance(watched, WatchedRequest):
            return watched
        scope = watched.scope
        try:
            response = await self.get_response(request)
            if not getattr(response, "streaming", False):
                await scope.aclose()
            elif getattr(response, "is_async", False):
                response.streaming_content = _scoped(response.streaming_content, scope)
        except BaseException as error:
            try:
                if not isinstance(error, GeneratorExit):  # then the loop is gone: await nothing
                    await scope.aclose()
            finally:
                watched.close(request.method, self._route(request), failed=True)
            raise
        self._end_later(response, watched, request)
        return response

    def _begin(self, request: Any) -> WatchedRequest | HttpResponse:
        """Return the request, begun, or the response that refuses it."""
        try:
            watched = self.watch.begin(request.path_info)
        except AdmissionError:
            headers, body = self.watch.refusal()
            return HttpResponse(body, status=503, headers=dict(headers))
        request.memguard_scope = watched.scope
        return watched

    def _route(self, request: Any) -> str:
        return self.watch.route(_template, request)

    def _end_later(self, response: Any, watched: WatchedRequest, request: Any) -> None:
        """End the request when the server closes its response; it must not hold the request."""
        failed = getattr(response, "status_code", 500) >= 500
        route = self._route(request)
        end = functools.partial(watched.close, request.method, route, failed=failed)
        closers = getattr(response, "_resource_closers", None)
        if closers is None:  # no response of Django's own
            end()
            return
        # HttpResponse.close() calls these; Django closes its uploaded files so. A replaced close
        # would make each response a cycle for the collector.
        closers.append(end)


def statistics() -> RequestStatistics:
    """Return what the requests of this process did. Thread-safe."""
    return _shared.watch().statistics()


def request_scope(request: Any) -> Scope:
    """
    Return the `memguard.Scope` of *request*.

    Raises:
        LifecycleError: The middleware is not installed.
    """
    return scope_in(
        getattr(request, "memguard_scope", None),
        "add 'memguard.integrations.web.django.MemguardMiddleware' to MIDDLEWARE",
    )


def _outer(request: Any) -> Any:
    """Return the environ or ASGI scope if our middleware wraps Django, else None."""
    around = getattr(request, "scope", None) or getattr(request, "META", None)
    if around is None or not is_open(around.get(KEY)):
        return None
    request.memguard_scope = around[KEY]
    return around


def _template(request: Any) -> str | None:
    match = getattr(request, "resolver_match", None)
    route = getattr(match, "route", None)
    return f"/{route}" if type(route) is str else None


async def _scoped(content: Any, scope: Scope) -> AsyncIterator[Any]:
    """Yield *content*, and close *scope* after it, however it ends."""
    try:
        async for block in content:
            yield block
    finally:
        await scope.aclose()
