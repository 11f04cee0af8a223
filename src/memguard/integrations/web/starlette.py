"""Starlette and FastAPI in one line: ``memguard.integrations.web.starlette.install(app)``."""

from __future__ import annotations

from typing import Any

from memguard.bounded.lifetime.scope import Scope
from memguard.errors import LifecycleError
from memguard.extras import missing
from memguard.integrations.web.asgi import MemguardMiddleware
from memguard.integrations.web.requests import KEY, RequestWatch, scope_in, watch_of

try:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection
except ImportError:
    raise missing("starlette", "web") from None

__all__ = ["install", "request_scope"]


def install(app: Starlette, *, watch: RequestWatch | None = None, **options: Any) -> RequestWatch:
    """
    Add `MemguardMiddleware` to *app*, and return the watch, which has the statistics.

    It is also in ``app.state.memguard``. The middleware is the outermost of those added so far:
    call this last. With *guard*, the application's lifespan starts and stops that guard.

    Args:
        app: A Starlette or FastAPI application that has not begun to serve.
        watch: Shared by several applications; one of its own, of the *options* of `RequestWatch`,
            by default.
        **options: Those of `RequestWatch`.

    Raises:
        TypeError: An option is of the wrong kind, or given beside *watch*.
        ConfigError: An option is out of its range.
        LifecycleError: The application has begun to serve.
    """
    if not isinstance(app, Starlette):
        raise TypeError(
            f"app must be a Starlette or FastAPI application (got {type(app).__name__}); wrap "
            "others in memguard.integrations.web.asgi.MemguardMiddleware"
        )
    found = watch_of(watch, options)
    try:
        app.add_middleware(MemguardMiddleware, watch=found)
    except RuntimeError as error:
        raise LifecycleError(f"{error}; call install() where the application is made") from None
    app.state.memguard = found
    return found


def request_scope(connection: HTTPConnection) -> Scope:
    """
    Return the `memguard.Scope` of a request or WebSocket; in FastAPI, ``Depends(request_scope)``.

    Raises:
        LifecycleError: The middleware is not installed.
    """
    return scope_in(connection.scope.get(KEY), "call install(app) first")
