"""Flask in one line: ``memguard.integrations.web.flask.Memguard(app)``."""

from __future__ import annotations

from typing import Any

from memguard.bounded.lifetime.scope import Scope
from memguard.bounded.options import check_instance
from memguard.errors import LifecycleError
from memguard.extras import missing
from memguard.integrations.web.requests import KEY, ROUTE, RequestWatch, scope_in, watch_of
from memguard.integrations.web.routes import RequestStatistics
from memguard.integrations.web.wsgi import MemguardMiddleware

try:
    from flask import Flask, request
except ImportError:
    raise missing("flask", "flask") from None

__all__ = ["Memguard", "request_scope"]


class Memguard:
    """
    Wrap Flask applications in `memguard.integrations.web.wsgi.MemguardMiddleware`.

    Bounded by: its `RequestWatch`.
    Locks: that of its `RequestWatch`.
    Keeps alive: its watch.

    Args:
        app: The application; None to call `init_app` later.
        watch: Shared with other middleware; one of its own, of the *options* of `RequestWatch`, by
            default.

    Raises:
        TypeError: An option is of the wrong kind, or given beside *watch*.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self, app: Flask | None = None, *, watch: RequestWatch | None = None, **options: Any
    ) -> None:
        self.watch = watch_of(watch, options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """
        Wrap *app*; ``app.extensions["memguard"]`` is this extension from now on.

        Raises:
            LifecycleError: It is wrapped already, or has begun to serve.
        """
        check_instance(app, Flask, "app")
        if "memguard" in app.extensions:
            raise LifecycleError(f"memguard is installed in {app.name!r} already")
        try:
            app.url_value_preprocessor(_name_route)
        except AssertionError:  # Flask's own answer
            message = f"{app.name!r} has begun to serve; call init_app() where it is made"
            raise LifecycleError(message) from None
        app.extensions["memguard"] = self
        app.wsgi_app = MemguardMiddleware(app.wsgi_app, watch=self.watch)  # type: ignore[method-assign]  # reason: what Flask documents for middleware

    def statistics(self) -> RequestStatistics:
        """Return what the requests did. Thread-safe."""
        return self.watch.statistics()


def _name_route(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Leave the template of the route where the middleware finds it."""
    rule = request.url_rule
    if rule is not None:
        request.environ[ROUTE] = rule.rule


def request_scope() -> Scope:
    """
    Return the `memguard.Scope` of the current request.

    Raises:
        LifecycleError: The extension is not installed.
        RuntimeError: There is no request (Flask's own error).
    """
    return scope_in(request.environ.get(KEY), "call Memguard(app) first")
